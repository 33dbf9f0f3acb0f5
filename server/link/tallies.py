"""What the page of figures says of a coordinator's runs and refusals, read from where they are kept."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from privacy.errors import ConfigError
from protocol.link.counters import ALL, Count, Gauges, Tallies
from server.link.runs import Runs, RunState, RunStatus


def run_gauges(home: Path) -> Gauges:
    """Runs by state, and the round that each running one is in; `runs_unreadable`: a status that is damaged."""

    def gauges() -> dict[tuple[str, str], float]:
        found = _runs(home)
        counts = {("runs", state.value): float(sum(run.state is state for run in found or ())) for state in RunState}
        rounds = {("round", run.run): float(run.round) for run in found or () if run.state is RunState.RUNNING}
        return {**counts, **rounds, ("runs_unreadable", ALL): float(found is None)}

    return gauges


def tallies(home: Path, refusals: Callable[[], Mapping[str, int]]) -> Tallies:
    """Rounds finished, of all runs, and what people and enrolment were refused. `refusals`: `Refusals.counts`.

    While a status is damaged there is no line for the rounds: a counter must not fall and rise again.
    """

    def counts() -> dict[tuple[Count, str], float]:
        found, refused = _runs(home), refusals().items()
        rounds = {} if found is None else {(Count.ROUNDS, ALL): float(sum(map(_finished, found)))}
        return {**{(Count.REFUSALS, asked): float(times) for asked, times in refused}, **rounds}

    return counts


def _finished(run: RunStatus) -> int:
    """Rounds that a run has finished: its status says which one has begun."""
    return run.round if run.state is RunState.COMPLETE else max(0, run.round - 1)


def _runs(home: Path) -> list[RunStatus] | None:
    try:
        return Runs(home).all()
    except ConfigError:
        return None
