"""Compose a letter to a partner's contact: its content, its files and its calendar entry.

A preview and the mail that is sent are composed by the same functions.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from as2certs.mail.models import Message
from as2certs.mail.outbox import AttachedFile, Mail
from as2certs.mail.sealed_values import fill_in
from partners.models import Contact
from rotations.execution.version_token import version_token
from rotations.letters import texts
from rotations.letters.calendar_invite import FILE_NAME, CalendarMethod, build_calendar_file
from rotations.letters.contacts import contacts_for
from rotations.letters.context import CERTIFICATE_FORMATS, LetterContext
from rotations.models import Letter, Participant

#: The calendar entry that a letter carries, if any.
CALENDAR_METHODS: Mapping[str, CalendarMethod] = {
    Letter.Kind.ANNOUNCEMENT: "REQUEST",
    Letter.Kind.MOVED: "REQUEST",
    Letter.Kind.CANCELLED: "CANCEL",
    Letter.Kind.REPLANNED: "REQUEST",
}
#: Letters with our certificate attached.
CERTIFICATE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.NUDGE, Letter.Kind.EMERGENCY)


@dataclass(frozen=True)
class ComposedLetter:
    """A letter to one contact, not queued yet."""

    contact: Contact
    mail: Mail

    @cached_property
    def message(self) -> Message:
        """Return the rendered mail, unsaved, with a placeholder for the link."""
        return self.mail.render()

    @property
    def text(self) -> str:
        """Return the plain text with the link, for the contact or a preview."""
        return fill_in(self.message.text, self.mail.private)

    @property
    def html(self) -> str:
        """Return the HTML with the link, for the contact or a preview."""
        return fill_in(self.message.html, self.mail.private)


@dataclass(frozen=True)
class LetterContent:
    """The template variables of a letter to one contact.

    They are cheap to compute, so that the letters to many partners can be compared with a preview.
    """

    contact: Contact
    variables: Mapping[str, Any]

    @property
    def subject(self) -> str:
        return str(self.variables["subject"])

    @property
    def versions(self) -> tuple[str, str, str]:
        """Return short version tokens of the recipient, the subject and the rest."""
        rest = sorted((name, repr(value)) for name, value in self.variables.items() if name != "subject")
        facts = [self.contact.name, self.contact.email], self.subject, rest
        recipient, subject, text = (version_token(part, length=12) for part in facts)
        return recipient, subject, text


def build_content(context: LetterContext, kind: str, contact: Contact, *, note: str = "") -> LetterContent:
    """Return what a letter to one contact says; ``note`` is a text by one of our people.

    Raises UnknownPlaceholder if the operator's wording contains one.
    """
    text = texts.letter_text(context, kind, contact)
    others = [c.name for c in contacts_for(context.participant.partner, kind) if c.pk != contact.pk]
    variables = {
        "our_name": context.our_name,
        "is_test": context.rotation.holder.is_test,
        "subject": text.subject,
        "lead": texts.lead_sentence(context, kind),
        "opening": text.opening,
        "note": note,
        "closing": text.closing,
        "steps": texts.step_rows(context, kind),
        "facts": texts.letter_facts(context, kind),
        "files": [
            *(file.name for file in _certificate_files(context, kind)),
            *([FILE_NAME] if calendar_method(context.participant, kind) else []),
        ],
        "others": ", ".join(others),
        "desk": context.support,
        "partner": context.participant.partner.name,
        "asks": kind in (*texts.ANSWERABLE_KINDS, Letter.Kind.EMERGENCY),
    }
    return LetterContent(contact, variables)


def compose(context: LetterContext, kind: str, content: LetterContent, *, url: str, event: str) -> ComposedLetter:
    """Return the letter with its files, and with ``url`` as the contact's link.

    A second letter of this kind with the same ``event`` to the same contact is not queued.
    """
    contact = content.contact
    mail = Mail(
        template="partner",
        to=contact.email,
        to_name=contact.name,
        key=letter_key(context, kind, contact, event),
        kind=f"partner_{kind}",
        context=content.variables,
        now=context.now,
        time_zone=context.zone,
        reply_to=context.support.email,
        private={"link": url},
        attachments=[*_certificate_files(context, kind), *_calendar_files(context, kind, contact)],
        facts=letter_facts(context),
    )
    return ComposedLetter(contact, mail)


def letter_facts(context: LetterContext) -> dict[str, Any]:
    """Return what a letter says that can change before it leaves, as JSON."""
    starts, ends, deadline = context.participant.starts, context.participant.ends, context.deadline
    return {
        "window": [starts.isoformat() if starts else "", ends.isoformat() if ends else ""],
        "answer_by": deadline.isoformat() if deadline else "",
    }


def letter_key(context: LetterContext, kind: str, contact: Contact, event: str) -> str:
    """Return the key in the outbox of a letter to a contact about an event."""
    return f"partner:{kind}:{context.participant.uid}:{contact.uid}:{event}"


def _certificate_files(context: LetterContext, kind: str) -> list[AttachedFile]:
    """Return our new certificate in several formats; also zipped, since mail gateways remove bare certificates."""
    if context.rotation.side != "own" or kind not in CERTIFICATE_KINDS:
        return []
    formats = CERTIFICATE_FORMATS if context.participant.partner.wants_pkcs7 else CERTIFICATE_FORMATS[:-1]
    return [context.shared.files[name] for name in formats]


def calendar_method(participant: Participant, kind: str) -> CalendarMethod | None:
    """Return what a letter does to the calendar entry; an emergency cancels an entry that was sent before."""
    if kind == Letter.Kind.EMERGENCY:
        return None if participant.calendar_sequence is None else "CANCEL"
    return CALENDAR_METHODS.get(kind)


def _calendar_files(context: LetterContext, kind: str, contact: Contact) -> list[AttachedFile]:
    method = calendar_method(context.participant, kind)
    if method is None:
        return []
    return [
        build_calendar_file(context, method=method, sequence=next_sequence(context.participant), attendee=contact.email)
    ]


def next_sequence(participant: Participant) -> int:
    """Return the SEQUENCE of the next calendar entry to a participant."""
    return 0 if participant.calendar_sequence is None else participant.calendar_sequence + 1
