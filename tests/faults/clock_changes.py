"""Windows at local times that the clocks jump over or show twice: run inside an installation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.lifecycle import rescheduling
from rotations.models import Step
from rotations.web.forms.windows import WindowForm
from tests.faults import companies

#: Two that jump by an hour at night, one by half an hour, one at midnight.
ZONES = ("America/Chicago", "Europe/Berlin", "Australia/Lord_Howe", "America/Havana")
MINUTE = timedelta(minutes=1)


def next_change(zone: str, *, forward: bool, now: datetime) -> datetime:
    """Return the moment (UTC) at which the clocks of a zone next jump, found by looking at them."""
    info, at = ZoneInfo(zone), now.replace(minute=0, second=0, microsecond=0)

    def offset(moment: datetime) -> timedelta:
        return moment.astimezone(info).utcoffset() or timedelta(0)

    for _ in range(24 * 400):
        following = at + timedelta(hours=1)
        if offset(following) != offset(at) and (offset(following) > offset(at)) == forward:
            while offset(at) != offset(following):
                at += MINUTE
            return at
        at = following
    raise LookupError(f"The clocks of {zone} don't jump within a year.")


def filled(zone: str, local: datetime, **more: str) -> WindowForm:
    """Return the form of a window that begins at this local time and ends three hours later."""
    until = local + timedelta(hours=3)
    fields = {
        "window_date": f"{local:%Y-%m-%d}",
        "window_from": f"{local:%H:%M}",
        "window_until": f"{until:%H:%M}",
        "window_last_date": f"{until:%Y-%m-%d}",
        "window_zone": zone,
        **more,
    }
    return WindowForm(fields, now=database_now(), zones={"Here": [zone]})


def refusals() -> list[str]:
    """Say of each zone what the form answers to a time that does not exist."""
    found = []
    for zone in ZONES:
        jump = next_change(zone, forward=True, now=database_now())
        shown = (jump - MINUTE).astimezone(ZoneInfo(zone)).replace(tzinfo=None) + 11 * MINUTE
        form = filled(zone, shown)
        found.append("" if form.is_valid() else str(form.errors.get("window_from", "")))
    return found


def schedule() -> list[dict[str, Any]]:
    """Approve two rotations per zone, at both moments of a local time that comes twice; say what was asked."""
    found: list[dict[str, Any]] = []
    rotations = companies.many([3600.0] * 2 * len(ZONES))
    for number, rotation in enumerate(rotations):
        zone, fold = ZONES[number // 2], number % 2
        back = next_change(zone, forward=False, now=database_now())
        local = back.astimezone(ZoneInfo(zone)).replace(tzinfo=None, fold=0) + 10 * MINUTE
        asked = filled(zone, local)
        question = "" if asked.is_valid() else str(asked.errors.get("window_from", ""))
        chosen = filled(zone, local, from_which=str(fold))
        if not chosen.is_valid():  # it warns: the old certificate has ended by then
            chosen = filled(zone, local, from_which=str(fold), window_known=chosen.warning_codes)
        assert chosen.is_valid(), chosen.errors
        assert chosen.window is not None
        by = Actor(name="Alice", source="web")
        rescheduling.postpone(
            rotation, rescheduling.WindowChange(chosen.window, reason="then"), by=by, now=database_now()
        )
        step = Step.objects.get(rotation=rotation, act="cut_over")
        wanted = local.replace(tzinfo=ZoneInfo(zone), fold=fold).astimezone(UTC)
        assert step.due_at is not None
        found.append(
            {
                "zone": zone,
                "fold": fold,
                "question": question,
                "wanted": wanted.timestamp(),
                "stored": step.due_at.timestamp(),
                "step": step.pk,
            }
        )
    return found
