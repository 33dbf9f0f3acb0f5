"""Which row belongs to which site of a simulated federation. All rows of one privacy unit stay at one site.

Three plans. `iid`: units in random order, to the site that has the fewest rows. `dirichlet:ALPHA`: the units of each
label are shared out by proportions drawn from a symmetric Dir(alpha) over the sites (Yurochkin et al. 2019; Li et al.
2022, "Federated Learning on Non-IID Data Silos", section 4): sites differ in their mixture of labels and in size; a
small alpha makes sites of few labels, a large one is iid. `column:NAME`: the table's own column says where a row is
from. A draw may leave a site below the minimum: it is drawn again, a bounded number of times.

A text with marked entities has no label of its own. Lin et al. 2022, "FedNLP", section 3.3, cluster such texts by
K-means over sentence embeddings and share out the clusters. Here a text counts as the kind of entity that it has most
beyond its due (`distinctive_kinds`): sites then differ in what is to be learned, as with labels, and the draw rests on
the marks alone, not on an embedding model whose clusters change with its version.
"""

from __future__ import annotations

import heapq
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from privacy.errors import ConfigError, DataError

MAX_DRAWS = 1000
NO_ENTITY = -1
"""The group of texts in which nothing is marked."""
MIN_ALPHA, MAX_ALPHA = 1e-6, 1e6  # beyond, a draw is one label or the overall mixture to the last digit


@dataclass(frozen=True)
class Iid:
    """Units spread at random."""


@dataclass(frozen=True)
class Dirichlet:
    """Sites that differ in their mixture of labels and in size; `alpha` > 0 is the concentration."""

    alpha: float


@dataclass(frozen=True)
class ByColumn:
    """Sites that follow the values of one column."""

    name: str


Plan = Iid | Dirichlet | ByColumn


@dataclass(frozen=True, kw_only=True)
class Rows:
    """What a plan looks at, one entry a row: the privacy unit and, where the plan needs it, the label or the column."""

    units: Sequence[str | bytes]
    labels: Sequence[int] | NDArray[np.int64] | None = None
    column: Sequence[str] | None = None


@dataclass(frozen=True)
class _Unit:
    rows: list[int]
    group: int  # its label for Dirichlet, the rank of its value for ByColumn, 0 for Iid


def parse_partition(text: str) -> Plan:
    """Read `iid`, `dirichlet:ALPHA` or `column:NAME`. Raises: ConfigError for everything else, ALPHA <= 0 included."""
    kind, colon, argument = text.partition(":")
    if kind == "iid" and not colon:
        return Iid()
    if kind == "column" and argument:
        return ByColumn(argument)
    if kind == "dirichlet":
        return Dirichlet(_alpha(argument))
    raise ConfigError(
        "the partition is not one of those there are",
        expected="iid, dirichlet:ALPHA or column:NAME",
        found=repr(text),
    )


def partition_units(plan: Plan, rows: Rows, *, sites: int, seed: int, min_rows: int = 1) -> list[NDArray[np.int64]]:
    """Deal all rows to `sites` sites. The same arguments give the same parts, in every process.

    Returns one int64 array a site: its row numbers, ascending. Together they are every row exactly once.
    A unit whose rows differ in label or column counts as what most of its rows are (on a tie, the smaller one).

    Raises: ConfigError when `sites` or `min_rows` is below 1, when a column has fewer values than there are sites, or
    when no draw gives every site `min_rows` rows; DataError when the lists of `rows` differ in length or one is
    missing.
    Edge cases: one site gets every row, whatever the plan.
    """
    _check_counts(sites, min_rows, seed)
    units = _collect(plan, rows)
    rng = np.random.default_rng(seed)
    for _ in range(MAX_DRAWS):
        parts = _draw(plan, units, sites, rng)
        if min(len(part) for part in parts) >= min_rows:
            return [np.sort(np.array(part, dtype=np.int64)) for part in parts]
        if isinstance(plan, ByColumn):  # nothing random: a second draw is the first
            break
    raise _refusal(sites, min_rows, len(units))


def distinctive_kinds(texts: Sequence[Sequence[int]]) -> list[int]:
    """One group a text, for `Rows.labels`: the kind of entity that the text has most beyond its due.

    `texts`: the kinds of each text's entities, one entry an entity, whole numbers of 0 or more. A kind's due is its
    share of all entities, times the entities of the text: so in a long note that has some of every kind the unusual
    one counts, and of two kinds with one entity each the rarer. Of equals, the smaller number.

    Edge cases: a text without entities is in a group of its own, -1. Exact, in whole numbers.
    """
    totals = Counter(kind for kinds in texts for kind in kinds)
    whole = totals.total()
    return [
        min(counts, key=lambda kind: (len(kinds) * totals[kind] - counts[kind] * whole, kind)) if counts else NO_ENTITY
        for kinds, counts in ((kinds, Counter(kinds)) for kinds in texts)
    ]


def _draw(plan: Plan, units: list[_Unit], sites: int, rng: np.random.Generator) -> list[list[int]]:
    if isinstance(plan, ByColumn):
        return _by_size(units, sites, plan.name)
    shuffled = [units[index] for index in rng.permutation(len(units)).tolist()]
    if isinstance(plan, Iid):
        return _deal(len(units), sites, lambda _site: shuffled.pop())
    return _by_mixture(shuffled, sites, plan.alpha, rng)


def _by_mixture(units: list[_Unit], sites: int, alpha: float, rng: np.random.Generator) -> list[list[int]]:
    """Cut each label's units at the cumulated proportions of one draw over the sites."""
    piles: dict[int, list[_Unit]] = defaultdict(list)
    for unit in units:
        piles[unit.group].append(unit)
    parts: list[list[int]] = [[] for _ in range(sites)]
    for label in sorted(piles):
        pile = piles[label]
        cuts = np.rint(np.cumsum(rng.dirichlet(np.full(sites, alpha)))[:-1] * len(pile)).astype(int)
        for part, chosen in zip(parts, np.split(np.arange(len(pile)), cuts), strict=True):
            for index in chosen.tolist():
                part.extend(pile[index].rows)
    return parts


def _deal(count: int, sites: int, next_unit: Callable[[int], _Unit]) -> list[list[int]]:
    """Hand out `count` units, each to the site with the fewest rows so far, which says which unit it takes."""
    parts: list[list[int]] = [[] for _ in range(sites)]
    waiting = [(0, site) for site in range(sites)]
    for _ in range(count):
        size, site = heapq.heappop(waiting)
        unit = next_unit(site)
        parts[site].extend(unit.rows)
        heapq.heappush(waiting, (size + len(unit.rows), site))
    return parts


def _by_size(units: list[_Unit], sites: int, name: str) -> list[list[int]]:
    """Each value to one site: the largest value first, to the site that has the fewest rows."""
    values: dict[int, list[int]] = defaultdict(list)
    for unit in units:
        values[unit.group].extend(unit.rows)
    if len(values) < sites:
        raise ConfigError(
            f"column {name!r} cannot fill the sites",
            expected=f"{sites} distinct values or more",
            found=str(len(values)),
            remedy="ask for fewer sites or another column",
        )
    bundles = [_Unit(members, value) for value, members in values.items()]
    largest_first = iter(sorted(bundles, key=lambda bundle: (-len(bundle.rows), bundle.group)))
    return _deal(len(bundles), sites, lambda _site: next(largest_first))


def _collect(plan: Plan, rows: Rows) -> list[_Unit]:
    groups = _groups(plan, rows)
    members: dict[bytes, list[int]] = defaultdict(list)
    for row, unit in enumerate(rows.units):
        members[unit.encode("utf-8", "surrogatepass") if isinstance(unit, str) else bytes(unit)].append(row)
    return [_Unit(indices, _majority([groups[row] for row in indices])) for indices in members.values()]


def _groups(plan: Plan, rows: Rows) -> list[int]:
    """What the plan sorts each row by, as whole numbers in the order of the labels or values."""
    if isinstance(plan, Iid):
        return [0] * len(rows.units)
    found = rows.labels if isinstance(plan, Dirichlet) else rows.column
    if found is None:
        raise DataError("the partition needs a value for every row", expected="labels or the column", found="none")
    if len(found) != len(rows.units):
        raise DataError("the rows do not fit together", expected=f"{len(rows.units)} values", found=str(len(found)))
    ranks: list[int] = np.unique(np.asarray(found), return_inverse=True)[1].tolist()
    return ranks


def _majority(groups: Sequence[int]) -> int:
    counts = Counter(groups)
    most = max(counts.values())
    return min(group for group, count in counts.items() if count == most)


def _refusal(sites: int, min_rows: int, units: int) -> ConfigError:
    return ConfigError(
        "the rows cannot be dealt so that every site has enough",
        expected=f"{min_rows} rows or more at each of {sites} sites",
        found=f"{units} privacy units in all",
        remedy="ask for fewer sites, a smaller minimum or a larger alpha",
    )


def _check_counts(sites: int, min_rows: int, seed: int) -> None:
    for name, value in (("sites", sites), ("min_rows", min_rows)):
        if value < 1:
            raise ConfigError(f"{name} of the partition", expected="1 or more", found=str(value))
    if seed < 0:  # a seed is never shown
        raise ConfigError("seed of the partition", expected="0 or more", found="a negative number")


def _alpha(text: str) -> float:
    try:
        alpha = float(text)
    except ValueError:
        alpha = math.nan
    if not MIN_ALPHA <= alpha <= MAX_ALPHA:  # NaN fails both
        raise ConfigError(
            "alpha of the Dirichlet partition", expected=f"a number from {MIN_ALPHA} to {MAX_ALPHA}", found=repr(text)
        )
    return alpha
