"""Either end killed before and after each of its durable writes: nothing is asked twice, and nothing is lost."""

import stat

import numpy as np
import pytest

from server.prekeys import SECRET_FILE
from tests.light_federation import LightFederation, step

ROUNDS = 2


def whole(names, rounds=ROUNDS):
    """The model when all sites are in all rounds: means, one after the other."""
    return sum(np.mean([step(site, number) for site in names]) for number in range(1, rounds + 1))


def moments(folder):
    """How often the coordinator of a run can be killed: at its writes, its pushes."""
    quiet = LightFederation(folder)
    quiet.run(ROUNDS)
    return quiet.deaths.seen


@pytest.fixture(scope="module")
def count(tmp_path_factory):
    return moments(tmp_path_factory.mktemp("quiet"))


@pytest.mark.parametrize("after", [False, True])
def test_a_coordinator_killed_at_any_of_its_writes_goes_on_and_asks_nobody_twice(tmp_path, count, after):
    assert count >= 3 * (1 + 2 + 1) + 3 * 2  # secret, model and account, the secret's end; a push to each of two sites
    for at in range(count):
        federation = LightFederation(tmp_path_at(tmp_path, at))
        federation.deaths.die(at, after=after)
        model = federation.run_through(ROUNDS)
        np.testing.assert_allclose(model, whole(federation.roster), rtol=1e-6)
        assert set(federation.calls.values()) == {1}, at
        assert len(federation.calls) == 2 * (ROUNDS + 1)
        assert [sorted(entry.participants) for entry in federation.record.rounds] == [
            sorted(federation.roster)
        ] * ROUNDS
        assert not any(entry.dropped for entry in federation.record.rounds) and not federation.told
        assert not (federation.work / SECRET_FILE).exists()


def tmp_path_at(folder, at):
    made = folder / str(at)
    made.mkdir()
    return made


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("number", [1, 2])
def test_a_site_killed_at_its_write_is_out_of_that_round_alone(tmp_path, number, after):
    federation = LightFederation(tmp_path)
    federation.run(number - 1) if number > 1 else federation.run(0)
    federation.site_deaths["site-01"].die(0, after=after)
    federation.restart()
    federation.run(number + 1)
    for entry in federation.record.rounds:
        lost = {"site-01": "failed"} if entry.number == number else {}
        assert {drop.site: drop.code for drop in entry.dropped} == lost
        assert sorted(entry.participants) == [site for site in sorted(federation.roster) if site not in lost]
    assert max(federation.calls.values()) == 1 and not federation.told
    assert ("site-01", number) not in federation.calls


def test_a_site_that_is_killed_again_and_again_is_asked_for_new_prekeys_and_comes_back_in_the_same_round(tmp_path):
    """Both prekeys that the coordinator knows are used up; the request that says nothing carries no model."""
    federation = LightFederation(tmp_path)
    federation.run(0)
    for number in (1, 2):
        federation.site_deaths["site-01"].die(0, after=True)
        federation.restart()
        federation.run(number)
    federation.restart()
    federation.run(4)
    lost = [[drop.site for drop in entry.dropped] for entry in federation.record.rounds]
    assert lost == [["site-01"], ["site-01"], [], []]
    asked = [each for each in federation.grid.requests if each.node == federation.node("site-01")]
    assert [each.round for each in asked] == [0, 1, 2, 3, 3, 4]
    assert len(asked[3].sealed) < len(asked[4].sealed) - 4 * 8
    assert max(federation.calls.values()) == 1 and not federation.told  # nothing was lost that anyone must look after


def test_the_secret_of_a_round_is_on_disk_before_its_first_request_and_gone_with_its_account(tmp_path):
    federation = LightFederation(tmp_path)
    path, seen = federation.work / SECRET_FILE, []
    push = federation.grid.push_messages

    def pushed(messages):
        seen.append((path.read_bytes(), stat.S_IMODE(path.stat().st_mode)))
        return push(messages)

    federation.grid.push_messages = pushed
    federation.after_round = lambda _number: seen.append(path.exists())
    federation.run(ROUNDS)
    secrets = [each for each in seen if each is not False]
    assert seen.count(False) == ROUNDS and True not in seen
    assert len({data for data, _ in secrets}) == ROUNDS + 1 and {mode for _, mode in secrets} == {0o600}
