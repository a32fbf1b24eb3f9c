"""Rotations in sentences: what one is about, how far it is, and what an action brings about."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime

from rotations.attention import outstanding, unprepared
from rotations.models import Rotation, Step
from rotations.plan import Act
from rotations.states import RotationState
from rotations.windows import describe_moment

ACTING = {
    "sign": "signing",
    "decrypt": "decryption",
    "verify": "their signatures",
    "encrypt": "encryption to them",
}


def title(rotation: Rotation) -> str:
    """Return whose certificate gives way to which, in which roles."""
    old = rotation.old.short_name if rotation.old else "nothing"
    new = rotation.new.short_name if rotation.new else "a new one"
    return f"{rotation.holder}: {old} → {new}, {' + '.join(rotation.roles)}"


def at(moment: datetime, zone: str, now: datetime) -> str:
    """Tell a moment on the clock of the window's zone, with the zone's place."""
    place = zone.split("/")[-1].replace("_", " ")
    told = describe_moment(moment, zone or "UTC", now)
    return told if place in ("", "UTC") else f"{told}, {place}"


def lead(
    rotation: Rotation, steps: Sequence[Step], *, partners: int, now: datetime, unrehearsed: bool = False
) -> str:
    """Say in one sentence what the rotation is about and how far it is; ``unrehearsed``: it waits for a rehearsal."""
    what = " and ".join(ACTING[role] for role in rotation.roles)
    subject = f"A new certificate for {what} of {rotation.holder}"
    if rotation.partner_id:
        subject = f"A new certificate of {rotation.holder}, for {what}"
    match RotationState(rotation.state):
        case RotationState.DRAFT:
            return f"{subject}. Nothing happens until it is approved."
        case RotationState.EXCHANGING:
            waiting = len(outstanding(steps))
            if unrehearsed and not unprepared(steps):
                return f"{subject}. Everything is prepared; the change waits for its rehearsal alone."
            if not waiting:
                return f"{subject}. No partner is waited for any more; our own preparations are still to be done."
            ready = f"{partners - waiting} of {_count(partners, 'partner')} ready"
            return f"{subject}. {ready}; the change waits for the rest."
        case RotationState.SCHEDULED:
            assert rotation.window_start is not None  # approved rotations have a window
            when = at(rotation.window_start, rotation.window_zone, now)
            return f"{subject}. Everybody is ready: the change is made {when}."
        case RotationState.UNDER_WAY:
            return f"{subject}. The change is being made now."
        case RotationState.APPLIED:
            return f"{subject}. It is in use; the old one is still accepted until the last step is done."
        case RotationState.ROLLING_BACK:
            return f"{subject}. It is being taken back: the old certificate takes over again."
        case RotationState.CLOSED:
            return f"{subject}. It is in use, and the old one has left."
        case RotationState.CANCELLED:
            return f"{subject}. It was cancelled: the old certificate stayed, or is back."


def set_in_motion(steps: Iterable[Step], *, zone: str, now: datetime) -> list[str]:
    """Say what approving a plan brings about, in the order in which it happens."""
    steps = list(steps)
    found: list[str] = []
    for step in steps:
        if step.automatic and step.due_at is not None:
            when = "At once" if step.due_at <= now else at(step.due_at, zone, now)
            first = ", once every partner is ready" if step.act == Act.CUT_OVER else ""
            found.append(f"{when}{first}: {step.title}. The application does this by itself.")
        elif step.act == Act.CUT_OVER and step.earliest_at is not None:
            found.append(f"{at(step.earliest_at, zone, now)}: {step.title}. A person does this by hand.")
    by_hand = [step for step in steps if not step.automatic and step.who == "we"]
    theirs = {step.participant_id for step in steps if step.who == "partner"}
    if by_hand:
        found.append(
            f"{_count(len(by_hand), 'step')} of ours wait for a person, who records when each is done."
        )
    if theirs:
        found.append(f"{_count(len(theirs), 'partner')} must answer; record here what each of them says.")
    return found


def approve_label(rotation: Rotation, steps: Iterable[Step], *, now: datetime) -> str:
    """Name what approving leads to: "Approve: at 22:00 … is written to OpenAS2 production"."""
    cut = next((step for step in steps if step.act == Act.CUT_OVER and step.automatic and step.due_at), None)
    if cut is None or cut.due_at is None or rotation.new is None:
        return "Approve this plan"
    when = "at once" if cut.due_at <= now else at(cut.due_at, rotation.window_zone, now)
    if cut.system is None:
        return f"Approve: {when}, {rotation.new.short_name} takes over in the inventory"
    return f"Approve: {when}, {rotation.new.short_name} is written to {cut.system}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
