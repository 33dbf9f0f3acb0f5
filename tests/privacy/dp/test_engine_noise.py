"""The release's normals are those of the stream, number by number, whatever way they are drawn."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from privacy.dp import SecureStream
from privacy.dp.noise import STREAM_CHUNK, Normals
from tests.privacy.dp.engines import KEY

torch.set_num_threads(1)

CPU = torch.device("cpu")


@pytest.mark.parametrize("count", [0, 1, 2, STREAM_CHUNK - 1, STREAM_CHUNK, STREAM_CHUNK + 1, 3 * STREAM_CHUNK + 5])
def test_the_fast_normals_are_the_streams_and_take_the_same_words(count: int) -> None:
    slow, fast = SecureStream(KEY, "noise"), SecureStream(KEY, "noise")
    expected, found = slow.normal(count), Normals(fast).draw(count, CPU).numpy()
    assert found.dtype == np.float64 and found.shape == (count,)
    assert np.abs(found - expected).max(initial=0.0) < 1e-14
    assert fast.position == slow.position


def test_draws_of_whole_chunks_join_to_one_draw() -> None:
    whole = Normals(SecureStream(KEY, "noise")).draw(5 * STREAM_CHUNK + 3, CPU)
    parts = Normals(SecureStream(KEY, "noise"))
    joined = torch.cat([parts.draw(n, CPU) for n in (2 * STREAM_CHUNK, 2 * STREAM_CHUNK, STREAM_CHUNK + 3)])
    assert torch.equal(joined, whole)
