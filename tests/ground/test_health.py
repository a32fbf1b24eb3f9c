"""Liveness and readiness."""

from __future__ import annotations

import json
import os
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from as2certs.audit import sealing
from as2certs.audit.models import Entry
from as2certs.clock import database_now
from as2certs.mail.models import Message
from as2certs.site.health import ENDED_LATELY, process_problems
from as2certs.supervisor import STATE_FILE
from rotations.models import Heartbeat

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def broker_folder(settings: LazySettings, tmp_path: Any) -> None:
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_in": str(tmp_path)}


def tick(*, seconds_ago: float) -> None:
    Heartbeat.objects.create(name="apply_due", at=database_now() - timedelta(seconds=seconds_ago))


def mail(*, minutes_ago: float, state: str) -> None:
    created = database_now() - timedelta(minutes=minutes_ago)
    Message.objects.create(
        key=f"{state}-{minutes_ago}",
        kind="reminder",
        to_address="a@example.com",
        subject="Hello",
        text="There.",
        message_id=f"<{state}-{minutes_ago}@example.com>",
        state=state,
        created_at=created,
        due_at=created,
    )


def test_healthz_reports_a_running_process(client: Client, django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(0):
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "up"})


def test_readyz_is_ok_while_due_steps_are_searched_for(client: Client) -> None:
    tick(seconds_ago=2)
    answer = client.get("/readyz")
    assert answer.status_code == 200
    found = answer.json()
    assert (found["status"], found["problems"]) == ("ready", [])
    assert (found["database"], found["broker"], found["stuck_mail"]) == ("ok", "ok", 0)
    assert found["unsealed_entries"] == 0
    assert 2 <= found["seconds_since_tick"] < 10


def test_readyz_fails_before_the_first_tick(client: Client) -> None:
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["seconds_since_tick"] is None
    assert "clockwork" in answer.json()["problems"][0]


@pytest.mark.parametrize(("seconds_ago", "status"), [(25, 200), (31, 503)])
def test_readyz_fails_half_a_minute_after_the_last_tick(client: Client, seconds_ago: float, status: int) -> None:
    tick(seconds_ago=seconds_ago)
    assert client.get("/readyz").status_code == status


def test_readyz_fails_without_the_broker_folder(client: Client, settings: LazySettings) -> None:
    tick(seconds_ago=0)
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"data_folder_in": "/nowhere"}
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (503, ["broker: its folder can't be written"])


def test_stuck_mail_is_counted_but_does_not_make_a_process_unready(client: Client) -> None:
    tick(seconds_ago=0)
    mail(minutes_ago=14, state="queued")
    assert client.get("/readyz").json()["stuck_mail"] == 0
    mail(minutes_ago=16, state="queued")
    mail(minutes_ago=16, state="sent")
    mail(minutes_ago=1, state="failed")
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["stuck_mail"]) == (200, 2)
    assert answer.json()["problems"] == ["mail: 2 messages wait too long or were given up"]


def test_unsealed_entries_are_reported_but_do_not_make_a_process_unready(client: Client) -> None:
    tick(seconds_ago=0)

    def note(minutes_ago: float) -> None:
        at = database_now() - timedelta(minutes=minutes_ago)
        Entry.objects.create(at=at, verb="partner.changed", actor_name="Alice", source="web")

    note(minutes_ago=4)
    assert client.get("/readyz").json()["unsealed_entries"] == 0
    note(minutes_ago=6)
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["unsealed_entries"]) == (200, 1)
    assert answer.json()["problems"] == [
        "trail: 1 entries are not sealed after 5 minutes; start a worker with beat, or the mail loop"
    ]
    sealing.seal()
    assert client.get("/readyz").json()["problems"] == []


@pytest.mark.parametrize("path", ["/healthz", "/readyz"])
def test_health_is_only_read_and_never_kept(client: Client, path: str) -> None:
    assert client.post(path).status_code == 405
    assert "no-store" in client.get(path)["Cache-Control"]


def test_processes_that_ended_are_told_of_while_and_shortly_after_they_are_started_again(
    client: Client, settings: LazySettings, tmp_path: Path
) -> None:
    tick(seconds_ago=0)
    settings.VAR = tmp_path
    now = datetime(2026, 3, 2, 12, tzinfo=UTC)

    def note(supervisor: int, again_at: str | None) -> list[str]:
        web = {"ends": 2, "last_end": "was killed by SIGKILL", "last_ended_at": now.isoformat(), "again_at": again_at}
        fine = {"ends": 0, "last_end": "", "last_ended_at": None, "again_at": None}
        state = {"supervisor": supervisor, "processes": {"web": web, "mail": fine}}
        (tmp_path / STATE_FILE).write_text(json.dumps(state))
        return process_problems(now + ENDED_LATELY)

    said = "processes: web was killed by SIGKILL at 12:00:00 UTC and"
    assert note(os.getpid(), None) == [f"{said} was started again (2 times so far)"]
    assert process_problems(now + ENDED_LATELY + timedelta(seconds=1)) == []
    assert note(os.getpid(), now.isoformat()) == [f"{said} is started again soon (2 times so far)"]
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json()["problems"]) == (200, [f"{said} is started again soon (2 times so far)"])
    gone = subprocess.Popen(["true"])
    gone.wait()
    assert note(gone.pid, None) == []  # a supervisor that was killed says nothing any more
    (tmp_path / STATE_FILE).write_text("{")
    assert process_problems(now) == []
