"""Ask partners for their new certificate: by a ladder as their own comes to its end, or because somebody here asks.

The ladder is that of our own reminders without the days after the end: we don't nag. Whom we ask has a mail of their
own with a link of their own, once per rung; a partner whose replacement is on its way is let alone.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail import outbox
from as2certs.rows import key_batches
from as2certs.time_format import format_moment
from partners.models import Contact, Partner, PartnerCertificate
from rotations.errors import ActionRefused
from rotations.exchange.submitted_certificates import format_uses, predecessors
from rotations.execution.version_token import version_token
from rotations.letters import access_links, mail_templates
from rotations.letters.compose import ComposedLetter, Fact, store_letter
from rotations.letters.contacts import SupportContact, contacts_for, explain_contact_gap, support_for_partner
from rotations.letters.mail_templates import MailText
from rotations.models import HandedIn, Letter, Notice, Phrase, Rotation
from rotations.notifications.expiry import THEIRS, ExpiringCertificate, find_expiring
from rotations.notifications.sent_notices import sent_thresholds
from rotations.notifications.thresholds import format_expiry, reached_threshold

log = logging.getLogger(__name__)

#: So long after its end nobody is asked for a successor by itself any more: they would have heard by then.
MAX_AFTER_EXPIRY = timedelta(days=30)
#: So many mails in one run at most, the most urgent first; the next run goes on.
MAX_PER_RUN = 500
#: What a partner has to do, in this order.
REQUEST_STEPS = (
    (
        "Make or order your new certificate",
        "With an RSA key of 2048 bits or more. Its private key stays with you: never send it to anybody.",
    ),
    (
        "Hand in the certificate on your page",
        "As a file or as text, public part only. You see what we read from it before you say that it is the right one.",
    ),
    (
        "Keep using the old one until both sides change",
        "We compare the fingerprint with you, and agree on a time. If one side changes earlier, messages fail.",
    ),
)


def partner_thresholds(ladder: Iterable[int]) -> tuple[int, ...]:
    """Return what of a ladder is for partners: up to the end itself, and not the days after it."""
    return tuple(days for days in ladder if days >= 0)


# Who is to be asked.


@dataclass(frozen=True)
class DueCertificate:
    """A certificate in use that a contact is to be told of, and the rung that it has reached."""

    certificate_id: int
    not_after: datetime
    roles: tuple[str, ...]
    rung: int


@dataclass(frozen=True)
class DueRequest:
    """All that the contacts of one partner are to be told in this run."""

    partner_id: int
    lines: Mapping[Contact, Sequence[DueCertificate]]

    @property
    def all_lines(self) -> list[DueCertificate]:
        return [line for lines in self.lines.values() for line in lines]

    @property
    def first_end(self) -> datetime:
        """Return when the first of the certificates ends (UTC)."""
        return min(line.not_after for line in self.all_lines)


def find_due(now: datetime) -> list[DueRequest]:
    """Return who is to be asked now, the most urgent first; the number of queries does not depend on what is found."""
    ladder = partner_thresholds(Installation.current().reminder_days)
    ending = [
        one for one in find_expiring(THEIRS, now=now, ladder=ladder) if one.not_after > now - MAX_AFTER_EXPIRY
    ]
    if not ending:
        return []
    partners = [one.holder_id for one in ending]
    people = _contacts_by_partner(partners)
    on_its_way = _successors_by_partner(partners)
    heard = sent_thresholds(THEIRS, [one.certificate_id for one in ending])
    found: dict[int, dict[Contact, list[DueCertificate]]] = defaultdict(lambda: defaultdict(list))
    for certificate in ending:
        line = _due_certificate(certificate, ladder, on_its_way[certificate.holder_id], now)
        if line is None:
            continue
        for contact in people[certificate.holder_id]:
            sent = heard.get((line.certificate_id, contact.email.lower()))
            if sent is None or line.rung < sent:
                found[certificate.holder_id][contact].append(line)
    return sorted((DueRequest(pk, lines) for pk, lines in found.items()), key=lambda asking: asking.first_end)


def _due_certificate(
    certificate: ExpiringCertificate,
    ladder: Sequence[int],
    on_its_way: Collection[tuple[str, datetime]],
    now: datetime,
) -> DueCertificate | None:
    """Return what is to be told of a certificate; None before its first rung, or when its successor is here."""
    left = tuple(
        role
        for role in certificate.roles
        if not any(role == served and end > certificate.not_after for served, end in on_its_way)
    )
    own = ladder if certificate.ladder is None else partner_thresholds(certificate.ladder)
    rung = reached_threshold(own, certificate.not_after, now)
    if rung is None or not left:
        return None
    return DueCertificate(certificate.certificate_id, certificate.not_after, left, rung)


def _contacts_by_partner(partners: Collection[int]) -> Mapping[int, list[Contact]]:
    """Return whom a mail about the end of a certificate reaches, by partner, each address once."""
    reached = Contact.objects.with_address().filter(
        told_expiry=True, bounced_at=None, partner__told_expiry=True
    )
    found: dict[int, dict[str, Contact]] = defaultdict(dict)
    for batch in key_batches(partners):
        for contact in reached.filter(partner_id__in=batch).select_related("partner"):
            found[contact.partner_id].setdefault(contact.email.lower(), contact)
    return defaultdict(list, {pk: list(contacts.values()) for pk, contacts in found.items()})


def _successors_by_partner(partners: Collection[int]) -> Mapping[int, list[tuple[str, datetime]]]:
    """Return for which roles of which partners a successor is here, and until when that is valid.

    One that was handed in and not refused, or that a running rotation has already. When it is used is our matter.
    """
    handed = HandedIn.objects.standing()
    planned = Rotation.objects.running().filter(new_partner_certificate__isnull=False)
    found: dict[int, list[tuple[str, datetime]]] = defaultdict(list)
    for batch in key_batches(partners):
        for rows, end in (
            (handed, "certificate__not_after"),
            (planned, "new_partner_certificate__not_after"),
        ):
            known = rows.filter(partner_id__in=batch).values_list("partner_id", "roles", end)
            for partner, roles, until in known:
                found[partner] += [(role, until) for role in roles]
    return found


# What is sent.


@dataclass(frozen=True)
class CertificateInUse:
    """A certificate that a partner uses, with the roles that it serves."""

    certificate: PartnerCertificate
    roles: tuple[str, ...]


@dataclass(frozen=True)
class RequestMail:
    """What all mails to one partner have in common, read once."""

    partner: Partner
    our_name: str
    desk: SupportContact
    words: MailText
    now: datetime

    @classmethod
    def to(cls, partner: Partner, words: MailText, *, now: datetime) -> RequestMail:
        return cls(partner, Installation.current().name, support_for_partner(partner), words, now)

    @property
    def zone(self) -> str:
        return self.partner.time_zone

    def compose(
        self, contact: Contact, endings: Sequence[CertificateInUse], others: Sequence[Contact], *, url: str
    ) -> ComposedLetter:
        """Write the mail to one contact, with ``url`` as the link to the page; nothing is stored.

        Raises UnknownPlaceholder when the operator's wording has one.
        """
        partner = self.partner
        words = self.words.filled(self._values(contact, endings))
        message = outbox.render_mail(
            "partner",
            to=contact.email,
            to_name=contact.name,
            key=f"partner:{Letter.Kind.HAND_IN}:{contact.uid}:{self.now.isoformat()}",
            kind=f"partner_{Letter.Kind.HAND_IN}",
            context={
                "our_name": self.our_name,
                "is_test": partner.is_test,
                "subject": f"TEST: {words.subject}" if partner.is_test else words.subject,
                "lead": self._lead(endings),
                "opening": words.opening,
                "closing": words.closing,
                "steps": [
                    {"title": title, "why": why, "when": "", "done": False} for title, why in REQUEST_STEPS
                ],
                "facts": self._facts(endings),
                "others": ", ".join(other.name for other in others),
                "desk": self.desk,
                "partner": partner.name,
                "button": "Hand in your new certificate",
            },
            now=self.now,
            time_zone=self.zone,
            reply_to=self.desk.email,
            private={"link": url},
        )
        return ComposedLetter(contact, message, ())

    def _values(self, contact: Contact, endings: Sequence[CertificateInUse]) -> dict[str, str]:
        return {
            "contact": contact.name,
            "partner": self.partner.name,
            "our_name": self.our_name,
            "their_as2_id": self.partner.as2_id,
            "old_ends": format_moment(earliest_expiry(endings), self.zone, "day"),
            "our_contact": self.desk.name,
            "our_email": self.desk.email,
            "our_phone": self.desk.phone,
        }

    def _lead(self, endings: Sequence[CertificateInUse]) -> str:
        """Say the whole mail in its first line."""
        end = earliest_expiry(endings)
        when = f"{format_expiry(end, self.now, self.zone)}, on {format_moment(end, self.zone, 'day')}"
        return f"Your certificate for AS2 messages with {self.our_name} {when}: please hand in the new one."

    def _facts(self, endings: Sequence[CertificateInUse]) -> list[Fact]:
        found = [Fact("Your AS2 ID", self.partner.as2_id, mono=True)]
        for ending in endings:
            certificate = ending.certificate
            found += [
                Fact(
                    "Certificate",
                    f"{certificate.common_name or certificate.subject}, for {format_uses(ending.roles)}",
                ),
                Fact("Ends", format_moment(certificate.not_after, self.zone, "offset")),
                *(
                    []
                    if self.zone == "UTC"
                    else [Fact("in UTC", format_moment(certificate.not_after, "UTC", "offset"))]
                ),
                Fact("SHA-256", pki.format_fingerprint(certificate.sha256), mono=True),
            ]
        return [*found, *([Fact("Questions", self.desk.told)] if self.desk.told else [])]


def earliest_expiry(endings: Iterable[CertificateInUse]) -> datetime:
    """Return when the first of these ends (UTC)."""
    return min(ending.certificate.not_after for ending in endings)


def _send_requests(
    sender: RequestMail, wanted: Mapping[Contact, Sequence[CertificateInUse]], *, by: Actor, rung: str = ""
) -> list[Letter]:
    """Queue a mail to each contact, with a link of their own, and say so in the trail."""
    partner, now = sender.partner, sender.now
    sent = []
    for contact, endings in wanted.items():
        fresh = access_links.create_link(partner, participant=None, contact=contact, by=by, now=now)
        others = [other for other in wanted if other != contact]
        draft = sender.compose(contact, endings, others, url=fresh.url)
        letter = store_letter(draft, Letter.Kind.HAND_IN, link=fresh.link, now=now, rung=rung)
        if letter is not None:
            sent.append(letter)
    record(
        AuditEvent(
            "partner.asked",
            partner,
            new={
                "to": [contact.email for contact in wanted],
                "ends": earliest_expiry(e for endings in wanted.values() for e in endings).isoformat(),
            },
        ),
        by=by,
        now=now,
    )
    return sent


# By itself.


def send_due_requests(now: datetime) -> int:
    """Ask whom the ladder says, the most urgent first, and return how many mails that queued."""
    words = mail_templates.mail_text_lookup(Phrase.Kind.HAND_IN)
    count = 0
    for asking in find_due(now):
        count += _send_due_request(asking, words, now)
        if count >= MAX_PER_RUN:
            log.info("More partners are to be asked for their certificates: the next run goes on.")
            break
    return count


def _send_due_request(asking: DueRequest, words: Callable[[Partner], MailText], now: datetime) -> int:
    """Ask the contacts of one partner, all or none of them; return 0 where another run was first."""
    try:
        with transaction.atomic():
            _record_notices(asking, now)
            partner = Partner.objects.get(pk=asking.partner_id)
            stored = PartnerCertificate.objects.light().in_bulk(
                [line.certificate_id for line in asking.all_lines]
            )
            wanted = {
                contact: [CertificateInUse(stored[line.certificate_id], line.roles) for line in lines]
                for contact, lines in asking.lines.items()
            }
            sender = RequestMail.to(partner, words(partner), now=now)
            rung = f"{min(line.rung for line in asking.all_lines)} days"
            return len(_send_requests(sender, wanted, by=Actor.runner(), rung=rung))
    except IntegrityError:
        log.info("Another run is asking partner %s at this moment.", asking.partner_id)
    except Exception:
        # One partner whose mail can't be written must not keep the others from being asked.
        log.exception("Partner %s could not be asked for its new certificate", asking.partner_id)
    return 0


def _record_notices(asking: DueRequest, now: datetime) -> None:
    Notice.objects.bulk_create(
        Notice(
            partner_certificate_id=line.certificate_id,
            threshold=line.rung,
            recipient=contact.email.lower(),
            at=now,
        )
        for contact, lines in asking.lines.items()
        for line in lines
    )


# By hand.


@dataclass(frozen=True)
class RequestPreview:
    """The mails that asking a partner by hand would send, or why there are none."""

    partner: Partner
    drafts: Sequence[ComposedLetter]
    obstacle: str

    @property
    def version(self) -> str:
        """Return the token of the mails, which a form carries."""
        return version_token([[d.message.to_address, d.message.subject, d.message.text] for d in self.drafts])


def build_request_preview(partner: Partner, *, now: datetime) -> RequestPreview:
    """Write what asking a partner by hand would send; nothing is stored.

    Raises UnknownPlaceholder when the operator's wording has one.
    """
    obstacle, endings, contacts = (
        _obstacle(partner),
        _certificates_in_use(partner),
        _reachable_contacts(partner),
    )
    if obstacle:
        return RequestPreview(partner, (), obstacle)
    sender = _request_mail(partner, now=now)
    url = settings.AS2CERTS_BASE_URL + partner.get_absolute_url()
    drafts = [
        sender.compose(contact, endings, [other for other in contacts if other != contact], url=url)
        for contact in contacts
    ]
    return RequestPreview(partner, drafts, "")


def _obstacle(partner: Partner) -> str:
    if partner.archived_at is not None:
        return f"{partner} is archived: restore it first."
    if not _certificates_in_use(partner):
        return (
            f"No certificate of {partner} is in use, so none ends: make a link, and write to them yourself."
        )
    if nobody := explain_contact_gap(partner, Letter.Kind.HAND_IN):
        return nobody
    if not _reachable_contacts(partner):
        return (
            f"Mail to everybody at {partner} who is to be told comes back: mend an address, or make a link."
        )
    return ""


def _certificates_in_use(partner: Partner) -> list[CertificateInUse]:
    found = [
        CertificateInUse(old, roles) for old, roles in predecessors(partner, partner.ROLES) if old is not None
    ]
    return sorted(found, key=lambda ending: ending.certificate.not_after)


def _reachable_contacts(partner: Partner) -> list[Contact]:
    return [c for c in contacts_for(partner, Letter.Kind.HAND_IN) if c.bounced_at is None]


def _request_mail(partner: Partner, *, now: datetime) -> RequestMail:
    return RequestMail.to(partner, mail_templates.mail_text_for(Phrase.Kind.HAND_IN, partner), now=now)


@transaction.atomic
def send_request(partner: Partner, *, by: Actor, now: datetime) -> list[Letter]:
    """Ask a partner's contacts for its new certificate now, whatever the ladder says.

    The rung that is reached counts as told. Raises ActionRefused, UnknownPlaceholder.
    """
    if obstacle := _obstacle(partner):
        raise ActionRefused(obstacle)
    endings, contacts = _certificates_in_use(partner), _reachable_contacts(partner)
    ladder = partner_thresholds(
        Installation.current().reminder_days if partner.reminder_days is None else partner.reminder_days
    )
    reached = {
        ending.certificate.pk: reached_threshold(ladder, ending.certificate.not_after, now)
        for ending in endings
    }
    Notice.objects.bulk_create(
        (
            Notice(partner_certificate_id=pk, threshold=rung, recipient=contact.email.lower(), at=now)
            for contact in contacts
            for pk, rung in reached.items()
            if rung is not None
        ),
        ignore_conflicts=True,
    )
    return _send_requests(_request_mail(partner, now=now), dict.fromkeys(contacts, endings), by=by)


def create_submission_link(partner: Partner, *, by: Actor, now: datetime) -> access_links.NewLink:
    """Make a link by which a partner hands in its certificate, to be given another way than by mail.

    The address is shown once: only its hash is kept. Raises ActionRefused for an archived partner.
    """
    if partner.archived_at is not None:
        raise ActionRefused(f"{partner} is archived: restore it first.")
    with transaction.atomic():
        return access_links.create_link(partner, participant=None, contact=None, by=by, now=now)
