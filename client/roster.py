"""The roster that a site has approved: whose keys stand for which site. The coordinator vouches for no one's key.

A coordinator proposes a roster with its greeting. One that only leaves sites out is taken at once: removal protects.
An addition, or a site with other keys, waits until the administrator has compared fingerprints and approved it.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from client.admission import log_of
from client.site import Site
from learning.storage import make_private_dir, write_private
from privacy.errors import ConfigError, PolicyRefusal
from privacy.secagg import Roster
from protocol.eventlog import Detail
from protocol.secagg import parse_roster, roster_text

APPROVED_FILE = "roster.json"
APPROVE = "roster.approve"
"""The word of the event log."""
PROPOSED_FILE = "roster.proposed.json"


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a proposed roster says of one site, against the approved one: `added`, `other keys` or `removed`."""

    site: str
    what: str
    fingerprint: str


def approved(home: Path) -> Roster | None:
    """The roster that the administrator approved, or None. Raises: ConfigError when the file is damaged."""
    return _read(home / "keys" / APPROVED_FILE)


def proposed(home: Path) -> Roster | None:
    """The roster that waits for approval, or None. Raises: ConfigError when the file is damaged."""
    return _read(home / "state" / PROPOSED_FILE)


def changes(old: Roster | None, new: Roster) -> list[Change]:
    """What approving `new` would change, by site."""
    before = dict(old.sites) if old is not None else {}
    found = []
    for site in sorted({*before, *new.sites}):
        if site not in new.sites:
            found.append(Change(site=site, what="removed", fingerprint=before[site].fingerprint()))
        elif site not in before:
            found.append(Change(site=site, what="added", fingerprint=new.sites[site].fingerprint()))
        elif before[site] != new.sites[site]:
            found.append(Change(site=site, what="other keys", fingerprint=new.sites[site].fingerprint()))
    return found


def approve(home: Path, roster: Roster) -> None:
    """Make a roster the one that this site sums with; on disk when this returns."""
    write_private(make_private_dir(home / "keys") / APPROVED_FILE, (roster_text(roster) + "\n").encode())
    (home / "state" / PROPOSED_FILE).unlink(missing_ok=True)


def noted(old: Roster | None, new: Roster) -> dict[str, Detail]:
    """What the event log says of a roster that comes in force: its SHA-256, its sites, and how many changed how."""
    counts = Counter(change.what.replace(" ", "_") for change in changes(old, new))
    digest = hashlib.sha256(roster_text(new).encode()).hexdigest()
    return {"digest": digest, "sites": len(new.sites), **counts}


def agreed_roster(site: Site) -> Roster:
    """The approved roster. Raises: PolicyRefusal when there is none."""
    roster = approved(site.home)
    if roster is None:
        raise PolicyRefusal(
            f"site {site.config.id} has approved no roster of sites",
            remedy="its administrator runs `cloister-site roster approve`",
        )
    return roster


def consider(site: Site, offer: Roster | None) -> Roster:
    """The roster that a run may sum with: the proposed one, if it adds nobody and changes no key.

    Raises: PolicyRefusal naming who is new; the proposal is then kept for the administrator. PolicyRefusal for none,
    for one that is older than the approved one, and for one without this site.
    """
    current = approved(site.home)
    if offer is None:
        raise PolicyRefusal("a job with secure aggregation came without a roster")
    if current is not None and roster_text(current) == roster_text(offer):
        return _with_me(site, current)
    if current is not None and offer.epoch <= current.epoch:
        raise PolicyRefusal(
            "the proposed roster is not newer than the approved one",
            expected=f"an epoch after {current.epoch}",
            found=str(offer.epoch),
        )
    try:
        _check_nothing_new(site, current, offer)
    except PolicyRefusal:
        write_private(make_private_dir(site.state) / PROPOSED_FILE, (roster_text(offer) + "\n").encode())
        raise
    details = {**noted(current, _with_me(site, offer)), "by": "the site: it only leaves sites out"}
    log_of(site, site.identity, time.time).append("coordinator", APPROVE, str(offer.epoch), details)
    approve(site.home, _with_me(site, offer))
    return offer


def check_ready(site: Site) -> Roster:
    """What `consider` would say as things stand: of the roster that waits for approval, else of the approved one.

    Raises: PolicyRefusal as `consider` and `agreed_roster`; nothing is written.
    """
    current, offer = approved(site.home), waiting(site.home)
    if offer is None:
        return _with_me(site, agreed_roster(site))
    _check_nothing_new(site, current, offer)
    return _with_me(site, offer)


def waiting(home: Path) -> Roster | None:
    """The proposed roster, where it is newer than the approved one."""
    current, offer = approved(home), proposed(home)
    return offer if offer is not None and (current is None or offer.epoch > current.epoch) else None


def brings(current: Roster | None, offer: Roster) -> str:
    """Who in a proposed roster is new or has other keys than in the approved one; empty when nobody is."""
    new = (change for change in changes(current, offer) if change.what != "removed")
    return ", ".join(f"{change.site} ({change.what})" for change in new)


def _check_nothing_new(site: Site, current: Roster | None, offer: Roster) -> None:
    names = brings(current, offer)
    if names:
        raise PolicyRefusal(
            f"site {site.config.id} has not approved: {names}",
            remedy="its administrator compares fingerprints and runs `cloister-site roster approve`",
        )


def _with_me(site: Site, roster: Roster) -> Roster:
    if roster.sites.get(site.config.id) != site.identity.public():
        raise PolicyRefusal(
            "the roster names other keys for this site", remedy="compare fingerprints with the operator"
        )
    return roster


def _read(path: Path) -> Roster | None:
    if not path.exists():
        return None
    try:
        return parse_roster(path.read_text(encoding="utf-8"))
    except (ConfigError, UnicodeDecodeError):
        raise ConfigError(f"{path}", expected="a roster", found="a damaged one", remedy="approve it again") from None
