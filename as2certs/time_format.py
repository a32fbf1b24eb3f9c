"""Format moments, windows and distances in time for people: the one module that makes such strings.

Pure: no Django, no clock, no locale; zone and ``now`` are arguments. All moments are aware, a zone is the name of an
IANA time zone; ``ZoneInfo`` raises ValueError, OSError or KeyError for another name.
"""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import Literal
from zoneinfo import ZoneInfo

# fmt: off
MomentForm = Literal[
    "date", "day", "weekday", "long_day", "hour", "weekday_hour", "time", "clock", "short", "exact", "full", "offset",
    "iso", "iso_seconds",
]
# fmt: on

DAY_NAMES = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTH_NAMES = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_LONG_MONTH_NAMES = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
_NEAR_DAYS = {-1: "yesterday", 0: "today", 1: "tomorrow"}


def format_moment(at: datetime, zone: str, form: MomentForm = "full") -> str:
    """Return a moment on the clock of a zone.

    "date" → 24 Nov; "day" → 24 Nov 2026; "weekday" → Tue 24 Nov 2026; "long_day" → 24 November 2026;
    "hour" → 22:00; "weekday_hour" → Tue 22:00; "time" → 22:00 CST; "clock" → 22:00 CST (UTC−06:00);
    "short" → 24 Nov, 22:00; "exact" → 24 Nov 2026, 22:00:07 CST; "full" → Tue 24 Nov 2026, 22:00 CST;
    "offset" → Tue 24 Nov 2026, 22:00 CST (UTC−06:00);
    "iso" → 2026-11-24 22:00; "iso_seconds" → 2026-11-24 22:00:07.

    A time that occurs twice, as the clocks go back, has its zone in every form: 01:30 CDT.
    """
    local = at.astimezone(ZoneInfo(zone))
    date = f"{local.day} {MONTH_NAMES[local.month - 1]}"
    which = f" {zone_abbreviation(local)}" if is_ambiguous(local) else ""
    match form:
        case "date":
            return date
        case "day":
            return f"{date} {local.year}"
        case "weekday":
            return format_local_date(local)
        case "long_day":
            return f"{local.day} {_LONG_MONTH_NAMES[local.month - 1]} {local.year}"
        case "weekday_hour":
            return f"{DAY_NAMES[local.weekday()]} {local:%H:%M}{which}"
        case "hour":
            return f"{local:%H:%M}{which}"
        case "time":
            return f"{local:%H:%M} {zone_abbreviation(local)}"
        case "clock":
            return format_local_clock(local.replace(second=0))
        case "short":
            return f"{date}, {local:%H:%M}{which}"
        case "full":
            return f"{format_local_date(local)}, {local:%H:%M} {zone_abbreviation(local)}"
        case "exact":
            return f"{date} {local.year}, {local:%H:%M:%S} {zone_abbreviation(local)}"
        case "iso":
            return f"{local:%Y-%m-%d %H:%M}{which}"
        case "iso_seconds":
            return f"{local:%Y-%m-%d %H:%M:%S}{which}"
        case "offset":
            return f"{format_local_date(local)}, {format_local_clock(local.replace(second=0))}"


def format_moment_and_utc(at: datetime, zone: str) -> str:
    """Return a moment twice: "Tue 24 Nov 2026, 22:00 CST (UTC−06:00) · 25 Nov, 04:00 UTC"."""
    local = at.astimezone(ZoneInfo(zone))
    if local.utcoffset() == timedelta(0):
        return format_moment(at, zone)
    same_day = local.date() == at.astimezone(UTC).date()
    in_utc = format_moment(at, "UTC", "time") if same_day else f"{format_moment(at, 'UTC', 'short')} UTC"
    return f"{format_moment(at, zone)} (UTC{_offset(local)}) · {in_utc}"


def format_near_moment(at: datetime, now: datetime, zone: str) -> str:
    """Return a moment as "Tue 24 Nov 2026, 22:00 CST (UTC−06:00), tomorrow", with its seconds unless they are 0.

    The last word follows within a day of ``now`` only, by the zone's calendar.
    """
    near = _NEAR_DAYS.get(days_until(at, now, zone))
    return _precise(at.astimezone(ZoneInfo(zone))) + (f", {near}" if near else "")


def format_utc(at: datetime, *, seconds: bool = False) -> str:
    """Return a moment as "2026-11-24 22:00Z" or "2026-11-24 22:00:07Z"."""
    return f"{format_moment(at, 'UTC', 'iso_seconds' if seconds else 'iso')}Z"


def window_ends(start: datetime, end: datetime, zone: str) -> tuple[str, str]:
    """Return start and end of a window without repeating what they share, with their seconds unless they are 0.

    ("Tue 24 Nov 2026, 22:00", "23:00 CST (UTC−06:00)"); an end on another day has its date, and a start before a
    change of the clocks its zone.
    """
    begins, ends = (at.astimezone(ZoneInfo(zone)) for at in (start, end))
    same_zone = (begins.tzname(), begins.utcoffset()) == (ends.tzname(), ends.utcoffset())
    first = f"{format_local_date(begins)}, {format_local_time(begins)}" if same_zone else _precise(begins)
    return first, format_local_clock(ends) if begins.date() == ends.date() else _precise(ends)


def format_window(start: datetime, end: datetime, zone: str) -> str:
    """Return a window as "Tue 24 Nov 2026, 22:00 to 23:00 CST (UTC−06:00)", and its seconds unless they are 0."""
    return " to ".join(window_ends(start, end, zone))


def format_local_window(start: datetime, end: datetime, zone: str) -> str:
    """Return the local times of a window as stored with it, with the seconds of its ends unless they are 0.

    "2026-11-24 22:00–23:00", "2026-11-24 22:00–2026-11-25 02:00"; both ends have their zone where the clocks change
    between them, and where one of them occurs twice: "2026-11-01 01:45 CDT–01:30 CST".
    """
    begins, ends = (at.astimezone(ZoneInfo(zone)) for at in (start, end))
    named = begins.utcoffset() != ends.utcoffset() or is_ambiguous(begins) or is_ambiguous(ends)
    first, last = (
        f"{format_local_time(local)} {zone_abbreviation(local)}" if named else format_local_time(local)
        for local in (begins, ends)
    )
    day = "" if begins.date() == ends.date() else f"{ends:%Y-%m-%d} "
    return f"{begins:%Y-%m-%d} {first}–{day}{last}"


def format_exact_moment(at: datetime, zone: str, form: Literal["full", "offset", "short"] = "full") -> str:
    """Return a moment as "Tue 24 Nov 2026, 22:00:07 CST", without its seconds if they are 0.

    For the trail, and for what depends on a window: its start, its end, deadlines. "offset" adds (UTC−06:00), "short"
    is as in ``format_moment``.
    """
    local = at.astimezone(ZoneInfo(zone))
    if form == "offset":
        return _precise(local)
    if form == "short":
        which = f" {zone_abbreviation(local)}" if is_ambiguous(local) else ""
        return f"{local.day} {MONTH_NAMES[local.month - 1]}, {format_local_time(local)}{which}"
    return f"{format_local_date(local)}, {format_local_time(local)} {zone_abbreviation(local)}"


def format_window_here(start: datetime, end: datetime, zone: str, here: str) -> str:
    """Return a window in the zone of its agreement, with its start on the reader's clock where that differs.

    "Tue 24 Nov 2026, 22:00 to 23:00 CST (25 Nov, 05:00 CET here)".
    """
    begins, ends = (at.astimezone(ZoneInfo(zone)) for at in (start, end))
    same_zone, same_day = begins.tzname() == ends.tzname(), begins.date() == ends.date()
    which = f" {zone_abbreviation(begins)}" if not same_zone or is_ambiguous(begins) else ""
    first = f"{format_local_time(begins)}{which}"
    last = f"{format_local_time(ends)} {zone_abbreviation(ends)}"
    if not same_day:
        last = f"{DAY_NAMES[ends.weekday()]} {format_moment(end, zone, 'date')}, {last}"
    window = f"{format_local_date(begins)}, {first} to {last}"
    local = start.astimezone(ZoneInfo(here))
    if local.utcoffset() == begins.utcoffset():
        return window
    day = "" if local.date() == begins.date() else f"{format_moment(start, here, 'date')}, "
    return f"{window} ({day}{format_local_time(local)} {zone_abbreviation(local)} here)"


def days_until(at: datetime, now: datetime, zone: str) -> int:
    """Return the number of days to a moment by the calendar of a zone; negative for the past."""
    info = ZoneInfo(zone)
    return (at.astimezone(info).date() - now.astimezone(info).date()).days


def format_relative_day(at: datetime, now: datetime, zone: str) -> str:
    """Return how far a day is by the calendar of a zone: "in 20 days", "tomorrow", "today", "3 days ago"."""
    days = days_until(at, now, zone)
    return _NEAR_DAYS.get(days) or (f"in {days} days" if days > 0 else f"{-days} days ago")


def format_distance(at: datetime, now: datetime, zone: str) -> str:
    """Return how far a moment is: "in 20 days", "3 days ago", "in 5 hours", "now".

    Days are those of the zone's calendar; within 24 hours, whole hours or minutes are counted.
    """
    seconds = (at - now).total_seconds()
    size = abs(seconds)
    if size < 60:
        return "now"
    if size < 86400:
        unit, count = ("hour", int(size // 3600)) if size >= 3600 else ("minute", int(size // 60))
    else:
        unit, count = "day", abs(days_until(at, now, zone))
    distance = f"{count} {unit}{'' if count == 1 else 's'}"
    return f"in {distance}" if seconds > 0 else f"{distance} ago"


def format_countdown(at: datetime, now: datetime) -> str:
    """Return how long it is until a moment, rounded: "in 24 hours", "in 55 minutes", "now" from then on."""
    minutes = round((at - now).total_seconds() / 60)
    if minutes <= 0:
        return "now"
    if minutes < 100:
        return "in 1 minute" if minutes == 1 else f"in {minutes} minutes"
    hours = round(minutes / 60)
    return f"in {hours} hours" if hours <= 48 else f"in {round(hours / 24)} days"


def is_ambiguous(local: datetime) -> bool:
    """Return whether an aware local time occurs twice, as the clocks go back."""
    earlier, later = local.replace(fold=0).utcoffset(), local.replace(fold=1).utcoffset()
    return earlier is not None and later is not None and earlier > later


def zone_abbreviation(local: datetime) -> str:
    """Return the abbreviation of a local moment's zone, "CST", or "UTC−03:00" where the zone has none."""
    letters = local.tzname() or ""
    return letters if letters.isalpha() else f"UTC{_offset(local)}"


def _offset(local: datetime) -> str:
    """Return a local moment's offset from UTC, such as "−06:00"."""
    offset = local.utcoffset() or timedelta(0)
    minutes = abs(int(offset.total_seconds())) // 60
    return f"{'−' if offset < timedelta(0) else '+'}{minutes // 60:02}:{minutes % 60:02}"


def format_local_date(local: datetime) -> str:
    """Return the date of a local time, naive or aware, as "Tue 24 Nov 2026"."""
    return f"{DAY_NAMES[local.weekday()]} {local.day} {MONTH_NAMES[local.month - 1]} {local.year}"


def format_local_time(local: datetime | time) -> str:
    """Return a local time, naive or aware, as "22:00", or as "22:00:07" where it has seconds."""
    return f"{local:%H:%M:%S}" if local.second else f"{local:%H:%M}"


def format_local_clock(local: datetime) -> str:
    """Return an aware local time as "22:00 CST (UTC−06:00)", without letters where its zone has none."""
    letters = local.tzname() or ""
    if letters == "UTC":
        return f"{format_local_time(local)} UTC"
    return f"{format_local_time(local)} {letters + ' ' if letters.isalpha() else ''}(UTC{_offset(local)})"


def _precise(local: datetime) -> str:
    return f"{format_local_date(local)}, {format_local_clock(local)}"
