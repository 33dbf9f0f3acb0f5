"""A coordinator's folder: what is private stays so, the roster holds one site a key, held-out parts do not overlap."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from privacy.errors import ConfigError, DataError
from privacy.sealing import Identity, PublicIdentity
from protocol.heldout import HeldOut, HeldOutData
from protocol.job import Job, parse_job
from server.cli import main
from server.coordinator import LARGEST_ROSTER, add_site, init_coordinator, open_coordinator, read_roster

NAMES = ["one", "two"]
RECORDS = 7


@pytest.fixture(scope="module")
def keys() -> list[PublicIdentity]:
    return [Identity.generate().public() for _ in range(LARGEST_ROSTER + 1)]


@pytest.fixture
def home(tmp_path: Path) -> Path:
    lines = [f"note {number},{NAMES[number % 2]}" for number in range(RECORDS)]
    (tmp_path / "test.csv").write_text("\n".join(["text,label", *lines, ""]))
    init_coordinator(tmp_path / "c", tmp_path / "test.csv")
    return tmp_path / "c"


def job(early_stopping: int = 0) -> Job:
    return parse_job(
        f'name = "j"\n[task]\nlabels = {NAMES}\n[training]\nearly_stopping_rounds = {early_stopping}\n'.replace(
            "'", '"'
        ),
        "job",
    )


def positions(data: HeldOutData) -> dict[str, list[int]]:
    return {part: np.load(file).tolist() for part, file in data.rows.items()}


def set_held_out(home: Path, **values: str) -> None:
    lines = [f"{key} = {json.dumps(value)}" for key, value in values.items()]
    (home / "coordinator.toml").write_text("\n".join(["[held_out]", *lines]))


def test_a_new_coordinator_has_private_keys_of_its_own_and_knows_no_site(home: Path) -> None:
    opened = open_coordinator(home)
    assert (home / "keys" / "identity.key").stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert (home / "keys" / "coordinator.pub").read_text().strip() == opened.identity.public().to_text()
    assert opened.roster == {}
    assert "identity=" not in repr(opened)


def test_a_second_init_keeps_the_first_keys(home: Path) -> None:
    before = {path: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    with pytest.raises(ConfigError, match="they are kept"):
        init_coordinator(home, None)
    assert {path: path.read_bytes() for path in home.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620])
def test_keys_that_others_may_touch_are_refused(home: Path, mode: int) -> None:
    (home / "keys" / "identity.key").chmod(mode)
    with pytest.raises(ConfigError, match="chmod 600"):
        open_coordinator(home)


@pytest.mark.parametrize("name", ["keys/identity.key", "coordinator.toml", "roster.toml"])
def test_a_missing_file_is_named(home: Path, name: str) -> None:
    (home / name).unlink()
    with pytest.raises(ConfigError, match=name):
        open_coordinator(home)


def test_an_unknown_setting_is_not_looked_for_in_a_job_file(home: Path) -> None:
    for name in ("coordinator.toml", "roster.toml"):
        before = (home / name).read_text()
        (home / name).write_text(f"unknown = 1\n{before}")
        with pytest.raises(ConfigError, match=f"{name}: unknown; .*; the files that `cloister coordinator init` makes"):
            open_coordinator(home)
        (home / name).write_text(before)


@pytest.mark.parametrize("text", ["[", "[held_out]\nfiel = 'x'", "[held_out]\nfile = 1"])
def test_malformed_settings_are_refused(home: Path, text: str) -> None:
    (home / "coordinator.toml").write_text(text)
    with pytest.raises(ConfigError, match=r"coordinator\.toml"):
        open_coordinator(home)


def test_a_site_that_was_added_is_read_back_with_its_keys(home: Path, keys: list[PublicIdentity]) -> None:
    add_site(home, "h1", keys[0])
    add_site(home, "h.2", keys[1])
    add_site(home, "h1", keys[0])  # again: nothing changes
    assert open_coordinator(home).roster == {"h1": keys[0], "h.2": keys[1]}
    assert keys[0].fingerprint() in (home / "roster.toml").read_text()


def test_other_keys_for_an_id_need_replace(home: Path, keys: list[PublicIdentity]) -> None:
    add_site(home, "h1", keys[0])
    before = (home / "roster.toml").read_bytes()
    with pytest.raises(ConfigError, match=keys[0].fingerprint()):
        add_site(home, "h1", keys[1])
    assert (home / "roster.toml").read_bytes() == before
    add_site(home, "h1", keys[1], replace=True)
    assert read_roster(home) == {"h1": keys[1]}


def test_one_key_cannot_stand_for_two_sites(home: Path, keys: list[PublicIdentity]) -> None:
    add_site(home, "h1", keys[0])
    before = (home / "roster.toml").read_bytes()
    with pytest.raises(ConfigError, match="those of h1"):
        add_site(home, "h2", keys[0], replace=True)
    assert (home / "roster.toml").read_bytes() == before
    text = keys[0].to_text()
    (home / "roster.toml").write_text(f'[sites]\nh1 = "{text}"\nh2 = "{text}"\n')
    with pytest.raises(ConfigError, match="those of h1"):
        open_coordinator(home)


@pytest.mark.parametrize("site", ["", "*", "a b", "../x", "x" * 65, "-x"])
def test_an_id_that_no_site_may_have_is_refused(home: Path, keys: list[PublicIdentity], site: str) -> None:
    with pytest.raises(ConfigError, match="the site's id"):
        add_site(home, site, keys[0])
    assert read_roster(home) == {}


def test_malformed_keys_in_the_roster_name_their_site(home: Path) -> None:
    (home / "roster.toml").write_text('[sites]\nh1 = "AAAA"\n')
    with pytest.raises(ConfigError, match="h1"):
        open_coordinator(home)


def test_the_roster_ends_at_what_one_greeting_can_be_sealed_to(home: Path, keys: list[PublicIdentity]) -> None:
    lines = [f'"s{number}" = "{key.to_text()}"' for number, key in enumerate(keys[: LARGEST_ROSTER - 1])]
    (home / "roster.toml").write_text("\n".join(["[sites]", *lines]))
    add_site(home, "last", keys[-2])
    with pytest.raises(ConfigError, match=str(LARGEST_ROSTER)):
        add_site(home, "one-more", keys[-1])
    assert len(read_roster(home)) == LARGEST_ROSTER


def test_without_rows_every_record_is_the_test(home: Path, tmp_path: Path) -> None:
    parts = positions(open_coordinator(home).held_out(job(), tmp_path / "work"))
    assert parts == {"test": list(range(RECORDS))}


def test_early_stopping_never_looks_at_what_is_reported(home: Path, tmp_path: Path) -> None:
    parts = positions(open_coordinator(home).held_out(job(early_stopping=2), tmp_path / "work"))
    assert sorted(parts) == ["test", "validation"]
    assert not set(parts["test"]) & set(parts["validation"])
    assert sorted(parts["test"] + parts["validation"]) == list(range(RECORDS))


def test_given_rows_are_taken_as_they_are(home: Path, tmp_path: Path) -> None:
    np.save(home / "t.npy", np.array([1, 3], dtype=np.int64))
    np.save(home / "v.npy", np.array([0], dtype=np.int64))
    set_held_out(home, file=str(tmp_path / "test.csv"), test_rows="t.npy", validation_rows="v.npy")
    data = open_coordinator(home).held_out(job(early_stopping=1), tmp_path / "work")
    assert positions(data) == {HeldOut.TEST: [1, 3], HeldOut.VALIDATION: [0]}
    assert data.path == str((tmp_path / "test.csv").resolve())


def test_held_out_settings_that_do_not_fit_the_job_are_refused(home: Path, tmp_path: Path) -> None:
    file = str(tmp_path / "test.csv")
    np.save(home / "t.npy", np.array([1], dtype=np.int64))
    np.save(home / "bad.npy", np.array([1.0]))
    np.save(home / "none.npy", np.array([], dtype=np.int64))
    for values, error, named in (
        ({"file": ""}, ConfigError, "held_out.file"),
        ({"file": file, "validation_rows": "t.npy"}, ConfigError, "test_rows"),
        ({"file": file, "test_rows": "t.npy"}, ConfigError, "validation_rows"),
        ({"file": file, "test_rows": "bad.npy", "validation_rows": "t.npy"}, DataError, "bad"),
        ({"file": file, "test_rows": "gone.npy", "validation_rows": "t.npy"}, DataError, "gone"),
        ({"file": file, "test_rows": "none.npy", "validation_rows": "t.npy"}, DataError, "test part"),
    ):
        set_held_out(home, **values)
        with pytest.raises(error, match=named):
            open_coordinator(home).held_out(job(early_stopping=1), tmp_path / "work")


def test_the_commands_print_fingerprints_and_leave_with_documented_codes(
    tmp_path: Path, keys: list[PublicIdentity], capsys: pytest.CaptureFixture[str]
) -> None:
    folder, public = tmp_path / "c", tmp_path / "site.pub"
    public.write_text(keys[0].to_text() + "\n")
    assert main(["coordinator", "init", str(folder), "--json"]) == 0
    made = json.loads(capsys.readouterr().out)
    assert made["fingerprint"] == open_coordinator(folder).identity.public().fingerprint()
    assert Path(made["public_file"]).read_text().strip() == made["public"]
    assert main(["coordinator", "add-site", str(folder), "h1", str(public), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {"site": "h1", "fingerprint": keys[0].fingerprint(), "sites": 1}
    for arguments in (
        ["init", str(folder)],
        ["init", str(tmp_path / "d"), "--held-out", str(tmp_path / "gone.csv")],
        ["add-site", str(folder), "h2", str(tmp_path / "gone.pub")],
        ["add-site", str(tmp_path / "nowhere"), "h2", str(public)],
        ["roster", str(folder), "--out", str(tmp_path / "nowhere" / "roster.json")],
        ["roster", str(folder), "--out", str(tmp_path)],
    ):
        assert main(["coordinator", *arguments]) == ConfigError.exit_code
        output = capsys.readouterr()
        assert output.out == ""
        assert output.err.startswith("cloister: ")
    assert not (tmp_path / "d").exists()
