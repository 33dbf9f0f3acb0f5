"""A stream's steps have their time, and its holder is asked after: neither loses what the other says."""

from __future__ import annotations

import asyncio

import pytest

from protocol.link.counters import Count, Counters
from protocol.link.terms import Refused, Timing
from server.link.limits import RefusedError
from server.link.pulse import moving, watched

TIMING = Timing(stall_s=60.0)


def test_a_holder_who_is_shut_out_as_a_step_is_done_sees_no_further_one() -> None:
    """The check fails in the same turn of the loop in which the step is done: `asyncio.wait_for` forgets it then."""
    done_after = list[str]()

    async def stream() -> None:
        step = asyncio.get_running_loop().create_future()

        def check() -> None:
            if not step.done():
                step.set_result(None)
            raise RefusedError(Refused.STRANGER, "revoked")

        async with watched(check, 0.01):
            await moving(step, TIMING, "down")
            done_after.append("one more")

    with pytest.raises(RefusedError, match="revoked"):
        asyncio.run(stream())
    assert done_after == []


@pytest.mark.parametrize("direction", ["up", "down"])
def test_a_step_that_stands_still_is_refused_and_counted(direction: str) -> None:
    counters = Counters(prefix="c")

    async def stream() -> None:
        await moving(asyncio.get_running_loop().create_future(), Timing(stall_s=0.01), direction, counters)

    with pytest.raises(RefusedError, match="nothing moved") as refused:
        asyncio.run(stream())
    assert refused.value.refused is Refused.STALLED
    assert counters.value(Count.STALLS, direction) == counters.value(Count.STALLS) == 1


def test_what_a_step_brings_is_what_it_returns() -> None:
    async def stream() -> int:
        return await moving(asyncio.sleep(0, 7), TIMING, "up")

    assert asyncio.run(stream()) == 7
