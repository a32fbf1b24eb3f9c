"""The texts of a partner's page: its headline, and the message after each answer.

"You" is the partner, "we" are whoever runs this installation.
"""

from __future__ import annotations

from dataclasses import dataclass

from as2certs.time_format import format_exact_moment, format_moment
from identities.capabilities import Support
from rotations.letters.texts import format_frozen
from rotations.models import Participant
from rotations.planning.partner_actions import Answer, ChangeProgress, PartnerAction, Question, WaitReason
from rotations.web.portal.page import PortalPage

#: What happens next after a partner proposed another time.
PROPOSAL_NEXT_STEP = "We look at it and write to you. Until then, we don’t change over for you."


@dataclass(frozen=True)
class Headline:
    """The title of the page, its main sentence and the reason; ``meaning`` is that of the sentence."""

    title: str
    lead: str
    why: str = ""
    meaning: str = "neutral"


def headline(page: PortalPage) -> Headline:
    """Return the headline of a page."""
    if page.rotation.is_emergency and not page.is_over:
        return _emergency_headline(page)
    match page.progress:
        case ChangeProgress.ASKING:
            return _asking_headline(page)
        case ChangeProgress.OPEN:
            return _open_headline(page)
        case ChangeProgress.MISSED:
            return _missed_headline(page)
        case ChangeProgress.MADE:
            return _made_headline(page)
        case ChangeProgress.GOING_BACK:
            return Headline(
                "We are going back to the old certificate",
                "Please use the old certificate again. If you have replaced it, put it back now.",
                "Something did not work with the new one. Keep the new one if your system can hold both.",
                "urgent",
            )
        case ChangeProgress.WENT_BACK:
            return Headline(
                "We went back to the old certificate",
                f"The change was taken back{_end_date(page)}: the old certificate is in use. You have "
                "nothing to do now.",
                "If the old one is no longer in your system, put it back. We write to you before we try again.",
            )
        case ChangeProgress.CALLED_OFF:
            return Headline(
                "This change is called off",
                f"We called it off{_end_date(page)}. Go on with the old certificate: you have nothing to do.",
                "If you have added the new one already, it does no harm. It will not be used.",
            )
        case ChangeProgress.COMPLETE:
            return Headline(
                "This change is complete",
                f"It ended{_end_date(page)}. You have nothing left to do. Thank you.",
                meaning="fine",
            )


def _emergency_headline(page: PortalPage) -> Headline:
    if page.is_answered:
        return Headline("The certificate is replaced", "Thank you: we have your answers.", meaning="fine")
    is_made = page.next_action.progress is ChangeProgress.MADE
    if page.is_own:
        ours = "We use the new one only" if is_made else "We are about to use the new one only"
        return Headline(
            "Urgent: replace our old certificate now",
            f"Its private key may be known to somebody else. {ours}; please replace it now.",
            "Until you have, messages between us fail, and somebody could pass for us. Compare the fingerprint with us "
            "by telephone if you are unsure.",
            "urgent",
        )
    ours = "don’t accept the old certificate any more" if is_made else "are about to accept the new certificate only"
    still = "is rejected here, and we encrypt" if is_made else "will be rejected here, and we will encrypt"
    return Headline(
        "Urgent: use your new certificate only",
        f"Its old private key may be known to somebody else. We {ours}.",
        f"What you still sign with it {still} to the new one only.",
        "urgent",
    )


def _subject_title(page: PortalPage) -> str:
    return "Our AS2 certificate changes" if page.is_own else "Your AS2 certificate changes"


def _reason_sentence(page: PortalPage) -> str:
    owner = "Our" if page.is_own else "Your"
    ends = f" ends on {page.old_ends}" if page.old_ends else " is replaced"
    stays = " Our AS2 ID and our address stay as they are." if page.is_own else ""
    return f"{owner} certificate for AS2 messages between {page.participant.partner} and us{ends}.{stays}"


def _waiting_headline(page: PortalPage) -> Headline | None:
    """Return the headline of a partner that has to wait, whatever else it is asked; None for others."""
    match page.next_action.reason:
        case WaitReason.DECLINED:
            return Headline(
                _subject_title(page),
                f"You told us that it can’t be done. We get in touch with you. {_kept_back_text(page)}".strip(),
                "If it can be done after all, just answer below: that takes your no back.",
                "soon",
            )
        case WaitReason.NOT_PREPARED:
            return Headline(
                _subject_title(page),
                "Please go on with the old certificate: our side is not prepared yet. We tell you when it is.",
                _reason_sentence(page),
                "soon",
            )
        case WaitReason.OUR_SIDE:
            return Headline(
                "Please wait: don’t change yet",
                "Our side is not ready. Keep the old certificate until you hear from us, even when the agreed time "
                "comes.",
                "Changed alone, messages between us would fail. We write to you as soon as we have changed.",
                "urgent",
            )
        case WaitReason.OTHER_TIME if page.next_action.is_about_to_switch:
            return Headline(
                "Please wait: don’t change yet",
                "You proposed another time, and we have not answered yet. Keep the old certificate until you hear from "
                "us, even when the agreed time comes.",
                "We don’t change over before that is settled.",
                "urgent",
            )
    return None


def _asking_headline(page: PortalPage) -> Headline:
    if waiting := _waiting_headline(page):
        return waiting
    if page.is_answered:
        return Headline(f"{_subject_title(page)}: we have your answers", next_step_text(page), meaning="fine")
    when_ready = ""
    if page.changes_when_ready and page.next_action.action is not PartnerAction.ADD_BESIDE:
        when_ready = f" {_when_we_change(page)}"
    elif page.changes_when_ready and not page.next_action.is_switch_early:
        when_ready = f" {_when_ready_text(page)}"
    return Headline(
        _subject_title(page),
        f"Please {page.context.request_text}.",
        f"{_reason_sentence(page)}{when_ready}",
        "urgent" if page.is_soon else "needs_you",
    )


def _when_ready_text(page: PortalPage) -> str:
    """Return when a partner that has not answered can switch where each changes when it is ready."""
    if (frozen := page.context.frozen_until) is None:
        return f"You can switch as soon as you have answered, until {page.last_moment}."
    if frozen >= page.ends:
        return f"{format_frozen(page.context, frozen)} We write to you about another time."
    return f"{format_frozen(page.context, frozen)} After that you can switch, until {page.last_moment}."


def _kept_back_text(page: PortalPage) -> str:
    """Return that we don't change before a person has decided about this partner's objection; "" if we do."""
    if not page.next_action.awaits_decision:
        return ""
    together = " Please keep the old certificate, too." if page.changes_together else ""
    return f"Until then, we don’t change over for you.{together}"


def _open_headline(page: PortalPage) -> Headline:
    if waiting := _waiting_headline(page):
        return waiting
    if page.changes_together:
        return Headline(
            "It is time: both of us change now",
            f"Replace the old certificate by the new one: {page.window}.",
            "Pause your queue to us until it is done.",
            "urgent",
        )
    if not page.we_switch:
        return _asking_headline(page)
    if page.next_action.reason is WaitReason.OTHER_TIME:
        return Headline(
            _subject_title(page),
            f"You proposed another time, and we have not answered yet. {_kept_back_text(page)}",
            "Go on with the old certificate. If the agreed time suits you after all, call us.",
            "soon",
        )
    installed = page.next_action.find_question(Question.INSTALLED)
    if page.open_question is not None and not (installed and installed.is_answered):
        return Headline(
            "It is time, and we don’t have your answer",
            f"We change over between now and {page.last_moment}. Please answer now, or call us.",
            _reason_sentence(page),
            "urgent",
        )
    return Headline(
        "It is time: we are changing over",
        f"Between now and {page.last_moment} we begin to use the new certificate. Keep both ready.",
        "Look at this page again afterwards, and tell us whether messages flow.",
        "soon",
    )


def _missed_headline(page: PortalPage) -> Headline:
    if not page.we_switch and not page.changes_together:
        if waiting := _waiting_headline(page):
            return waiting
        lead = "Please use the new certificate now" if page.is_own else "Please switch to your new certificate now"
        ends = f"The old one ends on {page.old_ends}, and is not accepted after that." if page.old_ends else ""
        return Headline(_subject_title(page), f"{lead}.", ends, "urgent")
    over = f"it was until {page.last_moment}" if page.changes_when_ready else page.window
    return Headline(
        "The change was not made in its time",
        f"The time for it is over: {over}. We have not changed over yet, so go on with the old certificate.",
        "We get in touch with you about another time. What you have told us stays as it is.",
        "soon",
    )


def _made_headline(page: PortalPage) -> Headline:
    made = page.made_at
    since = f"Since {format_moment(made, page.zone)} " if made else ""
    if not page.we_switch:
        title = "Thank you: you have switched"
        lead = "The new certificate is in use between us."
    elif page.is_own:
        title = "We have changed over" if made else "We are changing over"
        lead = f"{since}we use the new certificate." if made else "We are beginning to use the new certificate."
    else:
        title = "We use your new certificate" if made else "We begin to use your new certificate"
        lead = f"{since}we use your new certificate." if made else "The change is being made now."
    works = page.next_action.find_question(Question.WORKS)
    is_asked = works is not None and not works.is_answered
    if is_asked and page.changes_together and page.next_action.action is PartnerAction.SWITCH_NOW:
        return Headline(
            title,
            f"{_capitalize(lead)} If you have not changed yet, please do it now. Does everything work?",
            _test_hint(page),
            "urgent",
        )
    if is_asked:
        return Headline(title, f"{_capitalize(lead)} Does everything work?", _test_hint(page), "needs_you")
    if page.participant.works is False:
        return Headline(title, "You told us that something does not work. We look into it and call you.", "", "urgent")
    return Headline(title, f"{_capitalize(lead)} {next_step_text(page)}", "", "fine")


def _test_hint(page: PortalPage) -> str:
    if page.is_own:
        return "Send us a message and look at its MDN, and look at the next message of ours."
    return "Look at the next message of ours, and at its MDN."


def _capitalize(text: str) -> str:
    return text[:1].upper() + text[1:]


def _end_date(page: PortalPage) -> str:
    ended = page.rotation.ended_at
    return f" on {format_moment(ended, page.zone)}" if ended else ""


def next_step_text(page: PortalPage) -> str:
    """Return what comes next for a partner: the open question, or what happens without its help."""
    question = page.open_question
    if question is not None:
        return f"Next: {question.title[:1].lower()}{question.title[1:]}."
    match page.progress:
        case ChangeProgress.ASKING if page.next_action.reason is WaitReason.OTHER_TIME:
            return f"You proposed another time. {PROPOSAL_NEXT_STEP}"
        case ChangeProgress.ASKING if Answer.SLOTS in page.answers:
            return "As soon as everybody has answered, we write to you which time it is."
        case ChangeProgress.ASKING if page.changes_together:
            return f"Nothing is left to do until then. Both of us change exactly then: {page.window}."
        case ChangeProgress.ASKING if page.changes_when_ready:
            return f"Nothing is left to do. {_when_we_change(page)}"
        case ChangeProgress.ASKING if page.we_switch:
            return f"Nothing is left to do until then. We change over on {page.window}."
        case ChangeProgress.MADE:
            return _later_text(page)
    return "Nothing else is asked of you now."


def _when_we_change(page: PortalPage) -> str:
    """Return when we change for a partner that is ready, where each changes when it is."""
    context = page.context
    if (frozen := context.frozen_until) is not None:
        after = "and change for you after that" if frozen < page.ends else "and write to you about another time"
        return f"{format_frozen(context, frozen).removesuffix('.')}, {after}."
    if page.now < page.starts:
        return f"We change for you from {format_exact_moment(page.starts, page.zone)} on."
    return "We change for you now, usually within minutes: look at this page again then."


def _later_text(page: PortalPage) -> str:
    later = next((question for question in page.questions if question.later), None)
    if later is None:
        return "Nothing is left to do."
    return f"Later: {later.title[:1].lower()}{later.title[1:]}. {later.later}"


# Messages after an answer


def installed_message(page: PortalPage) -> str:
    """Return the message after a partner confirmed the installation."""
    if page.participant.evidence == Participant.Evidence.STRONG:
        return (
            f"Thank you. The fingerprint is that of the new certificate, so it is the right one. {next_step_text(page)}"
        )
    return (
        "Thank you, noted as you say. If your system shows the fingerprint, paste it too: then both of us know that it "
        f"is the right certificate. {next_step_text(page)}"
    )


def time_message(page: PortalPage) -> str:
    """Return the message after a partner agreed to the time."""
    return f"Thank you: you agree to {page.window}. {next_step_text(page)}"


def slots_message(page: PortalPage) -> str:
    """Return the message after a partner answered which offered times suit."""
    availability = (
        f"you can at {len(page.available_slots)} of {len(page.slots)} times"
        if page.available_slots
        else "none of the times suits you"
    )
    return f"Thank you, noted: {availability}. {next_step_text(page)}"


def proposal_message(page: PortalPage) -> str:
    """Return the message after a partner proposed another time."""
    next_step = f" {next_step_text(page)}" if page.open_question else ""
    return f"Thank you: you propose {page.proposed}. {PROPOSAL_NEXT_STEP}{next_step}"


def decline_message(page: PortalPage) -> str:
    """Return the message after a partner declined."""
    noted = "We have noted that it can’t be done, and why. We were told at once and get in touch with you."
    return f"{noted} {_kept_back_text(page)}".strip()


def capability_message(page: PortalPage) -> str:
    """Return the message after a partner stated the capability of its system."""
    if page.participant.says_keeps_both == Support.UNKNOWN:
        return f"Thank you. Then we plan as if it could hold one only, which is the careful way. {next_step_text(page)}"
    if not page.participant.is_capability_undecided:
        return f"Thank you, noted. Your steps stay as they are. {next_step_text(page)}"
    return (
        "Thank you, noted. Your steps stay as they are for now: if we can make them easier, we write to you. "
        f"{next_step_text(page)}"
    )


def switch_message(page: PortalPage) -> str:
    """Return the message after a partner reported its switch or the removal of the old certificate."""
    return f"Thank you, noted. {next_step_text(page)}"


def report_message(page: PortalPage) -> str:
    """Return the message after a partner reported the result."""
    if page.participant.works:
        return f"Thank you: messages flow. {next_step_text(page)}"
    return "We have noted that something does not work, and were told at once. We look into it and call you."


def colleague_message(page: PortalPage) -> str:
    """Return the message after a partner named a colleague."""
    return "Thank you. We look at it, and write to them from then on. Until then this page stays yours to answer."
