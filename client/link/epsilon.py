"""What a site's page of figures says of its privacy ledger: epsilon spent and granted, for each data set."""

from __future__ import annotations

from pathlib import Path

from client.config import SITE_FILE, STATE_DIR
from client.ledger import HEAD_FILE, LEDGER_FILE, LOCK_FILE, OLD_FILE, WITNESS_FILE
from privacy.errors import CloisterError

LEDGER_OK = ("ledger_ok", "site")
"""1: the ledger is whole. 0: it is not, or the grants cannot be read: there are no other figures then."""
_NOT_OK = {LEDGER_OK: 0.0}
_FILES = (SITE_FILE, WITNESS_FILE, *(f"{STATE_DIR}/{name}" for name in (LEDGER_FILE, HEAD_FILE, OLD_FILE, LOCK_FILE)))
"""What the figures rest on, in a site's folder."""


class EpsilonGauges:
    """The figures, computed anew when a file of the ledger or the grants have changed, and for as long as the ledger is
    not whole. Numbers of the ledger, none of a record.
    """

    def __init__(self, home: Path) -> None:
        self._home, self._of = home, tuple[int, ...]()
        self._known: dict[tuple[str, str], float] = {}

    def __call__(self) -> dict[tuple[str, str], float]:
        now = tuple(_changed(self._home / name) for name in _FILES)
        if now != self._of or self._known == _NOT_OK:
            self._known, self._of = self._computed(), now
        return dict(self._known)

    def _computed(self) -> dict[tuple[str, str], float]:
        from client.budget import budget_of  # with it comes the accountant: only who asks for the page pays for that
        from client.config import read_site

        try:
            config = read_site(self._home)
            budgets = [budget_of(self._home, config, name) for name in sorted({config.accept.data, *config.data})]
        except (CloisterError, OSError):
            return _NOT_OK
        values = {LEDGER_OK: 1.0}
        for budget in budgets:
            values["epsilon_spent", budget.data] = budget.epsilon
            values["epsilon_limit", budget.data] = budget.limit
            if budget.whole_site is not None:
                values["epsilon_spent_whole_site", budget.data] = budget.whole_site.epsilon
                values["epsilon_limit_whole_site", budget.data] = budget.whole_site.limit
        return values


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
