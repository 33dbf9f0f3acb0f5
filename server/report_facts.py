"""A result read with care: what a report states, each value of its type or absent.

A result may come from a file and may lack what a run never reached; a value of another type or a number that is not
finite counts as absent, so that no page shows what was never measured.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NO_PROFILE = ("", "none")


def mapping(value: object) -> Mapping[str, Any]:
    """The value if it is a mapping, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def rows(value: object) -> list[Mapping[str, Any]]:
    """The mappings in a list, else none."""
    return [each for each in value if isinstance(each, Mapping)] if isinstance(value, list | tuple) else []


def number(value: object) -> float | None:
    """The value if it is a finite number, else None."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def integer(value: object) -> int:
    """A count; 0 when it is none."""
    found = number(value)
    return int(found) if found is not None else 0


def text(value: object) -> str:
    """The value if it is text, else the empty text."""
    return value if isinstance(value, str) else ""


@dataclass(frozen=True)
class Facts:
    """What a result says, by the questions that the report answers."""

    result: Mapping[str, Any]

    def section(self, name: str) -> Mapping[str, Any]:
        """A section of the job."""
        return mapping(mapping(self.result.get("job")).get(name))

    @property
    def job_name(self) -> str:
        return text(mapping(self.result.get("job")).get("name")) or "a job without a name"

    @property
    def complete(self) -> bool:
        return self.result.get("status") == "complete"

    @property
    def error(self) -> str:
        return text(self.result.get("error"))

    @property
    def sites(self) -> list[Mapping[str, Any]]:
        return rows(self.result.get("sites"))

    @property
    def declined(self) -> list[Mapping[str, Any]]:
        return rows(self.result.get("declined"))

    @property
    def rounds(self) -> list[Mapping[str, Any]]:
        return rows(self.result.get("rounds"))

    @property
    def measured(self) -> list[tuple[int, Mapping[str, Any]]]:
        """Number and metrics of each round after which the model was measured."""
        return [(integer(r.get("round")), mapping(r.get("metrics"))) for r in self.rounds if mapping(r.get("metrics"))]

    @property
    def finished_rounds(self) -> int:
        """Rounds that came to their end, whether or not the model was measured then."""
        return sum(bool(r.get("finished") or mapping(r.get("metrics"))) for r in self.rounds)

    @property
    def planned_rounds(self) -> int:
        return integer(self.section("federation").get("rounds"))

    @property
    def metrics(self) -> Mapping[str, Any]:
        """The metrics of the model handed out; where there is none, of the last round that was measured."""
        final = mapping(self.result.get("metrics"))
        return final or (self.measured[-1][1] if self.measured else {})

    @property
    def metrics_round(self) -> int:
        """The round after which `metrics` was measured; 0 when unknown."""
        if mapping(self.result.get("metrics")):
            return integer(self.result.get("best_round"))
        return self.measured[-1][0] if self.measured else 0

    @property
    def tags(self) -> bool:
        """Whether the job marks entities in texts, where others put whole texts into classes."""
        return self.section("task").get("kind") == "tag"

    @property
    def has_model(self) -> bool:
        return bool(text(mapping(self.result.get("model")).get("sha256")))

    @property
    def labels(self) -> list[str]:
        """The labels; where the job has too few of them, numbers stand in for the rest."""
        given = self.section("task").get("labels")
        names = [str(label) for label in given] if isinstance(given, list | tuple) else []
        return names + [f"class {place + 1}" for place in range(len(names), len(rows(self.metrics.get("per_class"))))]

    @property
    def simulated(self) -> bool:
        keys = ("partition", "hidden", "compare")
        return any(self.result.get(key) for key in keys) or any("records_train" in site for site in self.sites)

    @property
    def unit(self) -> str:
        return text(self.section("privacy").get("unit")) or "record"

    @property
    def unit_words(self) -> str:
        """The unit of privacy as a person says it."""
        return "one record" if self.unit == "record" else f"all records of one person (column {self.unit})"

    @property
    def largest_epsilon(self) -> float | None:
        """The most that any site says it has spent."""
        return max((spent for site in self.sites if (spent := number(site.get("epsilon"))) is not None), default=None)

    @property
    def claimed_epsilon(self) -> float | None:
        """The epsilon that may be claimed for every site: what they spent where all of it is known, else the target.

        A site whose answer was lost has spent more than it could say, but never more than its target.
        """
        stated = [number(site.get("epsilon")) for site in self.sites]
        known = stated and all(each is not None and each >= 0 for each in stated) and not self.sites_with_gaps
        target = number(self.section("privacy").get("epsilon"))
        reached = [each for each in (self.largest_epsilon, None if known else target) if each is not None]
        return max(reached, default=None)

    @property
    def sites_with_gaps(self) -> list[str]:
        """The sites that are missing from a round, by id."""
        return [str(site.get("id")) for site in self.sites if any(not self.took(site, entry) for entry in self.rounds)]

    @staticmethod
    def took(site: Mapping[str, Any], entry: Mapping[str, Any]) -> bool:
        """Whether a site took part in a round."""
        found = entry.get("participants")
        return isinstance(found, list | tuple) and site.get("id") in found

    @property
    def stopped_by_itself(self) -> bool:
        """Early stopping: whole, but with fewer rounds than were planned."""
        return self.complete and len(self.rounds) < self.planned_rounds

    def protected(self, name: str) -> bool:
        """Whether a protection was on at every site, as the result has it."""
        return mapping(self.result.get("protections")).get(name) is True

    def sites_anonymised(self) -> int:
        return sum(text(site.get("profile")) not in _NO_PROFILE for site in self.sites)

    def profiles(self) -> list[str]:
        """The profiles that sites applied, each once."""
        found = (text(site.get("profile")) for site in self.sites)
        return sorted({name for name in found if name not in _NO_PROFILE})

    def drops_of(self, site: object) -> dict[tuple[str, str], list[int]]:
        """The rounds in which a site was dropped, by code and reason."""
        found: dict[tuple[str, str], list[int]] = {}
        for entry in self.rounds:
            for drop in rows(entry.get("dropped")):
                if drop.get("site") == site:
                    key = (text(drop.get("code")), text(drop.get("reason")))
                    found.setdefault(key, []).append(integer(entry.get("round")))
        return found
