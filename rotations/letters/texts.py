"""The texts of mails to partners that code has to choose: wording, first sentence, steps and facts.

The operator's own wording is in ``mail_templates``, what the partner has to do in ``instructions``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from as2certs import pki
from as2certs.time_format import format_exact_moment, format_moment
from identities.stations import AbstractCertificate
from partners.models import Contact
from rotations.letters import mail_templates
from rotations.letters.context import LetterContext
from rotations.letters.instructions import Instruction
from rotations.models import Letter, Participant, Phrase
from rotations.notifications.thresholds import format_expiry

#: Letters that request an answer.
ANSWERABLE_KINDS = (Letter.Kind.ANNOUNCEMENT, Letter.Kind.NUDGE, Letter.Kind.MOVED, Letter.Kind.REPLANNED)


@dataclass(frozen=True)
class Fact:
    """A row of the table in a letter; ``mono`` for values that are compared digit by digit."""

    label: str
    value: str
    mono: bool = False

    @property
    def breakable(self) -> SafeString:
        """Return the value for HTML: it may wrap after each colon, and is copied without spaces."""
        return format_html_join(SafeString(":<wbr>"), "{}", ((part,) for part in self.value.split(":")))


def letter_text(context: LetterContext, kind: str, contact: Contact) -> mail_templates.MailText:
    """Return the wording of a letter with its placeholders filled in. Raises UnknownPlaceholder."""
    values = {**context.placeholder_values, "contact": contact.name}
    partner = context.participant.partner
    match kind:
        case Letter.Kind.ANNOUNCEMENT:
            own = context.rotation.side == "own"
            phrase = Phrase.Kind.ANNOUNCEMENT if own else Phrase.Kind.YOUR_CHANGE
            return context.shared.texts.of_partner(phrase, partner).filled(values)
        case Letter.Kind.NUDGE:
            return context.shared.texts.of_partner(Phrase.Kind.NUDGE, partner).filled(values)
        case Letter.Kind.MOVED if context.participant.changes_when_ready:
            return PHASED_MOVED_TEXT.filled(values)
        case _:
            return FIXED_TEXTS[kind].filled(values)


#: That another day is the last one where each partner changes when it is ready.
PHASED_MOVED_TEXT = mail_templates.MailText(
    "{our_name}, AS2 ID {as2_id}: you can change to the new certificate {window}",
    "Hello {contact},\n\nthe change of the AS2 certificate between {partner} and us has another last day now. The "
    "attached calendar entry replaces the earlier one. You still switch when you are ready, and what you have "
    "installed already stays as it is.",
    "",
)
#: Wording that operators can't change, since it says what happened.
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


def lead_sentence(context: LetterContext, kind: str) -> str:
    """Return the first sentence, which sums up the letter."""
    own = context.rotation.side == "own"
    ours = f"{context.our_name} changes its AS2 certificate ({context.rotation.holder.as2_id})"
    match kind:
        case Letter.Kind.MOVED if context.participant.changes_when_ready:
            return f"You can switch {context.participant.format_window(context.zone)}."
        case Letter.Kind.MOVED:
            return f"The change moves to {context.participant.format_window(context.zone)}."
        case Letter.Kind.REPLANNED:
            return f"You have other steps now: please {context.request_text}."
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
            return f"We stay with {context.participant.format_window(context.zone)}."
        case Letter.Kind.NUDGE:
            return f"Please answer by {context.until}: {context.request_text}."
        case Letter.Kind.ANNOUNCEMENT if context.participant.changes_when_ready:
            return f"{ours}: please {context.request_text}. {when_we_change(context)}"
        case _:
            return f"{ours if own else 'Your AS2 certificate changes'}: please {context.request_text}."


def when_we_change(context: LetterContext) -> str:
    """Return when we change for a partner that changes when it is ready, as a sentence."""
    frozen = context.frozen_until
    if frozen is None:
        return "We change for you as soon as you have answered."
    if context.participant.ends is not None and frozen >= context.participant.ends:
        return f"{format_frozen(context, frozen)} We write to you about another time."
    return f"{format_frozen(context, frozen)} If you have answered by then, we change for you after that."


def format_frozen(context: LetterContext, until: datetime) -> str:
    """Return that nothing is changed for a partner before a moment, as a sentence."""
    return f"We change nothing until {format_exact_moment(until, context.zone)}."


def step_rows(context: LetterContext, kind: str) -> list[dict[str, Any]]:
    if kind in (Letter.Kind.CANCELLED, Letter.Kind.ROLLED_BACK, Letter.Kind.NOT_NOW):
        return []
    return [
        {
            "title": i.title,
            "why": i.why,
            "when": format_timing(i, context),
            "done": i.done,
        }
        for i in context.instructions(announces=kind == Letter.Kind.ANNOUNCEMENT)
    ]


def format_timing(instruction: Instruction, context: LetterContext) -> str:
    """Return when an instruction applies, in the partner's time zone: "exactly at …", "by …", "from … on".

    Never by a moment that has passed: what is not done by then is requested as soon as possible. Nor at the agreed time
    while the partner has to wait.
    """
    if instruction.moment is None:
        return ""
    found = context.next_action
    if instruction.when == "at" and instruction.is_open and found.must_keep_old:
        return "not before you hear from us"
    if instruction.when in ("at", "by") and instruction.moment <= context.now:
        if not instruction.is_open:
            return ""
        return "now" if instruction.when == "at" else "as soon as possible"
    at = format_exact_moment(instruction.moment, context.zone)
    return {"at": f"exactly at {at}", "by": f"by {at}", "from": f"from {at} on", "": ""}[instruction.when]


def letter_facts(context: LetterContext, kind: str) -> list[Fact]:
    """Return the table of a letter: AS2 IDs, certificates, window, deadline and whom to ask."""
    rotation, zone, partner = context.rotation, context.zone, context.participant.partner
    assert rotation.new is not None  # approved rotations have a successor
    facts = [
        Fact("Our AS2 ID", context.shared.our_ids, mono=True),
        Fact("Your AS2 ID", partner.as2_id, mono=True),
        Fact("New certificate", rotation.new.display_name),
        *certificate_facts(rotation.new, zone),
    ]
    if rotation.old is not None:
        ends = f"until {format_moment(rotation.old.not_after, zone)}"
        facts.append(Fact("Old certificate", f"{rotation.old.short_name}, {ends}"))
    if kind not in (Letter.Kind.CANCELLED, Letter.Kind.EMERGENCY):
        facts += window_facts(context.participant, zone)
    if kind in ANSWERABLE_KINDS:
        facts += deadline_facts(context)
    facts.append(Fact("Questions", context.support.summary))
    return facts


def deadline_facts(context: LetterContext) -> list[Fact]:
    """Return the moments ahead that a participant has to keep, each by its own name; not for what is done or waived."""
    facts = []
    if context.deadline is not None and context.next_action.is_asked:
        facts.append(Fact("Answer by", format_exact_moment(context.deadline, context.zone, "offset")))
    if context.open_install_by is not None:
        label = "Add it by" if context.rotation.side == "own" else "Load its key by"
        facts.append(Fact(label, format_exact_moment(context.open_install_by, context.zone, "offset")))
    return facts


def certificate_facts(certificate: AbstractCertificate, zone: str) -> list[Fact]:
    """Return the facts of a certificate that people compare: fingerprints, serial number, validity."""
    starts = format_moment(certificate.not_before, zone, "day")
    ends = format_moment(certificate.not_after, zone, "day")
    return [
        Fact("SHA-256", pki.format_fingerprint(certificate.sha256), mono=True),
        Fact("SHA-1", pki.format_fingerprint(certificate.sha1), mono=True),
        Fact("Serial", pki.serial_hex(int(certificate.serial)), mono=True),
        Fact("Valid", f"{starts} to {ends}"),
    ]


def window_facts(participant: Participant, zone: str) -> list[Fact]:
    """Return a participant's window in the given time zone, and in UTC if that is another one."""
    facts = [Fact("The change", participant.format_window(zone))]
    return facts if zone == "UTC" else [*facts, Fact("in UTC", participant.format_window("UTC"))]


# Requests for a partner's own new certificate.

#: What the partner has to do, in this order: title and reason.
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


def request_lead_sentence(our_name: str, not_after: datetime, *, now: datetime, zone: str) -> str:
    """Return the first sentence of a request, which sums it up."""
    when = f"{format_expiry(not_after, now, zone)}, on {format_moment(not_after, zone, 'day')}"
    return f"Your certificate for AS2 messages with {our_name} {when}: please hand in the new one."
