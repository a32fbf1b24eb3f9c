"""Access links from the operators' side: created, revoked, renewed."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from rotations.letters import access_links, announcements
from rotations.lifecycle import endings
from rotations.models import Letter, Link, Participant, Rotation
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company
from tests.rotations.pages import get_page, page_text, post_form

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("clock")]


def token_in(response: Any) -> str:
    found = re.search(r"/p/([^/\"]+)/", response.content.decode())
    assert found
    return found[1]


def test_a_link_is_shown_once_as_text_and_as_a_qr_code(operator: Client, northwind: Participant) -> None:
    response = post_form(operator, "participant-share", northwind.uid)
    assert response.status_code == 200
    assert "no-store" in response["Cache-Control"]
    token = token_in(response)
    link = access_links.find_link(token)
    assert link is not None
    assert (link.participant, link.whose, link.expires_at) == (northwind, "", None)
    shown = response.content.decode()
    assert shown.count(f"/p/{token}/") == 2  # to read, and to copy
    assert '<img src="data:image/svg+xml' in shown
    assert "style=" not in shown
    assert token not in page_text(get_page(operator, "participant-detail", northwind.uid))
    assert token not in repr(list(Entry.objects.values()))


def test_sharing_a_link_counts_as_informed_and_sends_no_mail(operator: Client, northwind: Participant) -> None:
    post_form(operator, "participant-share", northwind.uid)
    northwind.refresh_from_db()
    assert northwind.announced_at == NOW
    assert northwind.steps.get(act="announce").state == "done"
    assert not Message.objects.exists()


def test_a_link_can_be_created_without_reachable_contacts(operator: Client, northwind: Participant) -> None:
    northwind.partner.contacts.all().delete()
    assert token_in(post_form(operator, "participant-share", northwind.uid))


def test_a_link_expires_at_the_end_of_the_day_in_the_partners_zone(operator: Client, northwind: Participant) -> None:
    post_form(operator, "participant-share", northwind.uid, until="2026-12-01")
    assert Link.objects.get().expires_at == datetime(2026, 12, 2, 5, 59, tzinfo=UTC)  # 23:59 in Chicago


@pytest.mark.parametrize(
    ("until", "expected"),
    [
        ("2026-11-22", "That day is over"),
        ("2030-01-01", "more than two years ahead"),
        ("yesterday", "Enter a valid date."),
    ],
)
def test_an_impossible_day_is_refused(operator: Client, northwind: Participant, until: str, expected: str) -> None:
    response = post_form(operator, "participant-share", northwind.uid, until=until)
    assert response.status_code == 422
    assert expected in response.context["form"].errors["until"][0]
    assert not Link.objects.exists()


def test_today_is_a_valid_last_day(operator: Client, northwind: Participant) -> None:
    assert post_form(operator, "participant-share", northwind.uid, until="2026-11-23").status_code == 200


@pytest.mark.parametrize("state", ["staging", "ended", "removed"])
def test_no_link_is_created_too_early_or_after_the_end(
    operator: Client, company: Company, rotation: Rotation, northwind: Participant, state: str
) -> None:
    match state:
        case "staging":
            rotation.steps.filter(act="stage").update(state="waiting", done_at=None)
            rotation.steps.filter(act="announce").update(blocked=True)
        case "ended":
            endings.cancel(rotation, reason="No", by=company.by, now=NOW)
        case "removed":
            Participant.objects.filter(pk=northwind.pk).update(removed_reason="Ends in May")
    expected = {
        "staging": "Not yet: first “Load",
        "ended": "Partners are told once the plan is approved",
        "removed": "takes no part in this rotation",
    }[state]
    assert expected in page_text(get_page(operator, "participant-share", northwind.uid))
    assert post_form(operator, "participant-share", northwind.uid).status_code == 422
    assert not Link.objects.exists()


def announced(company: Company, participant: Participant) -> Link:
    (letter,) = announcements.announce(participant, by=company.by, now=NOW - timedelta(hours=2))
    assert letter.link is not None
    return letter.link


def test_links_are_listed_with_owner_and_status(operator: Client, company: Company, northwind: Participant) -> None:
    announced(company, northwind)
    post_form(operator, "participant-share", northwind.uid)
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "Nora North" in shown
    assert "by Alice<" in shown
    assert "handed over" in shown
    assert shown.count("Withdraw …") == 2


def test_a_revoked_link_is_refused_with_a_message(operator: Client, company: Company, northwind: Participant) -> None:
    response = post_form(operator, "participant-share", northwind.uid)
    token = token_in(response)
    link = Link.objects.get()
    assert post_form(operator, "link-revoke", link.uid, reason="").status_code == 422
    assert post_form(operator, "link-revoke", link.uid, reason="Posted in a forum").status_code == 302
    assert Client().get(reverse("portal", args=[token])).status_code == 410
    shown = page_text(get_page(operator, "participant-detail", northwind.uid))
    assert "is withdrawn: it opens nothing any more." in shown
    assert "withdrawn" in shown
    assert "Withdraw …" not in shown
    assert Entry.objects.get(verb="link.revoked").reason == "Posted in a forum"
    # Once more changes nothing.
    assert "It was withdrawn already" in page_text(get_page(operator, "link-revoke", link.uid))
    post_form(operator, "link-revoke", link.uid, reason="Again")
    assert Entry.objects.filter(verb="link.revoked").count() == 1


def test_a_renewed_link_goes_to_the_same_contact_and_keeps_the_old_one(
    operator: Client, company: Company, northwind: Participant
) -> None:
    link = announced(company, northwind)
    assert "Send the mail to nora@northwind.example again" in page_text(get_page(operator, "link-renew", link.uid))
    assert post_form(operator, "link-renew", link.uid).status_code == 302
    assert [letter.message.to_address for letter in Letter.objects.all()] == ["nora@northwind.example"] * 2
    assert Link.objects.alive(NOW).count() == 2


def test_a_removed_contact_gets_no_new_link(operator: Client, company: Company, northwind: Participant) -> None:
    link = announced(company, northwind)
    northwind.partner.contacts.update(email="")
    response = post_form(operator, "link-renew", link.uid)
    assert response.status_code == 422
    assert "has no address any more" in page_text(response)
    northwind.partner.contacts.all().delete()
    assert get_page(operator, "link-renew", link.uid)["Location"] == reverse("participant-share", args=[northwind.uid])
    assert Letter.objects.count() == 1


@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_only_operators_create_and_revoke_links(role: str, company: Company, northwind: Participant) -> None:
    link = announced(company, northwind)
    client = log_in(make_person(f"a {role}", role))
    for name, uid in (
        ("participant-share", northwind.uid),
        ("link-revoke", link.uid),
        ("link-renew", link.uid),
    ):
        assert post_form(client, name, uid, reason="x").status_code == 403
    shown = page_text(get_page(client, "participant-detail", northwind.uid))
    assert "Nora North" in shown
    assert "Withdraw" not in shown
    assert Link.objects.alive(NOW).count() == 1


def test_a_link_to_submit_a_certificate_can_be_revoked_too(
    operator: Client, company: Company, northwind: Participant
) -> None:
    fresh = access_links.create_link(northwind.partner, participant=None, contact=None, by=company.by, now=NOW)
    response = post_form(operator, "link-revoke", fresh.link.uid, reason="Not needed")
    assert response["Location"] == northwind.partner.get_absolute_url()
    assert get_page(operator, "link-renew", fresh.link.uid)["Location"] == northwind.partner.get_absolute_url()
