"""How much was hidden, without saying what: numbers per kind that may leave a report."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from privacy.anonymise.kinds import Finding, Kind
from privacy.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class HiddenCounts:
    """Documents seen and withheld, and stretches hidden per kind, over any number of documents.

    `merge` is associative and commutative, with `HiddenCounts()` as its neutral element. `documents` counts those that
    were withheld, too.
    """

    documents: int = 0
    withheld: int = 0
    hidden: Mapping[Kind, int] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def of(cls, findings: Iterable[Finding]) -> HiddenCounts:
        """The counts of one document that was passed on."""
        return cls(documents=1, hidden=MappingProxyType(Counter(finding.kind for finding in findings)))

    @classmethod
    def of_withheld(cls) -> HiddenCounts:
        """The counts of one document that was withheld."""
        return cls(documents=1, withheld=1)

    def merge(self, other: HiddenCounts) -> HiddenCounts:
        """The counts of both."""
        return HiddenCounts(
            documents=self.documents + other.documents,
            withheld=self.withheld + other.withheld,
            hidden=MappingProxyType(Counter(self.hidden) + Counter(other.hidden)),
        )

    def to_dict(self) -> dict[str, object]:
        """Plain values for JSON; kinds in the order of `Kind`, those without a find left out."""
        hidden = {kind.value: self.hidden[kind] for kind in Kind if self.hidden.get(kind)}
        return {"documents": self.documents, "withheld": self.withheld, "hidden": hidden}

    @classmethod
    def from_dict(cls, values: Mapping[str, object]) -> HiddenCounts:
        """The counts that `to_dict` wrote. Raises: ConfigError for anything else."""
        try:
            documents, withheld, hidden = values["documents"], values["withheld"], values["hidden"]
            if not (isinstance(documents, int) and isinstance(withheld, int) and isinstance(hidden, Mapping)):
                raise TypeError
            kinds = {Kind(kind): int(count) for kind, count in hidden.items()}
        except (KeyError, TypeError, ValueError):
            raise ConfigError("hidden counts", expected="documents, withheld and hidden", found="others") from None
        return cls(documents=documents, withheld=withheld, hidden=MappingProxyType(kinds))
