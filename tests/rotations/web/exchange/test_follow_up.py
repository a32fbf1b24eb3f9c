"""The page "Following up": the reminder schedule, its preview, and a reminder at once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.models import Entry
from partners.models import Contact, Partner
from rotations.exchange import follow_up, responses
from rotations.letters.announcements import announce
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import endings
from rotations.models import Letter, Participant, Rotation
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.pages import get_page, page_text, post_form

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def still(clock: datetime) -> None:
    """Set the clock of the pages to NOW."""


@pytest.fixture
def announced(company: Company, northwind: Participant) -> Participant:
    announce(northwind, by=company.by, now=NOW - 2 * DAY)
    northwind.refresh_from_db()
    return northwind


@pytest.fixture
def operator(company: Company) -> Client:
    return log_in(make_person("olivia", "operator", time_zone="America/Chicago"))


def test_the_page_shows_reminders_recipients_and_escalations(
    operator: Client, announced: Participant, rotation: Rotation
) -> None:
    shown = page_text(get_page(operator, "rotation-following", rotation.uid))
    assert 'name="after" value="7, 14"' in shown
    assert 'name="before" value="7, 3, 1"' in shown
    assert 'Thu 26 Nov 2026, 22:00 CST</time><div class="quiet small">7 days before the window' in shown
    assert "<div>Nora North</div>" in shown
    assert "Tue 1 Dec 2026, 22:00 CST" in shown
    assert "Fabrikam has not been told yet: announce the change first." in shown


def test_the_page_of_the_rotation_links_to_the_reminders(
    operator: Client, announced: Participant, rotation: Rotation
) -> None:
    assert reverse("rotation-following", args=[rotation.uid]) in page_text(
        get_page(operator, "rotation-detail", rotation.uid)
    )


def test_other_days_are_previewed_before_they_are_saved(
    operator: Client, announced: Participant, rotation: Rotation
) -> None:
    days = {"after": "3", "before": "2 5"}
    shown = page_text(post_form(operator, "rotation-following", rotation.uid, **days, look="1"))
    assert "Not saved yet" in shown
    assert "3 days after it was told" in shown
    rotation.refresh_from_db()
    assert rotation.nudge_after == [7, 14]


def test_other_days_are_saved_and_audited(operator: Client, announced: Participant, rotation: Rotation) -> None:
    answer = post_form(operator, "rotation-following", rotation.uid, after="20, 3", before="2;5")
    assert answer["Location"] == reverse("rotation-following", args=[rotation.uid])
    rotation.refresh_from_db()
    assert (rotation.nudge_after, rotation.nudge_before) == ([3, 20], [5, 2])
    entry = Entry.objects.get(verb="rotation.ladder_set")
    assert entry.old == {"after": [7, 14], "before": [7, 3, 1]}
    assert entry.new == {"after": [3, 20], "before": [5, 2]}
    post_form(operator, "rotation-following", rotation.uid, after="3, 20", before="5, 2")
    assert Entry.objects.filter(verb="rotation.ladder_set").count() == 1


def test_no_days_at_all_are_valid(operator: Client, announced: Participant, rotation: Rotation) -> None:
    assert post_form(operator, "rotation-following", rotation.uid, after="", before="").status_code == 302
    assert "none any more" in page_text(get_page(operator, "rotation-following", rotation.uid))


@pytest.mark.parametrize(
    ("days", "expected"),
    [
        ("seven", "“seven” is not a whole number of days"),
        ("7.5", "“7.5” is not a whole number of days"),
        ("0", "0 is out of range: choose days between 1 and 60."),
        ("61", "61 is out of range"),
        ("-3", "“-3” is not a whole number of days"),
        ("7, 3, 7", "7 stands there twice"),
        ("1 2 3 4 5 6 7 8 9 10 11", "These are 11 days, and 10 at most make sense"),
    ],
)
@pytest.mark.parametrize("field", ["after", "before"])
def test_invalid_days_are_refused(operator: Client, rotation: Rotation, field: str, days: str, expected: str) -> None:
    answer = post_form(operator, "rotation-following", rotation.uid, **{"after": "7", "before": "7", field: days})
    assert answer.status_code == 422
    assert expected in page_text(answer)
    assert f'value="{days}"' in page_text(answer)
    rotation.refresh_from_db()
    assert (rotation.nudge_after, rotation.nudge_before) == ([7, 14], [7, 3, 1])


def test_the_days_of_an_ended_rotation_can_not_be_changed(
    operator: Client, announced: Participant, rotation: Rotation, company: Company
) -> None:
    endings.cancel(rotation, reason="Not needed", by=company.by, now=NOW)
    assert "nobody is reminded any more" in page_text(get_page(operator, "rotation-following", rotation.uid))
    assert post_form(operator, "rotation-following", rotation.uid, after="1", before="1").status_code == 422
    detail = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert reverse("rotation-following", args=[rotation.uid]) not in detail


def test_a_partner_without_reachable_contacts_is_marked(
    operator: Client, announced: Participant, rotation: Rotation
) -> None:
    Contact.objects.update(bounced_at=NOW)
    shown = page_text(get_page(operator, "rotation-following", rotation.uid))
    assert "nobody whom mail reaches" in shown
    assert "within minutes" in shown
    follow_up.run_follow_up(NOW)
    assert "told <time" in page_text(get_page(operator, "rotation-following", rotation.uid))


def test_a_reminder_is_confirmed_with_its_consequences(
    operator: Client, announced: Participant, company: Company
) -> None:
    shown = page_text(get_page(operator, "participant-nudge", announced.uid))
    assert "Send the reminder to Nora North" in shown
    assert "Nora North (nora@northwind.example) gets a mail with the certificate and a link" in shown
    assert "It asks for an answer by Tue 1 Dec 2026, 22:00 CST." in shown
    assert not Letter.objects.filter(kind=Letter.Kind.NUDGE).exists()
    answer = post_form(operator, "participant-nudge", announced.uid)
    assert answer["Location"] == announced.rotation.get_absolute_url()
    assert Letter.objects.get(kind=Letter.Kind.NUDGE).rung == "by hand"
    assert "was written to a minute ago" in page_text(post_form(operator, "participant-nudge", announced.uid))
    assert Letter.objects.filter(kind=Letter.Kind.NUDGE).count() == 1


def test_an_impossible_reminder_is_not_offered(operator: Client, announced: Participant, company: Company) -> None:
    responses.decline(announced, reason="Closed", by=company.by, now=NOW)
    shown = page_text(get_page(operator, "participant-nudge", announced.uid))
    assert "Northwind said no, so a reminder leads nowhere" in shown
    assert "Send the reminder" not in shown


def test_viewers_can_not_remind(announced: Participant, company: Company) -> None:
    viewer = log_in(make_person("vera", "viewer"))
    assert post_form(viewer, "participant-nudge", announced.uid).status_code == 403
    assert get_page(viewer, "rotation-following", announced.rotation.uid).status_code == 403


def test_the_number_of_queries_does_not_depend_on_the_number_of_partners(
    operator: Client, announced: Participant, rotation: Rotation, company: Company
) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as found:
            get_page(operator, "rotation-following", rotation.uid)
        return len(found)

    queries()
    before = queries()
    for n in range(10):
        partner = Partner.objects.create(name=f"Partner {n}", as2_id=f"P{n}")
        Contact.objects.create(partner=partner, name="Pat", email=f"pat@p{n}.example")
        more = Participant.objects.create(rotation=rotation, partner=partner, announced_at=NOW)
        send_letters(LetterContext.of(more, now=NOW), Letter.Kind.ANNOUNCEMENT, partner.contacts.all(), by=company.by)
    assert queries() == before
