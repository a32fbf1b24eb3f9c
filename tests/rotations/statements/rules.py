"""What has to be true of everything that people are told: one function for each rule, which yields violations.

A mail counts as told as long as it is in the outbox and its check would let it leave.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.template.loader import render_to_string

from as2certs.mail.models import Message
from as2certs.mail.validity import find_withdrawal
from as2certs.site.rotation_report import build_report
from rotations.exchange import digest
from rotations.models import Letter, Participant, Sighting, Step
from rotations.models.readiness import count_readiness
from rotations.planning.change import PREPARATION_ACTS, Act
from rotations.planning.partner_actions import LEAD_TIME
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState
from rotations.web.portal.page import PortalPage
from rotations.web.portal.texts import Headline, headline
from rotations.web.presenters.rotation_detail import RotationDetail
from tests.rotations.statements.facts import RotationFacts, names
from tests.rotations.statements.story import Story

Rule = Callable[["Statements"], Iterator[str]]

#: How pages and letters say that the partner may use the new certificate from now on.
MAY_SWITCH = re.compile(
    r"can read both|We accept both from now|You can switch as soon|use the new certificate now"
    r"|switch to your new certificate now|We use the new certificate now"
    r"|use the new one from now on|switch to it when you like",
    re.IGNORECASE,
)
ASKING_KINDS = (
    Letter.Kind.ANNOUNCEMENT,
    Letter.Kind.NUDGE,
    Letter.Kind.WARNED,
    Letter.Kind.MOVED,
    Letter.Kind.REPLANNED,
    Letter.Kind.ANSWERED,
)
CHANGE_TOGETHER = re.compile(r"both of us change now|please do it now")
READY_COUNT = re.compile(r"(\d+) of (\d+)(?: partners?)? ready")


@dataclass(frozen=True)
class PartnerPage:
    """A partner's page: its headline, and the texts that ask or allow something."""

    page: PortalPage
    headline: Headline
    text: str

    @property
    def says_wait(self) -> bool:
        return self.headline.title.startswith("Please wait")


class Statements:
    """Everything that pages and waiting mails say at one moment, and what is true then."""

    def __init__(self, story: Story, event: str) -> None:
        self.event, self.now, self.company = event, story.now, story.company
        self.facts = RotationFacts.of(story.pk, now=story.now)
        self.rotation = self.facts.rotation

    @cached_property
    def pages(self) -> list[tuple[Participant, PartnerPage]]:
        """Return the pages of the partners, which there are from the approval on."""
        if self.rotation.state == RotationState.DRAFT or self.rotation.approved_at is None:
            return []
        return [(participant, _partner_page(participant, self.now)) for participant in self.facts.participants]

    @cached_property
    def mails(self) -> list[tuple[Message, Letter | None]]:
        """Return the mails that wait and would leave now, with the letter if one is to a partner."""
        waiting = list(Message.objects.filter(state=Message.State.QUEUED).order_by("pk"))
        true = [message for message in waiting if find_withdrawal(message, now=self.now) is None]
        letters = {
            letter.message_id: letter
            for letter in Letter.objects.filter(message__in=[one.pk for one in true]).select_related("partner")
        }
        return [(message, letters.get(message.pk)) for message in true]

    def letters(self, *kinds: str) -> list[tuple[Message, Participant]]:
        """Return the waiting letters of these kinds with their participants."""
        by_pk = {participant.pk: participant for participant in self.facts.participants}
        return [
            (message, by_pk[letter.participant_id])
            for message, letter in self.mails
            if letter is not None and letter.kind in kinds and letter.participant_id in by_pk
        ]

    def own_mails(self, *kinds: str) -> list[Message]:
        """Return the waiting mails of these kinds to our own people."""
        return [message for message, letter in self.mails if letter is None and message.kind in kinds]

    @cached_property
    def detail(self) -> RotationDetail:
        """Return the page of the rotation as its owner sees it."""
        return RotationDetail.of(self.rotation, user=self.company.alice, now=self.now, zone="UTC")

    @cached_property
    def lead(self) -> str:
        return "" if self.rotation.state == RotationState.DRAFT else self.detail.lead


def _partner_page(participant: Participant, now: datetime) -> PartnerPage:
    page = PortalPage.of(participant, now=now)
    head = headline(page)
    parts = [head.title, head.lead, head.why]
    for question in page.questions:
        parts.append(f"{question.title} {question.answer} {question.later}")
        if question.key == "switched" and not question.answer:
            context = {"page": page, "question": question, "urls": {}, "seen": "", "read_only": True}
            parts.append(render_to_string(question.template, context))
    if page.shows_steps:
        parts += [f"{one.instruction.title} {one.why}" for one in page.instructions if not one.done]
    return PartnerPage(page, head, " ".join(" ".join(parts).split()))


# The rules.


def partners_switch_only_when_we_can_read(told: Statements) -> Iterator[str]:
    """A partner is told that it may switch by itself only while our side reads both; together, only if we can go.

    In an emergency, it is asked to switch at once, whatever we can read: the old certificate must not be used any more.
    """
    facts = told.facts
    if told.rotation.is_emergency:
        return
    for participant, page in told.pages:
        free = [step for step in facts.theirs(participant) if not step.simultaneous]
        if free and not facts.reads_new and (found := MAY_SWITCH.search(page.text)):
            yield f"{participant.partner}'s page says “{found[0]}”, and we can't read the new one"
        joint = facts.changes_with_us(participant) and not facts.writes_new(participant)
        if joint and CHANGE_TOGETHER.search(page.text) and facts.is_held_up(participant):
            yield f"{participant.partner}'s page says “{page.headline.title}”, and our own change is held up"
    for message, participant in told.letters(*ASKING_KINDS):
        free = [step for step in facts.theirs(participant) if not step.simultaneous]
        found = MAY_SWITCH.search(" ".join(message.text.split()))
        if free and found and not facts.reads_new:
            yield f"the mail “{message.subject}” says “{found[0]}”, and we can't read the new one"


def partners_that_would_act_alone_are_told_to_wait(told: Statements) -> Iterator[str]:
    """A partner that is about to change together with us is told to wait whenever our own cut-over can't go."""
    facts, now = told.facts, told.now
    for participant, page in told.pages:
        starts, ends = participant.starts, participant.ends
        if starts is None or ends is None or not starts - LEAD_TIME <= now < ends:
            continue
        going_on = told.rotation.state in AWAITING_WINDOW and not told.rotation.is_emergency
        if not (going_on and facts.changes_with_us(participant) and facts.is_held_up(participant)):
            continue
        if facts.objects(participant):
            if not page.says_wait and "don’t change over" not in page.text:
                yield f"{participant.partner}'s page does not say that its objection keeps the change back"
            continue
        if not page.says_wait and participant.taken_back_at is None:  # otherwise it says that we went back
            yield f"{participant.partner}'s page says “{page.headline.title}”, although our own change is held up"
        letters = participant.letters.exclude(message__state=Message.State.WITHDRAWN)
        was_told = letters.filter(kind=Letter.Kind.NOT_NOW, at__gte=starts - LEAD_TIME).exists()
        is_told = participant.taken_back_at is not None
        if told.event == "write_reminders" and not is_told and letters.exists() and not was_told:
            yield f"{participant.partner} got no mail that asks it to wait, although our own change is held up"


def a_partner_that_moved_is_not_asked_to_move(told: Statements) -> Iterator[str]:
    """Nobody whose message with the new certificate was seen is asked or reminded to switch, nor accused."""
    for participant, page in told.pages:
        if not _has_moved(participant):
            continue
        switched = next((one for one in page.page.questions if one.key == "switched"), None)
        if switched is not None and switched.waits:
            yield f"{participant.partner}'s page asks “{switched.title}” although its message was seen"
    for message, participant in told.letters(Letter.Kind.WARNED):
        if _has_moved(participant) or participant.works:
            yield f"{participant.partner} is mailed “{message.subject}” although it has moved"
        said = [step for step in told.facts.theirs(participant) if step.state == "done"]
        if said and not participant.straggling_at:
            yield f"{participant.partner} is mailed “{message.subject}” although it said that it has switched"


def _has_moved(participant: Participant) -> bool:
    seen = Sighting.objects.filter(participant=participant, verdict=Sighting.Verdict.NEW).exists()
    return seen and participant.straggling_at is None


def everybody_is_ready_only_if_so(told: Statements) -> Iterator[str]:
    """“Everybody is ready” is said only when no partner is outstanding and no step of ours is open but the change."""
    facts = told.facts
    outstanding = names(filter(facts.is_outstanding, facts.participants))
    own = [step.title for step in facts.own_open if step.act != Act.CUT_OVER or step.state == "failed"]
    said = [told.lead] if "Everybody is ready" in told.lead else []
    said += [m.subject for m in told.own_mails("window_soon") if "Everybody who takes part is ready" in m.text]
    for text in said:
        if outstanding or own:
            yield f"“{text[:160]}” although outstanding are {outstanding} and open on our side {own}"
        if told.rotation.is_withdrawn:
            yield f"“{text[:160]}” although nobody has approved it again"
        if told.rotation.state == RotationState.EXCHANGING and facts.lacks_rehearsal:
            yield f"“{text[:160]}” although the rehearsal has not passed"


def counts_agree(told: Statements) -> Iterator[str]:
    """N of M is the same number in the head, the list, the digest, the report and the waiting mails."""
    facts = told.facts
    if told.rotation.state == RotationState.DRAFT:
        return
    expected = [one for one in facts.participants if not facts.is_waived(one)]
    ready = [one for one in expected if facts.is_ready(one)]
    true = (len(ready), len(expected))
    count = count_readiness([told.rotation.pk])[told.rotation.pk]
    said = {"the list": (count.ready, count.expected)}
    texts = {"the head": told.lead}
    if told.event == "send_mail":  # a report is too slow for each event
        report = dict(build_report(told.rotation, by="Alice", now=told.now).sections[0].facts)
        texts["the report"] = report.get("Partners ready", "")
    if told.rotation.state in AWAITING_WINDOW:
        for mail in told.own_mails("digest"):
            texts[f"the mail “{mail.subject}”"] = " ".join(mail.text.split())
    for where, text in texts.items():
        if match := READY_COUNT.search(text):
            said[where] = (int(match[1]), int(match[2]))
    for where, found in said.items():
        if found != true:
            yield f"{where} says {found[0]} of {found[1]} ready, and it is {true[0]} of {true[1]}"


def no_deadline_is_over(told: Statements) -> Iterator[str]:
    """Nobody is asked for something by a moment that is over."""
    for message, _ in told.letters(Letter.Kind.NUDGE, Letter.Kind.ANNOUNCEMENT):
        until = message.facts.get("answer_by")
        if until and datetime.fromisoformat(until) <= told.now:
            yield f"the mail “{message.subject}” asks for an answer until {until}"
    for participant, page in told.pages:
        deadline = page.page.context.deadline
        if deadline is not None and deadline <= told.now:
            yield f"{participant.partner}'s page asks for an answer until {deadline}"
    for mail in told.own_mails("digest"):
        for line in mail.text.splitlines():
            if line.startswith("By ") and (match := re.search(r"\d+ \w+ \d{4}, \d\d:\d\d", line)):
                at = datetime.strptime(match[0], "%d %b %Y, %H:%M").replace(tzinfo=told.now.tzinfo)
                if at < told.now - timedelta(minutes=1):
                    yield f"the digest names “{line}”"


def letters_ask_only_for_what_is_missing(told: Statements) -> Iterator[str]:
    """A reminder asks only a partner that can answer now and has not."""
    facts = told.facts
    for message, participant in told.letters(Letter.Kind.NUDGE):
        own = [step for step in facts.steps_of(participant, *PREPARATION_ACTS) if step.who == "partner"]
        missing = [step for step in own if step.state not in SETTLED and not facts.open_before(step)]
        if not missing or facts.is_waived(participant):
            yield f"{participant.partner} is mailed “{message.subject}”, and nothing is missing from it"
    for message, participant in told.letters(Letter.Kind.WARNED):
        if facts.is_waived(participant) and not facts.theirs(participant):
            yield f"{participant.partner} is mailed “{message.subject}”, and nothing is missing from it"


def letters_about_the_window_are_true(told: Statements) -> Iterator[str]:
    """“Wait” is said only before we have changed and about the agreed window, and “now” only while we have changed."""
    facts = told.facts
    for message, participant in told.letters(Letter.Kind.NOT_NOW):
        if not facts.changes_with_us(participant):
            yield f"{participant.partner} is asked to wait, and has nothing to change any more"
        elif facts.cut_overs_for(participant) and all(s.state in SETTLED for s in facts.cut_overs_for(participant)):
            yield f"{participant.partner} is asked to wait, and we have changed"
        window = [moment.isoformat() if moment else "" for moment in (participant.starts, participant.ends)]
        if message.facts["window"] != window:
            yield f"{participant.partner} is asked to wait at a moment that is not agreed any more"
    for _, participant in told.letters(Letter.Kind.NOW):
        if not facts.writes_new(participant) or told.rotation.state == RotationState.ROLLING_BACK:
            yield f"{participant.partner} is told that we have changed, and we use the old certificate"
        elif not facts.changes_with_us(participant):
            yield f"{participant.partner} is asked to change now, and has changed"


def names_in_mails_are_outstanding(told: Statements) -> Iterator[str]:
    """Each partner that a mail names as not ready or silent is outstanding, and nobody who waits for us is accused."""
    facts = told.facts
    outstanding = {one.partner.name: one for one in facts.participants if facts.is_outstanding(one)}
    for mail in told.own_mails("window_soon", "not_started"):
        for line in mail.text.splitlines():
            if line.startswith("NOT READY"):
                named = [one.partner.name for one in facts.participants if one.partner.name in line]
                if sorted(named) != sorted(outstanding):
                    yield f"“{line}”, and outstanding are {sorted(outstanding)}"
    for mail in told.own_mails("silent"):
        for participant in facts.participants:
            is_named = str(participant.uid) in mail.facts["silent"]
            is_silent = participant.partner.name in outstanding and not facts.is_our_turn(participant)
            if is_named and not is_silent:
                yield f"{participant.partner} is reported as silent, and is not waited for"
    if told.rotation.state in (*AWAITING_WINDOW, RotationState.APPLIED):
        yield from _digest_is_fair(told)


def _digest_is_fair(told: Statements) -> Iterator[str]:
    """Yield what a digest that is written now would say unjustly."""
    facts = told.facts
    found = digest.DigestFacts.of({told.rotation.pk: told.rotation}, told.now)
    for history in found.histories.get(told.rotation.pk, []):
        participant = next(one for one in facts.participants if one.pk == history.participant.pk)
        own_step = found.own_steps.get(told.rotation.pk)
        blocker = digest.find_blocker(history, now=told.now, zone="UTC", lead=found.lead, own_step=own_step)
        who = participant.partner
        if blocker is None:
            if facts.is_outstanding(participant):
                yield f"the digest leaves out {who}, which is outstanding"
            continue
        asked = "they still have to" in blocker.what or blocker.what.startswith("call them")
        theirs = [s for s in facts.steps if s.participant_id == participant.pk and s.who == "partner"]
        possible = [s for s in theirs if s.state not in SETTLED and not facts.open_before(s)]
        if asked and not possible and not participant.straggling_at:
            yield f"the digest says of {who} “{blocker.what}”, and it can do nothing now"
        if "switch" in blocker.what and _has_moved(participant):
            yield f"the digest says of {who} “{blocker.what}”, and its message was seen"


def what_is_said_of_a_partner_is_true(told: Statements) -> Iterator[str]:
    """No mail says that nothing shows a partner's new certificate when a message has shown it, or it said so."""
    for mail in told.own_mails("partner_response"):
        for participant in told.facts.participants:
            switched = any(step.state == "done" for step in told.facts.theirs(participant))
            said = switched and participant.straggling_at is None
            is_named = f"Nothing shows that {participant.partner} uses" in " ".join(mail.text.split())
            if is_named and (_has_moved(participant) or participant.works or said):
                yield f"“{mail.subject}” although {participant.partner} has moved"


def what_partners_object_to_is_undecided(told: Statements) -> Iterator[str]:
    """Our people are asked to decide about a refusal or another time only while it is undecided."""
    for mail in told.own_mails("partner_response"):
        asked = mail.facts["news"] in ("proposal", "refusal")
        for participant in told.facts.participants:
            if asked and mail.facts["participant"] == str(participant.uid) and not told.facts.objects(participant):
                yield f"“{mail.subject}” although that is decided, or comes too late"


def what_is_left_on_a_way_back_is_named(told: Statements) -> Iterator[str]:
    """A mail about a way back names the steps that are left, and says that nothing is left only then."""
    left = [step for step in told.facts.steps if step.act == "roll_back" and step.state not in SETTLED]
    for mail in told.own_mails("way_back"):
        whose = [step for step in left if mail.facts["participant"] in ("", _uid_of(told, step))]
        text = " ".join(mail.text.split())
        missing = [step.title for step in whose if step.title not in text]
        if missing or ("Nothing is left to do" in text and whose):
            yield f"“{mail.subject}” does not name {missing}"


def _uid_of(told: Statements, step: Step) -> str:
    """Return the public id of the partner that a step is for alone; empty if it is for all."""
    return next((str(one.uid) for one in told.facts.participants if one.pk == step.participant_id), "")


def the_old_certificate_stays_while_it_is_used(told: Statements) -> Iterator[str]:
    """A rotation neither ends nor retires the old certificate by itself while a partner is expected that uses it."""
    facts, rotation = told.facts, told.rotation
    retired = not facts.reads_old and any(s.act == Act.RETIRE and s.state == "done" for s in facts.steps)
    if told.event not in ("run_due_steps", "write_reminders") or rotation.is_emergency:
        return
    if rotation.state != RotationState.CLOSED and not retired:
        return
    now_done = any(step.act == Act.RETIRE and step.done_at == told.now for step in facts.steps)
    for participant in facts.participants:
        if now_done and participant.straggling_at is not None:
            yield f"the old certificate is retired, and {participant.partner} was seen with it"


RULES: tuple[Rule, ...] = (
    partners_switch_only_when_we_can_read,
    partners_that_would_act_alone_are_told_to_wait,
    a_partner_that_moved_is_not_asked_to_move,
    everybody_is_ready_only_if_so,
    counts_agree,
    no_deadline_is_over,
    letters_ask_only_for_what_is_missing,
    letters_about_the_window_are_true,
    names_in_mails_are_outstanding,
    what_is_said_of_a_partner_is_true,
    what_partners_object_to_is_undecided,
    what_is_left_on_a_way_back_is_named,
    the_old_certificate_stays_while_it_is_used,
)


def violations(story: Story, event: str) -> list[str]:
    """Return what is said at this moment and is not true, each with the name of its rule in front."""
    told = Statements(story, event)
    return [f"{rule.__name__}: {violation}" for rule in RULES for violation in rule(told)]
