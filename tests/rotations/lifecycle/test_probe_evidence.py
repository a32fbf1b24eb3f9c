"""Test messages of a rotation, over HTTP to the partner's server: what their answers change."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

import pytest
from django.urls import reverse

from as2certs import pki
from as2certs.audit.entry_text import verb_text
from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.models import Partner, Partnership, Probe
from partners.probes import sending
from rotations.errors import ActionRefused
from rotations.exchange.partner_evidence import partner_statuses
from rotations.exchange.partner_status import PartnerStatus
from rotations.execution import confirmations
from rotations.lifecycle import approval
from rotations.lifecycle.evidence import probes
from rotations.models import Participant, Rotation
from rotations.models.readiness import Readiness, find_readiness, with_readiness
from rotations.notifications import mail_checks
from rotations.planning.change import Act
from rotations.planning.states import RotationState
from rotations.web.portal.history import partner_history
from tests.certificates import Pair
from tests.partners.probes.peer import Peer, import_pair, pair_until, serve_peer
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft

pytestmark = pytest.mark.django_db


class World:
    """A rotation of our signing certificate, and the server of one of its partners."""

    def __init__(self) -> None:
        self.company: Company = make_company(connector=None)
        self.partner = self.company.partners[1]
        theirs = pair_until("NORTHWIND", 90)
        import_pair(self.partner, theirs)
        Partnership.objects.filter(partner=self.partner).update(allows_probes=True)
        self.peer = Peer(trusted=[self._pair(self.company.old)], keys=[theirs], signer=theirs)
        draft = make_draft(self.company, starts=NOW + timedelta(days=5))
        self.rotation: Rotation = approval.approve(draft, by=self.company.approver, now=NOW)
        self.rotation.steps.filter(act=Act.STAGE).update(state="done", done_at=NOW)
        self.rotation.steps.filter(act__in=(Act.ANNOUNCE, Act.INSTALL, Act.AGREE)).update(blocked=False)

    def _pair(self, certificate: object) -> Pair:
        return certificate.certificate, None  # type: ignore[attr-defined,return-value]  # the peer only verifies

    def trust_new(self) -> None:
        self.peer.trusted.append(self._pair(self.company.new))

    @property
    def participant(self) -> Participant:
        found = self.rotation.participants.select_related("rotation__identity", "partner")
        return found.get(partner=self.partner)

    def test(self, now: datetime = NOW) -> Probe:
        """Send a test message with the new certificate, and return it judged."""
        probe = probes.request_probe(self.participant, by=self.company.by, now=now)
        assert sending.send_next(lambda: now, probes.apply_verdict)
        probe.refresh_from_db()
        return probe

    def confirm(self, now: datetime = NOW, *, fingerprint: bool = True) -> None:
        confirmations.confirm_installation(
            self.participant,
            confirmations.PartnerAnswer("Nora", by=self.company.by, now=now),
            fingerprint=pki.format_fingerprint(self.company.new.sha256) if fingerprint else "",
            agreed=True,
        )

    def readiness(self) -> Readiness:
        """Return the readiness of the participant, of which the query says the same."""
        one = self.participant
        found = find_readiness(one, one.steps.all())
        assert with_readiness(Participant.objects.filter(pk=one.pk)).get().readiness == found
        return found

    def status(self) -> PartnerStatus:
        return partner_statuses([self.participant], now=NOW)[self.participant.pk]


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    with serve_peer(world.peer, world.partner):
        yield world


def test_an_accepted_message_proves_the_installation(world: World) -> None:
    world.trust_new()
    probe = world.test()
    assert probe.kind == "accepted"
    participant = world.participant
    assert (participant.evidence, participant.confirmed_at, participant.probe_accepted_at) == ("strong", NOW, NOW)
    step = participant.steps.get(act=Act.INSTALL)
    assert (step.state, step.done_by) == ("done", "AS2 Certs")
    assert step.note == "Northwind accepted a test message that was signed with it"
    entry = Entry.objects.get(verb="participant.probe_accepted")
    assert (entry.actor_name, verb_text(entry.verb)) == (
        "AS2 Certs",
        "found by a test message that the partner accepts the new certificate",
    )
    (told,) = partner_history(participant, our_name="ACME")
    assert told.sentence == "ACME found by a test message that you accept the new certificate"
    confirmations.agree_to_window(participant, confirmations.PartnerAnswer("Nora", by=world.company.by, now=NOW))
    assert participant.steps.get(act=Act.AGREE).note == "Nora said so"
    assert world.readiness() is Readiness.VERIFIED


def test_a_message_that_is_not_accepted_says_nothing_against_a_partner_that_has_confirmed_nothing(
    world: World,
) -> None:
    assert world.test().kind == "signature-not-accepted"
    participant = world.participant
    assert participant.is_not_accepted
    assert not participant.contradicts_confirmation
    assert world.readiness() is Readiness.NO_ANSWER
    world.confirm(NOW + timedelta(hours=1))
    assert world.readiness() is Readiness.VERIFIED
    assert not world.participant.is_not_accepted


def test_a_message_that_is_not_accepted_contradicts_a_confirmed_fingerprint(world: World) -> None:
    world.confirm()
    assert world.readiness() is Readiness.VERIFIED
    world.test(NOW + timedelta(hours=1))
    assert world.readiness() is Readiness.NOT_ACCEPTED
    assert world.status() is PartnerStatus.NOT_ACCEPTED
    assert world.participant.evidence == "weak"
    mail = Message.objects.get(kind="partner_response")
    assert mail.to_address == "alice@example.com"
    assert "does not accept the new certificate, although it had confirmed the installation" in " ".join(
        mail.text.split()
    )
    assert mail_checks.find_withdrawal(mail, NOW) is None
    world.trust_new()
    world.test(NOW + timedelta(hours=2))
    assert world.readiness() is Readiness.VERIFIED
    assert mail_checks.find_withdrawal(mail, NOW) is not None


def test_a_rotation_waits_for_a_partner_that_does_not_accept_its_certificate(world: World) -> None:
    world.confirm()
    confirmations.waive(
        world.rotation.participants.get(partner=world.company.partners[0]),
        reason="It trades no more.",
        by=world.company.by,
        now=NOW,
    )
    world.rotation.refresh_from_db()
    assert world.rotation.state == RotationState.SCHEDULED
    world.test(NOW + timedelta(hours=1))
    world.rotation.refresh_from_db()
    assert world.rotation.state == RotationState.EXCHANGING
    confirmations.waive(world.participant, reason="We go on.", by=world.company.by, now=NOW + timedelta(hours=2))
    world.rotation.refresh_from_db()
    assert world.rotation.state == RotationState.SCHEDULED


def test_a_message_of_which_nobody_knows_whether_it_arrived_changes_nothing(world: World) -> None:
    world.confirm()
    world.peer.answer = lambda request: None
    assert world.test().kind == "delivered-not-confirmed"
    assert world.readiness() is Readiness.VERIFIED
    assert world.participant.probe_refused_at is None


def test_after_the_change_a_test_message_is_sent_once_and_completes_the_test(world: World) -> None:
    world.trust_new()
    world.rotation.steps.filter(act__in=(Act.ANNOUNCE, Act.INSTALL, Act.AGREE, Act.CUT_OVER)).update(
        state="done", done_at=NOW
    )
    world.rotation.steps.filter(act=Act.TEST).update(blocked=False)
    assert probes.request_after_change(now=NOW) == 0, "the change is still ahead"
    Rotation.objects.filter(pk=world.rotation.pk).update(state=RotationState.APPLIED)
    assert probes.request_after_change(now=NOW) == 1, "the other partner has not allowed it"
    assert probes.request_after_change(now=NOW) == 0
    assert sending.send_next(lambda: NOW, probes.apply_verdict)
    assert probes.request_after_change(now=NOW) == 0
    probe = Probe.objects.get()
    assert (probe.purpose, probe.created_by) == ("after_change", None)
    steps = {step.participant.partner: step for step in world.rotation.steps.filter(act=Act.TEST) if step.participant}
    assert steps[world.partner].state == "done"
    assert steps[world.partner].note == probe.sentence
    assert steps[world.company.partners[0]].state == "waiting"


def test_partners_that_can_get_no_message_do_not_keep_back_others(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "BATCH_SIZE", 1)
    other = world.company.partners[0]
    Partner.objects.filter(pk=other.pk).update(url=world.peer.url)
    Partnership.objects.filter(partner=other).update(allows_probes=True)
    assert not other.service.exists(), "it has no certificate to encrypt to"
    world.rotation.steps.filter(act=Act.TEST).update(blocked=False)
    found = Rotation.objects.filter(pk=world.rotation.pk)
    found.update(state=RotationState.APPLIED, roles=["decrypt"])
    assert probes.request_after_change(now=NOW) == 0, "only a message from the partner shows it"
    found.update(roles=["sign", "decrypt"])
    assert probes.request_after_change(now=NOW) == 1
    assert Probe.objects.get().partnership.partner == world.partner


def test_no_message_is_sent_to_a_partner_that_has_not_allowed_it(world: World) -> None:
    other = world.rotation.participants.select_related("rotation", "partner").get(partner=world.company.partners[0])
    with pytest.raises(ActionRefused, match="Test messages to Fabrikam are not allowed"):
        probes.request_probe(other, by=world.company.by, now=NOW)
    assert not Entry.objects.filter(verb="probe.requested").exists()


def test_the_pages_of_a_rotation_send_test_messages_and_show_their_verdicts(world: World) -> None:
    client = log_in(make_person("olga", "operator"))
    url = reverse("rotation-together", args=[world.rotation.uid])
    chosen = {"act": "probe", "partner": [str(one.uid) for one in world.rotation.participants.all()]}
    preview = client.post(url, chosen).content.decode()
    assert f"A test message goes to {world.peer.url}." in preview
    assert "Test messages to Fabrikam are not allowed" in preview
    assert "Send test messages to 1 partner" in preview
    shown = client.post(url, {**chosen, "partner": [str(world.participant.uid)], "sure": "1"}, follow=True)
    text = shown.content.decode()
    assert "Test messages are on their way to Northwind." in text
    assert "1 test message on the way." in text
    assert sending.send_next(lambda: NOW, probes.apply_verdict)
    text = client.get(world.rotation.get_absolute_url()).content.decode()
    assert "test message on the way" not in text
    assert "does not accept it yet" in text
    page = client.get(reverse("participant-detail", args=[world.participant.uid])).content.decode()
    assert "Northwind does not accept our new signature" in page
    assert "Ask Northwind to enter our certificate, then test again." in page
    world.trust_new()
    world.test()
    text = " ".join(client.get(world.rotation.get_absolute_url()).content.decode().split())
    assert "accepts it" in text
    assert "by a test message" in text


def test_where_each_partner_changes_alone_a_message_counts_until_it_has_changed(world: World) -> None:
    Rotation.objects.filter(pk=world.rotation.pk).update(state=RotationState.UNDER_WAY)
    alone = world.rotation.steps.create(
        key="alone", position=99, who="we", act=Act.CUT_OVER, title="Change for it", participant=world.participant
    )
    world.test()
    assert world.participant.probe_refused_at == NOW
    alone.state = "done"
    alone.save()
    world.test(NOW + timedelta(hours=1))
    assert world.participant.probe_refused_at == NOW
