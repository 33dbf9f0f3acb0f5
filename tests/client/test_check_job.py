"""What `cloister-site check --job` says of a job is what the run says to it, where nothing can wait too."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from client.admission import LATE_S, WAITS_FOR_APPROVAL, WAITS_FOR_HOURS, check_admitted, rehearse
from client.approvals import MOST_WAITING, Approvals, Decision, TooManyWaitError
from client.cli import main
from client.link.membership import LINK_FILE
from client.site import Site
from privacy.errors import PolicyRefusal
from protocol.messages import TRAIN
from tests.client.lone import GRANTS_ONE, SITE, lone, state_of
from tests.federation import RUN, Federation
from tests.tiny_base import TinyBase

HOURS = {"hours": "20:00-06:00", "zone": "UTC"}
NOON, EVENING, MORNING = 12 * 3600.0, 21 * 3600.0, 6 * 3600.0


def federation_with(tmp_path: Path, base: TinyBase, **accept: object) -> Federation:
    return lone(tmp_path, base, grants={"accept": {**GRANTS_ONE["accept"], **accept}})


def refuses(call: Callable[[], object]) -> bool:
    try:
        call()
    except PolicyRefusal:
        return True
    return False


def joined(site: Site) -> None:
    (site.home / "keys" / LINK_FILE).touch()


@pytest.mark.parametrize("decision", [None, Decision.WAITING, Decision.APPROVED, Decision.DENIED])
@pytest.mark.parametrize("approval", [True, False])
@pytest.mark.parametrize("now", [NOON, EVENING, MORNING - 1, MORNING, MORNING + LATE_S - 1, MORNING + LATE_S])
def test_on_a_stock_supernode_it_declines_what_the_guard_refuses_and_nothing_else(
    tmp_path: Path, tiny_base: TinyBase, decision: Decision | None, approval: bool, now: float
) -> None:
    federation = federation_with(tmp_path, tiny_base, approval=approval, **HOURS)
    site, job = federation.site(SITE), federation.job
    if decision is not None:
        Approvals(site.state).ask(job, RUN)
    if decision in (Decision.APPROVED, Decision.DENIED):
        Approvals(site.state).decide(job.digest(), decision, "as said")
    before = state_of(federation)
    declined = refuses(lambda: rehearse(site, job, lambda: now))
    assert state_of(federation) == before
    if not declined:
        assert rehearse(site, job, lambda: now) == ()
    assert declined == refuses(lambda: check_admitted(site, job, RUN, TRAIN, lambda: now))


def test_a_decline_on_a_stock_supernode_says_until_when_and_a_site_that_joined_lets_the_job_wait(
    tmp_path: Path, tiny_base: TinyBase
) -> None:
    federation = federation_with(tmp_path, tiny_base, approval=True, **HOURS)
    site, job = federation.site(SITE), federation.job
    said = r"declined until a person here approved it .*`cloister-site jobs approve`.* and its hours .*20:00-06:00"
    with pytest.raises(PolicyRefusal, match=said + ".*on a stock SuperNode nothing can wait"):
        rehearse(site, job, lambda: NOON)
    joined(site)
    assert rehearse(site, job, lambda: NOON) == (WAITS_FOR_APPROVAL, WAITS_FOR_HOURS)


def test_the_command_declines_it_too(tmp_path: Path, tiny_base: TinyBase, capsys: pytest.CaptureFixture[str]) -> None:
    federation = federation_with(tmp_path, tiny_base, approval=True)
    site, path = federation.site(SITE), tmp_path / "job.toml"
    path.write_text(
        f'name = "j"\n[task]\nlabels = {list(federation.job.task.labels)}\n[model]\nbase = "{tiny_base.folder}"\n'
        "[federation]\nrounds = 2\nmin_sites = 1\n[secagg]\nenabled = false\n"
    )
    assert main(["check", str(site.home), "--job", str(path)]) == PolicyRefusal.exit_code
    assert "on a stock SuperNode nothing can wait" in capsys.readouterr().out


@pytest.mark.parametrize("member", [True, False])
def test_a_job_more_than_may_wait_is_declined_and_one_that_is_known_is_not(
    tmp_path: Path, tiny_base: TinyBase, member: bool
) -> None:
    federation = federation_with(tmp_path, tiny_base, approval=True)
    site, job = federation.site(SITE), federation.job
    store = Approvals(site.state)
    others = [job.model_copy(update={"name": f"j{number}"}) for number in range(MOST_WAITING)]
    for other in others:
        store.ask(other, "r")
    if member:
        joined(site)
    before = state_of(federation)
    with pytest.raises(TooManyWaitError, match=f"at most {MOST_WAITING}"):
        rehearse(site, job)
    with pytest.raises(TooManyWaitError):
        check_admitted(site, job, RUN, TRAIN)
    assert state_of(federation) == before
    if member:
        assert rehearse(site, others[0]) == (WAITS_FOR_APPROVAL,)
    store.decide(others[0].digest(), Decision.APPROVED, "")
    assert rehearse(site, others[0]) == ()
    if member:
        assert rehearse(site, job) == (WAITS_FOR_APPROVAL,)
