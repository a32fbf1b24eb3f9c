"""What about a rotation needs a person: the list at the top of its page."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from django.db.models import Q
from django.urls import reverse

from as2certs.pki import CertificateFinding
from as2certs.time_format import format_window
from identities.models import CertificateRequest
from rotations.exchange.partner_status import PartnerStatus
from rotations.exchange.time_slots import Availability
from rotations.execution import preconditions
from rotations.execution.concurrent import ConcurrentRotation
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.letters.contacts import explain_contact_gap
from rotations.models import HandedIn, Letter, Participant, Rotation, Step
from rotations.models.rehearsal import RehearsalResult, rehearsal_create_url
from rotations.planning.change import PREPARATION_ACTS, Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState, is_overdue
from rotations.planning.windows import WindowFinding
from rotations.web.presenters.partner_table import PartnerRow

#: So many partners are named in one sentence.
MAX_NAMES = 4


@dataclass(frozen=True)
class RehearsalLink:
    """A button, and the right that it asks for."""

    label: str
    url: str
    permission: str


@dataclass(frozen=True)
class OpenTask:
    """One thing for somebody to decide or do. ``is_post`` says that its button acts at once."""

    meaning: str
    text: str
    more: str = ""
    label: str = ""
    url: str = ""
    permission: str = "rotations.change_rotation"
    is_post: bool = False
    or_else: RehearsalLink | None = None


def join_names(words: Sequence[str]) -> str:
    """Return names as a sentence holds them: "Fabrikam, Northwind and 3 more"."""
    if len(words) <= MAX_NAMES:
        return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)
    return f"{', '.join(words[:MAX_NAMES])} and {len(words) - MAX_NAMES} more"


def awaited_participants(steps: Sequence[Step]) -> list[Participant]:
    """Return the participants whose word is still awaited, each once, in the order of the steps."""
    found: dict[int, Participant] = {}
    for step in steps:
        if step.participant is not None and step.act in CONFIRMED_ACTS and step.state not in SETTLED:
            found.setdefault(step.participant.pk, step.participant)
    return list(found.values())


def draft_tasks(
    rotation: Rotation,
    *,
    plan_error: str,
    findings: Sequence[CertificateFinding | WindowFinding],
    four_eyes: str,
) -> list[OpenTask]:
    """Return what keeps a draft from being approved, and that it waits."""
    found = [*successor_tasks(rotation), *submission_tasks(rotation)]
    edit = reverse("rotation-update", args=[rotation.uid])
    if rotation.window_start is None:
        found.append(OpenTask("needs_you", "No window is chosen yet.", label="Choose a window", url=edit))
    elif plan_error:
        found.append(OpenTask("urgent", "The plan can't be made.", plan_error, "Change the draft", edit))
    for finding in findings:
        if finding.level == "error":
            found.append(OpenTask("urgent", finding.reason, finding.advice, "Change the draft", edit))
    if four_eyes:
        found.append(OpenTask("needs_you", four_eyes))
    return found


def successor_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield how far the successor has come, while there is none."""
    if rotation.new is not None:
        return
    request = rotation.request
    edit = reverse("rotation-update", args=[rotation.uid])
    if request is None:
        yield OpenTask(
            "needs_you",
            "The new certificate is awaited.",
            "Nothing can be approved without it.",
            "Add it",
            edit,
        )
        return
    url = request.get_absolute_url()
    match request.state:
        case CertificateRequest.State.FAILED:
            yield OpenTask(
                "urgent", "The new certificate could not be made.", request.error, "Choose another way", edit
            )
        case CertificateRequest.State.AWAITING_CA:
            yield OpenTask(
                "needs_you",
                "The new certificate waits for the CA’s answer.",
                "Send the CSR to the CA, and bring its answer here.",
                "Take in the answer",
                url,
                "identities.change_certificaterequest",
            )
        case _:
            yield OpenTask(
                "soon", f"The new certificate is on its way: {request.get_state_display()}.", f"{request}."
            )


def submission_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield what the partner of a rotation handed in and nobody has compared yet: its successor, or another one."""
    if rotation.partner_id is None:
        return
    new = rotation.new_partner_certificate_id
    found = HandedIn.objects.filter(partner_id=rotation.partner_id).order_by("id")
    for handed in found.filter(Q(settled_at=None) | Q(accepted=False, certificate_id=new)):
        url = reverse("handed-in-accept", args=[handed.uid])
        if handed.settled_at is not None:
            yield OpenTask(
                "urgent",
                f"{handed.settled_by} refused this certificate when it was handed in.",
                handed.note,
                "Look at it",
                url,
            )
        elif handed.certificate_id == new:
            yield OpenTask(
                "needs_you",
                "The new certificate came by a link, and nobody has compared its fingerprint yet.",
                f"From {handed.said_by}. Nothing is set up with it before that.",
                "Compare it",
                url,
            )
        elif set(handed.roles) & set(rotation.roles):
            yield OpenTask(
                "needs_you",
                "Another certificate for this was handed in meanwhile.",
                f"From {handed.said_by}. Nothing was set up with it: decide which of the two is to take over.",
                "Look at it",
                url,
            )


def running_tasks(
    rotation: Rotation,
    steps: Sequence[Step],
    *,
    now: datetime,
    unrehearsed: RehearsalResult | None = None,
    spoken_for: Collection[int] = (),
) -> list[OpenTask]:
    """Return what keeps an approved rotation from going on; ``unrehearsed`` is the rehearsal that it waits for.

    ``spoken_for`` are the participants (primary keys) of which another line says already what they lack.
    """
    state = RotationState(rotation.state)
    found = [_failed_step_task(step) for step in steps if step.state == StepState.FAILED]
    found += [_retrying_step_task(step) for step in steps if step.error and step.state == StepState.WAITING]
    found += submission_tasks(rotation)
    waiting = awaited_participants(steps)
    postpone = reverse("rotation-postpone", args=[rotation.uid])
    alone = [step for step in steps if step.act == Act.CUT_OVER and step.participant_id]
    if alone:
        found += _single_partner_tasks(rotation, alone, waiting, spoken_for, now=now)
    elif is_overdue(state, rotation.window_end, now):
        found.append(_overdue_task(rotation, state, waiting, postpone))
    elif state is RotationState.EXCHANGING and waiting:
        is_open = rotation.window_start is not None and rotation.window_start <= now
        silent = waiting if is_open else [p for p in waiting if p.pk not in spoken_for]
        found += [_unconfirmed_task(rotation, silent, now=now)] if silent else []
    elif (
        state is RotationState.EXCHANGING
        and rotation.window_start
        and rotation.window_start <= now
        and is_unprepared(steps)
    ):
        found.append(
            OpenTask(
                "urgent",
                "The window is open, but not everything is prepared.",
                "See the first open step.",
                "Look",
                "#runbook",
            )
        )
    if unrehearsed is not None:
        found.append(_rehearsal_task(rotation, unrehearsed, now=now))
    if state in (*AWAITING_WINDOW, RotationState.APPLIED, RotationState.ROLLING_BACK):
        found += _manual_step_tasks(steps, now=now)
    return found


def _single_partner_tasks(
    rotation: Rotation,
    cut_overs: Sequence[Step],
    waiting: Sequence[Participant],
    spoken_for: Collection[int],
    *,
    now: datetime,
) -> Iterator[OpenTask]:
    """Yield what keeps single partners from changing over at their own moments; the others go on."""
    to_come = [step for step in cut_overs if step.state not in SETTLED and step.participant is not None]
    back = [step for step in to_come if step.participant and step.participant.taken_back_at]
    missed = [step for step in to_come if step.latest_at is not None and step.latest_at <= now]
    for those, one, several in (
        (back, "has gone back and waits for another moment", "have gone back and wait for other moments"),
        (missed, "was not changed over in its window", "were not changed over in their windows"),
    ):
        if those:
            who = join_names([step.participant.partner.name for step in those if step.participant])
            text = f"{who} {one if len(those) == 1 else several}."
            uid = those[0].participant.uid if those[0].participant else rotation.uid
            url = reverse("participant-move", args=[uid])
            more = "The others go on; the default changes once they have changed over too."
            yield OpenTask("urgent", text, more, "Another moment …", url)
    open_now = {
        step.participant_id
        for step in to_come
        if step.earliest_at and step.earliest_at <= now and step not in missed
    }
    late = [p for p in waiting if p.pk in open_now]
    if late:
        verb = "has" if len(late) == 1 else "have"
        yield OpenTask(
            "urgent",
            f"{join_names([p.partner.name for p in late])} {verb} not confirmed, and the window is open.",
            "Only the change with them waits. Record the answer, go on without it with a reason, or give them another "
            "moment.",
            "Record answers",
            "#partners",
        )
    ahead = [step for step in to_come if step.earliest_at and step.earliest_at > now]
    pks = {p.pk for p in waiting} - set(spoken_for)
    soon = sorted(
        (step for step in ahead if step.participant_id in pks), key=lambda step: step.earliest_at or now
    )
    if soon and soon[0].earliest_at:
        meaning, when = _urgency(soon[0].earliest_at, now)
        who = join_names([step.participant.partner.name for step in soon if step.participant])
        verb, first = ("has", "its window") if len(soon) == 1 else ("have", "the first window")
        yield OpenTask(
            meaning, f"{who} {verb} not confirmed · {first} opens {when}.", "", "Record answers", "#partners"
        )


#: What partners may have come to that somebody here has to decide about, the most pressing first: its meaning, how it
#: is said of one and of several, and the button.
DECISIONS: tuple[tuple[PartnerStatus, str, str, str, str], ...] = (
    (
        PartnerStatus.DOES_NOT_WORK,
        "urgent",
        "reports trouble after the change",
        "report trouble after the change",
        "Look",
    ),
    (
        PartnerStatus.USES_OLD,
        "urgent",
        "still uses the old certificate",
        "still use the old certificate",
        "Look",
    ),
    (PartnerStatus.DECLINED, "urgent", "says no", "say no", "Decide"),
    (PartnerStatus.OTHER_TIME, "needs_you", "proposes another time", "propose another time", "Decide"),
    (PartnerStatus.UNREACHABLE, "urgent", "can’t be reached by mail", "can’t be reached by mail", "Look"),
)


DECISION_STATUSES = frozenset(standing for standing, *_ in DECISIONS)
#: In which order needs are listed.
URGENCY_ORDER = ("urgent", "needs_you", "soon", "neutral")


def exchange_tasks(
    rotation: Rotation,
    steps: Sequence[Step],
    rows: Sequence[PartnerRow],
    *,
    now: datetime,
    unrehearsed: RehearsalResult | None = None,
) -> list[OpenTask]:
    """Return what an approved rotation and its partners need of somebody, the most pressing first."""
    spoken_for = {
        row.participant.pk
        for row in rows
        if row.standing in DECISION_STATUSES or _is_due_for_announcement(row)
    }
    running = running_tasks(rotation, steps, now=now, unrehearsed=unrehearsed, spoken_for=spoken_for)
    found = [
        *(need for need in running if need.meaning == URGENCY_ORDER[0]),
        *participant_tasks(rows),
        *announcement_tasks(rotation, rows, now=now),
        *(need for need in running if need.meaning != URGENCY_ORDER[0]),
    ]
    return sorted(found, key=lambda need: URGENCY_ORDER.index(need.meaning))


def _is_due_for_announcement(row: PartnerRow) -> bool:
    return row.standing is PartnerStatus.NOT_INFORMED and row.may_be_told and row.is_awaited


def due_for_announcement(rows: Sequence[PartnerRow]) -> list[PartnerRow]:
    """Return whose turn it is to be told, and was not, as far as a mail reaches them."""
    return [row for row in rows if _is_due_for_announcement(row) and row.is_reached_by_mail]


def participant_tasks(rows: Sequence[PartnerRow]) -> list[OpenTask]:
    """Return what partners said, or failed to get, that somebody has to decide about: one line for each such word."""
    found = []
    for standing, meaning, one, several, label in DECISIONS:
        those = [row for row in rows if row.standing is standing]
        if not those:
            continue
        who = join_names([row.participant.partner.name for row in those])
        if len(those) == 1:
            text, url = f"{who} {one}.", those[0].page
        else:
            rotation = those[0].participant.rotation
            text, url = (
                f"{who} {several}.",
                f"{rotation.get_absolute_url()}?show={standing.name.lower()}#partners",
            )
        found.append(OpenTask(meaning, text, _partner_quote(those), label, url, "rotations.view_rotation"))
    return found


def _partner_quote(rows: Sequence[PartnerRow]) -> str:
    """Quote what was said with it, where one partner said it."""
    if len(rows) > 1:
        return ""
    participant = rows[0].participant
    match rows[0].standing:
        case PartnerStatus.DOES_NOT_WORK:
            note = participant.works_note
        case PartnerStatus.DECLINED:
            note = participant.declined_reason
        case PartnerStatus.OTHER_TIME:
            note = participant.proposed_note
            if participant.proposed_start and participant.proposed_end:
                zone = participant.proposed_zone or participant.partner.time_zone
                note = f"{format_window(participant.proposed_start, participant.proposed_end, zone)}. {note}".strip()
            return note
        case _:
            return ""
    return f"“{note}”" if note else ""


def announcement_tasks(
    rotation: Rotation, rows: Sequence[PartnerRow], *, now: datetime
) -> Iterator[OpenTask]:
    """Yield that partners are not told yet whose turn it is: those whom a mail reaches, and those whom none does."""
    start = rotation.window_start
    assert start is not None  # approved rotations have a window
    meaning, when = _urgency(start, now)
    when = f"the window opens {when}" if start > now else "the window is open"
    if waiting := due_for_announcement(rows):
        yield OpenTask(
            meaning,
            f"{_names_with_verb(waiting)} not told yet · {when}.",
            "Look at the mails, then send them.",
            announce_label(waiting),
            reverse("rotation-announce", args=[rotation.uid]),
        )
    if mute := [row for row in rows if _is_due_for_announcement(row) and not row.is_reached_by_mail]:
        one = len(mute) == 1
        yield OpenTask(
            meaning,
            f"{_names_with_verb(mute)} not told yet, and no mail reaches {'it' if one else 'them'} · {when}.",
            explain_contact_gap(mute[0].participant.partner, Letter.Kind.ANNOUNCEMENT) if one else "",
            "Make a link …" if one else "Look",
            reverse("participant-share", args=[mute[0].participant.uid])
            if one
            else reverse("rotation-announce", args=[rotation.uid]),
        )


def _names_with_verb(rows: Sequence[PartnerRow]) -> str:
    return f"{join_names([row.participant.partner.name for row in rows])} {'is' if len(rows) == 1 else 'are'}"


def announce_label(waiting: Sequence[PartnerRow]) -> str:
    """Name what announcing to these partners is: "Announce to 12 partners …"."""
    return f"Announce to {len(waiting)} partner{'' if len(waiting) == 1 else 's'} …"


def slot_tasks(rotation: Rotation, times: Availability | None) -> list[OpenTask]:
    """Return how far the choice among offered times has come, while there is one."""
    if times is None:
        return []
    url, asked = reverse("rotation-slots", args=[rotation.uid]), len(times.participants)
    best = times.best
    suits = ""
    if best is not None:
        suits = (
            f"{format_window(best.slot.start, best.slot.end, best.slot.zone)} suits {best.can} of {asked}."
        )
    if times.silent:
        said = asked - len(times.silent)
        return [
            OpenTask(
                "neutral", f"{said} of {asked} have said which of the offered times suit.", suits, "Look", url
            )
        ]
    return [
        OpenTask("needs_you", "Everybody has said which of the offered times suit.", suits, "Take one …", url)
    ]


def concurrent_change_tasks(rotation: Rotation, found: Sequence[ConcurrentRotation]) -> list[OpenTask]:
    """Return the other changes that the same partners have to make at about the same time, but in another window."""
    state = RotationState(rotation.state)
    verb = "rotation-update" if state is RotationState.DRAFT else "rotation-postpone"
    movable = state in (RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED)
    return [
        OpenTask(
            "soon",
            f"{join_names(n.partners)} {'has' if len(n.partners) == 1 else 'have'} another change "
            f"{'in an overlapping window' if n.overlaps else 'within a week of this one'}: {n.rotation}.",
            "One window for both means one call and one night for them.",
            "Use its window …" if movable else "Look at it",
            f"{reverse(verb, args=[rotation.uid])}?window={n.rotation.uid}"
            if movable
            else n.rotation.get_absolute_url(),
        )
        for n in found
        if not n.same
    ]


def _failed_step_task(step: Step) -> OpenTask:
    retry = reverse("rotation-step-retry", args=[step.uid])
    label = "Try again" if step.automatic else "Put it back in line"
    return OpenTask("urgent", f"{step.title}: this did not work.", step.error, label, retry, is_post=True)


def _retrying_step_task(step: Step) -> OpenTask:
    return OpenTask(
        "soon", f"{step.title}: not yet, it is tried again by itself.", step.error, "Look", "#runbook"
    )


def _overdue_task(
    rotation: Rotation, state: RotationState, waiting: Sequence[Participant], url: str
) -> OpenTask:
    who = f" Not ready by then: {join_names([p.partner.name for p in waiting])}." if waiting else ""
    next_move = (
        "Agree a new window with the partners and postpone to it, or cancel."
        if state is not RotationState.UNDER_WAY
        else "Part of the change is made: finish the open steps, postpone the rest to a new window, or roll back."
    )
    return OpenTask(
        "urgent", "The window is over, and the change is not complete.", f"{next_move}{who}", "Postpone", url
    )


def _unconfirmed_task(rotation: Rotation, waiting: Sequence[Participant], *, now: datetime) -> OpenTask:
    assert rotation.window_start is not None  # approved rotations have a window
    who = join_names([p.partner.name for p in waiting])
    verb = "has" if len(waiting) == 1 else "have"
    if rotation.window_start <= now:
        return OpenTask(
            "urgent",
            f"{who} {verb} not confirmed, and the window is open.",
            "The change waits for every answer. Record it, go on without it with a reason, or postpone.",
            "Record answers",
            "#partners",
        )
    meaning, when = _urgency(rotation.window_start, now)
    return OpenTask(
        meaning, f"{who} {verb} not confirmed · the window opens {when}.", "", "Record answers", "#partners"
    )


def _urgency(start: datetime, now: datetime) -> tuple[str, str]:
    """Return how pressing a window is that opens at ``start``, and when that is in words."""
    left = (start - now).days
    when = "in less than a day" if left < 1 else "in 1 day" if left == 1 else f"in {left} days"
    return "urgent" if left < 1 else "soon" if left < 3 else "needs_you", when


def is_unprepared(steps: Sequence[Step]) -> bool:
    """Say whether something that comes before the window is still open, by us or by a partner."""
    return any(step.act in PREPARATION_ACTS and step.state not in SETTLED for step in steps)


def _rehearsal_task(rotation: Rotation, result: RehearsalResult, *, now: datetime) -> OpenTask:
    start = rotation.window_start
    assert start is not None  # approved rotations have a window
    meaning, when = _urgency(start, now)
    text = f"It waits for its rehearsal · the window opens {when}."
    if start <= now:
        meaning, text = "urgent", "It waits for its rehearsal, and its window has come."
    way = rehearsal_link(rotation, result)
    without = RehearsalLink(
        "Go on without …",
        reverse("rotation-waive-rehearsal", args=[rotation.uid]),
        "rotations.approve_rotation",
    )
    return OpenTask(meaning, text, result.sentence, way.label, way.url, way.permission, or_else=without)


def rehearsal_link(rotation: Rotation, result: RehearsalResult) -> RehearsalLink:
    """Return what brings a rehearsal that has not passed further: to set it up, or to look at it."""
    if result.rehearsal is not None and not result.may_begin:
        return RehearsalLink(
            "Open the rehearsal", result.rehearsal.get_absolute_url(), "rotations.view_rotation"
        )
    assert result.counterpart is not None  # nothing waits for a rehearsal that can't be made
    label = f"Set up the rehearsal on {result.counterpart}"
    return RehearsalLink(label, rehearsal_create_url(rotation, result.counterpart), "rotations.add_rotation")


def _manual_step_tasks(steps: Sequence[Step], *, now: datetime) -> Iterator[OpenTask]:
    """Yield what our own people have to do now: one line, however many steps."""
    ours = [s for s in steps_for_hand(steps, now=now) if s.state == StepState.WAITING and s.who == "we"]
    ours = [s for s in ours if s.act not in CONFIRMED_ACTS]
    if ours:
        more = f"and {len(ours) - 1} more" if len(ours) > 1 else ""
        yield OpenTask("needs_you", f"To be done by hand: {ours[0].title}", more, "Go there", "#runbook")


def steps_for_hand(steps: Iterable[Step], *, now: datetime) -> list[Step]:
    """Return those of one rotation's steps that a person may settle now."""
    steps = [step for step in steps if not step.blocked]
    facts = preconditions.RotationFacts([step.rotation for step in steps[:1]])
    return [
        step
        for step in steps
        if (step.earliest_at is None or step.earliest_at <= now)
        and (step.state == StepState.FAILED or _is_manual(step, facts))
    ]


def _is_manual(step: Step, facts: preconditions.RotationFacts) -> bool:
    is_ours = step.state == StepState.WAITING and not step.automatic
    return is_ours and not preconditions.obstacle_by_hand(step, facts)
