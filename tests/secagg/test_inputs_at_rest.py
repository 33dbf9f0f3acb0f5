"""A masked input that rests sealed in its file, as the link's do: added chunk by chunk, whole or not at all."""

import numpy as np
import pytest
from flwr.app import RecordDict

from privacy.errors import QuorumError, SealError
from privacy.secagg import Accumulator
from protocol.held import RestingArray
from protocol.secagg import INPUT, WORD, word_record
from server.record import RunRecord
from server.secagg import _Adder
from tests.privacy.secagg.driver import Attempt, make_plan, make_session, slow_sum
from tests.resting import resting_content

LIAR, HONEST = 4, (1, 2, 3)
SEALED_CHUNK = 65_536 + 16


@pytest.fixture
def uploading():
    """Four chunks of an input each, in a dozen sealed ones; nothing uploaded yet."""
    return Attempt(make_session(4, plan=make_plan(4, dimensions=200_000))).run(until="shares")


def resting_input(attempt, index, path):
    """A site's sealed answer with its masked input."""
    chunks, seal = attempt.mask(index)
    lanes = np.frombuffer(b"".join(chunks), dtype=attempt.session.plan.lane.dtype)
    content = resting_content(path, RecordDict({WORD: word_record(seal.to_bytes(), lanes)}))
    assert isinstance(content[WORD][INPUT], RestingArray)
    return content


def take(attempt, index, content):
    attempt.coordinator = _Adder(attempt.accumulator, RunRecord()).take(attempt.coordinator, index, content)


def spoil(path, start, size=7):
    with path.open("r+b") as file:
        file.seek(start)
        file.write(bytes(size))


@pytest.fixture
def three_in(uploading, tmp_path):
    for index in HONEST:
        take(uploading, index, resting_input(uploading, index, tmp_path / str(index)))
    return uploading


def finished(attempt):
    attempt.coordinator, attempt.sets = attempt.coordinator.close_inputs(attempt.accumulator)
    attempt.attestations(list(HONEST))
    attempt.reveals(list(HONEST))
    return attempt.finish().lanes.tolist()


def test_inputs_at_rest_make_the_sum_of_what_was_masked(three_in):
    assert finished(three_in) == slow_sum(three_in.session.plan, list(HONEST))


@pytest.mark.parametrize("chunk", [0, 5, 9])
def test_an_input_with_one_chunk_that_does_not_open_is_taken_out_again(three_in, tmp_path, chunk):
    """What its site sealed wrongly shows when it is read: before any lane, or when a part of them is in the sum."""
    before = three_in.accumulator.lanes.copy()
    content = resting_input(three_in, LIAR, tmp_path / "liar")
    spoil(tmp_path / "liar", 26 + chunk * SEALED_CHUNK + 30_000)
    with pytest.raises(SealError):
        take(three_in, LIAR, content)
    assert np.array_equal(three_in.accumulator.lanes, before)
    assert three_in.accumulator.halves == ()
    assert finished(three_in) == slow_sum(three_in.session.plan, list(HONEST))


def test_half_an_input_that_cannot_be_read_again_is_never_unmasked(three_in, tmp_path):
    path = tmp_path / "liar"
    content = resting_input(three_in, LIAR, path)

    class Losing(Accumulator):
        """Loses the file once the first chunk was added."""

        def add(self, site, chunk):
            super().add(site, chunk)
            spoil(path, 0, path.stat().st_size)

    three_in.accumulator.__class__ = Losing
    with pytest.raises(SealError):
        take(three_in, LIAR, content)
    assert three_in.accumulator.halves == (LIAR,)
    with pytest.raises(QuorumError, match="halves of: site-004"):
        three_in.coordinator.close_inputs(three_in.accumulator)
