"""Texts about a rotation: its title, its status, its window in local times and the effects of approving it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from as2certs.accounts.models import Installation
from as2certs.time_format import format_exact_moment, format_near_moment, window_ends
from rotations.execution.stored_plan import PAST_PREFIX
from rotations.models import AtEnd, Participant, Rotation, Step
from rotations.models.readiness import OWN_ACTS, ReadinessCount, is_open_for_our_people
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, RotationState, StepState
from rotations.planning.windows import MAX_EXTENSIONS, Window
from rotations.web.presenters.step_groups import is_unprepared

#: How many names a sentence lists.
MAX_NAMES = 4
ROLE_TEXTS = {
    "sign": "signing",
    "decrypt": "decryption",
    "verify": "their signatures",
    "encrypt": "encryption to them",
}
#: What happens at the end of a window without a fixed moment.
WINDOW_END_TEXTS: dict[str, str] = {
    AtEnd.SWITCH: "At the end it is made all the same.",
    AtEnd.GO_BACK: "At the end it is called off.",
    AtEnd.EXTEND: f"At the end the window is extended by its length, at most {MAX_EXTENSIONS} times; then a person "
    "decides.",
}


def rotation_title(rotation: Rotation) -> str:
    """Return the title of a rotation: holder, old and new certificate, roles."""
    old = rotation.old.short_name if rotation.old else "nothing"
    new = rotation.new.short_name if rotation.new else "a new one"
    return f"{rotation.holder}: {old} → {new}, {' + '.join(rotation.roles)}"


def format_at_place(moment: datetime, zone: str, now: datetime) -> str:
    """Format a moment in the window's time zone, with the city of the zone."""
    place = zone_place(zone)
    text = format_near_moment(moment, now, zone or "UTC")
    return text if place in ("", "UTC") else f"{text}, {place}"


def zone_place(zone: str) -> str:
    """Return the city of a time zone: "New York" for "America/New_York"."""
    return zone.split("/")[-1].replace("_", " ")


def count_noun(number: int, noun: str) -> str:
    """Return a number with its noun: "1 mail", "12 partners"."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def join_names(names: Sequence[str]) -> str:
    """Join names for a sentence, the first few of many: "Fabrikam, Northwind and 3 more"."""
    if len(names) <= MAX_NAMES:
        return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
    return f"{', '.join(names[:MAX_NAMES])} and {len(names) - MAX_NAMES} more"


def status_sentence(
    rotation: Rotation,
    steps: Sequence[Step],
    *,
    readiness: ReadinessCount,
    now: datetime,
    unrehearsed: bool = False,
    frozen: Mapping[int, datetime] | None = None,
) -> str:
    """Return a sentence about what changes and how far it is. ``unrehearsed`` says that it waits for a rehearsal.

    ``frozen``: until when freezes keep back participants (primary keys) that change when they are ready.
    """
    what = " and ".join(ROLE_TEXTS[role] for role in rotation.roles)
    subject = f"A new certificate for {what} of {rotation.holder}"
    if rotation.partner_id:
        subject = f"A new certificate of {rotation.holder}, for {what}"
    if rotation.is_emergency and rotation.ended_at is None:
        return f"{subject}, at once: {rotation.emergency_reason.rstrip('.')}. {_partner_progress(steps)}"
    if rotation.is_withdrawn:
        return f"{subject}. It was changed after it was approved, and waits for another approval."
    match RotationState(rotation.state):
        case RotationState.DRAFT:
            return f"{subject}. Nothing happens until it is approved."
        case RotationState.EXCHANGING | RotationState.SCHEDULED | RotationState.UNDER_WAY if _single_partner_cut_overs(
            steps
        ):
            cut_overs = _single_partner_cut_overs(steps)
            if rotation.is_phased:
                return f"{subject}. {_phased_progress(rotation, cut_overs, frozen or {}, now=now)}"
            return f"{subject}. {_single_partner_progress(cut_overs, zone=rotation.window_zone, now=now)}"
        case RotationState.EXCHANGING:
            if unrehearsed and not readiness.outstanding and not is_unprepared(steps):
                return f"{subject}. Everything is prepared; the change waits for its rehearsal alone."
            return f"{subject}. {_exchange_progress(readiness)}"
        case RotationState.SCHEDULED:
            assert rotation.window_start is not None  # approved rotations have a window
            when = format_at_place(rotation.window_start, rotation.window_zone, now)
            if rotation.window_end and rotation.is_fuzzy:
                until = format_at_place(rotation.window_end, rotation.window_zone, now)
                if any(step.act == Act.CUT_OVER and is_open_for_our_people(step) for step in steps):
                    return (
                        f"{subject}. {_who_is_ready(readiness)}: between {when} and {until}, make the change by hand "
                        "at the first message that shows the other side’s, or before the end."
                    )
                return (
                    f"{subject}. {_who_is_ready(readiness, steps)}: between {when} and {until}, the change is made at "
                    "the first message that shows the other side’s, or on your word. "
                    f"{WINDOW_END_TEXTS[rotation.at_end]}"
                )
            return f"{subject}. {_scheduled_progress(rotation, steps, readiness, when=when, now=now)}"
        case RotationState.UNDER_WAY:
            return f"{subject}. The change is being made now."
        case RotationState.APPLIED:
            is_shown = _is_shown_in_use(steps)
            use = "It is in use" if is_shown else "It is stored, but nothing has shown yet that it is in use"
            return f"{subject}. {use}; the old one is still accepted until the last step is done."
        case RotationState.ROLLING_BACK:
            return f"{subject}. It is being taken back: the old certificate takes over again."
        case RotationState.CLOSED:
            use = "It is in use" if _is_shown_in_use(steps) else "It is stored in our AS2 system"
            return f"{subject}. {use}, and the old one has left."
        case RotationState.CANCELLED:
            return f"{subject}. It was cancelled: the old certificate stayed, or is back."


def _is_shown_in_use(steps: Sequence[Step]) -> bool:
    """Return whether our AS2 systems have shown that they use the new certificate, or a person made the change.

    A message that was exchanged with a partner since shows it too.
    """
    stored = [step for step in steps if step.act == Act.CUT_OVER and step.stored_at is not None]
    is_tested = any(step.act == Act.TEST and step.state == StepState.DONE for step in steps)
    return is_tested or all(step.in_use_at is not None for step in stored)


def _exchange_progress(readiness: ReadinessCount) -> str:
    """Return how many partners are ready, and what the change waits for."""
    if not readiness.outstanding:
        return "No partner is waited for any more; our own preparations are still to be done."
    unverified = f" ({readiness.unverified} unverified)" if readiness.unverified else ""
    ready = f"{readiness.ready} of {count_noun(readiness.expected, 'partner')} ready{unverified}"
    if readiness.outstanding == readiness.waits_for_us:
        return f"{ready}; the rest wait for us."
    return f"{ready}; the change waits for the rest."


def _scheduled_progress(
    rotation: Rotation, steps: Sequence[Step], readiness: ReadinessCount, *, when: str, now: datetime
) -> str:
    """Return who is ready, when the change is made, and which step of our own people it still waits for."""
    assert rotation.window_start is not None  # approved rotations have a window
    has_begun = now >= rotation.window_start
    open_ = [step for step in steps if step.act in OWN_ACTS and is_open_for_our_people(step)]
    if not has_begun:  # until then our cut-over itself is not late
        open_ = [step for step in open_ if step.act != Act.CUT_OVER or step.state == StepState.FAILED]
    if not open_:
        return f"{_who_is_ready(readiness)}: the change is made {when}."
    who = "The partners are ready" if not readiness.outstanding else _who_is_ready(readiness)
    if has_begun:
        return f"{who}; the change was due {when}, and waits for us: “{open_[0].title}”."
    return f"{who}; the change is made {when}, once we have done this: “{open_[0].title}”."


def _who_is_ready(readiness: ReadinessCount, steps: Sequence[Step] = ()) -> str:
    """Return the beginning of a sentence that the change is made; in an emergency, nobody is waited for."""
    if own := [step.title for step in steps if _is_needed_before(step)]:
        named = " and ".join(f"“{title}”" for title in own)
        partners = "The partners are ready" if not readiness.outstanding else "Everybody has answered"
        return f"{partners}, but {named} is still open on our side. After that"
    return "Nobody is waited for" if readiness.outstanding else "Everybody is ready"


def _is_needed_before(step: Step) -> bool:
    """Return whether our own people have to do this step before the change can be made: a hold, or what failed."""
    if step.act == Act.CUT_OVER:
        return step.state == StepState.FAILED
    return step.act == Act.HOLD and step.state not in SETTLED


def _partner_progress(steps: Sequence[Step]) -> str:
    """Return how many partners have changed over too after an emergency; messages with the others may fail."""
    theirs = [step for step in steps if step.act == Act.PARTNER_CUT_OVER]
    open_ = sum(step.state not in SETTLED for step in theirs)
    if not open_:
        return "Every partner has changed over too."
    partners = count_noun(len(theirs), "partner")
    return f"{len(theirs) - open_} of {partners} changed over too; messages with the rest may fail."


def _single_partner_cut_overs(steps: Iterable[Step]) -> list[Step]:
    """Return our cut-overs for single partners."""
    return [step for step in steps if step.act == Act.CUT_OVER and step.participant_id is not None]


def _phased_progress(
    rotation: Rotation, cut_overs: Sequence[Step], frozen: Mapping[int, datetime], *, now: datetime
) -> str:
    """Return until when each partner changes when it is ready, how many have, and who waits for the end of a freeze."""
    assert rotation.window_end is not None  # approved rotations have a window
    until = format_at_place(rotation.window_end, rotation.window_zone, now)
    progress = f"Each partner changes over when it is ready, until {until}: {_changed_count(cut_overs)}."
    ends: dict[datetime, list[str]] = defaultdict(list)
    for step in cut_overs:
        participant = step.participant
        if step.state not in SETTLED and participant is not None and participant.pk in frozen:
            ends[frozen[participant.pk]].append(participant.partner.name)
    waiting = [
        f"Because of a change freeze, {join_names(names)} {'waits' if len(names) == 1 else 'wait'} until "
        f"{format_at_place(end, rotation.window_zone, now)}."
        for end, names in sorted(ends.items())
    ]
    return " ".join([progress, *waiting])


def _changed_count(cut_overs: Sequence[Step]) -> str:
    """Return how many partners have changed over: "2 of 5 have"."""
    made = sum(step.state == StepState.DONE and not step.key.startswith(f"{PAST_PREFIX}:") for step in cut_overs)
    return f"{made} of {len({step.participant_id for step in cut_overs})} {'has' if made == 1 else 'have'}"


def _single_partner_progress(cut_overs: Sequence[Step], *, zone: str, now: datetime) -> str:
    """Return how many partners have changed over, and when the next window opens."""
    moments = [s.earliest_at for s in cut_overs if s.state not in SETTLED and s.earliest_at and s.earliest_at > now]
    when = f"; the next window opens {format_at_place(min(moments), zone, now)}" if moments else ""
    return f"Each partner changes over at its own moment: {_changed_count(cut_overs)}{when}."


def approval_effects(steps: Iterable[Step], *, zone: str, now: datetime) -> list[str]:
    """Return the effects of approving a plan as sentences, in order."""
    steps = list(steps)
    found: list[str] = []
    alone = _single_partner_cut_overs(steps)
    for step in steps:
        if step in alone:
            found += [_single_partner_effect(alone, zone=zone, now=now)] if step is alone[0] else []
        elif alone and step.act == Act.CUT_OVER:
            how = "The application does this by itself." if step.automatic else "A person does this by hand."
            found.append(f"After all of them: {step.title}. {how}")
        elif step.act == Act.CUT_OVER and step.rotation.is_fuzzy:
            on_request = ", or on your word" if step.automatic else ""
            how = WINDOW_END_TEXTS[step.rotation.at_end] if step.automatic else "A person does this by hand."
            found.append(
                f"In the window, at the first message that shows the other side’s change{on_request}: {step.title}. "
                f"{how}"
            )
        elif step.automatic and step.due_at is not None:
            when = "At once" if step.due_at <= now else format_at_place(step.due_at, zone, now)
            first = ", once every partner is ready" if step.act == Act.CUT_OVER else ""
            found.append(f"{when}{first}: {step.title}. The application does this by itself.")
        elif step.act == Act.CUT_OVER and step.earliest_at is not None:
            found.append(f"{format_at_place(step.earliest_at, zone, now)}: {step.title}. A person does this by hand.")
    by_hand = [step for step in steps if not step.automatic and step.who == "we"]
    theirs = {step.participant_id for step in steps if step.who == "partner"}
    if by_hand:
        found.append(f"{count_noun(len(by_hand), 'step')} of ours wait for a person, who records when each is done.")
    if theirs:
        found.append(
            f"{count_noun(len(theirs), 'partner')} must answer, by link or to you; record here what they tell you."
        )
    return found


def _single_partner_effect(cut_overs: Sequence[Step], *, zone: str, now: datetime) -> str:
    """Return the sentence that we change over to each partner in its own window."""
    first, how_many = cut_overs[0], count_noun(len(cut_overs), "partner")
    moments = sorted({step.earliest_at for step in cut_overs if step.earliest_at})
    when = format_at_place(moments[0], zone, now) if moments else "At its moment"
    since = f"From {when} on" if len(moments) > 1 else when
    if first.rotation.is_phased and moments and first.rotation.window_end:
        begins = f"From {when} on" if moments[0] > now else "From now on"
        since = f"{begins}, until {format_at_place(first.rotation.window_end, zone, now)}"
    how = "The application does this by itself." if first.automatic else "A person does this by hand."
    where = f" in {first.system}" if first.system else ""
    return (
        f"{since}, with each once it is ready, whatever the others do: we sign to {how_many} with the new certificate"
        f"{where}. {how}"
    )


def approve_label(rotation: Rotation, steps: Iterable[Step], *, now: datetime) -> str:
    """Return the label of the approve button: "Approve: at 22:00 … is written to OpenAS2 production"."""
    cut = next((step for step in steps if step.act == Act.CUT_OVER and step.automatic and step.due_at), None)
    if cut is None or cut.due_at is None or rotation.new is None:
        return "Approve this plan"
    if rotation.is_phased and rotation.window_end:
        until = format_at_place(rotation.window_end, rotation.window_zone, now)
        return f"Approve: each partner changes over when it is ready, until {until}"
    when = "at once" if cut.due_at <= now else format_at_place(cut.due_at, rotation.window_zone, now)
    if cut.system is None:
        return f"Approve: {when}, {rotation.new.short_name} takes over in the inventory"
    return f"Approve: {when}, {rotation.new.short_name} is written to {cut.system}"


@dataclass(frozen=True)
class LocalWindow:
    """A window in one time zone, and the names of those who are in that zone; ``start`` is empty where none counts."""

    zone: str
    start: str
    end: str
    readers: str

    @property
    def place(self) -> str:
        return zone_place(self.zone)


def local_windows(
    window: Window, participants: Sequence[Participant], *, reader: str, end_only: bool = False
) -> list[LocalWindow]:
    """Return a window, or its end only, in the agreed zone, in those of partners, reader and us, and in UTC."""
    readers: dict[str, list[str]] = {window.zone: ["as agreed"]}
    for participant in participants:
        readers.setdefault(participant.partner.time_zone, []).append(participant.partner.name)
    readers.setdefault(reader, []).append("you")
    readers.setdefault(Installation.current().time_zone, []).append("our zone")
    readers.setdefault("UTC", [])
    if end_only:
        return [
            LocalWindow(zone, "", format_exact_moment(window.end, zone), _short_list(names))
            for zone, names in readers.items()
        ]
    return [
        LocalWindow(zone, *window_ends(window.start, window.end, zone), _short_list(names))
        for zone, names in readers.items()
    ]


def _short_list(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
