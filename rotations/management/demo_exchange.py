"""How partners take part in the example rotation: each is somewhere else on the way, and one can't be reached."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from as2certs import pki
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Message
from partners import contacts
from partners.models import Contact
from rotations.exchange import follow_up, responses
from rotations.execution import confirmations
from rotations.letters import access_links, announcements
from rotations.lifecycle import step_actions
from rotations.models import Letter, Link, Participant, Rotation
from rotations.planning.windows import Window

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
#: Was told a week later than the others.
LATE_PARTNER = "Wide World Importers"
UNKNOWN_ADDRESS = "550 5.1.1 no such user here"


@dataclass(frozen=True)
class DemoVisit:
    """A partner's contact who opens the page behind the link of their mail."""

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
        confirmations.confirm(
            self.participant,
            fingerprint=fingerprint,
            agreed=agreed,
            spoke_with=self.contact.name,
            note=note,
            by=self.by,
            now=now,
        )


def add_partner_answers(rotation: Rotation, *, by: Actor, now: datetime) -> None:
    """Announce a rotation of the freight station nine days before ``now`` (UTC), and let its partners answer or not."""
    told = now - 9 * DAY
    for step in rotation.steps.filter(act="stage"):
        step_actions.complete_step(step, note="entered in the gateway's console", by=by, now=told - 2 * HOUR)
    participants = list(rotation.participants.select_related("partner").order_by("partner__name"))
    for participant in participants:
        late = participant.partner.name == LATE_PARTNER
        announcements.announce(participant, by=by, now=now - 2 * DAY if late else told)
    visits = {one.partner.name: DemoVisit.of(one, number) for number, one in enumerate(participants)}
    _bounce_mail(visits["Adventure Cycles"], by=by, now=told + HOUR)
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
    """The mail server knew nobody at this address."""
    letter = Letter.objects.select_related("message").get(participant=visit.participant)
    message = letter.message
    assert message is not None  # just written
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
