"""Announcing to many partners in the background: continued after a crash, never twice, and stopped on request."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import IntegrityError

from as2certs import background_jobs
from as2certs.accounts.models import User
from as2certs.background_jobs import LEASE_DURATION, MAX_ATTEMPTS, JobLost
from rotations.errors import ActionRefused
from rotations.exchange import bulk
from rotations.exchange.bulk import (
    AnnouncementProgress,
    request_announcements,
    resume_announcements,
    send_next_announcements,
)
from rotations.letters import announcements
from rotations.letters.announcements import SentAnnouncement
from rotations.lifecycle import endings
from rotations.models import BulkAnnouncement, Letter, Participant, Rotation
from tests.people import make_person
from tests.rotations.company import NOW, Company

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock_of_workers")]

LATER = NOW + timedelta(minutes=1)


@pytest.fixture
def clock_of_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bulk, background_jobs):
        monkeypatch.setattr(module, "database_now", lambda: LATER)


@pytest.fixture
def olivia(db: None) -> User:
    return make_person("olivia", "operator")


def queue(rotation: Rotation, user: User) -> BulkAnnouncement:
    """Ask for the announcement to all partners of a rotation, whose mails were looked at."""
    previews = announcements.build_previews(rotation, announcements.load_participants(rotation), now=NOW)
    return request_announcements(rotation, {one.participant: one.version for one in previews}, user=user, now=NOW)


def told(rotation: Rotation) -> list[str]:
    letters = Letter.objects.filter(participant__rotation=rotation, kind="announcement").order_by("pk")
    return [letter.partner.name for letter in letters]


def progress(job: BulkAnnouncement) -> tuple[str, int, int, int]:
    """Return the state of a job, and how many partners are notified, refused and waiting."""
    job.refresh_from_db()
    counts = AnnouncementProgress.of(job)
    return job.state, counts.notified, counts.refused, counts.waiting


@pytest.mark.on_postgres
def test_all_partners_are_told_once_in_the_name_of_who_asked(rotation: Rotation, olivia: User) -> None:
    job = queue(rotation, olivia)
    assert progress(job) == ("queued", 0, 0, 2)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 2, 0, 0)
    assert AnnouncementProgress.of(job).mails == 2
    assert told(rotation) == ["Fabrikam", "Northwind"]
    assert not send_next_announcements(now=NOW)
    participant = rotation.participants.first()
    assert participant is not None
    assert participant.announced_at == LATER


@pytest.mark.parametrize("together", [1, 2])
def test_what_a_killed_worker_left_is_continued_after_its_lease_and_nobody_is_told_twice(
    rotation: Rotation, olivia: User, monkeypatch: pytest.MonkeyPatch, together: int
) -> None:
    monkeypatch.setattr(bulk, "CHUNK_SIZE", together)
    job = queue(rotation, olivia)
    send = announcements.send_announcement

    def send_and_die(participant: Participant, **options: Any) -> SentAnnouncement:
        if participant.partner.name == "Northwind":
            raise KeyboardInterrupt  # no error of one partner: the process ends
        return send(participant, **options)

    monkeypatch.setattr(announcements, "send_announcement", send_and_die)
    with pytest.raises(KeyboardInterrupt):
        send_next_announcements(now=NOW)
    monkeypatch.setattr(announcements, "send_announcement", send)
    assert progress(job) == (("working", 1, 0, 1) if together == 1 else ("working", 0, 0, 2))
    assert not send_next_announcements(now=LATER + LEASE_DURATION)
    assert send_next_announcements(now=LATER + LEASE_DURATION + timedelta(seconds=1))
    assert progress(job) == ("done", 2, 0, 0)
    assert told(rotation) == ["Fabrikam", "Northwind"]


def test_a_worker_that_was_only_slow_tells_nobody_whom_another_one_has_told(
    rotation: Rotation, olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue(rotation, olivia)
    tell = bulk._notify

    def be_slow(item: Any, **options: Any) -> None:
        monkeypatch.setattr(bulk, "_notify", tell)
        assert send_next_announcements(now=LATER + 2 * LEASE_DURATION)  # the other one
        tell(item, **options)

    monkeypatch.setattr(bulk, "_notify", be_slow)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 2, 0, 0)
    assert told(rotation) == ["Fabrikam", "Northwind"]


def test_the_rest_is_handed_back_after_a_while(
    rotation: Rotation, olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "MAX_PER_TURN", 1)
    job = queue(rotation, olivia)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("queued", 1, 0, 1)
    assert job.attempts == 0
    monkeypatch.setattr(bulk, "MAX_SECONDS", -1)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("queued", 1, 0, 1)
    monkeypatch.setattr(bulk, "MAX_SECONDS", 20)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 2, 0, 0)


def test_a_cancelled_job_stops_before_the_next_partner_and_can_go_on(
    rotation: Rotation, olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bulk, "CHUNK_SIZE", 1)
    job = queue(rotation, olivia)
    tell = bulk._notify

    def tell_and_cancel(item: Any, **options: Any) -> None:
        tell(item, **options)
        assert job.cancel(now=LATER)

    monkeypatch.setattr(bulk, "_notify", tell_and_cancel)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("cancelled", 1, 0, 1)
    assert not job.cancel(now=LATER)
    assert not send_next_announcements(now=NOW + 2 * LEASE_DURATION)
    monkeypatch.setattr(bulk, "_notify", tell)
    resume_announcements(job, user=olivia)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 2, 0, 0)
    with pytest.raises(ActionRefused, match="nothing to go on with"):
        resume_announcements(job, user=olivia)


@pytest.mark.on_postgres
def test_one_partner_that_can_not_be_told_keeps_no_other_from_it(
    rotation: Rotation, olivia: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = queue(rotation, olivia)
    send = announcements.send_announcement

    def fail(participant: Participant, **options: Any) -> SentAnnouncement:
        sent = send(participant, **options)
        if participant.partner.name == "Fabrikam":
            raise IntegrityError("no such row")
        return sent

    monkeypatch.setattr(announcements, "send_announcement", fail)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 1, 1, 0)
    assert told(rotation) == ["Northwind"]
    assert job.items.get(state="refused").reason.startswith("An error of the application (IntegrityError)")


def test_other_mails_than_were_looked_at_are_not_sent(rotation: Rotation, olivia: User) -> None:
    job = queue(rotation, olivia)
    participant = rotation.participants.get(partner__name="Fabrikam")
    participant.partner.contacts.update(email="somebody@fabrikam.example")
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 1, 1, 0)
    assert "What changed: who gets it" in job.items.get(state="refused").reason


def test_a_partner_that_was_told_meanwhile_is_not_told_again(
    rotation: Rotation, company: Company, olivia: User, fabrikam: Participant
) -> None:
    job = queue(rotation, olivia)
    announcements.announce(fabrikam, by=company.by, now=NOW + timedelta(seconds=1))
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 1, 1, 0)
    assert told(rotation) == ["Fabrikam", "Northwind"]


def test_nobody_is_told_of_a_rotation_that_was_cancelled(rotation: Rotation, company: Company, olivia: User) -> None:
    job = queue(rotation, olivia)
    endings.cancel(rotation, reason="Not now", by=company.by, now=NOW)
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 0, 2, 0)
    assert told(rotation) == []


@pytest.mark.parametrize("loss", ["right", "account", "deleted"])
def test_it_stops_when_who_asked_may_not_announce_any_more(rotation: Rotation, olivia: User, loss: str) -> None:
    job = queue(rotation, olivia)
    match loss:
        case "right":
            olivia.groups.clear()
        case "account":
            User.objects.filter(pk=olivia.pk).update(is_active=False)
        case "deleted":
            olivia.delete()
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("failed", 0, 0, 2)
    assert "may not announce any more" in job.error
    resume_announcements(job, user=make_person("oscar", "operator"))
    assert send_next_announcements(now=NOW)
    assert progress(job) == ("done", 2, 0, 0)


@pytest.mark.on_postgres
def test_one_rotation_is_announced_by_one_job_at_a_time(rotation: Rotation, olivia: User) -> None:
    first = queue(rotation, olivia)
    with pytest.raises(ActionRefused, match="are being sent"):
        queue(rotation, olivia)
    assert first.cancel(now=NOW)
    second = queue(rotation, olivia)
    with pytest.raises(ActionRefused, match="are being sent"):
        resume_announcements(first, user=olivia)
    assert send_next_announcements(now=NOW)
    assert progress(second) == ("done", 2, 0, 0)


def test_a_job_that_ends_each_worker_is_given_up(rotation: Rotation, olivia: User) -> None:
    job = queue(rotation, olivia)
    for attempt in range(MAX_ATTEMPTS):
        claimed = BulkAnnouncement.objects.claim_next(now=NOW + attempt * LEASE_DURATION * 2)
        assert claimed == job
    assert BulkAnnouncement.objects.claim_next(now=NOW + MAX_ATTEMPTS * LEASE_DURATION * 2) is None
    assert progress(job) == ("failed", 0, 0, 2)
    with pytest.raises(JobLost):
        claimed.extend_lease()
