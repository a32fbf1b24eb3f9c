"""Test messages that a partner sends to us, over HTTP: what they change in a rotation."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.as2 import Draft, Encryption, ReceiptRequest, Signing, compose, new_message_id
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from identities.models import IdentityCertificate
from partners.models import Partnership, ReceivedMessage
from rotations.lifecycle import approval
from rotations.models import Participant, Rotation, Sighting
from rotations.web.views import as2_messages
from tests.partners.probes.peer import import_pair, pair_until
from tests.rotations.company import NOW, Company, confirm_all, make_company, make_draft

pytestmark = pytest.mark.django_db

STARTS = NOW + timedelta(days=5)
ENDED = STARTS + timedelta(hours=1)


class World:
    """A company whose signing and decryption certificate changes, and a partner that sends test messages."""

    def __init__(self) -> None:
        self.company: Company = make_company(connector=None)
        self.partner = self.company.partners[1]
        self.theirs = pair_until("NORTHWIND", 90)
        import_pair(self.partner, self.theirs)
        Partnership.objects.filter(partner=self.partner).update(allows_probes=True)
        self.rotation: Rotation = make_draft(self.company, starts=STARTS)

    def approve(self) -> None:
        self.rotation = approval.approve(self.rotation, by=self.company.approver, now=NOW)

    def change(self) -> None:
        """Approve the rotation and carry it out, but for what the partners still have to do."""
        self.approve()
        self.rotation.steps.filter(act="stage").update(state="done", done_at=NOW)
        self.rotation.steps.filter(act__in=("announce", "partner_cut_over")).update(blocked=False)
        confirm_all(self.rotation, self.company)
        changed = self.rotation.steps.filter(act__in=("cut_over", "test", "partner_retire"))
        changed.update(state="done", done_at=STARTS)
        Rotation.objects.filter(pk=self.rotation.pk).update(state="applied", applied_at=STARTS)

    def send(self, to: IdentityCertificate, at: datetime, monkeypatch: pytest.MonkeyPatch) -> str:
        """Send a test message of the partner that is encrypted to a certificate, and return what is stored about it."""
        monkeypatch.setattr(as2_messages, "database_now", lambda: at)
        message = compose(
            Draft(
                sender=self.partner.as2_id,
                recipient=self.company.identity.as2_id,
                message_id=new_message_id("northwind.example"),
                date=at,
                payload=f"TEST MESSAGE of {at}".encode(),
                signing=Signing(*self.theirs),
                encryption=Encryption(to.certificate),
                receipt=ReceiptRequest("edi@northwind.example"),
            )
        )
        fields = dict(message.headers)
        content_type = fields.pop("Content-Type")
        answer = Client().post(reverse("as2-receive"), message.body, content_type=content_type, headers=fields)
        assert answer.status_code == 200
        assert b"automatic-action/MDN-sent-automatically; processed" in answer.content
        return ReceivedMessage.objects.latest("id").sentence

    @property
    def participant(self) -> Participant:
        return self.rotation.participants.select_related("partner").get(partner=self.partner)


@pytest.fixture
def world() -> World:
    return World()


def test_a_message_to_the_new_certificate_completes_the_partners_change(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change()
    sentence = world.send(world.company.new, ENDED, monkeypatch)
    assert f"encrypted to {world.company.new}" in sentence
    sighting = Sighting.objects.get(use="encrypted")
    assert (sighting.verdict, sighting.participant, sighting.at) == ("new", world.participant, ENDED)
    assert (sighting.noted_by, sighting.note) == (
        "Northwind, by a test message",
        "A test message to our test address.",
    )
    step = world.participant.steps.get(act="partner_cut_over")
    assert (step.state, step.done_by) == ("done", "Northwind, by a test message")
    assert world.participant.migrated_at == ENDED
    assert Entry.objects.filter(verb="partner.seen").count() == 2, "its signature and its encryption"


def test_a_message_to_the_old_certificate_after_the_change_notifies_the_owners(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.change()
    world.send(world.company.old, ENDED, monkeypatch)
    assert world.participant.straggling_at == ENDED
    mail = Message.objects.get(kind="partner_response")
    assert mail.subject == "ACME: Northwind still uses the old certificate."


def test_a_message_before_the_rotation_is_approved_is_kept_and_counts_then(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.send(world.company.new, NOW, monkeypatch)
    sighting = Sighting.objects.get(use="encrypted")
    assert (sighting.verdict, sighting.participant) == ("ahead", None)
    evidence = sighting.early_evidence()
    assert evidence is not None
    assert evidence.kind == "approve"
    world.approve()
    sighting.refresh_from_db()
    assert (sighting.verdict, sighting.participant) == ("new", world.participant)
    assert world.participant.migrated_at == NOW
