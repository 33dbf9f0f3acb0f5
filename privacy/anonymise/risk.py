"""How alike the records of a table are: k-anonymity, l-diversity, t-closeness, and k-map against a population.

Records with the same quasi-identifiers (age band, postcode prefix, sex) form a class. Small classes single persons out;
classes whose members share the sensitive value tell it of everyone in them.

Source: Sweeney (2002), k-anonymity and k-map; Machanavajjhala et al. (2007), l-diversity, distinct and entropy; Li, Li
and Venkatasubramanian (2007), t-closeness with the equal and the ordered distance.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Risk:
    """What one table's classes come to; `records` many records in `classes` many classes.

    `k`: the smallest class. `unique`: records alone in their class. `below_5`, `below_11`: records in classes smaller
    than that. `distinct_l`, `entropy_l`, `t`: None without a sensitive column; `entropy_l` is e to the least entropy.
    """

    records: int
    classes: int
    k: int
    unique: int
    below_5: int
    below_11: int
    distinct_l: int | None = None
    entropy_l: float | None = None
    t: float | None = None

    def to_dict(self) -> dict[str, float | int | None]:
        """Plain values for JSON."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass
class Classes:
    """Classes of records, filled one record at a time; memory grows with the number of different records."""

    members: dict[tuple[str, ...], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))

    def add(self, quasi: tuple[str, ...], sensitive: str = "") -> None:
        self.members[quasi][sensitive] += 1

    def risk(self, *, sensitive: bool) -> Risk:
        """The figures of all records that were added; all zeros for none. `sensitive`: such values were given."""
        sizes = [values.total() for values in self.members.values()]
        figures = Risk(
            records=sum(sizes),
            classes=len(sizes),
            k=min(sizes, default=0),
            unique=sum(size for size in sizes if size == 1),
            below_5=sum(size for size in sizes if size < 5),
            below_11=sum(size for size in sizes if size < 11),
        )
        if not sensitive or not sizes:
            return figures
        whole = sum(self.members.values(), Counter())
        return Risk(
            **{name: getattr(figures, name) for name in ("records", "classes", "k", "unique", "below_5", "below_11")},
            distinct_l=min(map(len, self.members.values())),
            entropy_l=math.exp(min(entropy(values) for values in self.members.values())),
            t=max(distance(values, whole) for values in self.members.values()),
        )

    def smallest_in(self, population: Mapping[tuple[str, ...], int]) -> int:
        """k-map: the fewest members of the population that share a record's quasi-identifiers; 0 for no record."""
        return min((max(population.get(quasi, 0), values.total()) for quasi, values in self.members.items()), default=0)


def entropy(values: Counter[str]) -> float:
    """The entropy of a class's sensitive values, in nats."""
    total = values.total()
    return -sum(count / total * math.log(count / total) for count in values.values())


def distance(part: Counter[str], whole: Counter[str]) -> float:
    """The earth mover's distance of two distributions, from 0 to 1: ordered for numbers, equal for everything else."""
    names = list(whole)
    gaps = {name: part[name] / part.total() - whole[name] / whole.total() for name in names}
    numbers = _numbers(names)
    if numbers is None or len(names) < 2:
        return sum(map(abs, gaps.values())) / 2
    carried = cost = 0.0
    for name in sorted(names, key=lambda name: numbers[name])[:-1]:
        carried += gaps[name]
        cost += abs(carried)
    return cost / (len(names) - 1)


def _numbers(names: Sequence[str]) -> dict[str, float] | None:
    try:
        return {name: float(name) for name in names}
    except ValueError:
        return None
