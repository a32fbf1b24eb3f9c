"""Moments and stretches of time in words, and what they mean for a certificate. Pure: zone and clock are arguments.

Moments are aware; zones are names of the IANA database.
"""

from __future__ import annotations

from calendar import month_name
from datetime import datetime, timedelta
from typing import Literal

from rotations.notifications.thresholds import days_until
from rotations.planning.windows import DAYS, MONTHS, zone_named

Meaning = Literal["fine", "soon", "urgent", "needs_you", "neutral"]
Form = Literal["day", "date", "long_day", "hour", "time", "short", "full", "exact"]

#: Days before the end of a certificate from which it is "soon", and "urgent".
SOON_DAYS = 30
URGENT_DAYS = 7


def zone_letters(local: datetime) -> str:
    """Return the abbreviation of an aware moment's zone, "CST", or "UTC−03:00" where a zone has no letters."""
    letters = local.tzname() or ""
    return letters if letters.isalpha() else f"UTC{offset_of(local)}"


def offset_of(local: datetime) -> str:
    """Return an aware moment's distance from UTC, such as "−06:00"."""
    offset = local.utcoffset() or timedelta(0)
    minutes = abs(int(offset.total_seconds())) // 60
    return f"{'−' if offset < timedelta(0) else '+'}{minutes // 60:02}:{minutes % 60:02}"


def tell(at: datetime, zone: str, form: Form = "full") -> str:
    """Tell an aware moment on the clock of a zone.

    "day" → 24 Nov 2026; "date" → 24 Nov; "long_day" → 24 November 2026; "hour" → 22:00; "time" → 22:00 CST;
    "short" → 24 Nov, 22:00; "full" → Tue 24 Nov 2026, 22:00 CST; "exact" → 24 Nov 2026, 22:00:07 CST.
    """
    local = at.astimezone(zone_named(zone))
    day = f"{local.day} {MONTHS[local.month - 1]}"
    if form == "day":
        return f"{day} {local.year}"
    if form == "date":
        return day
    if form == "long_day":
        return f"{local.day} {month_name[local.month]} {local.year}"
    if form == "hour":
        return f"{local:%H:%M}"
    if form == "time":
        return f"{local:%H:%M} {zone_letters(local)}"
    if form == "short":
        return f"{day}, {local:%H:%M}"
    if form == "exact":
        return f"{day} {local.year}, {local:%H:%M:%S} {zone_letters(local)}"
    return f"{DAYS[local.weekday()]} {day} {local.year}, {local:%H:%M} {zone_letters(local)}"


def tell_whole(at: datetime, zone: str) -> str:
    """Tell a moment with its zone's offset, and again in UTC: what stands behind a short form."""
    local, universal = at.astimezone(zone_named(zone)), at.astimezone(zone_named("UTC"))
    if local.utcoffset() == timedelta(0):
        return tell(at, zone)
    again = tell(at, "UTC", "time") if local.date() == universal.date() else tell(at, "UTC", "short") + " UTC"
    return f"{tell(at, zone)} (UTC{offset_of(local)}) · {again}"


def away(at: datetime, now: datetime, zone: str) -> str:
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


def meaning_of_end(at: datetime, now: datetime, zone: str = "UTC") -> Meaning:
    """Say what the end of a certificate at this moment means today."""
    days = days_until(at, now, zone)
    if days <= URGENT_DAYS or at < now:
        return "urgent"
    return "soon" if days <= SOON_DAYS else "fine"


def tell_window(start: datetime, end: datetime, zone: str, here: str) -> str:
    """Tell a window in the zone of its agreement, and when it starts on the reader's clock.

    "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 05:00 CET here)".
    """
    info = zone_named(zone)
    begins, ends = start.astimezone(info), end.astimezone(info)
    day = f"{DAYS[begins.weekday()]} {tell(start, zone, 'day')}"
    same_day, same_letters = begins.date() == ends.date(), begins.tzname() == ends.tzname()
    first = f"{begins:%H:%M}" if same_letters else tell(start, zone, "time")
    last = tell(end, zone, "time") if same_day else f"{DAYS[ends.weekday()]} {tell(end, zone, 'short')}"
    told = f"{day}, {first} to {last}" + ("" if same_day else f" {zone_letters(ends)}")
    local = start.astimezone(zone_named(here))
    if local.utcoffset() == begins.utcoffset():
        return told
    when = (
        tell(start, here, "time")
        if local.date() == begins.date()
        else f"{tell(start, here, 'short')} {zone_letters(local)}"
    )
    return f"{told} ({when} here)"
