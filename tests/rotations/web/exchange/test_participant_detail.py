"""The page of a participant, and decisions on its proposal."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from partners.models import Partner
from rotations.exchange import responses
from rotations.letters import access_links, announcements
from rotations.lifecycle import rescheduling
from rotations.models import Letter, Participant, Rotation
from tests.capabilities import keeps_both
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS, get_page, page_text, post_form, stored_state

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]

EARLIER = NOW - timedelta(hours=5)
NORA = Actor(name="Nora North (Northwind)", source="portal", address="203.0.113.9")
OTHER = window(STARTS + timedelta(days=2), zone="America/New_York")


@pytest.fixture
def announced(company: Company, rotation: Rotation) -> Rotation:
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=EARLIER)
    return rotation


@pytest.fixture
def together(company: Company) -> None:
    """Both partners hold one certificate, so each has to agree to the window."""
    Partner.objects.update(**keeps_both("no"))


def propose(participant: Participant) -> None:
    responses.propose_window(participant, OTHER, note="Stock count", by=NORA, now=NOW)


def test_the_page_shows_the_history_of_a_participant(operator: Client, company: Company, announced: Rotation) -> None:
    northwind = announced.participants.get(partner__name="Northwind")
    link = northwind.links.get()
    access_links.record_opened(link, by=NORA, now=NOW)
    link.refresh_from_db()
    access_links.record_download(link, "pem", by=NORA, now=NOW)
    responses.decline(northwind, reason="Our software is replaced", by=NORA, now=NOW)
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    for words in (
        "said no",
        "Northwind says no.",
        "Our software is replaced",
        "Announcement</a>",
        "nora@northwind.example",
        "203.0.113.9",
        "opened the partner’s page",
        "downloaded the certificate",
        "told the partner",
        "Nora North (Northwind)",
    ):
        assert words in shown, words
    assert "Fabrikam" not in shown


@pytest.mark.parametrize("what", ["queued", "sent", "given up", "came back"])
def test_the_page_shows_the_state_of_each_mail(
    operator: Client, company: Company, announced: Rotation, northwind: Participant, what: str
) -> None:
    message = northwind.letters.get().message
    match what:
        case "sent":
            Message.objects.update(state="sent", sent_at=NOW)
        case "given up":
            Message.objects.update(state="failed", error="550 5.1.1 No such user")
        case "came back":
            Message.objects.update(state="sent", sent_at=NOW)
            message.refresh_from_db()
            outbox.record_bounce(message, "The mailbox is full", by=company.by, now=NOW)
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert what in shown.partition('aria-labelledby="letters"')[2].partition("</section>")[0]
    expected = {"given up": "550 5.1.1 No such user", "came back": "The mailbox is full"}
    assert expected.get(what, "") in shown
    assert ("unreachable" in shown) == (what in expected)


def test_the_page_takes_as_many_queries_for_one_mail_as_for_ten(
    operator: Client, company: Company, announced: Rotation, northwind: Participant
) -> None:
    def queries() -> int:
        url = reverse("participant-detail", args=[northwind.uid])
        operator.get(url)
        with CaptureQueriesContext(connection) as asked:
            operator.get(url)
        return len(asked)

    one = queries()
    for n in range(9):
        announcements.announce(northwind, by=company.by, now=EARLIER + timedelta(minutes=n + 1))
    assert Letter.objects.filter(participant=northwind).count() == 10
    assert queries() == one


def test_participants_of_drafts_and_removed_ones_have_a_page(
    operator: Client, company: Company, rotation: Rotation
) -> None:
    northwind = rotation.participants.get(partner__name="Northwind")
    Participant.objects.filter(pk=northwind.pk).update(removed_reason="Ends in May")
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "left out, Ends in May" in shown
    assert "Record answer" not in shown


# Another time


def test_a_proposal_is_shown_in_both_zones_with_its_consequences(
    operator: Client, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "Sat 5 Dec 2026, 23:00 to Sun 6 Dec 2026, 00:00 EST (UTC−05:00)" in shown
    assert "Sun 6 Dec 2026, 04:00 to 05:00 UTC here" in shown
    assert "Nobody else has to agree to the time; the 2 that know of it are told" not in shown
    assert "Nobody else has to agree to the time; the one that knows of it is told that it moved." in shown
    assert f"{reverse('rotation-postpone', args=[announced.uid])}?proposal={northwind.uid}" in shown


def test_the_page_shows_who_has_to_agree_again(
    operator: Client, together: None, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "1 other partner has to agree to the new time once more;" in shown
    Participant.objects.filter(rotation=announced).exclude(pk=northwind.pk).update(removed_reason="Ends in May")
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "Northwind is the only partner of this change: nobody else is asked" in shown


def test_a_move_to_the_proposal_is_prefilled_and_counts_as_agreed(
    operator: Client, together: None, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    url = f"{reverse('rotation-postpone', args=[announced.uid])}?proposal={northwind.uid}"
    form = operator.get(url).context["form"]
    initial = {name: str(form[name].initial) for name in ("window_date", "window_from", "window_zone", "reason")}
    assert initial == {
        "window_date": "2026-12-05",
        "window_from": "23:00:00",
        "window_zone": "America/New_York",
        "reason": "Northwind proposed this time.",
    }
    data = {
        "window_date": "2026-12-05",
        "window_from": "23:00",
        "window_until": "00:00",
        "window_last_date": "",
        "window_zone": "America/New_York",
        "window_known": "close_to_old_end",
        "reason": "Northwind proposed this time.",
        "seen": operator.get(url).context["version"],
    }
    assert operator.post(url, data).status_code == 302
    northwind.refresh_from_db()
    assert (northwind.agreed_at, northwind.proposed_at) == (NOW, None)
    assert northwind.steps.get(act="agree").state == "done"
    other = announced.participants.exclude(pk=northwind.pk).get()
    assert other.agreed_at is None
    assert other.steps.get(act="agree").state == "waiting"
    assert Entry.objects.filter(verb="participant.agreed").count() == 1
    assert Letter.objects.filter(kind="moved").count() == 2


def test_a_move_to_another_time_asks_the_proposing_partner_again(
    company: Company, together: None, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    rescheduling.postpone(
        announced,
        rescheduling.WindowChange(window(STARTS + timedelta(days=3)), reason="Later"),
        by=company.by,
        now=NOW,
    )
    northwind.refresh_from_db()
    assert (northwind.agreed_at, northwind.proposed_at) == (None, None)
    assert northwind.steps.get(act="agree").state == "waiting"


def test_a_url_without_a_valid_proposal_prefills_nothing(operator: Client, announced: Rotation) -> None:
    northwind = announced.participants.get(partner__name="Northwind")
    for named in (northwind.uid, "nonsense"):
        form = operator.get(f"{reverse('rotation-postpone', args=[announced.uid])}?proposal={named}").context["form"]
        assert form["window_zone"].initial == "America/Chicago"


def test_refusing_a_proposal_mails_the_reason(operator: Client, announced: Rotation, northwind: Participant) -> None:
    propose(northwind)
    assert "gets a mail that we stay with Thu 3 Dec 2026, 22:00 to 23:00 CST" in page_text(
        get_page(operator, "participant-stay", northwind.uid)
    )
    assert post_form(operator, "participant-stay", northwind.uid, reason="").status_code == 422
    response = post_form(operator, "participant-stay", northwind.uid, reason="All others agreed")
    assert response["Location"] == reverse("participant-detail", args=[northwind.uid])
    letter = Letter.objects.get(kind="answered")
    assert "All others agreed" in letter.message.text
    northwind.refresh_from_db()
    assert northwind.proposed_at is None
    assert stored_state(announced) == "exchanging"
    # Nothing is left to refuse.
    assert "proposes no other time any more" in page_text(get_page(operator, "participant-stay", northwind.uid))
    assert post_form(operator, "participant-stay", northwind.uid, reason="Again").status_code == 422
    assert Letter.objects.filter(kind="answered").count() == 1


def test_an_earlier_agreement_counts_again_when_a_proposal_is_refused(
    operator: Client, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    text = "What Northwind proposed is no longer shown;"
    assert f"{text} Northwind is asked for an answer again." in page_text(
        get_page(operator, "participant-stay", northwind.uid)
    )
    Participant.objects.filter(pk=northwind.pk).update(agreed_at=NOW)
    assert f"{text} that Northwind agreed to the window before counts again." in page_text(
        get_page(operator, "participant-stay", northwind.uid)
    )


def test_a_proposal_after_the_cut_over_began_is_read_only(
    operator: Client, announced: Rotation, northwind: Participant
) -> None:
    propose(northwind)
    Rotation.objects.filter(pk=announced.pk).update(state="under_way")
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "The change has begun: it can’t be moved any more." in shown
    assert "Move the change there" not in shown


def test_viewers_can_read_but_not_decide(viewer: Client, announced: Rotation, northwind: Participant) -> None:
    propose(northwind)
    shown = page_text(get_page(viewer, "participant-detail", northwind.uid))
    assert "It proposes another time" in shown
    assert "Move the change there" not in shown
    assert "Stay with the window" not in shown
    assert post_form(viewer, "participant-stay", northwind.uid, reason="x").status_code == 403
