"""A rotation, its clock, and everything that people, partners and the runner can do with it, in any order.

A story is a list of events, each with a seed of its own: an event that is left out does not change what the others do,
so that a failing story can be shortened.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

from django.db import transaction

from as2certs import pki
from as2certs.accounts.models import Installation, User
from as2certs.mail import outbox
from identities.models import AS2System, Identity
from partners.models import Contact, Partner, Partnership
from rotations import reminders, runner
from rotations.errors import ActionRefused, EditConflict, IllegalTransition, NoOwnWindow, PlanError
from rotations.exchange import follow_up, responses
from rotations.execution import confirmations, transitions
from rotations.letters import announcements
from rotations.lifecycle import (
    approval,
    drafts,
    emergency,
    endings,
    open_window,
    rescheduling,
    step_actions,
)
from rotations.lifecycle.evidence import changeover
from rotations.lifecycle.evidence.changeover import ObservedMessage
from rotations.lifecycle.rescheduling import WindowChange
from rotations.models import Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.plan import DECISION_LEAD
from rotations.planning.states import SETTLED, RotationState, StepState
from rotations.planning.windows import Window
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.rotations.company import NOW, Company, make_company, partner_certificate, window
from tests.rotations.rehearsals import make_test_side

REFUSED = (ActionRefused, IllegalTransition, PlanError, EditConflict, NoOwnWindow, pki.PkiError)


@dataclass(frozen=True)
class Kind:
    """A kind of rotation: whose certificate, its roles, what each side holds, who applies it, and when."""

    name: str
    side: str
    roles: tuple[str, ...]
    overlap: str = "yes"
    holds: tuple[str, str] = ("yes", "yes")
    connector: str | None = "manual"
    per_partner: bool = False
    at_end: str = ""
    four_eyes: bool = False
    rehearsed: bool = False


KINDS = (
    Kind("own, both roles, by hand", "own", ("sign", "decrypt")),
    Kind("own, both roles, one partner with one slot", "own", ("sign", "decrypt"), holds=("no", "yes")),
    Kind("own, signing, one partner with one slot", "own", ("sign",), holds=("no", "yes"), connector=None),
    Kind("own, both roles, one slot here", "own", ("sign", "decrypt"), overlap="no"),
    Kind("own, decryption", "own", ("decrypt",)),
    Kind("own, each at its own moment", "own", ("sign", "decrypt"), holds=("no", "yes"), per_partner=True),
    Kind("own, each when it is ready", "own", ("sign", "decrypt"), per_partner=True, at_end="phased"),
    Kind("own, moment not known", "own", ("sign", "decrypt"), connector=None, at_end="extend"),
    Kind("partner, both roles", "partner", ("verify", "encrypt")),
    Kind("partner, both roles, one slot here", "partner", ("verify", "encrypt"), overlap="no"),
    Kind("partner, signing, moment not known", "partner", ("verify",), connector=None, at_end="switch"),
    Kind("own, signing, approved by a second person", "own", ("sign",), four_eyes=True),
    Kind("own, both roles, rehearsed first", "own", ("sign", "decrypt"), connector=None, rehearsed=True),
)

#: The events, and how often each happens in comparison with the others.
EVENTS = {
    "do_our_step": 7,
    "wait_a_little": 5,
    "wait_for_the_next_moment": 7,
    "wait_a_day": 3,
    "run_due_steps": 7,
    "write_reminders": 7,
    "send_mail": 4,
    "announce": 3,
    "record_answer": 4,
    "answer_by_portal": 4,
    "agree": 3,
    "report_switched": 3,
    "note_new": 3,
    "note_old": 2,
    "note_unknown": 1,
    "report_result": 2,
    "propose": 2,
    "decline": 1,
    "waive": 1,
    "extend_answer": 1,
    "refuse_proposal": 1,
    "postpone": 1,
    "move_one": 1,
    "take_back_one": 1,
    "switch_now": 1,
    "skip_step": 1,
    "fail_step": 1,
    "retry_step": 1,
    "roll_back": 1,
    "cancel": 0.3,
    "close": 0.5,
    "declare_emergency": 0.4,
}
#: What happens only where a second person approves, and only where a rehearsal comes first.
FOUR_EYES_EVENTS = {"approve_again": 8, "move_and_approve_again": 3}
REHEARSAL_EVENTS = {"rehearse": 10, "fail_rehearsal": 1, "waive_rehearsal": 1}

Event = tuple[str, int]


def random_events(kind: Kind, seed: int, length: int) -> list[Event]:
    """Return a story: mostly it begins with the approval, and nothing comes in an order that a plan would know."""
    dice = random.Random(f"{kind.name}:{seed}")
    possible = EVENTS | (FOUR_EYES_EVENTS if kind.four_eyes else {}) | (REHEARSAL_EVENTS if kind.rehearsed else {})
    chosen = dice.choices(list(possible), weights=list(possible.values()), k=length)
    chosen.insert(dice.choice([0, 0, 0, 2]), "approve")
    return [(name, dice.randrange(2**32)) for name in chosen]


class Story:
    """One rotation of a kind, and what may happen to it."""

    def __init__(self, kind: Kind) -> None:
        self.kind, self.now, self.dice = kind, NOW, random.Random()
        self.happened: list[str] = []
        self.company = _make_company(kind)
        self.test_side = make_test_side(self.company) if kind.rehearsed else None
        Installation.objects.update_or_create(
            pk=1, defaults={"four_eyes_production": kind.four_eyes, "require_rehearsal": kind.rehearsed}
        )
        self.holder: Identity | Partner = self.company.identity
        old: drafts.AnyCertificate = self.company.old
        new: drafts.AnyCertificate = self.company.new
        if kind.side == "partner":
            self.holder = self.company.partners[0]
            ends = NOW + timedelta(days=30)
            old = partner_certificate(self.holder, by=self.company.by, now=NOW, ends=ends)
            new = partner_certificate(self.holder, by=self.company.by, now=NOW, ends=ends + timedelta(days=700))
        self.old, self.new = old, new
        starts = NOW + timedelta(days=9, hours=16)
        agreed = window(starts, minutes=60 * 48 if kind.at_end else 120)
        if kind.at_end == "phased":
            agreed = window(NOW, minutes=60 * 24 * 14)
        spec = drafts.DraftSpec(roles=kind.roles, old=old, new=new, window=agreed, at_end=kind.at_end, grace_days=3)
        self.pk = drafts.create_draft(self.holder, spec, by=self.company.by, now=NOW).pk

    @property
    def rotation(self) -> Rotation:
        return Rotation.objects.get(pk=self.pk)

    def happen(self, event: Event) -> bool:
        """Let an event happen; return whether it was possible."""
        name, seed = event
        self.dice = random.Random(seed)
        act: Callable[[], object] = getattr(self, name)
        try:
            with transaction.atomic():
                what = act()
        except REFUSED as refusal:
            self.happened.append(f"({name}: {str(refusal)[:60]})")
            return False
        self.happened.append(f"{self.now:%d %b %H:%M} {name}{f': {what}' if isinstance(what, str) else ''}")
        return True

    # What is chosen.

    def participant(self) -> Participant:
        return self.dice.choice(list(self.rotation.participants.select_related("partner", "rotation")))

    def step(self, *, ours: bool = False) -> Step:
        steps = [step for step in self.rotation.steps.select_related("rotation") if step.state not in SETTLED]
        steps = [step for step in steps if not ours or step.who == "we"]
        free = [step for step in steps if not step.blocked]
        if not steps:
            raise ActionRefused("No step is open.")
        return self.dice.choice(free if free and self.dice.random() < 0.9 else steps)

    def answer(self, name: str = "Dave") -> confirmations.PartnerAnswer:
        return confirmations.PartnerAnswer(name, by=self.company.by, now=self.now)

    # What our people do.

    def approve(self) -> None:
        approval.approve(self.rotation, by=self.company.approver, now=self.now)

    def approve_again(self) -> str:
        """Approve what was changed since the approval, or let the person try who changed it."""
        by = self.dice.choice([self.company.approver, self.company.approver, self.company.by])
        approval.approve(self.rotation, by=by, now=self.now)
        return by.name

    def move_and_approve_again(self) -> None:
        self.postpone()
        approval.approve(self.rotation, by=self.company.approver, now=self.now)

    def declare_emergency(self) -> None:
        emergency.declare_emergency(
            self.rotation, reason="the key leaked", alone="nobody else is here", by=self.company.by, now=self.now
        )

    def rehearse(self) -> str:
        """Set up the rehearsal, carry it out, or record its tests: whichever comes next."""
        side, made = self.test_side, self.rotation.rehearsal
        assert side is not None  # only kinds that are rehearsed have this event
        side.now = self.now
        if made is None:
            side.rehearse(self.rotation)
            return "set up"
        if made.state == RotationState.DRAFT:
            side.apply(made)
            return "carried out"
        side.test(made)
        return "tested"

    def fail_rehearsal(self) -> None:
        made = self.rotation.rehearsal
        if made is None:
            raise ActionRefused("Nothing is rehearsed yet.")
        endings.roll_back(made, reason="it fails", by=self.company.by, now=self.now)

    def waive_rehearsal(self) -> None:
        approval.waive_rehearsal(self.rotation, reason="no time", by=self.company.by, now=self.now)

    def do_our_step(self) -> str:
        step = self.step(ours=True)
        if step.act == Act.ANNOUNCE and step.participant:
            announcements.announce(step.participant, by=self.company.by, now=self.now)
        elif step.act == Act.CHECK and step.participant:
            self._record(step.participant, fingerprint=self.new.sha256)
        else:
            step_actions.complete_step(step, note="done", by=self.company.by, now=self.now)
        return step.title

    def skip_step(self) -> str:
        step = self.step(ours=self.dice.random() < 0.5)
        step_actions.skip_step(step, reason="not needed", by=self.company.by, now=self.now)
        return step.title

    def announce(self) -> str:
        participant = self.participant()
        announcements.announce(participant, by=self.company.by, now=self.now)
        return participant.partner.name

    def _record(self, participant: Participant, *, fingerprint: str = "", installed: bool = True) -> str:
        agreed = self.dice.random() < 0.6
        confirmations.record_answer(
            participant, self.answer(), fingerprint=fingerprint, installed=installed, agreed=agreed
        )
        proof = " with the fingerprint" if fingerprint else ""
        return f"{participant.partner} installed={installed} agreed={agreed}{proof}"

    def record_answer(self) -> str:
        fingerprint = self.dice.choice(["", self.new.sha256])
        return self._record(self.participant(), fingerprint=fingerprint, installed=self.dice.random() < 0.8)

    def waive(self) -> str:
        participant = self.participant()
        confirmations.waive(participant, reason="on holiday", by=self.company.by, now=self.now)
        return participant.partner.name

    def extend_answer(self) -> str:
        participant = self.participant()
        until = self.now + timedelta(days=self.dice.choice([1, 2, 4]))
        follow_up.extend_deadline(participant, until, by=self.company.by, now=self.now)
        return participant.partner.name

    def refuse_proposal(self) -> str:
        participant = self.participant()
        responses.refuse_proposal(participant, reason="not then", by=self.company.by, now=self.now)
        return participant.partner.name

    def _later(self) -> Window:
        rotation = self.rotation
        length = (rotation.window_end or self.now) - (rotation.window_start or self.now)
        start = self.now + timedelta(hours=self.dice.choice([2, 30, 100]))
        return window(start, minutes=int(length.total_seconds() // 60) or 60)

    def postpone(self) -> None:
        rescheduling.postpone(self.rotation, WindowChange(self._later(), "later"), by=self.company.by, now=self.now)

    def move_one(self) -> str:
        participant, change = self.participant(), WindowChange(self._later(), "that night")
        rescheduling.move_participant(participant, change, by=self.company.by, now=self.now)
        return participant.partner.name

    def take_back_one(self) -> str:
        participant = self.participant()
        endings.take_back_participant(participant, reason="it fails", by=self.company.by, now=self.now)
        return participant.partner.name

    def switch_now(self) -> None:
        open_window.switch_now(self.rotation, reason="they called", by=self.company.by, now=self.now)

    def roll_back(self) -> None:
        endings.roll_back(self.rotation, reason="it fails", by=self.company.by, now=self.now)

    def cancel(self) -> None:
        endings.cancel(self.rotation, reason="no", by=self.company.by, now=self.now)

    def close(self) -> None:
        endings.close(self.rotation, reason="enough", by=self.company.by, now=self.now)

    def retry_step(self) -> str:
        step = self.step()
        step_actions.retry_step(step, by=self.company.by, now=self.now)
        return step.title

    # What partners do.

    def answer_by_portal(self) -> str:
        """Confirm the installation on the portal, which is given only to partners that were told."""
        participant = self.participant()
        if participant.announced_at is None:
            raise ActionRefused("It has no link yet.")
        return self._record(participant, fingerprint=self.dice.choice(["", self.new.sha256]))

    def agree(self) -> str:
        participant = self.participant()
        confirmations.agree_to_window(participant, self.answer())
        return participant.partner.name

    def report_switched(self) -> str:
        participant = self.participant()
        act = self.dice.choice([Act.PARTNER_CUT_OVER, Act.PARTNER_CUT_OVER, Act.PARTNER_RETIRE])
        responses.report_switched(participant, act, by=self.company.by, now=self.now)
        return f"{participant.partner} {act}"

    def report_result(self) -> str:
        participant, works = self.participant(), self.dice.random() < 0.7
        responses.report_result(participant, works=works, note="error", by=self.company.by, now=self.now)
        return f"{participant.partner} works={works}"

    def propose(self) -> str:
        participant = self.participant()
        responses.propose_window(participant, self._later(), note="", by=self.company.by, now=self.now)
        return participant.partner.name

    def decline(self) -> str:
        participant = self.participant()
        responses.decline(participant, reason="closed", by=self.company.by, now=self.now)
        return participant.partner.name

    def _note(self, serial: str) -> str:
        partner = self.participant().partner
        use = "signed" if self.kind.side == "partner" else "encrypted"
        at = self.now - timedelta(minutes=self.dice.choice([0, 1, 90]))
        message = ObservedMessage(use, serial, at)
        changeover.record_sighting(partner, message, by=self.company.by, now=self.now)
        return partner.name

    def note_new(self) -> str:
        return self._note(self.new.serial)

    def note_old(self) -> str:
        return self._note(self.old.serial)

    def note_unknown(self) -> str:
        return self._note("123456789")

    # What the application does, and what happens to it.

    def run_due_steps(self) -> None:
        runner.apply_due(wait=False, clock=lambda: self.now)

    def write_reminders(self) -> None:
        reminders.run(self.now)

    def send_mail(self) -> None:
        outbox.send_due(now=self.now, limit=1000)

    def fail_step(self) -> str:
        """Let our AS2 system refuse a step."""
        free = self.rotation.steps.filter(automatic=True, blocked=False, state=StepState.WAITING)
        due = list(free.filter(due_at__lte=self.now + timedelta(days=1)))
        if not due:
            raise ActionRefused("The application carries out no step now.")
        step = self.dice.choice(due)
        transitions.fail_step(step, "refused", now=self.now)
        return step.title

    def wait_a_little(self) -> None:
        self.now += timedelta(minutes=self.dice.choice([1, 6, 20, 90]))

    def wait_a_day(self) -> None:
        self.now += timedelta(hours=self.dice.choice([20, 24, 50]))

    def wait_for_the_next_moment(self) -> None:
        """Wait until shortly before, exactly at, or after the next moment that matters."""
        rotation = self.rotation
        edges = [rotation.window_start, rotation.window_end]
        for participant in rotation.participants.all():
            edges += [participant.window_start, participant.window_end]
        if rotation.window_end:
            edges.append(rotation.window_end + timedelta(days=rotation.grace_days))
            edges.append(rotation.window_end + timedelta(days=rotation.grace_days + 7))
        shift = timedelta(minutes=self.dice.choice([-60, -20, -1, 0, 0, 1, 6]))
        ahead = [edge + shift for edge in edges if edge is not None and edge + shift > self.now]
        if not ahead:
            raise ActionRefused("Nothing is ahead.")
        self.now = min(ahead)

    def wait_until_the_window(self) -> None:
        """Wait until the window opens."""
        self.now = max(self.now, self.rotation.window_start or self.now)

    def wait_until_the_window_ends(self) -> None:
        """Wait until it is decided what happens at the end of a window without a fixed moment."""
        assert self.rotation.window_end is not None  # each kind has a window
        self.now = max(self.now, self.rotation.window_end - DECISION_LEAD)

    def wait_until_the_grace_is_over(self) -> None:
        """Wait until the old certificate would be retired."""
        rotation = self.rotation
        assert rotation.window_end is not None  # each kind has a window
        self.now = max(self.now, rotation.window_end + timedelta(days=rotation.grace_days))


def _make_company(kind: Kind) -> Company:
    company = make_company(system_keeps_both=kind.overlap, connector=kind.connector, old_days=40)
    User.objects.filter(pk=company.alice.pk).update(time_zone="UTC")
    AS2System.objects.update(drain_hours=4, **(SIGNS_PER_PARTNER if kind.per_partner else {}))
    for partner, holds in zip(company.partners, kind.holds, strict=True):
        Partner.objects.filter(pk=partner.pk).update(**keeps_both(holds))
        partner.refresh_from_db()
        Contact.objects.create(partner=partner, name="Dana", email=f"dana@{partner.name.lower()}.example")
    if kind.side == "partner":
        Partnership.objects.filter(partner=company.partners[1]).update(archived_at=NOW)
    return company


@contextmanager
def rolled_back() -> Iterator[None]:
    """Undo everything that is done in the database meanwhile."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


Check = Callable[[Story, str], Sequence[str]]


def play(kind: Kind, events: Sequence[Event], check: Check) -> tuple[list[str], int, list[str]]:
    """Let events happen, and check after each.

    Returns the first violations, how many events there were until then, and what happened.
    """
    found: list[str] = []
    count = 0
    with rolled_back():
        story = Story(kind)
        for event in events:
            count += 1
            # What is refused changes nothing.
            if story.happen(event) and (found := list(check(story, event[0]))):
                break
    return found, count, story.happened


def shorten(kind: Kind, events: Sequence[Event], check: Check) -> list[Event]:
    """Leave out events of a story that violates a rule, first many and then single ones, while it violates the same."""
    found, count, _ = play(kind, events, check)
    rule = found[0].partition(":")[0]
    left = list(events[:count])
    size = len(left) // 2
    while size:
        start = 0
        while start < len(left):
            without = left[:start] + left[start + size :]
            found, count, _ = play(kind, without, check) if without else ([], 0, [])
            if any(violation.startswith(rule) for violation in found):
                left = without[:count]
            else:
                start += size
        size //= 2
    return left
