"""Example data: a company whose data is created by the same functions as those of a real one."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from django.db import transaction

from as2certs import pki
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from identities.models import Identity, IdentityCertificate
from partners import contacts
from partners.models import Contact, Partner, PartnerCertificate
from rotations.errors import ActionRefused
from rotations.exchange import follow_up, responses
from rotations.exchange.submitted_certificates import submit
from rotations.execution import confirmations
from rotations.letters import access_links, announcements
from rotations.lifecycle import approval, drafts, step_actions
from rotations.management.demo_inventory import DAY, DemoInventory
from rotations.models import Letter, Link, Participant, Rotation
from rotations.planning.windows import Window

#: How long after loading the example rotation's window opens.
DUE_LEAD = timedelta(minutes=2)
HOUR = timedelta(hours=1)
#: The partner that was informed a week later than the others.
LATE_PARTNER = "Wide World Importers"
UNKNOWN_ADDRESS = "550 5.1.1 no such user here"


@transaction.atomic
def load(*, now: datetime) -> Rotation:
    """Fill an empty installation, and return the rotation that applies itself two minutes after ``now`` (UTC).

    Raises ActionRefused if there are identities or partners already.
    """
    if Identity.objects.exists() or Partner.objects.exists():
        raise ActionRefused("The example data goes into an empty installation only; here are identities or partners.")
    company = _DemoCompany(now)
    company.fill()
    return company.rotation


class _DemoCompany(DemoInventory):
    """The demo company, with the rotations of a fortnight."""

    def fill(self) -> None:
        super().fill()
        self.under_way()
        self.rotation = self.due_soon()
        self.waiting()
        self.submitted()

    def under_way(self) -> None:
        """Create a rotation that was rehearsed, announced nine days ago, and waits for its partners."""
        new = self.import_own_certificate(self.freight, ("sign",), ends_in=774, since=self.now - 16 * DAY)
        starts = (self.now + 16 * DAY).replace(hour=20, minute=0, second=0, microsecond=0)
        spec = drafts.DraftSpec(roles=("sign",), old=self.freight_old, new=new)
        rotation = self.draft(self.freight, spec, starts=starts, at=self.now - 16 * DAY)
        self.rehearsed(rotation)
        rotation.refresh_from_db()
        rotation = approval.approve(rotation, by=self.approver, now=self.now - 10 * DAY)
        _add_partner_answers(rotation, by=self.by, now=self.now)

    def rehearsed(self, production: Rotation) -> None:
        """Create its finished rehearsal: the test identity got its new certificate twelve days ago."""
        then, moment = self.now - 15 * DAY, self.now - 12 * DAY
        new = self.import_own_certificate(self.freight_test, ("sign",), ends_in=740, since=then)
        spec = drafts.DraftSpec(roles=("sign",), old=self.rehearsal_old, new=new, grace_days=2)
        rotation = self.draft(self.freight_test, spec, starts=moment, at=then)
        approval.link_rehearsal(production, rotation, by=self.by, now=then)
        rotation = approval.approve(rotation, by=self.approver, now=then)
        self.confirm(rotation, at=then + DAY)
        for step in rotation.steps.filter(automatic=False).order_by("position"):
            step.refresh_from_db()
            if step.state == "waiting":
                note = "seen in the gateway's console"
                moment = max(moment, step.earliest_at or moment) + timedelta(minutes=3)
                step_actions.complete_step(step, note=note, by=self.by, now=moment)

    def due_soon(self) -> Rotation:
        """Create a rotation that all partners have confirmed, and that applies itself in two minutes."""
        new = self.import_own_certificate(self.retail, ("sign", "decrypt"), ends_in=750, since=self.now - 5 * DAY)
        rotation = self.rotate(self.retail, self.old, new, starts=self.now + DUE_LEAD, at=self.now)
        self.confirm(rotation, at=self.now)
        return rotation

    def waiting(self) -> None:
        """Create a rotation to a partner's new certificate, and one that awaits the certificate."""
        fabrikam, toys = self.by_name["Fabrikam Wholesale"], self.by_name["Tailspin Toys"]
        new = self.import_partner_certificate(fabrikam, ends_in=760, since=self.now - 2 * DAY)
        self.rotate(
            fabrikam,
            fabrikam.certificates.order_by("not_after")[0],
            new,
            starts=(self.now + 9 * DAY).replace(hour=15, minute=0, second=0, microsecond=0),
            at=self.now,
        )
        spec = drafts.DraftSpec(
            roles=("verify", "encrypt"),
            old=toys.certificates.get(),
            notes="Kim promised the new certificate for the end of the week.",
        )
        drafts.create_draft(toys, spec, by=self.by, now=self.now)

    def submitted(self) -> None:
        """Submit a certificate and suggest a contact on a partner's page; both wait for an operator."""
        bank, retail = self.by_name["Woodgrove Bank"], self.by_name["Northwind Retail"]
        jonas, then = bank.contacts.get(), self.now - 3 * HOUR
        link = access_links.create_link(bank, participant=None, contact=jonas, by=self.by, now=then - 2 * DAY).link
        his = Actor(name=f"{jonas.name} ({bank})", source="portal", address="203.0.113.24")
        new = pki.to_pem(self.make_leaf(bank, since=then - DAY, ends_in=760))
        submit(bank, new, roles=bank.ROLES, link=link, by=his, now=then)
        Contact.objects.create(partner=bank, name="Hanna Vogel", email="hanna@woodgrove.example", suggested_by=his.name)
        how = "called her at the number in the contract"
        contacts.confirm(retail.contacts.get(), how=how, by=self.by, now=self.now - 30 * DAY)

    def rotate(
        self,
        holder: Identity | Partner,
        old: IdentityCertificate | PartnerCertificate,
        new: IdentityCertificate | PartnerCertificate,
        *,
        starts: datetime,
        at: datetime,
    ) -> Rotation:
        spec = drafts.DraftSpec(roles=holder.ROLES, old=old, new=new)
        rotation = self.draft(holder, spec, starts=starts, at=at)
        return approval.approve(rotation, by=self.approver, now=at)

    def draft(
        self,
        holder: Identity | Partner,
        spec: drafts.DraftSpec,
        *,
        starts: datetime,
        at: datetime,
    ) -> Rotation:
        zone = holder.time_zone if isinstance(holder, Partner) else "America/Chicago"
        window = Window(start=starts, end=starts + HOUR, zone=zone)
        return drafts.create_draft(holder, replace(spec, window=window), by=self.by, now=at)

    def confirm(self, rotation: Rotation, *, at: datetime) -> None:
        assert rotation.new is not None  # given by `rotate`
        for participant in rotation.participants.select_related("partner"):
            contact = participant.partner.contacts.get()
            confirmations.confirm_installation(
                participant,
                confirmations.PartnerAnswer(contact.name, by=self.by, now=at),
                fingerprint=pki.format_fingerprint(rotation.new.sha256),
                agreed=True,
            )


@dataclass(frozen=True)
class DemoVisit:
    """A contact of a partner who uses the link of their mail."""

    participant: Participant
    contact: Contact
    link: Link
    by: Actor

    @classmethod
    def of(cls, participant: Participant, number: int) -> DemoVisit:
        contact = participant.partner.contacts.get()
        link = Link.objects.get(participant=participant)
        by = Actor(
            name=f"{contact.name} ({participant.partner})",
            source="portal",
            address=f"203.0.113.{40 + number}",
        )
        return cls(participant, contact, link, by)

    def confirm(self, *, fingerprint: str = "", agreed: bool, note: str = "", now: datetime) -> None:
        confirmations.confirm_installation(
            self.participant,
            confirmations.PartnerAnswer(self.contact.name, by=self.by, now=now, note=note),
            fingerprint=fingerprint,
            agreed=agreed,
        )


def _add_partner_answers(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Announce a rotation nine days before ``now`` (UTC), and record the answers of its partners."""
    announced_at = now - 9 * DAY
    for step in rotation.steps.filter(act="stage"):
        step_actions.complete_step(step, note="entered in the gateway's console", by=by, now=announced_at - 2 * HOUR)
    participants = list(rotation.participants.select_related("partner").order_by("partner__name"))
    for participant in participants:
        late = participant.partner.name == LATE_PARTNER
        announcements.announce(participant, by=by, now=now - 2 * DAY if late else announced_at)
    visits = {one.partner.name: DemoVisit.of(one, number) for number, one in enumerate(participants)}
    _bounce_mail(visits["Adventure Cycles"], by=by, now=announced_at + HOUR)
    for name, days in (
        ("Litware Freight", 8),
        ("Contoso Logistics", 7),
        ("Lamna Healthcare", 6),
        ("Woodgrove Bank", 5),
        (LATE_PARTNER, 1),
    ):
        visit = visits[name]
        access_links.record_opened(visit.link, by=visit.by, now=now - days * DAY)
        if name != "Lamna Healthcare":
            access_links.record_download(visit.link, "der", by=visit.by, now=now - days * DAY + HOUR / 6)
    _record_answers(rotation, visits, now=now)
    follow_up.run_follow_up(now - DAY)


def _bounce_mail(visit: DemoVisit, *, by: Actor, now: datetime) -> None:
    """Record that the mail of a contact bounced, since the address is unknown."""
    letter = Letter.objects.select_related("message").get(participant=visit.participant)
    message = letter.message
    assert message is not None  # set when the letter was queued
    Message.objects.filter(pk=message.pk).update(state=Message.State.SENT, sent_at=now)
    outbox.record_bounce(message, UNKNOWN_ADDRESS, by=by, now=now)
    contacts.record_bounce(visit.contact, reason=UNKNOWN_ADDRESS, by=by, now=now)


def _record_answers(rotation: Rotation, visits: dict[str, DemoVisit], *, now: datetime) -> None:
    assert rotation.new is not None  # an approved rotation has a successor
    fingerprint = pki.format_fingerprint(rotation.new.sha256)
    litware, contoso = visits["Litware Freight"], visits["Contoso Logistics"]
    litware.confirm(fingerprint=fingerprint, agreed=True, now=now - 8 * DAY + HOUR)
    contoso.confirm(agreed=False, note="Loaded on both nodes.", now=now - 7 * DAY + HOUR)
    lamna, bank = visits["Lamna Healthcare"], visits["Woodgrove Bank"]
    responses.decline(
        lamna.participant,
        reason="Our vendor changes certificates on the first Monday of a month only.",
        by=lamna.by,
        now=now - 6 * DAY + HOUR,
    )
    starts = (now + 18 * DAY).replace(hour=7, minute=0, second=0, microsecond=0)
    window = Window(start=starts, end=starts + HOUR, zone=bank.participant.partner.time_zone)
    responses.propose_window(
        bank.participant, window, note="We are not staffed at night.", by=bank.by, now=now - 5 * DAY + HOUR
    )
