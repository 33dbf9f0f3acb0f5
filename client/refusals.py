"""What of a refusal the coordinator is told, and what stays at the site.

A reason that rests on the job, the site's grants, its ledger or a message names nothing of a record, and is told whole.
What is found in the data, or fails while they are worked on, would answer a question of the job about them: which rows
hold another label, and how many. Of that the coordinator is told one sentence a case, the same for all data; the
site's log and `cloister-site status` have the rest.

state/refused.json      the last reason that was kept here (0600)
"""

from __future__ import annotations

import json
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from client.site import Site
from learning.storage import make_private_dir, write_note
from privacy.errors import (
    BudgetError,
    CloisterError,
    ConfigError,
    DiskError,
    PolicyRefusal,
    ProtocolError,
    SealError,
    TrainingError,
    place_of,
)
from protocol.messages import Refusal, refusal_code

NOTE_FILE = "refused.json"
_SEEN = "its administrator sees why in the site's log and in `cloister-site status`"
OF_THE_DATA = {
    Refusal.DATA: f"the site's data do not fit the job; {_SEEN}",
    Refusal.FAILED: f"the site's work failed; {_SEEN}",
}
"""What is told of a refusal that may rest on records."""


class UnfitError(TrainingError):
    """A job whose model cannot be trained as it asks: found before a record is read."""


OF_THE_JOB = (PolicyRefusal, BudgetError, ProtocolError, SealError, ConfigError, DiskError, UnfitError)
"""The errors that are told whole: none of them is a function of records."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The last reason that stayed at the site. `code`: what the coordinator was told; `at`: seconds since 1970."""

    code: str
    reason: str
    at: float


def told_of(site: Site, error: Exception) -> tuple[Refusal, str]:
    """The code and the reason that leave the site.

    Guarantees: for an error that is not `OF_THE_JOB` the reason is one of `OF_THE_DATA`, chosen by the code alone. Edge
    case: a simulation, where whoever asks holds the records, is told the reason itself.
    """
    code = refusal_code(error) if isinstance(error, CloisterError) else Refusal.FAILED
    if isinstance(error, OF_THE_JOB) or (site.simulated and isinstance(error, CloisterError)):
        return code, str(error).replace(f"{site.home}/", "")  # where the site's folder lies is nobody else's matter
    if site.simulated:  # a foreign error's text may hold a record, which is for no report
        return code, f"the site's work failed with {type(error).__name__}; its administrator's log says where"
    return code, OF_THE_DATA[code]


def note_kept(site: Site, error: Exception) -> None:
    """Leave a reason that is not told for the administrator. One that the disk does not take is in the log alone."""
    if isinstance(error, OF_THE_JOB):
        return
    code, _told = told_of(site, error)
    reason = str(error) if isinstance(error, CloisterError) else f"failed in {place_of(error)}"
    with suppress(OSError):
        write_note(
            make_private_dir(site.state) / NOTE_FILE, asdict(Kept(code=code.value, reason=reason, at=time.time()))
        )


def last_kept(state: Path) -> Kept | None:
    """The last reason that stayed at the site, or None."""
    try:
        return Kept(**json.loads((state / NOTE_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
