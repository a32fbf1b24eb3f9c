"""Liveness and readiness, for load balancers and monitoring."""

from __future__ import annotations

import json
import logging
import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import redis
from django.conf import settings
from django.db import Error, connection
from django.http import HttpRequest, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from as2certs import supervisor
from as2certs.audit.models import Entry
from as2certs.clock import database_now
from as2certs.mail import bounce_mailbox
from as2certs.mail.models import Message
from rotations.models import Heartbeat

log = logging.getLogger(__name__)

#: Without a tick for this long, no step is applied: three times the longest delay of a busy worker.
MAX_TICK_AGE = timedelta(seconds=30)
#: Entries of the trail are normally sealed within seconds.
MAX_UNSEALED_AGE = timedelta(minutes=5)
MAX_UNSEALED_COUNTED = 1000
#: Reminders run every ten minutes; a busy worker may miss two runs.
MAX_REMINDER_AGE = timedelta(minutes=35)
BROKER_TIMEOUT_SECONDS = 1.0
#: How long after its restart a process that ended is still reported.
ENDED_LATELY = timedelta(minutes=10)

OK = "ok"


@require_safe
@never_cache
def healthz(request: HttpRequest) -> JsonResponse:
    """Return that this process is up, without further checks."""
    return JsonResponse({"status": "up"})


@require_safe
@never_cache
def readyz(request: HttpRequest) -> JsonResponse:
    """Return 200 if database, broker and ticks work, else 503; ``problems`` says what is wrong.

    Stuck mail, missing reminders, unsealed entries and processes that ended are listed as problems, but don't make a
    process unready.
    """
    database = database_state()
    broker = broker_state()
    failing = [f"{name}: {state}" for name, state in (("database", database.answer), ("broker", broker)) if state != OK]
    if database.answer == OK and not database.ticks:
        failing.append("clockwork: nobody looks for due steps; start a worker with beat, or the loop")
    stuck = []
    if database.stuck_mail:
        stuck.append(f"mail: {database.stuck_mail} messages wait too long or were given up")
    if database.postbox_trouble:
        stuck.append(f"mail that comes back: {database.postbox_trouble}")
    if database.hours_without_reminders:
        stuck.append(
            f"reminders: nobody has looked for {database.hours_without_reminders:.1f} hours whom to remind; "
            "start a worker with beat"
        )
    if database.unsealed_entries:
        minutes = MAX_UNSEALED_AGE.seconds // 60
        stuck.append(
            f"trail: {database.unsealed_entries} entries are not sealed after {minutes} minutes; "
            "start a worker with beat, or the mail loop"
        )
    stuck += process_problems(datetime.now(UTC))
    return JsonResponse(
        {
            "status": "not ready" if failing else "ready",
            "problems": failing + stuck,
            "database": database.answer,
            "broker": broker,
            "seconds_since_tick": database.seconds_since_tick,
            "stuck_mail": database.stuck_mail,
            "unsealed_entries": database.unsealed_entries,
        },
        status=503 if failing else 200,
    )


def process_problems(now: datetime) -> list[str]:
    """Return which processes of `make run` have ended lately (``now`` is the machine's time), and are started again.

    The supervisor writes what happened to a file; without one, or if it was killed, nothing is known.
    """
    try:
        state = json.loads((settings.VAR / supervisor.STATE_FILE).read_text())
        os.kill(state["supervisor"], 0)  # asks whether it is there
    except (OSError, ValueError):
        return []
    found = []
    for name, process in state["processes"].items():
        ended_at = process["last_ended_at"] and datetime.fromisoformat(process["last_ended_at"])
        if not ended_at or (process["again_at"] is None and now - ended_at > ENDED_LATELY):
            continue
        then = "is started again soon" if process["again_at"] else "was started again"
        times = "once" if process["ends"] == 1 else f"{process['ends']} times so far"
        found.append(f"processes: {name} {process['last_end']} at {ended_at:%H:%M:%S} UTC and {then} ({times})")
    return found


@dataclass(frozen=True)
class DatabaseState:
    """The state of the database, and what it says of the others; the numbers are None if it does not answer."""

    answer: str
    seconds_since_tick: float | None = None
    stuck_mail: int | None = None
    unsealed_entries: int | None = None
    postbox_trouble: str = ""
    hours_without_reminders: float = 0

    @property
    def ticks(self) -> bool:
        return self.seconds_since_tick is not None and self.seconds_since_tick <= MAX_TICK_AGE.total_seconds()


def broker_state() -> str:
    """Return "ok" or what is wrong, without the broker's password; takes at most two seconds."""
    if not settings.REDIS_URL:
        folder = Path(settings.CELERY_BROKER_TRANSPORT_OPTIONS["data_folder_in"])
        return OK if os.access(folder, os.W_OK) else "its folder can't be written"
    connection = redis.Redis.from_url(
        settings.REDIS_URL,
        socket_timeout=BROKER_TIMEOUT_SECONDS,
        socket_connect_timeout=BROKER_TIMEOUT_SECONDS,
        retry=None,
    )
    try:
        connection.ping()
    except redis.RedisError as error:
        log.warning("The broker does not answer: %s", error)
        return "does not answer"
    finally:
        connection.close()
    return OK


def database_state() -> DatabaseState:
    """Query the database for the last tick, stuck mail, bounces, reminders and unsealed entries."""
    try:
        now = database_now()
        return DatabaseState(
            answer="is read-only, so nothing can be done" if is_read_only() else OK,
            seconds_since_tick=seconds_since_tick(now),
            stuck_mail=Message.objects.stuck(now).count(),
            unsealed_entries=unsealed_entries(now),
            postbox_trouble=bounce_mailbox.find_problem(now),
            hours_without_reminders=hours_without_reminders(now),
        )
    except Error as error:
        log.warning("The database does not answer: %s", error)
        return DatabaseState("does not answer")


def seconds_since_tick(now: datetime) -> float | None:
    """Return the seconds since due steps were last searched for; None if they never were."""
    latest = Heartbeat.objects.filter(name__startswith="apply_due").order_by("-at").first()
    return round((now - latest.at).total_seconds(), 1) if latest else None


def is_read_only() -> bool:
    """Return whether PostgreSQL is read-only, as a standby is."""
    if connection.vendor != "postgresql":
        return False
    with connection.cursor() as cursor:
        cursor.execute("SHOW transaction_read_only")
        return bool(cursor.fetchone()[0] == "on")


def hours_without_reminders(now: datetime) -> float:
    """Return the hours since reminders last ran, if that is too long; else 0, also if they never ran."""
    latest = Heartbeat.objects.filter(name="send_reminders").first()
    if latest is None or now - latest.at <= MAX_REMINDER_AGE:
        return 0
    return (now - latest.at).total_seconds() / 3600


def unsealed_entries(now: datetime) -> int:
    """Return the number of entries that have waited too long for their seal, at most MAX_UNSEALED_COUNTED."""
    return Entry.objects.unsealed().filter(at__lt=now - MAX_UNSEALED_AGE)[:MAX_UNSEALED_COUNTED].count()
