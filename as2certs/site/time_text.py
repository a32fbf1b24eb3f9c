"""Moments and stretches of time in words, and what they mean for a certificate. Pure: zone and clock are arguments.

Moments are aware; zones are names of the IANA database.
"""

from __future__ import annotations

from calendar import month_name
from datetime import datetime, timedelta
from typing import Literal

from rotations.notifications.thresholds import days_until
from rotations.planning.windows import DAY_NAMES, MONTH_NAMES, load_zone

Meaning = Literal["fine", "soon", "urgent", "needs_you", "neutral"]
MomentForm = Literal["day", "date", "long_day", "hour", "time", "short", "full", "exact"]

#: Days before the end of a certificate from which it is "soon", and "urgent".
SOON_DAYS = 30
URGENT_DAYS = 7


def zone_abbreviation(local: datetime) -> str:
    """Return the abbreviation of an aware moment's zone, "CST", or "UTC−03:00" where a zone has no letters."""
    letters = local.tzname() or ""
    return letters if letters.isalpha() else f"UTC{format_offset(local)}"


def format_offset(local: datetime) -> str:
    """Return an aware moment's distance from UTC, such as "−06:00"."""
    offset = local.utcoffset() or timedelta(0)
    minutes = abs(int(offset.total_seconds())) // 60
    return f"{'−' if offset < timedelta(0) else '+'}{minutes // 60:02}:{minutes % 60:02}"


def format_moment(at: datetime, zone: str, form: MomentForm = "full") -> str:
    """Tell an aware moment on the clock of a zone.

    "day" → 24 Nov 2026; "date" → 24 Nov; "long_day" → 24 November 2026; "hour" → 22:00; "time" → 22:00 CST;
    "short" → 24 Nov, 22:00; "full" → Tue 24 Nov 2026, 22:00 CST; "exact" → 24 Nov 2026, 22:00:07 CST.
    """
    local = at.astimezone(load_zone(zone))
    day = f"{local.day} {MONTH_NAMES[local.month - 1]}"
    if form == "day":
        return f"{day} {local.year}"
    if form == "date":
        return day
    if form == "long_day":
        return f"{local.day} {month_name[local.month]} {local.year}"
    if form == "hour":
        return f"{local:%H:%M}"
    if form == "time":
        return f"{local:%H:%M} {zone_abbreviation(local)}"
    if form == "short":
        return f"{day}, {local:%H:%M}"
    if form == "exact":
        return f"{day} {local.year}, {local:%H:%M:%S} {zone_abbreviation(local)}"
    return f"{DAY_NAMES[local.weekday()]} {day} {local.year}, {local:%H:%M} {zone_abbreviation(local)}"


def format_moment_and_utc(at: datetime, zone: str) -> str:
    """Tell a moment with its zone's offset, and again in UTC: what stands behind a short form."""
    local, universal = at.astimezone(load_zone(zone)), at.astimezone(load_zone("UTC"))
    if local.utcoffset() == timedelta(0):
        return format_moment(at, zone)
    again = (
        format_moment(at, "UTC", "time")
        if local.date() == universal.date()
        else format_moment(at, "UTC", "short") + " UTC"
    )
    return f"{format_moment(at, zone)} (UTC{format_offset(local)}) · {again}"


def format_distance(at: datetime, now: datetime, zone: str) -> str:
    """Say how far a moment is away: "in 20 days", "3 days ago", "in 5 hours", "now".

    Days are those of the zone's calendar; within a day it counts hours and minutes.
    """
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < 60:
        return "now"
    if size < 86400:
        unit, count = ("hour", int(size // 3600)) if size >= 3600 else ("minute", int(size // 60))
    else:
        unit, count = "day", abs(days_until(at, now, zone))
    words = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"in {words}" if seconds > 0 else f"{words} ago"


def expiry_meaning(at: datetime, now: datetime, zone: str = "UTC") -> Meaning:
    """Say what the end of a certificate at this moment means today."""
    days = days_until(at, now, zone)
    if days <= URGENT_DAYS or at < now:
        return "urgent"
    return "soon" if days <= SOON_DAYS else "fine"


def format_window(start: datetime, end: datetime, zone: str, here: str) -> str:
    """Tell a window in the zone of its agreement, and when it starts on the reader's clock.

    "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 05:00 CET here)".
    """
    info = load_zone(zone)
    begins, ends = start.astimezone(info), end.astimezone(info)
    day = f"{DAY_NAMES[begins.weekday()]} {format_moment(start, zone, 'day')}"
    same_day, same_letters = begins.date() == ends.date(), begins.tzname() == ends.tzname()
    first = f"{begins:%H:%M}" if same_letters else format_moment(start, zone, "time")
    last = (
        format_moment(end, zone, "time")
        if same_day
        else f"{DAY_NAMES[ends.weekday()]} {format_moment(end, zone, 'short')}"
    )
    told = f"{day}, {first} to {last}" + ("" if same_day else f" {zone_abbreviation(ends)}")
    local = start.astimezone(load_zone(here))
    if local.utcoffset() == begins.utcoffset():
        return told
    when = (
        format_moment(start, here, "time")
        if local.date() == begins.date()
        else f"{format_moment(start, here, 'short')} {zone_abbreviation(local)}"
    )
    return f"{told} ({when} here)"
