"""The hours in which a site takes work, against a count of minutes done by hand."""

from __future__ import annotations

from datetime import datetime
from zoneinfo import ZoneInfo

import pytest

from client.hours import parse_hours

MINUTE_S = 60
BERLIN = ZoneInfo("Europe/Berlin")


def inside(begins: int, ends: int) -> set[int]:
    """The minutes of the day inside, walked from one to the other."""
    found, at = set(), begins
    while at != ends:
        found.add(at)
        at = (at + 1) % 1440
    return found


@pytest.mark.parametrize(
    ("text", "begins", "ends"),
    [("20:00-06:00", 1200, 360), ("06:00-20:00", 360, 1200), ("00:00-23:59", 0, 1439), ("23:59-00:00", 1439, 0)],
)
def test_every_minute_of_a_day_is_inside_or_outside_as_counted(text: str, begins: int, ends: int) -> None:
    hours, midnight = parse_hours(text, "UTC"), datetime(2026, 11, 22, tzinfo=ZoneInfo("UTC")).timestamp()
    expected = inside(begins, ends)
    for minute in range(1440):
        for second in (0, 59):
            assert hours.contains(midnight + minute * MINUTE_S + second) is (minute in expected)


@pytest.mark.parametrize(
    ("moment", "taken"),
    [
        (datetime(2026, 1, 15, 19, 59, tzinfo=BERLIN), False),
        (datetime(2026, 1, 15, 20, 0, tzinfo=BERLIN), True),
        (datetime(2026, 7, 15, 19, 59, tzinfo=BERLIN), False),  # the same wall time, an hour earlier in UTC
        (datetime(2026, 7, 15, 20, 0, tzinfo=BERLIN), True),
        (datetime(2026, 10, 25, 2, 30, fold=0, tzinfo=BERLIN), True),
        (datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=BERLIN), True),
        (datetime(2026, 10, 25, 6, 0, tzinfo=BERLIN), False),
    ],
)
def test_the_wall_clock_of_the_named_zone_counts_in_summer_and_winter(moment: datetime, taken: bool) -> None:
    hours = parse_hours("20:00-06:00", "Europe/Berlin")
    assert hours.contains(moment.timestamp()) is taken
    assert "Europe/Berlin" in hours.text(moment.timestamp())


def test_without_a_zone_this_machines_is_used_and_named() -> None:
    assert "this machine's time" in parse_hours("20:00-06:00", "").text(0.0)
    assert parse_hours("", "") is None


@pytest.mark.parametrize(
    ("text", "zone"),
    [("20-6", ""), ("24:00-06:00", ""), ("20:00-20:00", ""), ("20:60-06:00", ""), ("", "Mars/Olympus"), ("", "../x")],
)
def test_hours_that_mean_nothing_are_refused(text: str, zone: str) -> None:
    with pytest.raises(ValueError, match=r"hours|zone"):
        parse_hours(text, zone)
