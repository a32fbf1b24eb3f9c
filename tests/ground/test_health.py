"""Liveness and readiness."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.conf import LazySettings
from django.test import Client

from as2certs.audit import sealing
from as2certs.audit.models import Entry
from as2certs.clock import database_now
from as2certs.mail.models import Message
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
