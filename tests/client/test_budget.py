"""`cloister-site budget`: the ledger's numbers against the accountant's own, what a job costs, and a loss accepted.

Every expected epsilon is composed here from the plan's steps, past ledger and budget.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from client.cli import main
from client.config import read_site
from client.ledger import Ledger
from privacy.dp import Attempt, Limit, Plan, StepGroup, charge_round, epsilon_of
from privacy.errors import BudgetError, ConfigError
from protocol.job import parse_job
from protocol.plans import privacy_plan
from tests.tiny_base import TinyBase

WIDE = Limit(epsilon=100.0, delta=1e-5)
OTHERS = '[data.letters]\npath = "l.csv"\npublished_size = 60\n[data.calls]\npath = "c.csv"\npublished_size = 60\n'


class Home:
    """A site with three data sets and a ledger, and one job; no keys and no records are needed for its budget."""

    def __init__(self, root: Path, base: TinyBase, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._base, self._capsys = root, base, capsys
        self.grants()

    def grants(self, epsilon: float = 8.0, shared: str = "[]", data: str = "records") -> None:
        (self.root / "site.toml").write_text(
            f'id = "h1"\n[accept]\ndata = "{data}"\n[privacy]\nepsilon = {epsilon!r}\nshared = {shared}\n'
            f'[data.records]\npath = "r.csv"\npublished_size = 100\n{OTHERS}'
        )

    def job(self, **privacy: object) -> Path:
        settings = {"epsilon": 4.0, "spare_rounds": 1, **privacy}
        path = self.root / "job.toml"
        path.write_text(
            f'name = "j"\n[task]\nlabels = ["good", "bad"]\n[model]\nbase = "{self._base.folder}"\n'
            "[federation]\nrounds = 3\n[training]\nlocal_steps = 5\n[privacy]\n"
            + "".join(f"{name} = {json.dumps(value)}\n" for name, value in settings.items())
        )
        return path

    def plan(self) -> Plan:
        return privacy_plan(parse_job(self.job().read_text(), "job"), 100)

    def spend(self, rounds: list[int], *, data: str = "records", run: str = "r") -> StepGroup:
        """Charge these rounds of the job's plan, one that is named again as a new attempt."""
        plan = self.plan()
        for place, number in enumerate(rounds):
            attempt = Attempt(
                dataset_id=data, job_id="a" * 64, run_id=run, round=number, attempt=rounds[:place].count(number)
            )
            charge_round(Ledger(self.root / "state"), plan, attempt=attempt, limit=WIDE)
        return StepGroup(plan.sampling_rate, plan.noise_multiplier, len(rounds) * plan.steps_per_round)

    def budget(self, *more: str) -> tuple[int, str, str]:
        code = main(["budget", str(self.root), *more])
        output = self._capsys.readouterr()
        return code, output.out, output.err

    def values(self, *more: str) -> dict[str, dict[str, object]]:
        return json.loads(self.budget("--json", *more)[1])


@pytest.fixture
def home(tmp_path: Path, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str]) -> Home:
    return Home(tmp_path, tiny_base, capsys)


def files(root: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_each_run_is_told_with_its_rounds_and_its_own_cost_and_all_jointly(home: Home) -> None:
    first, second = home.spend([1, 2, 2]), home.spend([1], run="r2")
    spent = home.values()["data"]["records"]
    alone = [epsilon_of([group], 1e-5) for group in (first, second)]
    assert [(run["run"], run["rounds"]) for run in spent["spent_on"]] == [("r", [1, 2, 2]), ("r2", [1])]
    assert [run["epsilon"] for run in spent["spent_on"]] == pytest.approx(alone)
    joint = epsilon_of([first, second], 1e-5)
    assert joint < sum(alone)
    assert (spent["epsilon"], spent["left"]) == pytest.approx((joint, 8.0 - joint))
    code, text, _ = home.budget()
    assert code == 0
    assert f"records: epsilon {joint:.3f} of 8 at delta 1e-05, {8 - joint:.3f} left; 4 rounds in 2 runs" in text
    assert f"run r of job {'a' * 12}: 3 rounds, 1 of them again, up to round 2; epsilon {alone[0]:.3f}" in text


def test_what_one_job_may_ask_for_is_told_and_a_job_beyond_it_does_not_fit(home: Home) -> None:
    assert home.values()["data"]["records"]["job_limit"] == 8.0
    path = home.root / "site.toml"
    path.write_text(path.read_text().replace("[privacy]\n", "[privacy]\njob_epsilon = 3.0\n"))
    before = files(home.root)
    code, text, _ = home.budget("--job", str(home.job()))
    assert code == BudgetError.exit_code
    assert "one job may ask for up to epsilon 3\n" in text
    assert "refused: epsilon up to 3 is granted to one job, the job asks for 4" in text
    assert home.budget("--job", str(home.job(epsilon=3.0)))[0] == 0
    assert {name for name in files(home.root) if "job.toml" not in name} == set(before)


def test_what_is_left_is_never_less_than_nothing(home: Home) -> None:
    home.spend([1])
    home.grants(epsilon=0.01)
    assert home.values()["data"]["records"]["left"] == 0.0


def test_data_sets_that_share_persons_show_one_cost_and_others_none_of_it(home: Home) -> None:
    home.grants(shared='[["records", "letters"]]')
    groups = [home.spend([1]), home.spend([1, 2], data="letters", run="r2")]
    spent = home.values()["data"]
    joint = epsilon_of(groups, 1e-5)
    assert [spent[name]["epsilon"] for name in ("records", "letters", "calls")] == pytest.approx([joint, joint, 0.0])
    assert [spent[name]["shared"] for name in ("records", "letters", "calls")] == [["letters"], ["records"], []]
    assert "one budget with letters" in home.budget()[1]


@pytest.mark.parametrize(
    ("shared", "of", "joined"),
    [
        ("[]", "a", "a"),
        ('[["a", "b"]]', "a", "ab"),
        ('[["a", "b"]]', "c", "c"),
        ('[["a", "b"], ["b", "c"]]', "a", "abc"),
        ('[["a", "b"], ["c", "d"], ["d", "b"]]', "a", "abcd"),
        ('[["a", "b"], ["c", "d"]]', "d", "cd"),
        ('[["a"], []]', "a", "a"),
    ],
)
def test_sharing_reaches_along_every_chain_of_groups(home: Home, shared: str, of: str, joined: str) -> None:
    home.grants(shared=shared)
    assert read_site(home.root).sharing(of) == set(joined)


@pytest.mark.parametrize("before", [[], [1], [1, 2, 3]])
def test_a_job_costs_what_all_its_rounds_cost_on_top_of_what_was_spent(home: Home, before: list[int]) -> None:
    spent = [home.spend(before)] if before else []
    job, plan, found = home.job(), home.plan(), files(home.root)
    quoted = home.values("--job", str(job))["job"]
    rounds = [StepGroup(plan.sampling_rate, plan.noise_multiplier, n * plan.steps_per_round) for n in (3, 4)]
    assert quoted["alone"] == pytest.approx(epsilon_of([rounds[0]], 1e-5))
    assert quoted["after"] == pytest.approx(epsilon_of([*spent, rounds[0]], 1e-5))
    assert quoted["at_most"] == pytest.approx(epsilon_of([*spent, rounds[1]], 1e-5))
    assert (quoted["fits"], quoted["reason"]) == (True, "")
    assert files(home.root) == found  # asking costs nothing


def test_a_job_that_costs_too_much_is_told_by_how_much_and_leaves_with_the_budgets_code(home: Home) -> None:
    home.grants(epsilon=4.0)
    home.spend([1, 2, 3])
    job = str(home.job())
    code, text, _ = home.budget("--job", job)
    after = home.values("--job", job)["job"]["after"]
    assert code == BudgetError.exit_code
    shown, over = map(float, re.search(r"it would be ([0-9.]+), ([0-9.]+) too much", text).groups())
    assert after <= shown < after + 0.001
    assert after - 4 <= over < after - 4 + 0.001


def test_a_job_on_a_data_set_that_shares_persons_pays_for_both(home: Home) -> None:
    home.spend([1, 2, 3], data="letters")
    job = str(home.job())
    alone = home.values("--job", job)["job"]
    home.grants(epsilon=4.0, shared='[["records", "letters"]]')
    shared = home.values("--job", job)["job"]
    assert alone["after"] == pytest.approx(alone["alone"])
    assert shared["after"] > alone["after"] + 0.5
    assert not shared["fits"]


def test_a_job_for_another_kind_of_unit_does_not_fit(home: Home) -> None:
    home.spend([1])
    code, text, _ = home.budget("--job", str(home.job(unit="person")))
    assert code == BudgetError.exit_code
    assert "the ledger counts units record, the job asks for person" in text


def test_a_job_without_privacy_is_not_counted(home: Home) -> None:
    code, text, _ = home.budget("--job", str(home.job(enabled=False)))
    assert (code, "without differential privacy" in text) == (0, True)


def test_a_job_for_a_data_set_that_is_not_there_is_refused(home: Home) -> None:
    home.grants(data="gone")
    assert home.budget("--job", str(home.job()))[0] == ConfigError.exit_code


def test_a_loss_is_told_accepted_and_shown_ever_after(home: Home) -> None:
    groups = [home.spend([1])]
    backup = (home.root / "state" / "ledger.sqlite").read_bytes()
    groups.append(home.spend([2, 3], run="r2"))
    (home.root / "state" / "ledger.sqlite").write_bytes(backup)
    code, _, err = home.budget()
    assert code == BudgetError.exit_code
    assert "ends at row 1, and its head knows row 3" in err
    assert "--accept-loss" in err
    code, text, _ = home.budget("--accept-loss")
    assert code == 0
    assert "3 charges count from now on, 2 of them were not in its rows" in text
    spent = home.values()["data"]["records"]
    assert spent["epsilon"] == pytest.approx(epsilon_of(groups, 1e-5))
    assert "ends at row 1, and its head knows row 3" in spent["accepted"][0]
    assert home.budget("--accept-loss")[0] == ConfigError.exit_code
