"""What a partner's page says in its first lines, and after each answer: what was understood, and what comes next.

"You" is the partner, "we" are whoever runs this installation.
"""

from __future__ import annotations

from dataclasses import dataclass

from partners.models import Partner
from rotations.models import Participant
from rotations.planning.local_time import brief
from rotations.web.portal.page import Page, Phase

#: What becomes of another time that a partner proposed.
PROPOSED = "We look at it and write to you; until then the time stays as it is."


@dataclass(frozen=True)
class Headline:
    """What it is about, what is asked or what happened, and why; ``meaning`` colours the second."""

    title: str
    lead: str
    why: str = ""
    meaning: str = "neutral"


def headline(page: Page) -> Headline:
    """Return the first lines of a page."""
    if page.rotation.is_emergency and not page.is_over:
        return _emergency(page)
    match page.phase:
        case Phase.ASKING:
            return _asking(page)
        case Phase.OPEN:
            return _open(page)
        case Phase.MISSED:
            return _missed(page)
        case Phase.MADE:
            return _made(page)
        case Phase.GOING_BACK:
            return Headline(
                "We are going back to the old certificate",
                "Please use the old certificate again. If you have replaced it, put it back now.",
                "Something did not work with the new one. Keep the new one if your system can hold both.",
                "urgent",
            )
        case Phase.WENT_BACK:
            return Headline(
                "We went back to the old certificate",
                f"The change was taken back{_on_end(page)}: the old certificate is in use. You have nothing to do now.",
                "If the old one is no longer in your system, put it back. We write to you before we try again.",
            )
        case Phase.CALLED_OFF:
            return Headline(
                "This change is called off",
                f"We called it off{_on_end(page)}. Go on with the old certificate: you have nothing to do.",
                "If you have added the new one already, it does no harm. It will not be used.",
            )
        case Phase.COMPLETE:
            return Headline(
                "This change is complete",
                f"It ended{_on_end(page)}. You have nothing left to do. Thank you.",
                meaning="fine",
            )


def _emergency(page: Page) -> Headline:
    if page.is_answered:
        return Headline("The certificate is replaced", "Thank you: we have your answers.", meaning="fine")
    if page.is_own:
        return Headline(
            "Urgent: replace our old certificate now",
            "Its private key may be known to somebody else. We use the new one only; please replace it now.",
            "Until you have, messages between us fail, and somebody could pass for us. Compare the fingerprint with us "
            "by telephone if you are unsure.",
            "urgent",
        )
    return Headline(
        "Urgent: use your new certificate only",
        "Its old private key may be known to somebody else. We don’t accept the old certificate any more.",
        "What you still sign with it is rejected here, and we encrypt to the new one only.",
        "urgent",
    )


def _what(page: Page) -> str:
    return "Our AS2 certificate changes" if page.is_own else "Your AS2 certificate changes"


def _why(page: Page) -> str:
    whose = "Our" if page.is_own else "Your"
    ends = f" ends on {page.old_ends}" if page.old_ends else " is replaced"
    stays = " Our AS2 ID and our address stay as they are." if page.is_own else ""
    return f"{whose} certificate for AS2 messages between {page.participant.partner} and us{ends}.{stays}"


def _asking(page: Page) -> Headline:
    participant = page.participant
    if page.must_wait:
        return _wait(page)
    if participant.declined_at is not None:
        return Headline(
            _what(page),
            "You told us that it can’t be done. We get in touch with you.",
            "If it can be done after all, just answer below: that takes your no back.",
            "soon",
        )
    if page.is_answered:
        return Headline(f"{_what(page)}: we have your answers", comes_next(page), meaning="fine")
    return Headline(
        _what(page), f"Please {page.scene.asked}.", _why(page), "urgent" if page.is_soon else "needs_you"
    )


def _wait(page: Page) -> Headline:
    return Headline(
        "Please wait: don’t change yet",
        "Our side is not ready. Keep the old certificate until you hear from us, even when the agreed time comes.",
        "Changed alone, messages between us would fail. We write to you as soon as we have changed.",
        "urgent",
    )


def _open(page: Page) -> Headline:
    if page.must_wait:
        return _wait(page)
    if page.together:
        return Headline(
            "It is time: both of us change now",
            f"Replace the old certificate by the new one: {page.window}.",
            "Pause your queue to us until it is done.",
            "urgent",
        )
    if not page.we_switch:
        return _asking(page)
    if page.participant.confirmed_at is None and page.question_now is not None:
        return Headline(
            "It is time, and we don’t have your answer",
            f"We change over between now and {brief(page.ends, page.zone)}. Please answer now, or call us.",
            _why(page),
            "urgent",
        )
    return Headline(
        "It is time: we are changing over",
        f"Between now and {brief(page.ends, page.zone)} we begin to use the new certificate. Keep both ready.",
        "Look at this page again afterwards, and tell us whether messages flow.",
        "soon",
    )


def _missed(page: Page) -> Headline:
    if not page.we_switch and not page.together:
        lead = (
            "Please use the new certificate now"
            if page.is_own
            else "Please switch to your new certificate now"
        )
        ends = (
            f"The old one ends on {page.old_ends}, and is not accepted after that." if page.old_ends else ""
        )
        return Headline(_what(page), f"{lead}.", ends, "urgent")
    return Headline(
        "The change was not made in its time",
        f"The time for it is over: {page.window}. We have not changed over yet, so go on with the old certificate.",
        "We get in touch with you about another time. What you have told us stays as it is.",
        "soon",
    )


def _made(page: Page) -> Headline:
    made = page.made_at
    since = f"Since {brief(made, page.zone)} " if made else ""
    if not page.we_switch:
        title = "Thank you: you have switched"
        lead = "The new certificate is in use between us."
    elif page.is_own:
        title = "We have changed over" if made else "We are changing over"
        lead = (
            f"{since}we use the new certificate." if made else "We are beginning to use the new certificate."
        )
    else:
        title = "We use your new certificate" if made else "We begin to use your new certificate"
        lead = f"{since}we use your new certificate." if made else "The change is being made now."
    works = page.participant.works
    if works is None and page.together:
        return Headline(
            title,
            f"{_capital(lead)} If you have not changed yet, please do it now. Does everything work?",
            _test(page),
            "urgent",
        )
    if works is None and any(question.key == "works" for question in page.questions):
        return Headline(title, f"{_capital(lead)} Does everything work?", _test(page), "needs_you")
    if works is False:
        return Headline(
            title, "You told us that something does not work. We look into it and call you.", "", "urgent"
        )
    return Headline(title, f"{_capital(lead)} {comes_next(page)}", "", "fine")


def _test(page: Page) -> str:
    if page.is_own:
        return "Send us a message and look at its MDN, and look at the next message of ours."
    return "Look at the next message of ours, and at its MDN."


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _on_end(page: Page) -> str:
    ended = page.rotation.ended_at
    return f" on {brief(ended, page.zone)}" if ended else ""


def comes_next(page: Page) -> str:
    """Say what comes next for a partner: what is still asked, or what happens without it."""
    asked = page.question_now
    if asked is not None:
        return f"Next: {asked.title[:1].lower()}{asked.title[1:]}."
    match page.phase:
        case Phase.ASKING if page.participant.proposed_at is not None:
            return f"You proposed another time. {PROPOSED}"
        case Phase.ASKING if page.slots:
            return "As soon as everybody has answered, we write to you which time it is."
        case Phase.ASKING if page.together:
            return f"Nothing is left to do until then. Both of us change exactly then: {page.window}."
        case Phase.ASKING if page.we_switch:
            return f"Nothing is left to do until then. We change over on {page.window}."
        case Phase.MADE:
            return _still_to_come(page)
    return "Nothing else is asked of you now."


def _still_to_come(page: Page) -> str:
    later = next((question for question in page.questions if question.later), None)
    if later is None:
        return "Nothing is left to do."
    return f"Later: {later.title[:1].lower()}{later.title[1:]}. {later.later}"


# What was understood.


def understood_installed(page: Page) -> str:
    """Say what was understood when a partner said that the certificate is there."""
    if page.participant.evidence == Participant.Evidence.STRONG:
        return f"Thank you. The fingerprint is that of the new certificate, so it is the right one. {comes_next(page)}"
    return (
        "Thank you, noted as you say. If your system shows the fingerprint, paste it too: then both of us know that it "
        f"is the right certificate. {comes_next(page)}"
    )


def understood_time(page: Page) -> str:
    """Say what was understood when a partner agreed to the time."""
    return f"Thank you: you agree to {page.window}. {comes_next(page)}"


def understood_slots(page: Page) -> str:
    """Say what was understood when a partner said when it can."""
    can = (
        f"you can at {len(page.able)} of {len(page.slots)} times"
        if page.able
        else "none of the times suits you"
    )
    return f"Thank you, noted: {can}. {comes_next(page)}"


def understood_proposal(page: Page) -> str:
    """Say what was understood when a partner proposed another time."""
    asked = f" {comes_next(page)}" if page.question_now else ""
    return f"Thank you: you propose {page.proposed}. {PROPOSED}{asked}"


def understood_no(page: Page) -> str:
    """Say what was understood when a partner said no."""
    return "We have noted that it can’t be done, and why. We were told at once and get in touch with you."


def understood_holds(page: Page) -> str:
    """Say what was understood when a partner said what its system can hold."""
    if page.participant.says_holds == Partner.Holds.UNKNOWN:
        return f"Thank you. Then we plan as if it could hold one only, which is the careful way. {comes_next(page)}"
    if not page.participant.holds_undecided:
        return f"Thank you, noted. Your steps stay as they are. {comes_next(page)}"
    return (
        "Thank you, noted. Your steps stay as they are for now: if we can make them easier, we write to you. "
        f"{comes_next(page)}"
    )


def understood_switch(page: Page) -> str:
    """Say what was understood when a partner said that it switched, or removed the old certificate."""
    return f"Thank you, noted. {comes_next(page)}"


def understood_report(page: Page) -> str:
    """Say what was understood when a partner said how it went."""
    if page.participant.works:
        return f"Thank you: messages flow. {comes_next(page)}"
    return "We have noted that something does not work, and were told at once. We look into it and call you."


def understood_colleague(page: Page) -> str:
    """Say what was understood when a partner named somebody."""
    return "Thank you. We look at it, and write to them from then on. Until then this page stays yours to answer."
