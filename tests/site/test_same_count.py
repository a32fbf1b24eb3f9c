"""Every page, mail and report says the same of who is ready."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs import pki
from as2certs.accounts.models import User
from as2certs.mail.models import Message
from as2certs.site import views
from as2certs.site.active_rotations import get_active_rotations
from as2certs.site.rotation_report import build_report
from identities.capabilities import Support
from partners.models import Partner, Partnership
from rotations.exchange import digest, responses
from rotations.execution import confirmations
from rotations.lifecycle import approval
from rotations.models import Rotation
from rotations.notifications import window_mail
from rotations.notifications.texts import format_not_ready
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.capabilities import keeps_both
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft
from tests.rotations.pages import STARTS, get_page, page_text

pytestmark = pytest.mark.django_db

#: What the partners of the rotation have come to.
PARTNERS = ("Blocked", "Declined", "Silent", "Unverified", "Verified", "Waived")


@pytest.fixture
def company() -> Company:
    company = make_company()
    company.partners = [
        Partner.objects.create(name=name, as2_id=name.upper(), **keeps_both(Support.YES)) for name in PARTNERS
    ]
    Partnership.objects.all().delete()
    for partner in company.partners:
        Partnership.objects.create(identity=company.identity, partner=partner)
    return company


@pytest.fixture
def rotation(company: Company) -> Rotation:
    """Return a rotation with a partner in each state; one of them was not informed yet."""
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
    rotation.steps.filter(act="announce").update(blocked=False)
    informed = rotation.steps.exclude(participant__partner__name="Blocked")
    informed.filter(act="announce").update(state="done", done_at=NOW)
    informed.filter(act="install").update(blocked=False)
    who = {participant.partner.name: participant for participant in rotation.participants.select_related("partner")}
    said = confirmations.PartnerAnswer("Dave", by=company.by, now=NOW)
    confirmations.confirm_installation(who["Unverified"], said)
    confirmations.confirm_installation(who["Verified"], said, fingerprint=pki.format_fingerprint(company.new.sha256))
    responses.decline(who["Declined"], reason="Closed", by=company.by, now=NOW)
    confirmations.waive(who["Waived"], reason="It only receives", by=company.by, now=NOW)
    rotation.refresh_from_db()
    return rotation


@pytest.fixture
def viewer() -> Client:
    return log_in(make_person("vera", "viewer"))


def detail(rotation: Rotation, show: str = "") -> RotationDetail:
    return RotationDetail.of(rotation, user=User.objects.get(username="alice"), now=NOW, zone="UTC", show=show)


def test_the_page_of_a_rotation_counts_alike_in_its_head_runbook_table_and_filters(rotation: Rotation) -> None:
    shown = detail(rotation)
    assert "2 of 5 partners ready (1 unverified); the change waits for the rest." in shown.lead
    assert shown.summary.startswith("2 of 5 ready (1 unverified), 1 waived, 1 said no, ")
    (installs,) = [group for group in shown.groups if group.key == "install"]
    assert installs.tally == "1 verified, 1 unverified, 3 outstanding, 1 waived"
    assert [(f.label, f.count) for f in shown.filters][:5] == [
        ("All", 6),
        ("Outstanding", 3),
        ("Unverified", 1),
        ("Verified", 1),
        ("Waived", 1),
    ]
    for name, partners in {
        "awaited": ["Blocked", "Declined", "Silent"],
        "unverified": ["Unverified"],
        "verified": ["Verified"],
        "waived": ["Waived"],
    }.items():
        assert [row.participant.partner.name for row in detail(rotation, name).filtered_rows] == partners


def test_the_badges_of_the_table_agree_with_the_count(rotation: Rotation) -> None:
    badges = {row.participant.partner.name: row.status.value for row in detail(rotation).rows}
    assert badges["Verified"] == "ready"
    assert badges["Unverified"] == "ready (unverified)"
    assert sum(value.startswith("ready") for value in badges.values()) == 2


def test_home_and_the_list_count_as_the_page_does(
    rotation: Rotation, viewer: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(views, "database_now", lambda: NOW)
    assert "2 / 5 ready" in page_text(viewer.get(reverse("home")))
    assert "2 / 5" in page_text(get_page(viewer, "rotation-list"))
    (one,) = get_active_rotations(NOW)
    assert str(one.readiness) == "2 of 5 ready (1 unverified), 1 waived"


def test_the_digest_and_the_mail_before_the_window_count_and_name_as_the_page_does(rotation: Rotation) -> None:
    digest.send_digests(STARTS - timedelta(hours=16))
    (mail,) = Message.objects.filter(kind="digest")
    assert "2 of 5 ready (1 unverified), 1 waived" in mail.text
    assert "2 of 5 ready (1 unverified), 1 waived" in mail.html
    for name in PARTNERS:
        assert (name in mail.text.replace("Unverified:", "")) is (name in ("Blocked", "Declined", "Silent"))
    outstanding = format_not_ready(rotation)
    assert outstanding is not None
    assert outstanding.names == "Blocked (waits for us), Declined (declined), Silent"
    window_mail.notify_window_soon(STARTS - (STARTS - NOW) / 24)
    assert f"NOT READY YET: {outstanding.names}." in Message.objects.get(kind="window_soon").text


def test_the_report_counts_as_the_page_does(rotation: Rotation) -> None:
    report = build_report(rotation, by="Vera", now=NOW)
    assert ("Partners ready", "2 of 5 ready (1 unverified), 1 waived") in report.sections[0].facts


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Blocked", "waits for us"),
        ("Declined", "declined"),
        ("Silent", "has not answered"),
        ("Unverified", "unverified"),
        ("Verified", "verified"),
        ("Waived", "waived"),
    ],
)
def test_the_page_of_a_partner_says_the_same(rotation: Rotation, viewer: Client, name: str, said: str) -> None:
    partner = Partner.objects.get(name=name)
    assert f'<div class="rows-end quiet">{said}</div>' in page_text(viewer.get(partner.get_absolute_url()))
