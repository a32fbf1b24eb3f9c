"""Certificates that partners submit: read, checked, stored, and accepted or refused.

A submitted certificate has no role, so it is not used before its fingerprint was compared over another channel, or the
partner's rule accepts it. A draft rotation is created in which it replaces the current certificate.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db import transaction
from django.db.models import Q

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.time_format import format_moment
from identities import role_assignments
from identities.certificates import checks, single_import
from identities.models import IdentityCertificate
from identities.stations import WRITER_ROLES
from partners.models import Contact, Partner, PartnerCertificate
from rotations.errors import ActionRefused, PrivateKeySubmitted, SubmissionRefused
from rotations.execution import fingerprint_check, transitions
from rotations.execution.fingerprint_check import SubmissionDecision
from rotations.letters import access_links
from rotations.lifecycle import drafts, endings
from rotations.models import HandedIn, Link, Rotation
from rotations.notifications import exchange_mail
from rotations.planning.states import RotationState

#: How many submitted certificates of a partner may wait to be compared.
MAX_WAITING = 5

PRIVATE_KEY_REFUSAL = (
    "This file holds a private key, which only you may have: nothing of it was kept, but replace that key, since it "
    "has left your house, and hand in the certificate of the new one."
)

#: The names of our roles for the partner.
ROLE_TEXT = {"verify": "signing", "encrypt": "encryption"}
#: Findings that name other stations, which are not shown to the partner.
_OTHER_STATION_CODES = ("-elsewhere", "-both-environments")
#: Replacements in the texts of findings, which are written for our people, and other advice for the partner.
_PARTNER_TERMS = (
    ("the role encrypt", "encryption"),
    ("the role verify", "signing"),
    ("for this role", "for this use"),
    ("leave this role to", "leave this use to"),
)
_PARTNER_ADVICE = {
    "expired": "Hand in the one that follows it.",
    "not-yet-valid": "That is fine: the change is made after that.",
}


@dataclass(frozen=True)
class ReadSubmission:
    """A submitted certificate that was read and checked, for the partner to confirm.

    ``findings`` are warnings worded for the partner; ``roles`` are those that it would serve.
    """

    material: pki.Material
    description: pki.Description
    roles: tuple[str, ...]
    findings: Sequence[pki.CertificateFinding]

    @property
    def pem(self) -> str:
        """Return the certificate and its issuers as PEM, to be submitted again with the confirmation."""
        return pki.to_pem(self.material.leaf, self.material.chain).decode("ascii")


def read_submission(partner: Partner, data: bytes, *, roles: Collection[str] = (), now: datetime) -> ReadSubmission:
    """Read and check a certificate in PEM, DER or PKCS#7.

    Without ``roles``, the certificate's key usages decide. Raises PrivateKeySubmitted, SubmissionRefused.
    """
    if partner.archived_at is not None:
        raise SubmissionRefused("We no longer exchange messages with this station: call us if that is not so.")
    try:
        material = pki.read_public(data, partner=True)
    except pki.PrivateKeyFound:
        raise PrivateKeySubmitted(PRIVATE_KEY_REFUSAL) from None
    except pki.PkiError as error:
        raise SubmissionRefused(str(error)) from None
    description = material.description
    _refuse_foreign(partner, description)
    _refuse_known(partner, description)
    chosen = tuple(role for role in partner.ROLES if role in (roles or suitable_roles(description, partner)))
    old = next((old for old, _ in predecessors(partner, chosen)), None)
    findings = checks.check_for_station(partner, material, roles=chosen, now=now, predecessor=old)
    shown = [_for_partner(finding) for finding in findings if not finding.code.endswith(_OTHER_STATION_CODES)]
    errors = [finding for finding in shown if finding.level == "error"]
    if errors:
        raise SubmissionRefused(" ".join(_format_finding(finding) for finding in errors))
    return ReadSubmission(material, description, chosen, [*shown, *_shared_with_counterpart(partner, description)])


def _refuse_foreign(partner: Partner, description: pki.Description) -> None:
    """Raise SubmissionRefused if the certificate belongs to another station, without naming it."""
    if IdentityCertificate.objects.filter(_same_certificate_or_key(description)).exists():
        raise SubmissionRefused(
            "This is a certificate of ours, not of yours: choose the one whose private key your system has."
        )
    others = PartnerCertificate.objects.filter(_same_certificate_or_key(description), partner__archived_at=None)
    if others.exclude(partner=partner).exclude(partner__in=_counterparts(partner)).exists():
        raise SubmissionRefused(
            "This certificate, or its key, belongs to another station than yours: choose the one whose private key "
            "your system has, or call us if both are yours."
        )


def _same_certificate_or_key(description: pki.Description) -> Q:
    return Q(sha256=description.sha256) | Q(public_key_sha256=description.public_key_sha256)


def _counterparts(partner: Partner) -> list[Partner]:
    """Return the test stations of a production station, or the production station of a test station."""
    found = list(partner.rehearses.all())
    return [*found, partner.rehearsal_partner] if partner.rehearsal_partner else found


def _refuse_known(partner: Partner, description: pki.Description) -> None:
    """Raise SubmissionRefused if the certificate is in use already, or was refused before."""
    same = partner.certificates.filter(sha256=description.sha256)
    if partner.service.open().filter(certificate__in=same).exists():
        raise SubmissionRefused(
            "This is the certificate that you use with us already: hand in the one that is to follow it."
        )
    settled = HandedIn.objects.filter(partner=partner, certificate__in=same)
    refused = settled.filter(accepted=False).first()
    if refused is not None and refused.settled_at is not None and not settled.standing().exists():
        when = format_moment(refused.settled_at, partner.time_zone, "day")
        raise SubmissionRefused(f"We did not accept this certificate on {when}: call us before you hand it in again.")


def format_uses(roles: Collection[str]) -> str:
    """Return the names of roles for the partner: "signing and encryption"."""
    return " and ".join(ROLE_TEXT[role] for role in roles)


def suitable_roles(description: pki.Description, partner: Partner) -> tuple[str, ...]:
    """Return the roles that the key usages of a certificate allow; all roles if it has none."""
    usages = set(description.key_usages)
    made_for = {
        "verify": not usages or bool(usages & {"digitalSignature", "nonRepudiation"}),
        "encrypt": not usages or "keyEncipherment" in usages,
    }
    return tuple(role for role in partner.ROLES if made_for[role]) or partner.ROLES


def predecessors(partner: Partner, roles: Collection[str]) -> list[tuple[PartnerCertificate | None, tuple[str, ...]]]:
    """Return the certificates that serve these roles now, each with its roles; None if no certificate does."""
    held = role_assignments.certificates_by_role(partner)
    written = [certificate for role in WRITER_ROLES for certificate in held.get(role, [])]
    groups: dict[PartnerCertificate | None, list[str]] = {}
    for role in roles:
        # Of several accepted certificates, the one with the writer role is in use.
        leading = next((c for c in held[role] if c in written), held[role][-1] if held[role] else None)
        groups.setdefault(leading, []).append(role)
    return [(old, tuple(served)) for old, served in groups.items()]


def _for_partner(finding: pki.CertificateFinding) -> pki.CertificateFinding:
    reason, advice = finding.reason, _PARTNER_ADVICE.get(finding.code, finding.advice)
    for ours, theirs in _PARTNER_TERMS:
        reason, advice = reason.replace(ours, theirs), advice.replace(ours, theirs)
    return pki.CertificateFinding(finding.code, finding.level, reason, advice)


def _format_finding(finding: pki.CertificateFinding) -> str:
    """Return a finding as one sentence."""
    return f"{finding.reason.removesuffix('.')}: {finding.advice[:1].lower()}{finding.advice[1:]}"


def _shared_with_counterpart(partner: Partner, description: pki.Description) -> Iterator[pki.CertificateFinding]:
    theirs = PartnerCertificate.objects.filter(
        _same_certificate_or_key(description), partner__in=_counterparts(partner)
    )
    if theirs.exists():
        other = "production" if partner.is_test else "test"
        yield pki.CertificateFinding(
            "same-key-both-environments",
            "warning",
            f"Your {other} station uses this certificate, or its key, too.",
            "Prefer a key of its own for each, so that a test can’t pass for the real thing.",
        )


# Submitting.


@dataclass(frozen=True)
class Submission:
    """A submission, with a row for each certificate that it replaces; ``is_new`` unless it was submitted before."""

    rows: Sequence[HandedIn]
    is_new: bool


def record_private_key(partner: Partner, *, by: Actor, now: datetime) -> None:
    """Record in the trail that a partner submitted a private key, which was discarded."""
    record(AuditEvent("partner.key_thrown_away", partner), by=by, now=now)


@transaction.atomic
def submit(
    partner: Partner, data: bytes, *, roles: Collection[str], link: Link, by: Actor, now: datetime
) -> Submission:
    """Store a partner's new certificate, and prepare the rotation in which it takes over.

    1. Lock the partner's running rotations, then read and check the certificate.
    2. Return the earlier submission if the certificate was submitted before.
    3. Assign it to a draft that waits for it, or to a new draft; if another rotation changes the role, an operator
       decides.
    4. Accept it at once if a rule allows that, and notify our people.

    Raises PrivateKeySubmitted, SubmissionRefused.
    """
    # Everywhere, rotations are locked before their holder.
    running = [
        transitions.lock_rotation(pk) for pk in partner.rotations.running().order_by("pk").values_list("pk", flat=True)
    ]
    reading = read_submission(partner, data, roles=roles, now=now)
    certificate = single_import.store_certificate(partner, reading.material, roles=reading.roles, by=by, now=now)
    before = list(HandedIn.objects.standing().filter(partner=partner, certificate=certificate))
    left = [role for role in reading.roles if not any(role in row.roles for row in before)]
    if not left:
        return Submission(before, is_new=False)
    _refuse_too_many(partner, certificate)
    rows = []
    for rotation, served in _assign_rotations(partner, certificate, left, running, by=by, now=now):
        row = HandedIn.objects.create(
            partner=partner,
            certificate=certificate,
            roles=list(served),
            link=link,
            submitted_by=by.name,
            at=now,
            rotation=rotation,
        )
        rows.append(row)
    changed = [row.rotation for row in rows if row.rotation]
    record(
        AuditEvent(
            "certificate.handed_in",
            certificate,
            also=[partner, link, *changed],
            new={"roles": left, "sha256": certificate.sha256, "not_after": certificate.not_after.isoformat()},
        ),
        by=by,
        now=now,
    )
    _accept_automatically(rows[0], link, by=by, now=now)
    for row in rows:
        row.refresh_from_db()
    others = [rotation for rotation in running if set(rotation.roles) & set(left)]
    exchange_mail.notify_submitted(rows[0], (changed or others)[0], at=now)
    return Submission(rows, is_new=True)


def _refuse_too_many(partner: Partner, certificate: PartnerCertificate) -> None:
    waiting = HandedIn.objects.pending().filter(partner=partner).exclude(certificate=certificate)
    if waiting.values("certificate").distinct().count() >= MAX_WAITING:
        raise SubmissionRefused(
            f"{MAX_WAITING} certificates of yours wait for us to compare them already: call us before you hand in more."
        )


def _assign_rotations(
    partner: Partner,
    certificate: PartnerCertificate,
    roles: Sequence[str],
    running: Sequence[Rotation],
    *,
    by: Actor,
    now: datetime,
) -> Iterator[tuple[Rotation | None, Sequence[str]]]:
    """Yield the rotations in which a certificate takes over, with their roles; None if another one is running."""
    left = list(roles)
    # Includes rotations that were started since the others were locked; those are not changed.
    for rotation in partner.rotations.running().order_by("pk"):
        mine = [role for role in left if role in rotation.roles]
        if not mine:
            continue
        left = [role for role in left if role not in mine]
        locked = next((one for one in running if one.pk == rotation.pk), rotation)
        if locked.new == certificate:
            yield locked, mine
        elif locked in running and _waits_for_successor(locked) and set(mine) == set(locked.roles):
            drafts.assign_successor(locked, certificate, by=by, now=now)
            yield locked, mine
        else:
            yield None, mine
    for old, served in predecessors(partner, left):
        wish = drafts.DraftSpec(roles=served, old=old, new=certificate, grace_days=Installation.current().grace_days)
        yield drafts.create_draft(partner, wish, by=by, now=now), served


def _waits_for_successor(rotation: Rotation) -> bool:
    return rotation.state == RotationState.DRAFT and rotation.new is None


# Accepting or refusing.


def _accept_automatically(handed: HandedIn, link: Link, *, by: Actor, now: datetime) -> None:
    """Accept if the certificate was compared before it was submitted, or by the partner's rule."""
    step = fingerprint_check.check_step(handed.rotation) if handed.rotation else None
    if step is not None and step.done_at is not None:
        note = f"compared before it was handed in: {step.note or step.done_by}"
        decision = SubmissionDecision(accepted=True, note=note)
    elif is_accepted_by_rule(handed.partner, link, by):
        note = f"by the rule of {handed.partner}: it came by the link of {link.whose}, who had been confirmed before"
        decision = SubmissionDecision(accepted=True, note=note, channel="by rule", by_rule=True)
    else:
        return
    fingerprint_check.settle_submission(handed, decision, by=Actor.runner(), now=now)


def is_accepted_by_rule(partner: Partner, link: Link, by: Actor) -> bool:
    """Return whether the partner's rule accepts a certificate submitted by this link.

    The link's contact was confirmed when it was created and still is, and no operator is using it.
    """
    contact = link.contact
    still = contact is not None and contact.confirmed_at is not None and contact.partner_id == partner.pk
    return partner.accept_by_rule and link.confirmed and still and by.user is None


@dataclass(frozen=True)
class FingerprintComparison:
    """A comparison of the fingerprint with the partner over another channel, as an operator records it."""

    fingerprint: str
    spoke_with: str
    channel: str
    note: str


def accept(handed: HandedIn, comparison: FingerprintComparison, *, by: Actor, now: datetime) -> None:
    """Accept a certificate whose fingerprint was compared and matches.

    Raises PkiError if the recorded text is no SHA-256 fingerprint, ActionRefused if it is another one or the
    certificate was decided on before, EditConflict.
    """
    refuse_settled(handed)
    _require_match(handed, comparison.fingerprint)
    spoke_with, channel = comparison.spoke_with, comparison.channel
    if not spoke_with.strip() or not channel.strip():
        raise ActionRefused("Say with whom you compared it, and over which channel.")
    decision = SubmissionDecision(accepted=True, spoke_with=spoke_with, channel=channel, note=comparison.note)
    fingerprint_check.settle_submission(handed, decision, by=by, now=now)


def refuse_settled(handed: HandedIn) -> None:
    """Raise ActionRefused if the certificate was decided on before."""
    if handed.settled_at is not None:
        done = "accepted" if handed.accepted else "refused"
        raise ActionRefused(
            f"This certificate was {done} already, by {handed.settled_by} on "
            f"{format_moment(handed.settled_at, 'UTC', 'day')}."
        )


def _require_match(handed: HandedIn, fingerprint: str) -> None:
    sha256 = pki.normalise_fingerprint(fingerprint)
    partner, certificate = handed.partner, handed.certificate
    if sha256 == certificate.sha256:
        return
    if partner.service.open().filter(certificate__sha256=sha256).exists():
        raise ActionRefused(
            f"That is the fingerprint of the certificate that {partner} uses now: ask for that of the new one."
        )
    raise ActionRefused(
        f"That is not the fingerprint of what was handed in, which begins with {certificate.short_name[:5]}. If it is "
        f"what {partner} reads from its own new certificate, somebody else handed this one in: refuse it."
    )


@transaction.atomic
def refuse(handed: HandedIn, *, reason: str, withdraw: bool = False, by: Actor, now: datetime) -> None:
    """Refuse a certificate: drafts lose it, approved rotations to it are cancelled.

    With ``withdraw``, the link by which it was submitted is revoked. Raises ActionRefused, IllegalTransition,
    EditConflict.
    """
    refuse_settled(handed)
    if not reason.strip():
        raise ActionRefused("Say why: it is kept in the trail.")
    decision = SubmissionDecision(accepted=False, note=reason)
    rotations = fingerprint_check.settle_submission(handed, decision, by=by, now=now)
    for rotation in rotations:
        if rotation.state == RotationState.DRAFT:
            drafts.clear_successor(rotation, reason=reason, by=by, now=now)
        else:
            endings.cancel(rotation, reason=reason, by=by, now=now)
    if withdraw and handed.link is not None:
        access_links.revoke_link(handed.link, reason=reason, by=by, now=now)


# Whom to call about it.

#: Verbs of the trail by which somebody with the link may have entered a phone number of their own.
_CONTACT_VERBS = ("contact.created", "contact.taken_on", "contact.changed")


#: The fields of a change that matter.
_IDENTIFYING_FIELDS = {"name", "email", "phone"}


@dataclass(frozen=True)
class ContactsByAge:
    """A partner's contacts: those unchanged since before the link was created, and the others."""

    before: list[Contact]
    since: list[Contact]


def contacts_by_age(handed: HandedIn) -> ContactsByAge:
    """Return which contacts were known before the link of a submission was created, by the trail.

    Contacts that were suggested on the partner's page, or changed since, count as new: a certificate must not be
    compared with somebody whom the submission itself may have brought.
    """
    contacts = list(handed.partner.contacts.taken_on())
    since = handed.link.created_at if handed.link else handed.at
    entries = Entry.objects.filter(
        object_kind="partners.contact",
        object_uid__in=[str(contact.uid) for contact in contacts],
        verb__in=_CONTACT_VERBS,
        at__gte=since,
    )
    changed = {
        uid
        for uid, verb, new in entries.values_list("object_uid", "verb", "new")
        if verb != "contact.changed" or _IDENTIFYING_FIELDS & set(new)
    }
    return ContactsByAge(
        before=[contact for contact in contacts if str(contact.uid) not in changed],
        since=[contact for contact in contacts if str(contact.uid) in changed],
    )
