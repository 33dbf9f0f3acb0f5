"""A site's own files: its grants are read strictly, and its keys only while nobody else can read them."""

import pytest

from client.config import read_site
from client.site import make_keys, open_site, pin_coordinator
from client.state import RunState
from privacy.errors import ConfigError, SealError
from privacy.sealing import Direction, Identity, SealContext

KEY, NOBODY = b"k" * 32, b"n" * 32
GOOD = 'id = "site-01"\n'
DATA = '[data.records]\npath = "d.csv"\npublished_size = 10\n'


def home_with(tmp_path, text):
    tmp_path.joinpath("site.toml").write_bytes(text if isinstance(text, bytes) else text.encode())
    return tmp_path


MALFORMED = {
    "empty": ("", "site.toml: id; expected a value; found none"),
    "no toml": ("id = ", "site.toml; expected a TOML file in UTF-8; found"),
    "not utf-8": (b'id = "\xff"\n', "site.toml; expected a TOML file in UTF-8; found"),
    "an unknown section": (
        GOOD + "[acept]\n",
        "site.toml: acept; expected a known key; found an unknown one; a site.toml that `cloister-site init` makes",
    ),
    "an unknown key": (GOOD + "[accept]\nbase = []\n", "site.toml: accept.base; expected a known key"),
    "an id with a slash": ('id = "../up"\n', "site.toml: id; expected string should match pattern"),
    "a hash too short": (
        GOOD + '[accept]\nbases = ["abc"]\n',
        "site.toml: accept.bases.0; expected string should match",
    ),
    "a word for a switch": (
        GOOD + '[accept]\nwithout_privacy = "yes"\n',
        "accept.without_privacy; expected a valid bool",
    ),
    "a number for a switch": (
        GOOD + "[accept]\nwithout_privacy = 1\n",
        "accept.without_privacy; expected a valid bool",
    ),
    "no site at all": (
        GOOD + "[accept]\nmin_sites = 0\n",
        "accept.min_sites; expected greater than or equal to 1; found 0",
    ),
    "an epsilon of nought": (
        GOOD + "[privacy]\nepsilon = 0.0\n",
        "privacy.epsilon; expected greater than 0; found 0.0",
    ),
    "more for one job than for all": (
        GOOD + "[privacy]\nepsilon = 4.0\njob_epsilon = 4.5\n",
        "site.toml: privacy.job_epsilon; expected at most epsilon, 4; found 4.5",
    ),
    "an epsilon of nought for a job": (
        GOOD + "[privacy]\njob_epsilon = 0.0\n",
        "privacy.job_epsilon; expected greater than 0; found 0.0",
    ),
    "an epsilon without end": (
        GOOD + "[privacy]\nepsilon = inf\n",
        "privacy.epsilon; expected a finite number; found inf",
    ),
    "a delta that protects nobody": (
        GOOD + "[privacy]\ndelta = 0.5\n",
        "privacy.delta; expected less than 0.1; found 0.5",
    ),
    "a data set without a size": (
        GOOD + '[data.records]\npath = "d.csv"\n',
        "data.records.published_size; expected a value",
    ),
    "a size of nought": (GOOD + DATA.replace("10", "0"), "data.records.published_size; expected greater than or equal"),
    "a size in words": (GOOD + DATA.replace("10", '"10"'), "data.records.published_size; expected a valid integer"),
    "a data set without a path": (GOOD + "[data.records]\npublished_size = 1\n", "data.records.path; expected a value"),
    "an unknown task": (
        GOOD + '[accept]\ntasks = ["steal"]\n',
        "accept.tasks.0; expected 'classify' or 'tag'; found 'steal'",
    ),
}


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_grants_are_refused_in_one_line_with_file_key_expected_and_found(tmp_path, name):
    text, message = MALFORMED[name]
    with pytest.raises(ConfigError) as caught:
        read_site(home_with(tmp_path, text))
    assert message in str(caught.value)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_site_without_grants_takes_no_job(tmp_path):
    for home in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(ConfigError, match="no file; `cloister-site init`"):
            read_site(home)


def test_grants_that_are_there_and_cannot_be_read_are_not_said_to_be_missing(tmp_path, monkeypatch):
    (tmp_path / "site.toml").mkdir()
    with pytest.raises(ConfigError, match="found Is a directory; check the path"):
        read_site(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="found Not a directory; check the path"):
        read_site(tmp_path / "file")

    def shut(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr("pathlib.Path.read_bytes", shut)
    with pytest.raises(ConfigError, match="found Permission denied; check the path"):
        read_site(tmp_path)


def test_what_is_not_written_is_the_safe_choice(tmp_path):
    config = read_site(home_with(tmp_path, GOOD))
    assert not config.accept.without_privacy
    assert config.accept.min_sites == 2
    assert config.accept.bases == ()
    assert (config.privacy.epsilon, config.privacy.delta) == (8.0, 1e-5)
    assert config.privacy.most_of_one_job == 8.0
    assert config.anonymisation.profile == "hipaa-safe-harbor"
    assert config.data == {}


@pytest.fixture
def site(tmp_path):
    home_with(tmp_path, GOOD + DATA)
    make_keys(tmp_path)
    pin_coordinator(tmp_path, Identity.generate().public())
    return tmp_path


@pytest.mark.parametrize("file", ["identity.key", "site.secret"])
@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o620, 0o601, 0o610])
def test_keys_that_others_may_read_write_or_run_are_not_used(site, file, mode):
    open_site(site)
    (site / "keys" / file).chmod(mode)
    with pytest.raises(ConfigError, match="others may read it; chmod 600"):
        open_site(site)


@pytest.mark.parametrize("file", ["identity.key", "site.secret", "coordinator.pub"])
def test_a_site_without_one_of_its_keys_does_not_open(site, file):
    (site / "keys" / file).unlink()
    with pytest.raises(ConfigError, match=file):
        open_site(site)


@pytest.mark.parametrize(
    "change", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"x", lambda data: b"x" * 9]
)
@pytest.mark.parametrize("file", ["identity.key", "coordinator.pub"])
def test_a_damaged_key_is_refused_and_never_shown(site, file, change):
    path = site / "keys" / file
    data = path.read_bytes()
    path.write_bytes(change(data.rstrip()))
    path.chmod(0o600)
    with pytest.raises((ConfigError, SealError)) as caught:
        open_site(site)
    assert data.hex()[40:60] not in str(caught.value)


def test_keys_are_made_once_and_kept(site):
    before = {path.name: path.read_bytes() for path in (site / "keys").iterdir()}
    with pytest.raises(ConfigError, match="they are kept"):
        make_keys(site)
    assert {path.name: path.read_bytes() for path in (site / "keys").iterdir()} == before


def test_keys_and_state_are_for_the_owner_alone(site):
    assert {path.name: path.stat().st_mode & 0o777 for path in (site / "keys").iterdir()} == {
        "identity.key": 0o600, "site.secret": 0o600, "coordinator.pub": 0o600,
    }  # fmt: skip
    assert (site / "keys").stat().st_mode & 0o777 == 0o700
    assert (site / "state").stat().st_mode & 0o777 == 0o700


def test_a_site_shows_no_key_by_its_representation_and_derives_another_one_for_every_purpose(site):
    opened = open_site(site)
    assert repr(opened) == "Site(site-01)"
    one, other = opened.subkey("pseudonyms"), opened.subkey("split")
    assert len(one) == len(other) == 32
    assert len({one, other, opened.secret}) == 3
    assert one == open_site(site).subkey("pseudonyms")


def place(round_number, sequence):
    return SealContext(
        run="r", round=round_number, site="s", direction=Direction.DOWN, sequence=sequence, content_type="train"
    )


def test_a_request_passes_once_and_forwards_only_and_that_outlasts_a_restart(tmp_path):
    RunState(tmp_path, "r", KEY).admit(place(1, 1), b"a" * 32, NOBODY)
    RunState(tmp_path, "r", KEY).admit(place(2, 2), b"b" * 32, NOBODY)
    stored = {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for late, root in (
        (place(2, 2), b"b" * 32),
        (place(2, 2), b"c" * 32),
        (place(1, 1), b"a" * 32),
        (place(1, 9), b"d" * 32),
    ):
        with pytest.raises(SealError):
            RunState(tmp_path, "r", KEY).admit(late, root, NOBODY)
    assert {path.name: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == stored
    RunState(tmp_path, "r", KEY).admit(place(2, 3), b"e" * 32, NOBODY)


@pytest.mark.parametrize("damage", [lambda data: data[:-1], lambda data: b"", lambda data: data + b"\x00"])
def test_a_damaged_replay_state_lets_nothing_pass(tmp_path, damage):
    state = RunState(tmp_path, "r", KEY)
    state.admit(place(1, 1), b"a" * 32, NOBODY)
    (path,) = tmp_path.rglob("replay")
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(SealError):
        state.admit(place(2, 2), b"b" * 32, NOBODY)


def test_a_note_of_progress_that_the_disk_does_not_take_ends_no_round(tmp_path):
    home = home_with(tmp_path, GOOD + DATA)
    make_keys(home)
    pin_coordinator(home, Identity.generate().public())
    site = open_site(home)
    site.progress(1, "train", 1, 2)
    note = home / "state" / "progress.json"
    note.unlink()
    note.mkdir()  # nothing can be written in its place
    site.progress(1, "train", 2, 2)
    assert note.is_dir()
