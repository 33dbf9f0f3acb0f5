"""The hours in which a site takes work, by the clock on the wall: outside them requests wait, nothing is refused."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

_FORM = re.compile(r"([01]\d|2[0-3]):([0-5]\d)-([01]\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True, kw_only=True)
class Hours:
    """From `begins` to before `ends`, over midnight where `ends` is the earlier one. `zone`: None is this machine's.

    The wall's clock counts: an hour that is there twice when clocks are set is inside twice, a skipped one never.
    """

    begins: time
    ends: time
    zone: ZoneInfo | None

    def contains(self, now: float) -> bool:
        """Whether a moment, seconds since 1970, lies inside."""
        at = self.local(now).time()
        if self.begins < self.ends:
            return self.begins <= at < self.ends
        return at >= self.begins or at < self.ends

    def local(self, now: float) -> datetime:
        """A moment on the wall's clock."""
        return datetime.fromtimestamp(now, self.zone).astimezone(self.zone)

    def text(self, now: float) -> str:
        """For a person: the hours, and the zone that they are counted in."""
        zone = self.zone.key if self.zone is not None else f"{self.local(now).tzname()}, this machine's time"
        return f"{self.begins:%H:%M}-{self.ends:%H:%M} ({zone})"


def parse_hours(text: str, zone: str) -> Hours | None:
    """The hours that a site's grants name; None for none. Raises: ValueError saying what was expected."""
    place = _zone(zone)
    if not text:
        return None
    match = _FORM.fullmatch(text)
    if match is None:
        raise ValueError(f'hours: expected HH:MM-HH:MM, such as "20:00-06:00"; found {text[:40]!r}')
    first, second, third, fourth = map(int, match.groups())
    begins, ends = time(first, second), time(third, fourth)
    if begins == ends:
        raise ValueError('hours: expected two different times; for all day, hours = ""')
    return Hours(begins=begins, ends=ends, zone=place)


def _zone(name: str) -> ZoneInfo | None:
    if not name:
        return None
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        expected = "a time zone that this machine knows, such as Europe/Berlin"
        raise ValueError(f"zone: expected {expected}; found {name[:40]!r}") from None
