"""Request new certificates from partners: automatically as their current ones expire, or when an operator asks.

Partners are reminded at the same thresholds as our own people, except after expiry. Each contact gets one mail per
threshold, with a link of their own; a partner whose successor is already here gets none, even if the rotation that was
to use it was cancelled.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, Q

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.mail.outbox import Mail
from as2certs.rows import key_batches
from as2certs.time_format import format_moment
from partners.models import Contact, Partner, PartnerCertificate
from rotations.errors import ActionRefused
from rotations.exchange.submitted_certificates import format_uses, predecessors
from rotations.execution.version_token import version_token
from rotations.letters import access_links, mail_templates
from rotations.letters.compose import ComposedLetter
from rotations.letters.contacts import (
    SupportContact,
    contacts_for,
    explain_contact_gap,
    support_for_partner,
)
from rotations.letters.mail_templates import MailText
from rotations.letters.sending import store_letter
from rotations.letters.texts import REQUEST_STEPS, Fact, request_lead_sentence
from rotations.models import HandedIn, Letter, Notice, Phrase, Rotation
from rotations.notifications.expiry import (
    THEIRS,
    ExpiringCertificate,
    find_expiring,
    find_still_expiring,
    sent_thresholds,
)
from rotations.notifications.thresholds import reached_threshold
from rotations.planning.partner_actions import (
    NextAction,
    PartnerAction,
    RequestSituation,
    Successor,
    UsedCertificate,
    find_request_action,
    uncovered_roles,
)
from rotations.planning.states import ENDED, RotationState

log = logging.getLogger(__name__)

#: Certificates that expired longer ago than this are not requested automatically.
MAX_AFTER_EXPIRY = timedelta(days=30)
#: How many mails one run queues, the most urgent first; the next run continues.
MAX_PER_RUN = 500


def partner_thresholds(thresholds: Iterable[int]) -> tuple[int, ...]:
    """Return the thresholds for partners: those up to the certificate's end."""
    return tuple(days for days in thresholds if days >= 0)


# Which requests are due.


@dataclass(frozen=True)
class DueCertificate:
    """A certificate in use that a contact is asked to replace, and the threshold that was reached."""

    certificate_id: int
    not_after: datetime
    roles: tuple[str, ...]
    threshold: int


@dataclass(frozen=True)
class DueRequest:
    """The certificates that the contacts of one partner are asked to replace."""

    partner_id: int
    by_contact: Mapping[Contact, Sequence[DueCertificate]]

    @property
    def certificates(self) -> list[DueCertificate]:
        return [one for certificates in self.by_contact.values() for one in certificates]

    @property
    def earliest_expiry(self) -> datetime:
        """Return when the first of the certificates expires (UTC)."""
        return min(certificate.not_after for certificate in self.certificates)


def find_due(now: datetime) -> list[DueRequest]:
    """Return the requests that are due, the most urgent first, in a constant number of queries."""
    thresholds = partner_thresholds(Installation.current().reminder_days)
    expiring = [
        one for one in find_expiring(THEIRS, now=now, thresholds=thresholds) if one.not_after > now - MAX_AFTER_EXPIRY
    ]
    if not expiring:
        return []
    partners = [one.holder_id for one in expiring]
    contacts, successors = _contacts_by_partner(partners), _successors_by_partner(partners)
    sent = sent_thresholds(THEIRS, [one.certificate_id for one in expiring])
    due: dict[int, dict[Contact, list[DueCertificate]]] = defaultdict(lambda: defaultdict(list))
    for certificate in expiring:
        one = _due_certificate(certificate, thresholds, successors[certificate.holder_id], now)
        if one is None:
            continue
        for contact in contacts[certificate.holder_id]:
            last = sent.get((one.certificate_id, contact.email.lower()))
            if last is None or one.threshold < last:
                due[certificate.holder_id][contact].append(one)
    return sorted((DueRequest(pk, found) for pk, found in due.items()), key=lambda r: r.earliest_expiry)


def _due_certificate(
    certificate: ExpiringCertificate,
    thresholds: Sequence[int],
    successors: Sequence[Successor],
    now: datetime,
) -> DueCertificate | None:
    """Return a certificate that has reached a threshold, with the roles that no successor covers, if any."""
    roles = uncovered_roles(UsedCertificate(certificate.roles, certificate.not_after), successors)
    if certificate.thresholds is not None:
        thresholds = partner_thresholds(certificate.thresholds)
    threshold = reached_threshold(thresholds, certificate.not_after, now)
    if threshold is None or not roles:
        return None
    return DueCertificate(certificate.certificate_id, certificate.not_after, roles, threshold)


def _contacts_by_partner(partners: Collection[int]) -> Mapping[int, list[Contact]]:
    """Return the reachable contacts that are notified of expiry, by partner, each address once."""
    reachable = Contact.objects.with_address().filter(notify_expiry=True, bounced_at=None, partner__notify_expiry=True)
    found: dict[int, dict[str, Contact]] = defaultdict(dict)
    for batch in key_batches(partners):
        for contact in reachable.filter(partner_id__in=batch).select_related("partner"):
            found[contact.partner_id].setdefault(contact.email.lower(), contact)
    return defaultdict(list, {pk: list(contacts.values()) for pk, contacts in found.items()})


def _successors_by_partner(partners: Collection[int]) -> Mapping[int, list[Successor]]:
    """Return the certificates that partners have handed in, or that are planned for them.

    A successor was submitted and not refused, or belongs to a rotation that is running or was cancelled: we hold it
    still. If a refusal cancelled the rotation, its certificate is no successor.
    """
    submitted = HandedIn.objects.standing()
    refused = HandedIn.objects.filter(certificate=OuterRef("new_partner_certificate"), accepted=False)
    is_held = Q(state=RotationState.CANCELLED) & ~Exists(refused)
    planned = Rotation.objects.filter(~Q(state__in=ENDED) | is_held, new_partner_certificate__isnull=False)
    found: dict[int, list[Successor]] = defaultdict(list)
    for batch in key_batches(partners):
        for partner, roles, ends, settled_at in submitted.filter(partner_id__in=batch).values_list(
            "partner_id", "roles", "certificate__not_after", "settled_at"
        ):
            found[partner].append(Successor(tuple(roles), ends, is_compared=settled_at is not None))
        for partner, roles, ends in planned.filter(partner_id__in=batch).values_list(
            "partner_id", "roles", "new_partner_certificate__not_after"
        ):
            found[partner].append(Successor(tuple(roles), ends, is_compared=True))
    return found


def request_action(partner: Partner) -> NextAction:
    """Return what a partner may do about its own certificates, as its page and the requests to it say."""
    used = [one.as_used for one in certificates_in_use(partner)]
    return find_request_action(RequestSituation(used, _successors_by_partner([partner.pk])[partner.pk]))


# Composing and queueing.


@dataclass(frozen=True)
class CertificateInUse:
    """A certificate that a partner uses, with the roles that it serves."""

    certificate: PartnerCertificate
    roles: tuple[str, ...]

    @property
    def as_used(self) -> UsedCertificate:
        return UsedCertificate(self.roles, self.certificate.not_after)


@dataclass(frozen=True)
class RequestMail:
    """What the requests to the contacts of one partner have in common, read once."""

    partner: Partner
    support: SupportContact
    text: MailText
    now: datetime

    @classmethod
    def to(cls, partner: Partner, text: MailText, *, now: datetime) -> RequestMail:
        return cls(partner, support_for_partner(partner), text, now)

    @property
    def zone(self) -> str:
        return self.partner.time_zone

    def compose(
        self,
        contact: Contact,
        certificates: Sequence[CertificateInUse],
        others: Sequence[Contact],
        *,
        url: str,
    ) -> ComposedLetter:
        """Return the mail to one contact, with ``url`` as the link to the page.

        Raises UnknownPlaceholder if the operator's wording contains one.
        """
        partner, our_name = self.partner, self.support.organisation
        text = self.text.filled(self._placeholder_values(contact, certificates))
        expiry = earliest_expiry(certificates)
        mail = Mail(
            template="partner",
            to=contact.email,
            to_name=contact.name,
            key=f"partner:{Letter.Kind.HAND_IN}:{contact.uid}:{self.now.isoformat()}",
            kind=f"partner_{Letter.Kind.HAND_IN}",
            context={
                "our_name": our_name,
                "is_test": partner.is_test,
                "subject": f"TEST: {text.subject}" if partner.is_test else text.subject,
                "lead": request_lead_sentence(our_name, expiry, now=self.now, zone=self.zone),
                "opening": text.opening,
                "closing": text.closing,
                "steps": [{"title": title, "why": why, "when": "", "done": False} for title, why in REQUEST_STEPS],
                "facts": self._facts(certificates),
                "others": ", ".join(other.name for other in others),
                "desk": self.support,
                "partner": partner.name,
                "button": "Hand in your new certificate",
            },
            facts={"certificates": [one.certificate.pk for one in certificates]},
            now=self.now,
            time_zone=self.zone,
            reply_to=self.support.email,
            private={"link": url},
        )
        return ComposedLetter(contact, mail)

    def _placeholder_values(self, contact: Contact, certificates: Sequence[CertificateInUse]) -> dict[str, str]:
        return {
            "contact": contact.name,
            "partner": self.partner.name,
            **self.support.placeholder_values,
            "their_as2_id": self.partner.as2_id,
            "old_ends": format_moment(earliest_expiry(certificates), self.zone, "day"),
        }

    def _facts(self, certificates: Sequence[CertificateInUse]) -> list[Fact]:
        facts = [Fact("Your AS2 ID", self.partner.as2_id, mono=True)]
        for one in certificates:
            certificate = one.certificate
            facts += [
                Fact(
                    "Certificate",
                    f"{certificate.display_name}, for {format_uses(one.roles)}",
                ),
                Fact("Ends", format_moment(certificate.not_after, self.zone, "offset")),
                *(
                    []
                    if self.zone == "UTC"
                    else [Fact("in UTC", format_moment(certificate.not_after, "UTC", "offset"))]
                ),
                Fact("SHA-256", pki.format_fingerprint(certificate.sha256), mono=True),
            ]
        return [*facts, *([Fact("Questions", self.support.summary)] if self.support.summary else [])]


def earliest_expiry(certificates: Iterable[CertificateInUse]) -> datetime:
    """Return when the first of these certificates expires (UTC)."""
    return min(one.certificate.not_after for one in certificates)


def _send_requests(
    mail: RequestMail,
    by_contact: Mapping[Contact, Sequence[CertificateInUse]],
    *,
    by: Actor,
    name: str = "",
) -> list[Letter]:
    """Queue a mail to each contact, each with a link of their own, and record it in the trail."""
    partner, now = mail.partner, mail.now
    sent = []
    for contact, certificates in by_contact.items():
        new = access_links.create_link(partner, participant=None, contact=contact, by=by, now=now)
        others = [other for other in by_contact if other != contact]
        letter = mail.compose(contact, certificates, others, url=new.url)
        stored = store_letter(letter, Letter.Kind.HAND_IN, link=new.link, rung=name)
        if stored is not None:
            sent.append(stored)
    expiry = earliest_expiry(one for certificates in by_contact.values() for one in certificates)
    event = AuditEvent(
        "partner.asked",
        partner,
        new={"to": [contact.email for contact in by_contact], "ends": expiry.isoformat()},
    )
    record(event, by=by, now=now)
    return sent


# Automatic requests.


def send_due_requests(now: datetime) -> int:
    """Send the requests that are due, the most urgent first, and return how many mails were queued."""
    text_for = mail_templates.mail_text_lookup(Phrase.Kind.HAND_IN)
    count = 0
    for request in find_due(now):
        count += _send_due_request(request, text_for, now)
        if count >= MAX_PER_RUN:
            log.info("More partners are to be asked for their certificates: the next run goes on.")
            break
    return count


def _send_due_request(request: DueRequest, text_for: Callable[[Partner], MailText], now: datetime) -> int:
    """Ask all contacts of one partner, or none; return 0 if another run was faster."""
    try:
        with transaction.atomic():
            Notice.objects.bulk_create(
                _notice(one.certificate_id, one.threshold, contact, now)
                for contact, certificates in request.by_contact.items()
                for one in certificates
            )
            partner = Partner.objects.get(pk=request.partner_id)
            stored = PartnerCertificate.objects.light().in_bulk([one.certificate_id for one in request.certificates])
            by_contact = {
                contact: [CertificateInUse(stored[one.certificate_id], one.roles) for one in certificates]
                for contact, certificates in request.by_contact.items()
            }
            mail = RequestMail.to(partner, text_for(partner), now=now)
            name = f"{min(one.threshold for one in request.certificates)} days"
            return len(_send_requests(mail, by_contact, by=Actor.runner(), name=name))
    except IntegrityError:
        log.info("Another run is asking partner %s at this moment.", request.partner_id)
    except Exception:
        # One partner whose mail can't be composed must not keep the others from being asked.
        log.exception("Partner %s could not be asked for its new certificate", request.partner_id)
    return 0


def _notice(certificate_id: int, threshold: int, contact: Contact, now: datetime) -> Notice:
    return Notice(
        partner_certificate_id=certificate_id,
        threshold=threshold,
        recipient=contact.email.lower(),
        at=now,
    )


def find_no_longer_requested(partner: Partner, certificates: Collection[int], *, now: datetime) -> set[int]:
    """Return which of these certificates (primary keys) a partner no longer has to replace."""
    successors = _successors_by_partner([partner.pk])[partner.pk]
    left = {
        one.certificate_id
        for one in find_still_expiring(THEIRS, certificates, now=now)
        if uncovered_roles(UsedCertificate(one.roles, one.not_after), successors)
    }
    return set(certificates) - left


# Requests by an operator.


@dataclass(frozen=True)
class RequestPreview:
    """The mails that a request to a partner would send, or why there are none."""

    partner: Partner
    letters: Sequence[ComposedLetter]
    obstacle: str

    @property
    def version(self) -> str:
        """Return the token of the mails, which a form carries."""
        messages = [letter.message for letter in self.letters]
        return version_token([[message.to_address, message.subject, message.text] for message in messages])


def build_request_preview(partner: Partner, *, now: datetime) -> RequestPreview:
    """Return what requesting a new certificate would send.

    Raises UnknownPlaceholder if the operator's wording contains one.
    """
    obstacle, certificates = _obstacle(partner), _requested_certificates(partner)
    if obstacle:
        return RequestPreview(partner, (), obstacle)
    contacts, mail = _reachable_contacts(partner), _request_mail(partner, now=now)
    url = settings.AS2CERTS_BASE_URL + partner.get_absolute_url()
    letters = [
        mail.compose(contact, certificates, [other for other in contacts if other != contact], url=url)
        for contact in contacts
    ]
    return RequestPreview(partner, letters, "")


def _obstacle(partner: Partner) -> str:
    if partner.archived_at is not None:
        return f"{partner} is archived: restore it first."
    if not certificates_in_use(partner):
        return f"No certificate of {partner} is in use, so none ends: make a link, and write to them yourself."
    found = request_action(partner)
    if found.action is PartnerAction.WAIT:
        return f"A new certificate of {partner} is here: compare its fingerprint. For another one, make a link."
    if found.action is PartnerAction.NOTHING:
        return f"A new certificate of {partner} is here: plan its rotation. For another one, make a link."
    if nobody := explain_contact_gap(partner, Letter.Kind.HAND_IN):
        return nobody
    if not _reachable_contacts(partner):
        return f"Mail to everybody at {partner} who is to be told comes back: mend an address, or make a link."
    return ""


def certificates_in_use(partner: Partner) -> list[CertificateInUse]:
    """Return the certificates that a partner uses, the first to end first."""
    found = [CertificateInUse(old, roles) for old, roles in predecessors(partner, partner.ROLES) if old is not None]
    return sorted(found, key=lambda one: one.certificate.not_after)


def _requested_certificates(partner: Partner) -> list[CertificateInUse]:
    """Return the certificates that a partner uses without a successor, with the roles that lack one."""
    successors = _successors_by_partner([partner.pk])[partner.pk]
    found = [(one.certificate, uncovered_roles(one.as_used, successors)) for one in certificates_in_use(partner)]
    return [CertificateInUse(certificate, roles) for certificate, roles in found if roles]


def _reachable_contacts(partner: Partner) -> list[Contact]:
    return [c for c in contacts_for(partner, Letter.Kind.HAND_IN) if c.bounced_at is None]


def _request_mail(partner: Partner, *, now: datetime) -> RequestMail:
    return RequestMail.to(partner, mail_templates.mail_text_for(Phrase.Kind.HAND_IN, partner), now=now)


@transaction.atomic
def send_request(partner: Partner, *, by: Actor, now: datetime) -> list[Letter]:
    """Ask a partner's contacts for its new certificate now, regardless of thresholds.

    The threshold that has been reached counts as sent. Raises ActionRefused, UnknownPlaceholder.
    """
    if obstacle := _obstacle(partner):
        raise ActionRefused(obstacle)
    certificates, contacts = _requested_certificates(partner), _reachable_contacts(partner)
    thresholds = partner_thresholds(
        Installation.current().reminder_days if partner.reminder_days is None else partner.reminder_days
    )
    reached = {
        one.certificate.pk: reached_threshold(thresholds, one.certificate.not_after, now) for one in certificates
    }
    Notice.objects.bulk_create(
        (
            _notice(pk, threshold, contact, now)
            for contact in contacts
            for pk, threshold in reached.items()
            if threshold is not None
        ),
        ignore_conflicts=True,
    )
    return _send_requests(_request_mail(partner, now=now), dict.fromkeys(contacts, certificates), by=by)


def create_submission_link(partner: Partner, *, by: Actor, now: datetime) -> access_links.NewLink:
    """Create a link for submitting a certificate, to give to a partner in another way than by mail.

    The URL can be shown only once, since only a hash is stored. Raises ActionRefused for an archived partner.
    """
    if partner.archived_at is not None:
        raise ActionRefused(f"{partner} is archived: restore it first.")
    with transaction.atomic():
        return access_links.create_link(partner, participant=None, contact=None, by=by, now=now)
