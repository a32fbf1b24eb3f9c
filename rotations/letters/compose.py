"""The mails to a partner's contacts: what each says, with what attached, and that it was sent.

A letter is composed by one function, whether it is shown beforehand or sent: the preview is what is sent. Each
contact gets a mail with a link of their own, so it is known who answered, and one link can be withdrawn alone.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor
from as2certs.mail import outbox
from as2certs.mail.models import Attachment, Message
from as2certs.mail.outbox import AttachedFile
from as2certs.mail.sealed_values import fill_in, unseal_values
from as2certs.time_format import format_moment
from identities.certificates.public_files import public_file
from identities.stations import AbstractCertificate
from partners.models import Contact
from rotations.execution.version_token import version_token
from rotations.letters import access_links, mail_templates
from rotations.letters.calendar_invite import FILE_NAME as ENTRY_NAME
from rotations.letters.calendar_invite import CalendarMethod, build_calendar_file
from rotations.letters.contacts import SupportContact, contacts_for, support_for_rotation
from rotations.letters.instructions import Instruction, PartnerTask, build_instructions
from rotations.models import Letter, Link, Participant, Phrase, Rotation, Step

#: What a letter carries in the way of a calendar entry.
CALENDAR_METHODS: Mapping[str, CalendarMethod] = {
    Letter.Kind.ANNOUNCEMENT: "REQUEST",
    Letter.Kind.MOVED: "REQUEST",
    Letter.Kind.CANCELLED: "CANCEL",
    Letter.Kind.REPLANNED: "REQUEST",
}
#: Letters that bring the certificate.
CERTIFICATE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.NUDGE, Letter.Kind.EMERGENCY)
#: Letters that ask for an answer.
ANSWERABLE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.NUDGE, Letter.Kind.MOVED, Letter.Kind.REPLANNED)
#: What stands in the event of a reminder between its rung and what lets the same rung speak anew.
EVENT_SEPARATOR = "@"


@dataclass(frozen=True)
class Fact:
    """A line of the table in a letter; ``mono`` for what is compared digit by digit."""

    label: str
    value: str
    mono: bool = False

    @property
    def breakable(self) -> SafeString:
        """Return the value for HTML: what has colons may be broken behind each, and is copied without a gap."""
        return format_html_join(SafeString(":<wbr>"), "{}", ((part,) for part in self.value.split(":")))


@dataclass(frozen=True)
class ComposedLetter:
    """A letter as it would go to one contact, not stored yet."""

    contact: Contact
    message: Message
    files: Sequence[AttachedFile]

    @property
    def text(self) -> str:
        """Return the plain text with the link in its place, for whoever may know it."""
        return fill_in(self.message.text, unseal_values(self.message))

    @property
    def html(self) -> str:
        """Return the HTML with the link in its place, for whoever may know it."""
        return fill_in(self.message.html, unseal_values(self.message))


@dataclass(frozen=True)
class LetterContent:
    """What a letter to one contact says, before it is drawn as text and HTML: all its templates are given.

    Making one is cheap, so those of many partners can be compared with what somebody has looked at.
    """

    contact: Contact
    says: Mapping[str, Any]

    @property
    def subject(self) -> str:
        return str(self.says["subject"])

    @property
    def parts(self) -> tuple[str, str, str]:
        """Return short hashes of whom it goes to, of its subject, and of the rest."""
        rest = sorted((name, repr(value)) for name, value in self.says.items() if name != "subject")
        facts = [self.contact.name, self.contact.email], self.subject, rest
        recipient, subject, text = (version_token(part, length=12) for part in facts)
        return recipient, subject, text


@dataclass(frozen=True)
class RotationContext:
    """What all letters about a rotation have in common, read once, however many partners they go to."""

    rotation: Rotation
    installation: Installation
    desk: SupportContact
    wording: mail_templates.MailTextSet
    now: datetime

    @classmethod
    def of(cls, rotation: Rotation, *, now: datetime) -> RotationContext:
        """Read what the letters about a rotation are made of."""
        partners = rotation.participants.values("partner")
        return cls(
            rotation,
            Installation.current(),
            support_for_rotation(rotation),
            mail_templates.MailTextSet.of(partners),
            now,
        )

    @cached_property
    def our_ids(self) -> str:
        """Name the AS2 IDs of ours that a change concerns."""
        rotation = self.rotation
        return rotation.holder.as2_id if rotation.side == "own" else _our_ids(rotation)

    @cached_property
    def files(self) -> Mapping[str, AttachedFile]:
        """Return our new certificate in the forms that systems take, by form."""
        assert self.rotation.new is not None  # approved rotations have a successor
        made = {form: public_file(self.rotation.new, form) for form in CERTIFICATE_FORMATS}
        return {form: AttachedFile(file.name, file.content_type, file.content) for form, file in made.items()}


#: In which forms our certificate goes out; PKCS#7 goes to partners that prefer it.
CERTIFICATE_FORMATS = ("pem", "der", "zip", "p7b")


@dataclass(frozen=True)
class LetterContext:
    """What all letters of a participant have in common, read once."""

    participant: Participant
    steps: Sequence[Step]
    common: RotationContext

    @classmethod
    def of(
        cls, participant: Participant, *, now: datetime, common: RotationContext | None = None
    ) -> LetterContext:
        """Read what a participant's letters are made of; works on prefetched steps without a query."""
        common = common or RotationContext.of(participant.rotation, now=now)
        return cls(participant, list(participant.steps.all()), common)

    @property
    def installation(self) -> Installation:
        return self.common.installation

    @property
    def desk(self) -> SupportContact:
        return self.common.desk

    @property
    def now(self) -> datetime:
        return self.common.now

    @property
    def rotation(self) -> Rotation:
        return self.participant.rotation

    @property
    def zone(self) -> str:
        return self.participant.partner.time_zone

    @property
    def task(self) -> PartnerTask:
        rotation, starts, ends = self.rotation, self.participant.starts, self.participant.ends
        assert starts is not None  # approved rotations have a window
        assert ends is not None
        old_ends = rotation.old.not_after if rotation.old else None
        return PartnerTask(rotation.side, self.steps, starts, ends, old_ends, rotation.is_emergency)

    @property
    def until(self) -> datetime:
        """Return until when an answer is asked for: never later than the window."""
        return answer_deadline(self.participant)

    @property
    def todo(self) -> list[Instruction]:
        return build_instructions(self.task)

    @property
    def asked(self) -> str:
        """Say in a few words what is asked until when: "use the new one from now on by Thu 3 Dec 2026, 22:00 CST"."""
        task = self.task
        if task.emergency:
            return task.in_short
        if task.changes_together:
            return f"{task.in_short} on {self.participant.format_window(self.zone)}"
        return f"{task.in_short} by {format_moment(self.until, self.zone)}"

    @cached_property
    def values(self) -> Mapping[str, str]:
        """Return what the placeholders stand for; the reader's name is added for each contact."""
        rotation, partner = self.rotation, self.participant.partner
        assert rotation.new is not None  # approved rotations have a successor
        return {
            "partner": partner.name,
            "our_name": self.installation.name,
            "station": rotation.holder.name,
            "as2_id": self.common.our_ids,
            "their_as2_id": partner.as2_id,
            "what_to_do": self.asked,
            "until": format_moment(self.until, self.zone),
            "window": self.participant.format_window(self.zone),
            "window_utc": self.participant.format_window("UTC"),
            "old_ends": format_moment(rotation.old.not_after, self.zone, "day") if rotation.old else "now",
            "fingerprint": rotation.new.short_name,
            "our_contact": self.desk.name,
            "our_email": self.desk.email,
            "our_phone": self.desk.phone,
        }


def answer_deadline(participant: Participant) -> datetime:
    """Return until when a participant is asked to answer (UTC): as extended, or the beginning of its window."""
    assert participant.starts is not None  # approved rotations have a window
    return participant.answer_by or participant.starts


def _our_ids(rotation: Rotation) -> str:
    """Name the AS2 IDs of ours that trade with the partner whose certificate changes."""
    assert rotation.partner is not None  # asked for the partner's side only
    trading = rotation.partner.partnerships.filter(archived_at=None).select_related("identity")
    return ", ".join(partnership.identity.as2_id for partnership in trading) or "ours"


# What a letter says.


def compose_letter(
    kind: str, participant: Participant, contact: Contact, *, url: str, now: datetime, note: str = ""
) -> ComposedLetter:
    """Write a letter to one contact, with ``url`` as the link to their page; nothing is stored.

    ``note`` is what somebody here wants said with it, in their own words. Raises UnknownPlaceholder when the
    operator's wording has one.
    """
    scene = LetterContext.of(participant, now=now)
    return render(scene, kind, build_content(scene, kind, contact, note=note), url=url)


def build_content(scene: LetterContext, kind: str, contact: Contact, *, note: str = "") -> LetterContent:
    """Say what a letter to one contact says. Raises UnknownPlaceholder when the operator's wording has one."""
    words = _operator_texts(scene, kind, contact)
    others = [c.name for c in contacts_for(scene.participant.partner, kind) if c.pk != contact.pk]
    says = {
        "our_name": scene.installation.name,
        "is_test": scene.rotation.holder.is_test,
        "subject": words.subject,
        "lead": _lead_sentence(scene, kind),
        "opening": words.opening,
        "note": note,
        "closing": words.closing,
        "steps": _steps(scene, kind),
        "facts": _facts(scene, kind),
        "files": [
            *(file.name for file in _certificate_files(scene, kind)),
            *([ENTRY_NAME] if _calendar_method(scene.participant, kind) else []),
        ],
        "others": ", ".join(others),
        "desk": scene.desk,
        "partner": scene.participant.partner.name,
        "asks": kind in (*ANSWERABLE_KINDS, Letter.Kind.EMERGENCY),
    }
    return LetterContent(contact, says)


def render(scene: LetterContext, kind: str, outlined: LetterContent, *, url: str) -> ComposedLetter:
    """Write a letter out as text and HTML, with its files and ``url`` as the link; nothing is stored."""
    contact = outlined.contact
    message = outbox.render_mail(
        "partner",
        to=contact.email,
        to_name=contact.name,
        key=f"partner:{kind}:{scene.participant.uid}:{contact.uid}:{scene.now.isoformat()}",
        kind=f"partner_{kind}",
        context=outlined.says,
        now=scene.now,
        time_zone=scene.zone,
        reply_to=scene.desk.email,
        private={"link": url},
    )
    return ComposedLetter(
        contact, message, [*_certificate_files(scene, kind), *_calendar_files(scene, kind, contact)]
    )


def _operator_texts(scene: LetterContext, kind: str, contact: Contact) -> mail_templates.MailText:
    values = {**scene.values, "contact": contact.name}
    partner, rotation = scene.participant.partner, scene.rotation
    match kind:
        case Letter.Kind.ANNOUNCEMENT:
            own = rotation.side == "own"
            phrase = Phrase.Kind.ANNOUNCEMENT if own else Phrase.Kind.YOUR_CHANGE
            return scene.common.wording.of_partner(phrase, partner).filled(values)
        case Letter.Kind.NUDGE:
            return scene.common.wording.of_partner(Phrase.Kind.NUDGE, partner).filled(values)
        case _:
            return FIXED_TEXTS[kind].filled(values)


#: Wording that is not the operator's to change: it says what happened.
FIXED_TEXTS: Mapping[str, mail_templates.MailText] = {
    Letter.Kind.MOVED: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: the certificate change moves to {window}",
        "Hello {contact},\n\nthe change of the AS2 certificate between {partner} and us has another time now. The "
        "attached calendar entry replaces the earlier one. What you have installed already stays as it is.",
        "",
    ),
    Letter.Kind.REPLANNED: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: you have other steps now, {what_to_do}",
        "Hello {contact},\n\nwe know something else now of what your system or ours can hold. So in the change of the "
        "AS2 certificate between {partner} and us your steps are others than we wrote before: those below hold. The "
        "time stays as it is.",
        "",
    ),
    Letter.Kind.CANCELLED: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: the certificate change is called off",
        "Hello {contact},\n\nthe change of the AS2 certificate between {partner} and us is called off. Go on with the "
        "old certificate. If you have added the new one already, it does no harm; it will not be used.",
        "",
    ),
    Letter.Kind.ROLLED_BACK: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: we are back on the old certificate",
        "Hello {contact},\n\nwe have taken the change of the AS2 certificate back and use the old one again. Please "
        "keep the old one, or put it back now if you have replaced it.",
        "",
    ),
    Letter.Kind.NOT_NOW: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: wait, please do not change certificates yet",
        "Hello {contact},\n\nour side is not ready to change certificates at the agreed time. Please keep the old one "
        "until you hear from us, even when the agreed time comes: changed alone, messages between us would fail.",
        "",
    ),
    Letter.Kind.NOW: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: we have changed, please change now",
        "Hello {contact},\n\nwe have changed to the new certificate just now, later than agreed. Please change "
        "now too, and tell us on your page whether messages flow.",
        "",
    ),
    Letter.Kind.WARNED: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: the old certificate goes in a week, do you use the new one?",
        "Hello {contact},\n\nnothing has shown us yet that {partner} uses the new certificate. In a week we stop "
        "accepting the old one; messages that still use it will fail then. Please switch now, and tell us so.",
        "",
    ),
    Letter.Kind.EMERGENCY: mail_templates.MailText(
        "URGENT: {our_name}, AS2 ID {as2_id}: replace the AS2 certificate now",
        "Hello {contact},\n\nthe private key of the old AS2 certificate may be known to somebody else. We are "
        "replacing it at this moment, and use the new one only: until you have replaced it too, messages between us "
        "fail. Please don’t wait for a window, and don’t trust anything any more that uses the old one.",
        "If you are unsure whether this mail is genuine, call us at a number that you know from elsewhere, and compare "
        "the fingerprint.",
    ),
    Letter.Kind.ANSWERED: mail_templates.MailText(
        "{our_name}, AS2 ID {as2_id}: we stay with {window}",
        "Hello {contact},\n\nthank you for proposing another time for the change of the AS2 certificate. We can’t "
        "make it then and stay with the time below. If that is impossible for you, please call us.",
        "",
    ),
}


def _lead_sentence(scene: LetterContext, kind: str) -> str:
    """Say the whole mail in its first line."""
    own = scene.rotation.side == "own"
    ours = f"{scene.installation.name} changes its AS2 certificate ({scene.rotation.holder.as2_id})"
    match kind:
        case Letter.Kind.MOVED:
            return f"The change moves to {scene.participant.format_window(scene.zone)}."
        case Letter.Kind.REPLANNED:
            return f"You have other steps now: please {scene.asked}."
        case Letter.Kind.CANCELLED:
            return "The change is called off: keep the old certificate."
        case Letter.Kind.ROLLED_BACK:
            return "The change was taken back: the old certificate is in use again."
        case Letter.Kind.NOT_NOW:
            return "Please wait: keep the old certificate until you hear from us."
        case Letter.Kind.NOW:
            return "We have changed: please change to the new certificate now."
        case Letter.Kind.WARNED:
            return "The old certificate goes in a week: please switch to the new one now, and tell us."
        case Letter.Kind.EMERGENCY:
            return "Urgent: replace the old certificate now, its private key may be known to somebody else."
        case Letter.Kind.ANSWERED:
            return f"We stay with {scene.participant.format_window(scene.zone)}."
        case Letter.Kind.NUDGE:
            return f"Please answer by {format_moment(scene.until, scene.zone)}: {scene.asked}."
        case _:
            return f"{ours if own else 'Your AS2 certificate changes'}: please {scene.asked}."


def _steps(scene: LetterContext, kind: str) -> list[dict[str, Any]]:
    if kind in (Letter.Kind.CANCELLED, Letter.Kind.ROLLED_BACK, Letter.Kind.NOT_NOW):
        return []
    return [
        {"title": i.title, "why": i.why, "when": format_timing(i, scene.zone), "done": i.done}
        for i in scene.todo
    ]


def format_timing(instruction: Instruction, zone: str) -> str:
    """Tell when an instruction is to be followed, on the clock of a zone: "exactly at …", "by …", "from … on"."""
    if instruction.moment is None:
        return ""
    at = format_moment(instruction.moment, zone)
    return {"at": f"exactly at {at}", "by": f"by {at}", "from": f"from {at} on", "": ""}[instruction.when]


def _facts(scene: LetterContext, kind: str) -> list[Fact]:
    rotation, zone, partner = scene.rotation, scene.zone, scene.participant.partner
    assert rotation.new is not None  # approved rotations have a successor
    values = scene.values
    found = [
        Fact("Our AS2 ID", values["as2_id"], mono=True),
        Fact("Your AS2 ID", partner.as2_id, mono=True),
        Fact("New certificate", rotation.new.common_name or rotation.new.subject),
        *certificate_facts(rotation.new, zone),
    ]
    if rotation.old is not None:
        ends = f"until {format_moment(rotation.old.not_after, zone)}"
        found.append(Fact("Old certificate", f"{rotation.old.short_name}, {ends}"))
    if kind not in (Letter.Kind.CANCELLED, Letter.Kind.EMERGENCY):
        found += window_facts(scene.participant, zone)
    if kind in ANSWERABLE_KINDS:
        found.append(Fact("Answer by", format_moment(scene.until, zone, "offset")))
    found.append(Fact("Questions", scene.desk.told))
    return found


def certificate_facts(certificate: AbstractCertificate, zone: str) -> list[Fact]:
    """Return what of a certificate is compared: fingerprints, serial number, validity."""
    return [
        Fact("SHA-256", pki.format_fingerprint(certificate.sha256), mono=True),
        Fact("SHA-1", pki.format_fingerprint(certificate.sha1), mono=True),
        Fact("Serial", pki.serial_hex(int(certificate.serial)), mono=True),
        Fact(
            "Valid",
            " to ".join(
                format_moment(at, zone, "day") for at in (certificate.not_before, certificate.not_after)
            ),
        ),
    ]


def window_facts(participant: Participant, zone: str) -> list[Fact]:
    """Return a participant's window on the partner's clock first, then in UTC."""
    found = [Fact("Window", participant.format_window(zone))]
    return found if zone == "UTC" else [*found, Fact("in UTC", participant.format_window("UTC"))]


# What goes with it.


def _certificate_files(scene: LetterContext, kind: str) -> list[AttachedFile]:
    """Return our new certificate in the forms that systems take; a zip too, since gateways strip bare ones."""
    if scene.rotation.side != "own" or kind not in CERTIFICATE_KINDS:
        return []
    wanted = CERTIFICATE_FORMATS if scene.participant.partner.wants_pkcs7 else CERTIFICATE_FORMATS[:-1]
    return [scene.common.files[form] for form in wanted]


def _calendar_method(participant: Participant, kind: str) -> CalendarMethod | None:
    """Return what a letter does to the calendar; an emergency takes away what was planned, if anything was."""
    if kind == Letter.Kind.EMERGENCY:
        return None if participant.calendar_sequence is None else "CANCEL"
    return CALENDAR_METHODS.get(kind)


def _calendar_files(scene: LetterContext, kind: str, contact: Contact) -> list[AttachedFile]:
    method = _calendar_method(scene.participant, kind)
    if method is None:
        return []
    return [
        build_calendar_file(
            scene.participant,
            method=method,
            sequence=_next_sequence(scene.participant),
            our_name=scene.installation.name,
            desk=scene.desk,
            attendee=contact.email,
            now=scene.now,
        )
    ]


def _next_sequence(participant: Participant) -> int:
    return 0 if participant.calendar_sequence is None else participant.calendar_sequence + 1


# Sending it.


def send_letters(
    kind: str,
    participant: Participant,
    contacts: Iterable[Contact],
    *,
    by: Actor,
    now: datetime,
    event: str = "",
    note: str = "",
    common: RotationContext | None = None,
) -> list[Letter]:
    """Queue a letter to each of these contacts, each with a link of its own; call it in the change's transaction.

    ``event`` makes a letter go once per participant and contact: a second call with the same one queues nothing. Of a
    reminder it is the rung, ``ANEW``, and what that counts from, such as "after 7@2026-11-23T12:00:00+00:00".
    """
    scene = LetterContext.of(participant, now=now, common=common)
    sent = [
        letter
        for contact in contacts
        if (letter := _send_letter(scene, kind, contact, by=by, event=event or now.isoformat(), note=note))
    ]
    if sent and _calendar_method(participant, kind):
        participant.calendar_sequence = _next_sequence(participant)
        participant.save(update_fields=["calendar_sequence"])
    return sent


def _send_letter(
    scene: LetterContext, kind: str, contact: Contact, *, by: Actor, event: str, note: str
) -> Letter | None:
    participant = scene.participant
    key = outbox.fit_key(f"partner:{kind}:{participant.uid}:{contact.uid}:{event}")
    if Message.objects.filter(key=key).exists():
        return None
    fresh = access_links.create_link(
        participant.partner, participant=participant, contact=contact, by=by, now=scene.now
    )
    draft = render(scene, kind, build_content(scene, kind, contact, note=note), url=fresh.url)
    draft.message.key = key
    rung = event.partition(EVENT_SEPARATOR)[0] if kind == Letter.Kind.NUDGE else ""
    return store_letter(draft, kind, link=fresh.link, now=scene.now, rung=rung)


def store_letter(
    draft: ComposedLetter, kind: str, *, link: Link, now: datetime, rung: str = ""
) -> Letter | None:
    """Put a composed letter into the outbox, and note that it was sent; None where its key is there already."""
    stored = outbox.store_messages([draft.message])
    if not stored:
        return None
    Attachment.objects.bulk_create(
        Attachment(message=stored[0], name=f.name, content_type=f.content_type, content=f.content)
        for f in draft.files
    )
    return Letter.objects.create(
        kind=kind,
        partner=link.partner,
        participant=link.participant,
        contact=draft.contact,
        link=link,
        message=stored[0],
        rung=rung[:20],
        at=now,
    )


def informed_contacts(participant: Participant, kind: str) -> list[Contact]:
    """Return the contacts of a participant that a letter about its rotation goes to; none before it was announced."""
    return contacts_for(participant.partner, kind) if participant.announced_at else []


def notify_participants(
    rotation: Rotation, kind: str, *, by: Actor, now: datetime, note: str = "", but: Collection[int] = ()
) -> int:
    """Send a letter to all who have heard of a rotation: that its window moved, or that it is called off.

    ``but`` are those (primary keys) whom it does not concern.
    """
    heard = rotation.participants.filter(removed_reason="", announced_at__isnull=False).exclude(pk__in=but)
    found = heard.select_related("partner").prefetch_related("partner__contacts").order_by("pk")
    common, count = RotationContext.of(rotation, now=now), 0
    for participant in found:
        participant.rotation = rotation
        contacts = informed_contacts(participant, kind)
        count += len(send_letters(kind, participant, contacts, by=by, now=now, note=note, common=common))
    return count


def send_proposal_refusal(participant: Participant, reason: str, *, by: Actor, now: datetime) -> None:
    """Tell a partner that we stay with the window, and why."""
    contacts = informed_contacts(participant, Letter.Kind.ANSWERED)
    send_letters(Letter.Kind.ANSWERED, participant, contacts, by=by, now=now, note=reason)
