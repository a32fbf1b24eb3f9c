"""What a partner has to do, in order: derived from the steps of the plan, worded for the partner. Pure: no Django.

In the texts, "you" is the partner and "we" is the organisation that runs this installation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, Protocol

from identities.product_screens import describe_screen
from rotations.planning.change import Act, Role
from rotations.planning.states import SETTLED, StepState

#: Steps that the partner carries out or confirms, in the order of a plan.
PARTNER_ACTS = (
    Act.CHECK,
    Act.INSTALL,
    Act.AGREE,
    Act.PARTNER_CUT_OVER,
    Act.TEST,
    Act.PARTNER_RETIRE,
)


#: Those at which the partner enters a certificate in its AS2 system.
INSTALLING_ACTS = frozenset({Act.INSTALL, Act.PARTNER_CUT_OVER})


class InstructionSource(Protocol):
    """The attributes of a planned or stored step that are used here."""

    act: Any
    simultaneous: bool
    roles: Any
    state: Any
    blocked: bool
    earliest_at: datetime | None
    latest_at: datetime | None


@dataclass(frozen=True)
class Instruction:
    """An action of the partner: "by", exactly "at" or "from" a moment (aware), or at any time ("").

    One that is waived is neither done nor open.
    """

    act: str
    title: str
    why: str
    when: Literal["", "by", "at", "from"]
    moment: datetime | None
    done: bool
    is_open: bool


@dataclass(frozen=True)
class PartnerTask:
    """The partner's part in one change; ``starts`` and ``ends`` (aware) are its window.

    ``answer_by`` (aware) is until when it is asked to answer, ``install_by`` until when it has to install the
    certificate; None where that is not known, or over. ``software`` is the key of its AS2 product, empty if not known.
    """

    side: Literal["own", "partner"]
    steps: Sequence[InstructionSource]
    starts: datetime
    ends: datetime
    emergency: bool = False
    answer_by: datetime | None = None
    install_by: datetime | None = None
    software: str = ""

    @property
    def changes_together(self) -> bool:
        """Return whether the partner has to change at the same moment as we do."""
        return any(step.act == Act.PARTNER_CUT_OVER and step.simultaneous for step in self.steps)

    @property
    def installs_before(self) -> bool:
        """Return whether the partner installs the certificate before the window."""
        return any(step.act == Act.INSTALL for step in self.steps)

    @property
    def in_short(self) -> str:
        """Return what is requested as a phrase without a time."""
        if self.emergency:
            return "replace the old certificate by the new one now"
        if self.changes_together:
            return "change together with us"
        if self.side == "partner":
            return "load its key and tell us" if self.installs_before else "switch to it when you like"
        if self.installs_before:
            return "add the new one beside the old one"
        return "use the new one from now on"


def build_instructions(task: PartnerTask, *, may_switch: bool) -> list[Instruction]:
    """Return what the partner has to do, in order; ``may_switch``: if it switches by itself, it may do so now."""
    candidates = [_instruction(task, step, may_switch) for step in task.steps if step.act in PARTNER_ACTS]
    return [instruction for instruction in candidates if instruction is not None]


def _instruction(task: PartnerTask, step: InstructionSource, may_switch: bool) -> Instruction | None:
    text = _our_change(task, step, may_switch) if task.side == "own" else _partner_change(task, step, may_switch)
    if text is None:
        return None
    title, why = text
    if step.act in INSTALLING_ACTS:
        # Where our certificate changes, it is the other side's for the partner.
        screen = describe_screen(task.software, "other" if task.side == "own" else "own")
        why = f"{why} {screen}".strip()
    when, moment = _timing(task, step)
    is_open = step.state not in SETTLED
    return Instruction(str(step.act), title, why, when, moment, done=step.state == StepState.DONE, is_open=is_open)


def _timing(task: PartnerTask, step: InstructionSource) -> tuple[Literal["", "by", "at", "from"], datetime | None]:
    match step.act:
        case _ if task.emergency:
            return "", None
        case Act.PARTNER_CUT_OVER if step.simultaneous:
            return "at", task.starts
        case Act.PARTNER_CUT_OVER:
            return "by", task.ends
        case Act.TEST | Act.PARTNER_RETIRE:
            return "from", step.earliest_at
        case Act.AGREE:
            return "by", task.answer_by or step.latest_at
        case Act.INSTALL:
            return "by", task.install_by or step.latest_at
        case _:
            return "by", step.latest_at


InstructionText = tuple[str, str]


def _our_change(task: PartnerTask, step: InstructionSource, may_switch: bool) -> InstructionText | None:
    """Return title and reason where our certificate changes, with which the partner verifies or encrypts."""
    roles = set(map(str, step.roles))
    match step.act:
        case Act.PARTNER_CUT_OVER if task.emergency:
            return (
                "Replace our old certificate by the new one now",
                "Everywhere: for checking our signatures, and for encrypting to us. Somebody else may have the key of "
                "the old one and could pass for us, or read what you encrypt to it. Until you have replaced it, "
                "messages between us fail.",
            )
        case Act.INSTALL:
            return (
                "Add our new certificate beside the old one",
                "Use both to check the signatures of our messages and of our MDNs. If the new one is missing when we "
                "change, you reject our messages, and our MDNs fail: your system then sends orders again that we have "
                "already processed. If the old one is removed too early, the same happens at once.",
            )
        case Act.AGREE:
            return (
                "Agree to the time, or propose another one",
                "One of our two systems holds one certificate only, so both sides change at the same time.",
            )
        case Act.PARTNER_CUT_OVER if step.simultaneous:
            return "Replace the old certificate by the new one, exactly then", _too_early_or_late(roles)
        case Act.PARTNER_CUT_OVER if not may_switch:
            return (
                "Encrypt your messages to us with the new certificate",
                "Not yet: go on with the old one until we tell you that we can read the new one.",
            )
        case Act.PARTNER_CUT_OVER:
            return (
                "Encrypt your messages to us with the new certificate",
                "You may do so from now on: we can read both. Messages that you still encrypt with the old one "
                "after it has been removed here can’t be read.",
            )
        case Act.TEST:
            return (
                "Tell us whether messages flow",
                "After the change, send us a message and look at the MDN; tell us on your page if something fails.",
            )
        case Act.PARTNER_RETIRE:
            return (
                "Remove our old certificate",
                "Not earlier: a late MDN or a repeated message may still carry the old signature.",
            )
    return None


def _too_early_or_late(roles: set[str]) -> str:
    checks, encrypts = Role.SIGN.value in roles, Role.DECRYPT.value in roles
    early, late = [], []
    if checks:
        early.append("you reject what we still sign with the old one")
        late.append("you reject what we sign with the new one, and send orders again that we have processed")
    if encrypts:
        early.append("we may not be able to read your messages")
        late.append("we may not be able to read them any more")
    return f"Too early, {' and '.join(early)}. Too late, {' and '.join(late)}. Pause your queue to us for that moment."


def _partner_change(task: PartnerTask, step: InstructionSource, may_switch: bool) -> InstructionText | None:
    """Return title and reason where the partner's certificate changes, with which we verify or encrypt."""
    match step.act:
        case Act.PARTNER_CUT_OVER if task.emergency:
            return (
                "Use your new certificate only, from now on",
                "We don’t accept the old one any more, since somebody else may have its key: what you still sign with "
                "it is rejected here.",
            )
        case Act.CHECK:
            return (
                "Compare the fingerprint of your new certificate with us by telephone",
                "Before that we use it for nothing: with a forged one a stranger could read our messages to you.",
            )
        case Act.INSTALL:
            return (
                "Load the private key of your new certificate beside the old one, and tell us",
                "We encrypt to the new certificate once you say that you can read it; if we did so earlier, our "
                "messages would fail. Keep the old key: we use it until we change.",
            )
        case Act.AGREE:
            return (
                "Agree to the time, or propose another one",
                "One of our two systems holds one certificate only, so both sides change at the same time.",
            )
        case Act.PARTNER_CUT_OVER if step.simultaneous:
            return (
                "Switch to your new certificate, exactly then",
                "Too early, we reject what you sign with it. Too late, we reject what you still sign with the old one, "
                "or you can’t read what we encrypt to the new one. Pause your queue to us for that moment.",
            )
        case Act.PARTNER_CUT_OVER if not may_switch:
            return (
                "Sign with your new certificate",
                "Not yet: go on with the old one until we tell you that we accept the new one.",
            )
        case Act.PARTNER_CUT_OVER:
            return (
                "Sign with your new certificate, when you like",
                "We accept both once we have told you so. Tell us when you have switched.",
            )
        case Act.TEST:
            return (
                "Tell us whether messages flow",
                "After the change, look at our next message and its MDN; tell us on your page if something fails.",
            )
        case Act.PARTNER_RETIRE:
            return (
                "Remove the key of your old certificate",
                "Not earlier: a repeated message of ours may still be encrypted to it.",
            )
    return None


def count_done(instructions: Sequence[Instruction]) -> Mapping[str, int]:
    """Return how many of the instructions are done, and how many there are."""
    return {"done": sum(i.done for i in instructions), "all": len(instructions)}
