"""Who took part in what: the run's own account, from which the result and the progress display are made.

A partial result never reads as a full one: every round lists who took part and who did not, and why.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from protocol.messages import SpentOnSums, Terms


class EventKind(StrEnum):
    STAGE = "stage"
    GREETED = "greeted"
    DECLINED = "declined"
    ROUND = "round"
    ASKED = "asked"
    REPLIED = "replied"
    DROPPED = "dropped"
    MEASURED = "measured"


@dataclass(frozen=True, kw_only=True)
class Event:
    """Something that a watcher of the run may want to show. `text` is safe to show."""

    kind: EventKind
    round: int = 0
    site: str = ""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class Drop:
    """A site that is not in a round, with the code and the reason that a report shows."""

    site: str
    code: str
    reason: str


@dataclass(kw_only=True)
class RoundRecord:
    """One round: participants by site id, those dropped, and the metrics of the model after it.

    secagg_s: seconds from the last training answer to the unmasked sum, over all attempts. noise: the plan of the noise
    that its sum carries, by name; empty without. finished: its model is there; `metrics` are empty where that was not
    measured.
    """

    number: int
    participants: list[str] = field(default_factory=list)
    dropped: list[Drop] = field(default_factory=list)
    attempts: int = 1
    rolled_back: bool = False
    secagg_s: float = 0.0
    noise: Mapping[str, object] = field(default_factory=dict)
    finished: bool = False
    metrics: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """What a site said it has spent: rounds taken, epsilon and delta of them together.

    releases, site_epsilon: its masked inputs with noise, and what they cost the whole site behind its own share alone.
    """

    rounds_taken: int
    epsilon: float
    delta: float
    releases: int = 0
    site_epsilon: float = 0.0


class RunRecord:
    """Collects what happens in a run and passes it on to a watcher."""

    def __init__(self, watch: Callable[[Event], None] | None = None) -> None:
        self._watch = watch or (lambda _event: None)
        self.terms: dict[str, Terms] = {}
        self.declined: list[Drop] = []
        self.rounds: list[RoundRecord] = []
        self.spent: dict[str, Spent] = {}
        self.passing: set[str] = set()
        """The sites that this round has dropped for what may pass: absent, or cut short in their work."""

    def restore(
        self,
        *,
        terms: Mapping[str, Terms],
        spent: Mapping[str, Spent],
        declined: Iterable[Drop],
        rounds: Iterable[RoundRecord],
    ) -> None:
        """Take up the account of a run that goes on."""
        self.terms, self.spent = dict(terms), dict(spent)
        self.declined, self.rounds = list(declined), list(rounds)

    def stage(self, text: str) -> None:
        self._watch(Event(kind=EventKind.STAGE, text=text))

    def greeted(self, terms: Terms) -> None:
        self.terms[terms.site] = terms
        self._watch(Event(kind=EventKind.GREETED, site=terms.site))

    def decline(self, drop: Drop) -> None:
        self.declined.append(drop)
        self._watch(Event(kind=EventKind.DECLINED, site=drop.site, text=f"{drop.code}: {drop.reason}"))

    def open_round(self, number: int) -> RoundRecord:
        self.rounds.append(RoundRecord(number=number))
        self.passing.clear()
        self._watch(Event(kind=EventKind.ROUND, round=number))
        return self.rounds[-1]

    def asked(self, site: str) -> None:
        self._watch(Event(kind=EventKind.ASKED, round=self.rounds[-1].number, site=site))

    def replied(self, site: str, spent: Spent) -> None:
        before = self.spent.get(site)
        if before is not None:
            spent = replace(spent, releases=before.releases, site_epsilon=before.site_epsilon)
        self.spent[site] = spent
        self._watch(Event(kind=EventKind.REPLIED, round=self.rounds[-1].number, site=site))

    def released(self, site: str, spent: SpentOnSums) -> None:
        """A masked input with noise came, with what all such inputs have cost the site as a whole."""
        before = self.spent.get(site, Spent(rounds_taken=0, epsilon=0.0, delta=0.0))
        self.spent[site] = replace(before, releases=spent.releases, site_epsilon=spent.epsilon)

    def counted(self, sites: Iterable[str]) -> None:
        """The sites whose updates are in the round's mean."""
        self.rounds[-1].participants.extend(sites)

    def attempted(self, number: int, reason: str) -> None:
        """The round is attempted again, after `number` attempts that came to nothing."""
        entry = self.rounds[-1]
        entry.attempts = number + 1
        entry.dropped.clear()
        self.passing.clear()
        self.stage(f"round {entry.number} is attempted again: {reason}")

    def rolled_back(self, before: float, after: float) -> None:
        """The round's update harmed the model and was left out."""
        entry = self.rounds[-1]
        entry.rolled_back = True
        self.stage(f"round {entry.number} rolled back: held-out loss {before:.3f} before, {after:.3f} after")

    def dropped(self, drop: Drop, *, passing: bool = False) -> None:
        """A site is not in the round. `passing`: for a reason that may be gone when it is asked again."""
        self.rounds[-1].dropped.append(drop)
        if passing:
            self.passing.add(drop.site)
        number = self.rounds[-1].number
        self._watch(Event(kind=EventKind.DROPPED, round=number, site=drop.site, text=f"{drop.code}: {drop.reason}"))

    def measured(self, number: int, metrics: Mapping[str, object], text: str) -> None:
        """The round is over; `metrics` of its model, empty where it was not measured."""
        for entry in self.rounds:
            if entry.number == number:
                entry.finished, entry.metrics = True, metrics
        self._watch(Event(kind=EventKind.MEASURED, round=number, text=text))
