"""`cloister-site`: what an administrator makes, pins, checks and reads, and what is left alone when it is refused."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from client.approvals import Approvals, Decision
from client.checks import check_site
from client.cli import main
from client.config import read_site
from client.keystore import PASSPHRASE_FILE, is_locked, lock_keys
from client.ledger import Ledger
from client.link.membership import LINK_FILE
from client.roster import approve
from client.site import open_site
from privacy.dp import Attempt, Limit, StepGroup, charge_round, epsilon_of
from privacy.errors import BudgetError, ConfigError, DataError, PolicyRefusal
from privacy.sealing import Identity, PublicIdentity
from privacy.secagg import Roster
from protocol.job import parse_job, read_job
from protocol.plans import privacy_plan
from protocol.secagg import roster_text
from tests.tiny_base import TinyBase

SECRET_TEXT = "the patient Zebulon Quick complains"


class Home:
    """A folder with records, a coordinator's public keys, and where the site goes."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self.site, self._capsys = root, root / "site", capsys
        self.coordinator = Identity.generate().public()
        (root / "records.csv").write_text(f"note,outcome\n{SECRET_TEXT},good\nanother,bad\n")
        (root / "coordinator.pub").write_text(self.coordinator.to_text() + "\n")

    def run(self, command: str, *arguments: str) -> tuple[int, str, str]:
        code = main([command, str(self.site), *arguments])
        output = self._capsys.readouterr()
        assert SECRET_TEXT not in output.out + output.err
        return code, output.out, output.err

    def init(self, *more: str, size: int = 100) -> tuple[int, str, str]:
        data = str(self.root / "records.csv")
        columns = ("--text", "note", "--label", "outcome")
        return self.run("init", "--id", "h1", "--data", data, "--published-size", str(size), *columns, *more)

    def ready(self, base: TinyBase | None = None) -> None:
        assert self.init("--yes")[0] == 0
        assert self.run("pin", str(self.root / "coordinator.pub"))[0] == 0
        if base is not None:
            self.edit("bases = []", f'bases = ["{base.sha256}"]')

    def meet(self, epoch: int = 1, **keys: PublicIdentity) -> Roster:
        """Approve a roster of three sites, this one among them; `keys`: of a site, in place of its own."""
        own = {"h1": open_site(self.site).identity.public()}
        others = {site: Identity.generate().public() for site in ("h2", "h3")}
        roster = Roster(epoch, {**own, **others, **keys})
        approve(self.site, roster)
        return roster

    def propose(self, roster: Roster) -> None:
        """Leave a roster for the administrator, as a coordinator's greeting does."""
        (self.site / "state" / "roster.proposed.json").write_text(roster_text(roster))

    def edit(self, old: str, new: str) -> None:
        path = self.site / "site.toml"
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new))

    def files(self) -> dict[str, bytes]:
        return {str(path): path.read_bytes() for path in self.site.rglob("*") if path.is_file()}

    def job(self, base: TinyBase, epsilon: float = 4.0) -> Path:
        path = self.root / "job.toml"
        path.write_text(
            f'name = "j"\n[task]\nlabels = ["good", "bad"]\n[model]\nbase = "{base.folder}"\n'
            f"[federation]\nrounds = 3\n[training]\nlocal_steps = 5\n[privacy]\nepsilon = {epsilon}\n"
        )
        return path

    def spend(self, base: TinyBase, rounds: int) -> float:
        """Charge rounds of the job; returns their epsilon by the accountant, without the ledger."""
        plan = privacy_plan(parse_job(self.job(base).read_text(), "job"), 100)
        for number in range(1, rounds + 1):
            attempt = Attempt(dataset_id="records", job_id="j", run_id="r", round=number)
            charge_round(Ledger(self.site / "state"), plan, attempt=attempt, limit=Limit(epsilon=8.0, delta=1e-5))
        return epsilon_of([StepGroup(plan.sampling_rate, plan.noise_multiplier, rounds * plan.steps_per_round)], 1e-5)


@pytest.fixture
def home(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path, capsys)


def test_init_writes_grants_that_read_back_as_the_safe_choices(home: Home) -> None:
    code, out, _ = home.init("--yes", "--json")
    made, config = json.loads(out), read_site(home.site)
    assert code == 0
    assert (config.id, config.data["records"].published_size) == ("h1", 100)
    assert (config.data["records"].columns.text, config.data["records"].columns.unit) == ("note", None)
    assert config.accept.without_privacy is False
    assert config.accept.min_sites == 2
    assert config.anonymisation.profile == "hipaa-safe-harbor"
    assert Path(made["public_file"]).read_text().strip() == made["public"]
    for name in ("identity.key", "site.secret"):
        assert (home.site / "keys" / name).stat().st_mode & 0o777 == 0o600


def test_a_second_init_changes_nothing(home: Home) -> None:
    home.ready()
    before = home.files()
    assert home.init("--yes")[0] == ConfigError.exit_code
    assert home.files() == before


def test_init_writes_lost_grants_anew_beside_the_keys_that_are_there(home: Home) -> None:
    home.ready()
    kept = {name: data for name, data in home.files().items() if not name.endswith("site.toml")}
    (home.site / "site.toml").unlink()
    code, _, err = home.run("check")
    assert (code, "`cloister-site init` writes new grants and keeps the keys" in err) == (ConfigError.exit_code, True)
    code, out, _ = home.init("--yes")
    assert (code, "those that were here" in out) == (0, True)
    assert {name: data for name, data in home.files().items() if not name.endswith("site.toml")} == kept
    assert home.run("check")[0] == 0


def test_init_beside_lost_keys_keeps_the_secret_of_the_splits(home: Home) -> None:
    home.ready()
    secret = (home.site / "keys" / "site.secret").read_bytes()
    for name in ("site.toml", "keys/identity.key"):
        (home.site / name).unlink()
    assert home.init("--yes")[0] == 0
    assert open_site(home.site).secret == secret


def test_init_beside_a_locked_secret_leaves_no_open_key(
    home: Home, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    words = tmp_path / "passphrase"
    words.touch(0o600)
    words.write_bytes(b"correct horse battery")
    home.ready()
    lock_keys(home.site, words.read_bytes())
    for name in ("site.toml", "keys/identity.key"):
        (home.site / name).unlink()
    before = home.files()
    code, _, err = home.init("--yes")
    assert (code, PASSPHRASE_FILE in err, home.files() == before) == (ConfigError.exit_code, True, True)
    monkeypatch.setenv(PASSPHRASE_FILE, str(words))
    assert home.init("--yes")[0] == 0
    assert is_locked(home.site / "keys" / "identity.key") and open_site(home.site).config.id == "h1"


def test_init_keeps_grants_that_were_written_by_hand(home: Home) -> None:
    home.site.mkdir()
    (home.site / "site.toml").write_text("mine")
    assert home.init("--yes")[0] == ConfigError.exit_code
    assert [path.name for path in home.site.iterdir()] == ["site.toml"]
    assert (home.site / "site.toml").read_text() == "mine"


@pytest.mark.parametrize(("typed", "made"), [("y\n", True), ("yes\n", True), ("n\n", False), ("", False)])
def test_init_asks_before_size_and_id_become_public(
    home: Home, monkeypatch: pytest.MonkeyPatch, typed: str, made: bool
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(typed))
    code, _, err = home.init()
    assert "h1" in err
    assert "100" in err
    assert (code == 0) is made
    assert home.site.exists() is made


def test_an_init_that_is_refused_makes_nothing(home: Home) -> None:
    assert home.init("--yes", size=0)[0] == ConfigError.exit_code
    assert home.init("--yes", "--id", "../x")[0] == ConfigError.exit_code
    assert home.init("--yes", "--data", str(home.root / "gone.csv"))[0] == ConfigError.exit_code
    assert not home.site.exists()


def test_init_says_what_it_cannot_make_before_it_asks(home: Home) -> None:
    for place in (home.root / "records.csv", home.root / "records.csv" / "below"):
        before = {path.name: path.read_bytes() for path in home.root.iterdir()}
        home.site = place
        code, _, err = home.init()
        assert (code, "expected a folder; found" in err, "Go on?" in err) == (ConfigError.exit_code, True, False)
        assert {path.name: path.read_bytes() for path in home.root.iterdir()} == before


def test_another_coordinator_is_pinned_only_with_replace(home: Home) -> None:
    home.ready()
    other = Identity.generate().public()
    (home.root / "other.pub").write_text(other.to_text())
    code, _, err = home.run("pin", str(home.root / "other.pub"))
    assert code == ConfigError.exit_code
    assert home.coordinator.fingerprint() in err
    assert open_site(home.site).coordinator == home.coordinator
    assert home.run("pin", str(home.root / "coordinator.pub"))[0] == 0
    assert home.run("pin", str(home.root / "other.pub"), "--replace")[0] == 0
    assert open_site(home.site).coordinator == other


def test_pin_needs_a_site_and_keys(home: Home) -> None:
    assert home.run("pin", str(home.root / "coordinator.pub"))[0] == ConfigError.exit_code
    assert not home.site.exists()
    home.init("--yes")
    (home.root / "bad.pub").write_text("no keys")
    for name in ("bad.pub", "gone.pub"):
        code, _, err = home.run("pin", str(home.root / name))
        assert (code, str(home.root / name) in err) == (ConfigError.exit_code, True)
    assert not (home.site / "keys" / "coordinator.pub").exists()


def test_pinned_keys_that_cannot_be_read_are_named_and_pinned_again(home: Home) -> None:
    home.ready()
    pinned = home.site / "keys" / "coordinator.pub"
    pinned.write_text("no keys")
    for words in (("check",), ("pin", str(home.root / "coordinator.pub"))):
        code, _, err = home.run(*words)
        assert (code, str(pinned) in err, "pin --replace" in err) == (ConfigError.exit_code, True, True)
    assert home.run("pin", str(home.root / "coordinator.pub"), "--replace")[0] == 0
    assert home.run("check")[0] == 0
    pinned.unlink()
    with pytest.raises(ConfigError, match="`cloister-site pin`, or `cloister-site join`"):
        open_site(home.site)


def test_check_says_what_is_missing(home: Home) -> None:
    home.init("--yes")
    code, _, err = home.run("check")
    assert (code, "cloister-site pin" in err) == (ConfigError.exit_code, True)
    home.run("pin", str(home.root / "coordinator.pub"))
    assert home.run("check")[0] == 0
    (home.site / "keys" / "site.secret").chmod(0o644)
    assert home.run("check")[0] == ConfigError.exit_code
    (home.site / "keys" / "site.secret").chmod(0o600)
    home.edit('data = "records"', 'data = "others"')
    assert home.run("check")[0] == ConfigError.exit_code


def test_check_names_columns_and_shows_no_record(home: Home) -> None:
    home.ready()
    report = json.loads(home.run("check", "--json")[1])
    assert report["columns"] == ["note", "outcome"]
    assert (report["job"], report["takes_job"]) == (None, None)
    home.edit('text = "note"', 'text = "report"')
    code, _, err = home.run("check")
    assert (code, "report" in err) == (DataError.exit_code, True)


def test_check_takes_a_job_that_is_granted_and_charges_nothing(home: Home, tiny_base: TinyBase) -> None:
    home.ready(tiny_base)
    home.meet()
    before = home.files()
    code, out, _ = home.run("check", "--job", str(home.job(tiny_base)), "--json")
    assert (code, json.loads(out)["takes_job"]) == (0, True)
    assert home.files() == before


def test_check_declines_a_sum_until_a_roster_with_these_keys_is_approved(home: Home, tiny_base: TinyBase) -> None:
    """The reasons are those that a greeting is refused with."""
    home.ready(tiny_base)
    job = str(home.job(tiny_base))

    def declined(word: str) -> None:
        before = home.files()
        code, out, _ = home.run("check", "--job", job)
        assert (code, word in out, "would decline" in out) == (PolicyRefusal.exit_code, True, True)
        assert home.files() == before

    declined("site h1 has approved no roster of sites")
    known = home.meet()
    assert home.run("check", "--job", job)[0] == 0
    home.propose(Roster(2, {**known.sites, "h4": Identity.generate().public()}))
    declined("has not approved: h4 (added)")
    home.propose(Roster(2, {site: key for site, key in known.sites.items() if site != "h3"}))
    assert home.run("check", "--job", job)[0] == 0
    home.meet(3, h1=Identity.generate().public())
    declined("the roster names other keys for this site")
    path = Path(job)
    path.write_text(path.read_text() + "[secagg]\nenabled = false\n")
    home.edit("required = true", "required = false")
    assert home.run("check", "--job", job)[0] == 0


def test_check_says_that_a_job_waits_for_a_person_or_for_the_hours_and_notes_nothing(
    home: Home, tiny_base: TinyBase
) -> None:
    home.ready(tiny_base)
    home.meet()
    (home.site / "keys" / LINK_FILE).touch()  # it has joined: its daemon lets a job wait
    job = read_job(home.job(tiny_base))
    home.edit("approval = false", "approval = true")
    before, store = home.files(), Approvals(home.site / "state")
    report = check_site(home.site, job)
    assert (report.reasons, report.waits) == ((), ("waiting for approval",))
    assert "the site would take it, but not at once" in home.run("check", "--job", str(home.job(tiny_base)))[1]
    assert home.files() == before
    store.ask(job, "r")
    assert check_site(home.site, job).waits == ("waiting for approval",)
    store.decide(job.digest(), Decision.APPROVED, "")
    assert check_site(home.site, job).waits == ()
    store.decide(job.digest(), Decision.DENIED, "not now")
    assert check_site(home.site, job).reasons == ("site h1 denies job j: not now",)
    store.decide(job.digest(), Decision.APPROVED, "")
    home.edit('hours = ""', 'hours = "20:00-06:00"')
    home.edit('zone = ""', 'zone = "UTC"')
    assert check_site(home.site, job, lambda: 12 * 3600.0).waits == ("waiting for its hours",)
    assert check_site(home.site, job, lambda: 21 * 3600.0).waits == ()


@pytest.mark.parametrize("private", [True, False])
def test_noise_that_the_site_as_a_whole_has_no_room_for_is_declined_by_check_and_budget(
    home: Home, tiny_base: TinyBase, private: bool
) -> None:
    home.ready(tiny_base)
    home.meet()
    home.edit("without_privacy = false", "without_privacy = true")
    path = home.job(tiny_base)
    path.write_text(path.read_text() + f"enabled = {json.dumps(private)}\n[noise]\nenabled = true\nepsilon = 8.0\n")
    quoted = json.loads(home.run("budget", "--job", str(path), "--json")[1])["job_sums"]
    assert (quoted["fits"], quoted["limit"], quoted["sites"]) == (True, None, 3)
    assert home.run("check", "--job", str(path))[0] == 0
    before = home.files()
    for limit, fits in ((quoted["after"] + 0.01, True), (quoted["after"] - 0.01, False)):
        text = (home.site / "site.toml").read_text()
        home.edit("site_epsilon = 0.0", f"site_epsilon = {limit}")
        code, out, _ = home.run("budget", "--job", str(path))
        assert (code, "refused" in out) == (0 if fits else BudgetError.exit_code, not fits)
        code, out, _ = home.run("check", "--job", str(path))
        assert (code, "of the site as a whole" in out or "for the site as a whole" in out) == (
            0 if fits else PolicyRefusal.exit_code,
            not fits,
        )
        (home.site / "site.toml").write_text(text)
    assert home.files() == before


def test_check_gives_every_reason_against_a_job(home: Home, tiny_base: TinyBase) -> None:
    home.ready()
    code, out, _ = home.run("check", "--job", str(home.job(tiny_base, epsilon=9.0)), "--json")
    reasons = "\n".join(json.loads(out)["reasons"])
    assert code == PolicyRefusal.exit_code
    assert "base model" in reasons
    assert "epsilon up to 8" in reasons


def test_a_job_that_the_ledger_has_no_room_for_is_declined(home: Home, tiny_base: TinyBase) -> None:
    """Epsilon 4 is granted for one job, but three rounds of an earlier run are on the ledger."""
    home.ready(tiny_base)
    home.meet()
    home.edit("epsilon = 8.0", "epsilon = 4.0")
    job = str(home.job(tiny_base))
    assert home.run("check", "--job", job)[0] == 0
    home.spend(tiny_base, rounds=3)
    code, out, _ = home.run("check", "--job", job)
    assert code == PolicyRefusal.exit_code
    assert "over all jobs" in out


def test_another_kind_of_unit_than_the_ledgers_is_declined(home: Home, tiny_base: TinyBase) -> None:
    home.ready(tiny_base)
    home.spend(tiny_base, rounds=1)
    job = home.job(tiny_base)
    job.write_text(job.read_text() + 'unit = "note"\n')
    code, out, _ = home.run("check", "--job", str(job))
    assert (code, "ledger counts units record" in out) == (PolicyRefusal.exit_code, True)


def test_budget_is_the_joint_cost_of_the_ledger(home: Home, tiny_base: TinyBase) -> None:
    home.ready()
    empty = json.loads(home.run("budget", "--json")[1])["data"]["records"]
    assert (empty["epsilon"], empty["rounds"], empty["left"]) == (0.0, 0, 8.0)
    expected = home.spend(tiny_base, rounds=2)
    spent = json.loads(home.run("budget", "--json")[1])["data"]["records"]
    assert (spent["rounds"], spent["runs"], spent["limit"]) == (2, 1, 8.0)
    assert spent["epsilon"] == pytest.approx(expected)
    assert spent["left"] == pytest.approx(8.0 - spent["epsilon"])


def test_budget_needs_no_pinned_coordinator_but_an_undamaged_ledger(home: Home) -> None:
    home.init("--yes")
    assert home.run("budget")[0] == 0
    (home.site / "state" / "ledger.jsonl").write_text('{"half": ')
    assert home.run("budget")[0] == BudgetError.exit_code
