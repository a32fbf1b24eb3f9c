"""What a run of reminders costs with a large inventory, and what the next one does."""

from __future__ import annotations

import time
from datetime import datetime
from typing import Any

from django.utils import timezone

from as2certs.mail.models import Message
from rotations import reminders
from rotations.models import Notice
from rotations.notifications.station_mail import build_reminder
from tests.bench import inventory
from tests.bench.figures import Figure, Found, Scale
from tests.bench.grounds import DATABASES, Grounds, ask

AGAIN_LIMIT = (
    "A second run of reminders reads in short rows what the 3,700 certificates, their owners and the notices have come "
    "to: a new owner, or another ladder, would have to be told. Whether they are replaced in time is not asked again, "
    "which brought it from 0.16 to 0.10 of the first run."
)


def run(grounds: Grounds, scale: Scale) -> Found:
    """Remind of 3,700 of 100,000 certificates, on either database."""
    certificates, due = scale(100_000), scale(3_700)
    found = Found()
    for database in DATABASES:
        with grounds.site(database) as site:
            took = ask(site, "reminding", "measure", certificates, due)
        name = f"{database}: reminder run, {certificates:,} certificates, {due:,} notices"
        told = f"{took['run']:.2f} s for {took['mails']} mails, floor {took['floor']:.2f} s"
        again = f"{took['again']:.2f} s"
        found.figures += [
            Figure(f"{name}, of query and mails", took["run"] / took["floor"], 3, told=told),
            Figure(
                f"{name}, again, of the first",
                took["again"] / took["run"],
                0.1,
                told=again,
                limit=AGAIN_LIMIT,
            ),
        ]
        if took["notices"] != due or took["queued_again"]:
            found.wrong.append(f"{name}: {took['notices']} notices, and {took['queued_again']} mails by the second run")
    return found


# Inside the installation.


def measure(certificates: int, due: int) -> dict[str, Any]:
    """Return seconds: of finding out and writing the mails, of a run, and of another one; and what came of them."""
    now = timezone.now()
    inventory.fill(certificates, due=due, now=now)
    inventory.look_again()
    floor = min(_find_and_write(now) for _ in range(2))
    began = time.perf_counter()
    reminders.run(now)
    took = time.perf_counter() - began
    notices, mails = Notice.objects.count(), Message.objects.count()
    began = time.perf_counter()
    queued_again = reminders.run(now)
    again = time.perf_counter() - began
    return {
        "floor": floor,
        "run": took,
        "again": again,
        "notices": notices,
        "mails": mails,
        "queued_again": queued_again,
    }


def _find_and_write(now: datetime) -> float:
    began = time.perf_counter()
    for reminder in reminders.find_due(now):
        build_reminder(reminder.recipient, [line.certificate for line in reminder.lines], now)
    return time.perf_counter() - began
