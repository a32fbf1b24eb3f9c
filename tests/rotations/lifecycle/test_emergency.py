"""Emergencies, from any state of a rotation."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from django.conf import LazySettings
from django.test import Client

from as2certs.audit.models import Entry
from identities import role_assignments
from partners.models import Contact
from rotations.errors import ActionRefused, IllegalTransition
from rotations.letters import announcements
from rotations.lifecycle import approval, drafts, emergency, endings, rescheduling
from rotations.models import Letter, Rotation
from rotations.planning import plan
from rotations.planning.change import Act, Capacity, StepOwner
from rotations.planning.rules import violations
from rotations.planning.states import RotationState
from tests.people import log_in, make_person
from tests.rotations.company import (
    NOW,
    Company,
    confirm_all,
    make_company,
    make_draft,
    partner_certificate,
    window,
)
from tests.rotations.fake_clock import FakeClock
from tests.rotations.pages import get_page, page_text, post_form
from tests.rotations.planning.changes import ROLES, make_change

pytestmark = pytest.mark.django_db(transaction=True)

STARTS = NOW + timedelta(days=3)
LEAKED = "The key lay on a share"


@pytest.fixture
def folder(tmp_path: Path, settings: LazySettings) -> Path:
    settings.AS2CERTS_DIRECTORY_ROOT = tmp_path
    return tmp_path / "openas2" / "own" / "ACME-PROD"


@pytest.fixture
def company(db: None, folder: Path) -> Company:
    company = make_company()
    for partner in company.partners:
        Contact.objects.create(partner=partner, name="Dana", email=f"dana@{partner.as2_id.lower()}.example")
    return company


def declare(rotation: Rotation, company: Company, *, alone: str = "", now: datetime = NOW) -> Rotation:
    return emergency.declare_emergency(rotation, reason=LEAKED, alone=alone, by=company.approver, now=now)


def state(rotation: Rotation) -> str:
    return Rotation.objects.values_list("state", flat=True).get(pk=rotation.pk)


def held(folder: Path, role: str) -> list[str]:
    """Return the SHA-256 of the certificates that the AS2 system holds for a role."""
    links = [folder / role / link / "cert.pem" for link in ("current", "previous")]
    found = [x509.load_pem_x509_certificate(link.read_bytes()) for link in links if link.exists()]
    return [certificate.fingerprint(hashes.SHA256()).hex() for certificate in found]


# The plan.


@pytest.mark.parametrize("which", sorted(ROLES))
@pytest.mark.parametrize("holds", list(Capacity))
def test_every_automatic_step_is_due_now(which: str, holds: Capacity) -> None:
    change = replace(
        make_change(which, (holds,), (holds,), automatic=True, per_partner=True, moments={}), emergency=True
    )
    steps = plan.plan(change)
    assert violations(change, steps) == []
    ours = [step for step in steps if step.who is StepOwner.WE]
    assert {step.earliest for step in ours} == {change.now}
    assert [s.due for s in ours if s.act in (Act.CUT_OVER, Act.RETIRE)] == [change.now] * 2
    assert not {step.act for step in steps} & {
        Act.INSTALL,
        Act.AGREE,
        Act.HOLD,
        Act.STAGE,
    }
    cut_over = next(step for step in steps if step.act is Act.CUT_OVER)
    waits = [step.key for step in steps if step.act is Act.CHECK]
    assert list(cut_over.after) == waits
    assert bool(waits) == (change.side == "partner")


def test_the_rules_find_violations_even_in_an_emergency() -> None:
    change = replace(
        make_change("F", (Capacity.ONE,), (Capacity.ONE,), automatic=True, per_partner=False, moments={}),
        emergency=True,
    )
    steps = plan.plan(change)
    unwaited = [replace(step, after=()) if step.act is Act.CUT_OVER else step for step in steps]
    assert any("nobody has compared" in found for found in violations(change, unwaited))
    hasty = [replace(step, after=()) if step.act is Act.RETIRE else step for step in steps]
    assert any("before the new one is in use" in found for found in violations(change, hasty))


# Execution.


def test_a_draft_is_applied_at_once_and_the_old_certificate_removed(company: Company, folder: Path) -> None:
    rotation = declare(make_draft(company, starts=STARTS), company)
    FakeClock().apply_due()
    assert state(rotation) == RotationState.APPLIED
    for role in ("sign", "decrypt"):
        assert held(folder, role) == [company.new.sha256]
        assert role_assignments.certificates_by_role(company.identity)[role] == [company.new]
    letters = Letter.objects.filter(kind=Letter.Kind.EMERGENCY)
    assert letters.count() == 2
    for letter in letters:
        assert letter.message.subject.startswith("URGENT: ")
        assert "may be known to somebody else" in letter.message.text
        assert "Replace our old certificate by the new one now" in letter.message.text
        assert "Window" not in letter.message.text
        assert letter.message.attachments.filter(name__endswith=".pem").exists()
        assert not letter.message.attachments.filter(name__endswith=".ics").exists()
    entry = Entry.objects.get(verb="rotation.emergency")
    assert entry.reason == LEAKED


def test_a_rotation_in_preparation_keeps_its_done_steps(company: Company, folder: Path) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    FakeClock().apply_due()  # stages the new key beside the old one
    for participant in rotation.participants.all():
        announcements.announce(participant, by=company.by, now=NOW)
    confirm_all(rotation, company)
    assert state(rotation) == RotationState.SCHEDULED
    declare(rotation, company)
    FakeClock().apply_due()
    assert state(rotation) == RotationState.APPLIED
    assert held(folder, "decrypt") == [company.new.sha256]
    assert role_assignments.certificates_by_role(company.identity)["decrypt"] == [company.new]
    (letter, _) = Letter.objects.filter(kind=Letter.Kind.EMERGENCY)
    (entry,) = letter.message.attachments.filter(name__endswith=".ics")
    assert b"METHOD:CANCEL" in bytes(entry.content)  # the agreed window is cancelled


def test_the_grace_period_ends_at_once(company: Company, folder: Path) -> None:
    rotation = approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)
    FakeClock().apply_due()
    confirm_all(rotation, company)
    FakeClock(STARTS).apply_due()
    assert state(rotation) == RotationState.APPLIED
    assert held(folder, "decrypt") == [company.new.sha256, company.old.sha256]
    declare(rotation, company, now=STARTS)
    FakeClock(STARTS).apply_due()
    assert held(folder, "decrypt") == [company.new.sha256]
    assert role_assignments.certificates_by_role(company.identity)["decrypt"] == [company.new]


def test_a_partners_new_certificate_still_has_to_be_compared(company: Company) -> None:
    fabrikam = company.partners[0]
    old = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=30))
    new = partner_certificate(fabrikam, by=company.by, now=NOW, ends=NOW + timedelta(days=700))
    wish = drafts.DraftSpec(roles=("verify", "encrypt"), old=old, new=new, window=window(STARTS))
    rotation = drafts.create_draft(fabrikam, wish, by=company.by, now=NOW)
    declare(rotation, company)
    FakeClock().apply_due()
    assert state(rotation) == RotationState.EXCHANGING
    assert role_assignments.certificates_by_role(fabrikam)["encrypt"] == [old]
    confirm_all(rotation, company, agreed=False)
    FakeClock().apply_due()
    assert state(rotation) == RotationState.APPLIED
    assert role_assignments.certificates_by_role(fabrikam) == {"verify": [new], "encrypt": [new]}
    assert not Letter.objects.exists()  # the partner reported the emergency itself


# Permissions and refusals.


def test_it_needs_two_people_or_a_reason(company: Company) -> None:
    rotation = make_draft(company, starts=STARTS)
    with pytest.raises(ActionRefused, match="Nobody but you"):
        emergency.declare_emergency(rotation, reason=LEAKED, alone=" ", by=company.by, now=NOW)
    rotation = emergency.declare_emergency(rotation, reason=LEAKED, alone="Night shift", by=company.by, now=NOW)
    assert rotation.emergency_alone == "Night shift"
    assert Entry.objects.get(verb="rotation.emergency").new["alone"] == "Night shift"


def test_obstacles_are_explained(company: Company) -> None:
    rotation = make_draft(company, starts=STARTS)
    with pytest.raises(ActionRefused, match="Say what happened"):
        emergency.declare_emergency(rotation, reason="", alone="", by=company.approver, now=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(new_identity_certificate=None)
    with pytest.raises(ActionRefused, match="no certificate yet"):
        declare(rotation, company)
    endings.cancel(rotation, reason="x", by=company.by, now=NOW)
    with pytest.raises(IllegalTransition):
        declare(rotation, company)


def test_it_cannot_be_rolled_back_or_postponed(company: Company) -> None:
    rotation = declare(make_draft(company, starts=STARTS), company)
    FakeClock().apply_due()
    with pytest.raises(ActionRefused, match="may be known to others"):
        endings.roll_back(rotation, reason="x", by=company.by, now=NOW)
    with pytest.raises((ActionRefused, IllegalTransition)):
        rescheduling.postpone(rotation, rescheduling.WindowChange(window(STARTS), reason="x"), by=company.by, now=NOW)
    with pytest.raises(ActionRefused, match="emergency already"):
        declare(rotation, company)


# On the pages.


def test_the_page_shows_the_consequences_and_requires_a_reason(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("emergency", "lookups", "confirm_page"):
        monkeypatch.setattr(f"rotations.web.views.{name}.database_now", lambda: NOW)
    client: Client = log_in(make_person("amir", "approver"))
    rotation = make_draft(company, starts=STARTS)
    assert "Emergency: change at once …" in page_text(get_page(client, "rotation-detail", rotation.uid))
    asked = get_page(client, "rotation-emergency", rotation.uid)
    shown = page_text(asked)
    assert "At once, by itself: Sign and decrypt with" in shown
    assert "A mail goes to all 2 partners now" in shown
    assert "There is no way back" in shown
    assert "Why nobody else looks at it first" not in shown  # somebody else created it
    assert Rotation.objects.get(pk=rotation.pk).emergency_reason == ""  # a GET changes nothing
    seen = asked.context["form"].initial["seen"]
    refused = post_form(client, "rotation-emergency", rotation.uid, seen=seen, reason="")
    assert refused.status_code == 422
    done = post_form(client, "rotation-emergency", rotation.uid, seen=seen, reason=LEAKED)
    assert done.status_code == 302
    shown = page_text(get_page(client, "rotation-detail", rotation.uid))
    assert f"at once: {LEAKED}. 0 of 2 partners changed over too" in shown


def test_the_partners_page_shows_the_urgency(company: Company, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rotations.web.views.participants.database_now", lambda: NOW)
    rotation = declare(make_draft(company, starts=STARTS), company)
    client: Client = log_in(make_person("olivia", "operator"))
    # Before our own change, and after.
    for ours in ("We are about to use the new one only; please replace it now", "We use the new one only; please"):
        shown = page_text(get_page(client, "participant-as-partner", rotation.participants.all()[0].uid))
        assert "Urgent: replace our old certificate now" in shown
        assert ours in shown
        assert "Replace our old certificate now" in shown
        assert "propose another" not in shown.lower()
        FakeClock().apply_due()
