"""What leaves a site in a masked run, and what lies about in its files, logs and errors: nothing of its records."""

import base64
import logging
import stat

import numpy as np
import pytest

from client.secagg_state import SecAggState
from privacy.secagg import History
from privacy.secagg.encoding import read
from privacy.secagg.site import STATE_LABEL
from protocol.messages import HELLO, TRAIN
from tests.federation import records, write_records
from tests.secagg.masked import Script, kept_update, lost, masked, refused, run_folder, vector

SECRET_FILES = ("secagg.machine", "secagg.update.npy", "keys/identity.key", "keys/site.secret")


@pytest.fixture(scope="module")
def twins(tmp_path_factory, tiny_base):
    """Two runs of the same job over different records, one of them with a site that is lost."""
    runs = []
    for number, seed in enumerate((0, 1000)):
        folder = tmp_path_factory.mktemp(f"twin-{number}")
        federation = masked(folder, tiny_base, job={"federation": {"rounds": 2}})
        for place, site in enumerate(federation.roster):
            write_records(federation.home(site) / "data.csv", records(seed=seed + place))
        federation.run()
        runs.append(federation)
    return runs


def answers(federation):
    """Every answer of every site, opened, in the order in which it was given."""
    return [(each.node, each.kind, federation.opened(each)) for each in federation.grid.replies]


def test_two_runs_over_different_records_send_the_same_but_for_masked_lanes_and_words(twins):
    """Weights, counts, metrics, losses in the clear would differ here, or would not be constants."""
    one, other = map(answers, twins)
    assert len(one) == len(other) == 3 * (1 + 2 * 5)
    assert np.abs(vector(twins[0].trained.models[2]) - vector(twins[1].trained.models[2])).max() > 1e-4
    for (node, kind, left), (other_node, other_kind, right) in zip(one, other, strict=True):
        assert (node, kind) == (other_node, other_kind)
        assert dict(left.config_records) == dict(right.config_records)
        assert dict(left.metric_records) == dict(right.metric_records)
        assert {name: forms(record) for name, record in left.array_records.items()} == {
            name: forms(record) for name, record in right.array_records.items()
        }


def forms(record):
    return {key: (array.numpy().dtype, array.numpy().shape) for key, array in record.items()}


def test_an_answer_holds_nothing_but_constants_of_plan_and_ledger_lanes_and_words(twins):
    for _, kind, content in answers(twins[0]):
        expected = {HELLO: {"config", "outcome"}, TRAIN: {"metrics", "outcome", "word"}}
        assert set(content) == expected.get(kind, {"outcome", "word"})
        if kind == TRAIN:
            assert set(content["metrics"]) == {"rounds_taken", "epsilon", "delta", "steps"}
            assert set(content["word"]) == {"word"}
        elif kind != HELLO:
            assert set(content["word"]) in ({"word"}, {"word", "input"})


def test_masked_lanes_of_different_records_tell_nothing_apart(twins):
    """Chi-square over the bytes of all masked inputs (255 degrees); 400 is passed by chance with 1.4e-8."""
    lanes = b"".join(
        content["word"]["input"].numpy().tobytes()
        for federation in twins
        for _, kind, content in answers(federation)
        if kind not in (HELLO, TRAIN) and "input" in content["word"]
    )
    counts = np.bincount(np.frombuffer(lanes, np.uint8), minlength=256)
    assert counts.sum() == 2 * 2 * 3 * (66 + 3) * 4
    assert ((counts - counts.sum() / 256) ** 2 / (counts.sum() / 256)).sum() < 400


def secrets_in(federation, site):
    """What the site's secret file holds now: rho, b, transport seed, shares; and the update that waits."""
    found = set()
    machine = run_folder(federation, site) / "secagg.machine"
    if machine.exists():
        fields = read(machine.read_bytes(), STATE_LABEL, (1 << 24,) * 12, what="a test")
        found |= {fields[4][at : at + 32] for at in range(0, len(fields[4]), 32)} | {fields[6]}
        for shares in fields[8:10]:
            found |= {shares[at + 6 : at + 39] for at in range(0, len(shares), 39)}
    update = kept_update(federation, site)
    if update is not None:
        found |= {update.tobytes()[at : at + 32] for at in range(0, update.nbytes - 32, 64)}
    return {secret for secret in found if len(secret) > 16}


def forms_of(secret):
    return (secret, secret.hex().encode(), repr(secret)[2:-1].encode(), base64.b64encode(secret)[:-4])


def test_no_secret_is_in_other_files_logs_errors_or_reasons(tmp_path, tiny_base, caplog):
    caplog.set_level(logging.DEBUG)
    federation = masked(tmp_path, tiny_base, sites=4, job={"federation": {"rounds": 3}})
    script = Script(federation)
    script.at(1, "share", "site-01", lost).at(1, "share", "site-02", refused)  # another attempt
    script.at(2, "attest", "site-01", refused).at(3, "mask", "site-03", lost)
    known, texts = set(), []
    for node, app in list(federation.grid.apps.items()):
        site = federation.names[node]

        def answer(message, context, app=app, site=site):
            reply = app(message, context)
            new = secrets_in(federation, site)
            known.update(new)
            hidden = [data for name, data in federation.files(site).items() if not name.endswith(SECRET_FILES)]
            assert not any(form in data for data in hidden for secret in new for form in forms_of(secret))
            return reply

        federation.grid.apps[node] = answer
    federation.run()
    assert len(known) > 100  # there was something to look for
    texts += [record.getMessage() + str(record.exc_text) for record in caplog.records]
    texts += [drop.reason for entry in federation.record.rounds for drop in entry.dropped]
    texts += [str(error) + repr(error) for _, error in federation.grid.raised]
    assert any("refused" in text for text in texts)
    seen = "\n".join(texts).encode()
    for site in federation.roster:
        seen += b"".join(data for name, data in federation.files(site).items() if not name.endswith(SECRET_FILES))
    assert not any(form in seen for secret in known for form in forms_of(secret))


def test_after_a_round_the_secret_files_hold_no_secret_and_the_update_is_gone(twins):
    for site in twins[0].roster:
        assert secrets_in(twins[0], site) == set()
        assert kept_update(twins[0], site) is None


def test_what_waits_is_for_its_owner_alone(liar):
    liar.attempt("share")
    for path in liar.federation.home("site-01").rglob("secagg*"):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.name == "secagg.lock", path.name
    folder = run_folder(liar.federation, "site-01", liar.run)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_an_attempt_that_could_not_begin_leaves_no_machine_of_the_one_before(tmp_path):
    """A disk that fails between: an old machine beside a new history would answer for an attempt that is over."""
    state = SecAggState(tmp_path / "state", tmp_path / "run")
    state.begin(History(), {"attempt": 0}, b"the first machine")
    assert state.machine() == b"the first machine"
    (tmp_path / "run" / "secagg.json").unlink()
    (tmp_path / "run" / "secagg.json" / "in the way").mkdir(parents=True)
    with pytest.raises(OSError):
        state.begin(History(), {"attempt": 1}, b"the second machine")
    assert state.machine() is None
