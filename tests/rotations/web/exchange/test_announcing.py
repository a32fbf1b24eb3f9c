"""The page that shows how far announcements to many partners are."""

from __future__ import annotations

import pytest
from django.test import Client

from rotations.exchange.bulk import send_next_announcements
from rotations.models import BulkAnnouncement, Letter, Participant, Rotation
from rotations.web.views import announcements as views
from tests.rotations.company import NOW
from tests.rotations.pages import get_page, page_text, post_form
from tests.rotations.web.exchange.test_announcements import announce_to

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock", "many_are_two")]


@pytest.fixture
def many_are_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(views, "MAX_LISTED", 1)
    for module in ("rotations.exchange.bulk", "as2certs.background_jobs"):
        monkeypatch.setattr(f"{module}.database_now", lambda: NOW)


@pytest.fixture
def job(operator: Client, rotation: Rotation) -> BulkAnnouncement:
    """Announcements that were asked for on the page, and are not sent yet."""
    page = get_page(operator, "rotation-announce", rotation.uid)
    given = {"seen": page.context["seen"], "chosen": page.context["chosen_uids"]}
    response = post_form(operator, "rotation-announce", rotation.uid, **given)
    assert response["Location"].endswith(f"/{rotation.uid}/announcing/")
    assert not Letter.objects.exists()
    return rotation.bulk_announcements.get()


def test_many_are_told_in_the_background_and_the_page_shows_how_far_it_is(
    operator: Client, rotation: Rotation, job: BulkAnnouncement
) -> None:
    shown = page_text(get_page(operator, "rotation-announcing", rotation.uid))
    assert "Sending begins in a few seconds." in shown
    assert 'hx-trigger="every 1s"' in shown
    assert '<progress class="job-progress" value="0" max="2"' in shown
    assert get_page(operator, "rotation-announce", rotation.uid).status_code == 302  # nobody is asked for twice
    detail = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "The change is being announced: 0 of 2 partners are notified so far." in detail
    assert send_next_announcements(now=NOW)
    url = f"/rotations/{rotation.uid}/announcing/"
    part = page_text(operator.get(url, headers={"HX-Request": "true"}))
    assert "<html" not in part
    assert "hx-trigger" not in part
    assert "2 of 2 partners, with 2 mails" in part
    assert "The change is being announced" not in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_those_that_could_not_be_told_are_listed_with_the_reason(
    operator: Client, rotation: Rotation, northwind: Participant, job: BulkAnnouncement
) -> None:
    northwind.partner.contacts.all().delete()
    assert send_next_announcements(now=NOW)
    shown = page_text(get_page(operator, "rotation-announcing", rotation.uid))
    assert "1 could not be notified" in shown
    assert "No contact of Northwind is known" in shown
    assert "1 of 2 partners, with 1 mail<" in shown


def test_it_can_be_stopped_and_continued(operator: Client, rotation: Rotation, job: BulkAnnouncement) -> None:
    post_form(operator, "rotation-announcing-cancel", rotation.uid)
    assert not send_next_announcements(now=NOW)
    assert "Continue with 2 more" in page_text(get_page(operator, "rotation-announcing", rotation.uid))
    post_form(operator, "rotation-announcing-resume", rotation.uid)
    assert send_next_announcements(now=NOW)
    assert Letter.objects.count() == 2
    post_form(operator, "rotation-announcing-cancel", rotation.uid)
    assert "were over already" in page_text(get_page(operator, "rotation-announcing", rotation.uid))


def test_who_only_looks_sees_no_buttons(viewer: Client, rotation: Rotation, job: BulkAnnouncement) -> None:
    shown = page_text(get_page(viewer, "rotation-announcing", rotation.uid))
    assert "Waiting" in shown
    assert "Stop sending" not in shown
    assert post_form(viewer, "rotation-announcing-cancel", rotation.uid).status_code == 403


def test_without_such_announcements_there_is_no_page(operator: Client, rotation: Rotation) -> None:
    assert get_page(operator, "rotation-announcing", rotation.uid).status_code == 404


def test_few_are_told_at_once(operator: Client, rotation: Rotation, northwind: Participant) -> None:
    announce_to(operator, rotation, northwind)
    assert Letter.objects.count() == 1
    assert not BulkAnnouncement.objects.exists()
