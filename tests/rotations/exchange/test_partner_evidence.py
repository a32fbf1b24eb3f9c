"""Statuses of participants from letters, links and responses, for many of them in a few queries."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from as2certs.mail.models import Message
from partners.models import Contact, Partner
from rotations.exchange import responses
from rotations.exchange.partner_evidence import load_histories, partner_statuses
from rotations.exchange.partner_status import PartnerStatus
from rotations.execution.confirmations import PartnerAnswer, confirm_installation, waive
from rotations.letters import access_links
from rotations.letters.announcements import announce, share_link
from rotations.letters.context import LetterContext
from rotations.letters.sending import send_letters
from rotations.lifecycle import rescheduling, step_actions
from rotations.models import Letter, Link, Participant, Rotation
from tests.rotations.company import NOW, Company, window
from tests.rotations.pages import STARTS

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def status_of(participant: Participant, now: datetime = NOW) -> PartnerStatus:
    found = Participant.objects.filter(pk=participant.pk)
    return partner_statuses(found, now=now)[participant.pk]


def test_a_participant_that_was_not_informed(northwind: Participant) -> None:
    assert status_of(northwind) is PartnerStatus.NOT_INFORMED


def test_a_letter_that_waits_in_the_outbox_counts_as_there(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    assert status_of(northwind) is PartnerStatus.ANNOUNCED


@pytest.mark.parametrize("lost", [{"state": Message.State.FAILED}, {"bounced_at": NOW}])
def test_a_refused_or_bounced_letter_did_not_arrive(
    company: Company, northwind: Participant, lost: dict[str, object]
) -> None:
    announce(northwind, by=company.by, now=NOW)
    Message.objects.update(**lost)
    assert status_of(northwind) is PartnerStatus.UNREACHABLE
    Participant.objects.update(opened_at=NOW)
    assert status_of(northwind) is PartnerStatus.OPENED


def test_one_contact_that_got_it_is_enough(company: Company, northwind: Participant) -> None:
    Contact.objects.create(partner=northwind.partner, name="Ned Night", email="ned@northwind.example")
    announce(northwind, by=company.by, now=NOW)
    Message.objects.filter(to_address="nora@northwind.example").update(state=Message.State.FAILED)
    assert status_of(northwind) is PartnerStatus.ANNOUNCED
    history = load_histories([northwind])[northwind.pk]
    assert history.dead_addresses == {"nora@northwind.example"}


def test_a_shared_link_counts_as_arrived_until_it_is_revoked(company: Company, northwind: Participant) -> None:
    fresh = share_link(northwind, by=company.by, now=NOW)
    assert status_of(northwind) is PartnerStatus.ANNOUNCED
    access_links.revoke_link(fresh.link, reason="sent to the wrong chat", by=company.by, now=NOW)
    send_letters(
        LetterContext.of(northwind, now=NOW),
        Letter.Kind.ANNOUNCEMENT,
        northwind.partner.contacts.all(),
        by=company.by,
    )
    Message.objects.update(state=Message.State.FAILED)
    assert status_of(northwind) is PartnerStatus.UNREACHABLE


def test_an_address_that_takes_mail_again_is_not_dead(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    Message.objects.update(state=Message.State.FAILED)
    announce(northwind, by=company.by, now=NOW + DAY)
    assert load_histories([northwind])[northwind.pk].dead_addresses == set()


def test_what_it_did_on_its_page_shows(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    link = Link.objects.select_related("participant__rotation", "partner").get()
    access_links.record_opened(link, by=company.by, now=NOW)
    assert status_of(northwind) is PartnerStatus.OPENED
    access_links.record_download(link, "pem", by=company.by, now=NOW)
    assert status_of(northwind) is PartnerStatus.DOWNLOADED


def test_it_is_silent_from_the_first_reminder_on(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    first = STARTS - 7 * DAY
    assert status_of(northwind, first - timedelta(seconds=1)) is PartnerStatus.ANNOUNCED
    assert status_of(northwind, first) is PartnerStatus.SILENT


def test_a_postponement_begins_anew(company: Company, rotation: Rotation, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    later = STARTS - 2 * DAY
    assert status_of(northwind, later) is PartnerStatus.SILENT
    rescheduling.postpone(
        rotation,
        rescheduling.WindowChange(window(STARTS + 8 * DAY), reason="Inventory"),
        by=company.by,
        now=later,
    )
    assert status_of(northwind, later) is PartnerStatus.ANNOUNCED
    history = load_histories([Participant.objects.select_related("rotation").get(pk=northwind.pk)])[northwind.pk]
    assert history.asked_at == later


def test_answers_come_before_silence(company: Company, northwind: Participant, fabrikam: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    late = STARTS - DAY
    confirm_installation(northwind, PartnerAnswer("Nora", by=company.by, now=NOW))
    assert status_of(northwind, late) is PartnerStatus.READY_UNVERIFIED
    confirm_installation(
        northwind,
        PartnerAnswer("Nora", by=company.by, now=NOW),
        fingerprint=pki.format_fingerprint(company.new.sha256),
    )
    assert status_of(northwind, late) is PartnerStatus.READY
    waive(fabrikam, reason="It only receives", by=company.by, now=NOW)
    assert status_of(fabrikam, late) is PartnerStatus.WAIVED


def test_what_has_to_be_decided_comes_first(company: Company, northwind: Participant) -> None:
    announce(northwind, by=company.by, now=NOW)
    responses.propose_window(northwind, window(STARTS + DAY), note="", by=company.by, now=NOW)
    assert status_of(northwind, STARTS - DAY) is PartnerStatus.OTHER_TIME


def test_an_announcement_recorded_by_hand_counts(company: Company, northwind: Participant) -> None:
    step_actions.complete_step(northwind.steps.get(act="announce"), note="by telephone", by=company.by, now=NOW)
    assert status_of(northwind) is PartnerStatus.ANNOUNCED


def test_statuses_of_a_rotation_a_queryset_or_a_list(
    company: Company, rotation: Rotation, northwind: Participant, fabrikam: Participant
) -> None:
    announce(northwind, by=company.by, now=NOW)
    expected = {northwind.pk: PartnerStatus.ANNOUNCED, fabrikam.pk: PartnerStatus.NOT_INFORMED}
    assert partner_statuses(rotation, now=NOW) == expected
    assert partner_statuses(rotation.participants.all(), now=NOW) == expected
    assert partner_statuses(list(Participant.objects.all()), now=NOW) == expected


def count_queries(rotation: Rotation, of_what: str) -> int:
    given = {
        "rotation": rotation,
        "query": Participant.objects.all(),
        "list": list(Participant.objects.all()),
    }[of_what]
    with CaptureQueriesContext(connection) as queries:
        partner_statuses(given, now=NOW)  # type: ignore[arg-type]
    return len(queries)


@pytest.mark.parametrize("of_what", ["rotation", "query", "list"])
def test_the_number_of_queries_does_not_depend_on_the_number_of_participants(
    company: Company, rotation: Rotation, northwind: Participant, of_what: str
) -> None:
    announce(northwind, by=company.by, now=NOW)
    before = count_queries(rotation, of_what)
    assert before <= 5
    for n in range(20):
        partner = Partner.objects.create(name=f"Partner {n}", as2_id=f"P{n}")
        Contact.objects.create(partner=partner, name="Pat", email=f"pat@p{n}.example")
        more = Participant.objects.create(rotation=rotation, partner=partner, announced_at=NOW)
        send_letters(LetterContext.of(more, now=NOW), Letter.Kind.ANNOUNCEMENT, partner.contacts.all(), by=company.by)
    assert count_queries(rotation, of_what) == before
