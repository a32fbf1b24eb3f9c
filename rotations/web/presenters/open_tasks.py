"""Open tasks of a rotation: what a person has to decide or do, shown at the top of its page."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from datetime import datetime

from django.db.models import Q
from django.urls import reverse

from as2certs.pki import CertificateFinding
from as2certs.time_format import format_window
from identities.differences import differences_url, unexpected_certificates
from identities.models import CertificateRequest
from identities.open_tasks import ActionLink, OpenTask, sort_by_urgency
from partners.models import Partner, PartnerCertificate
from rotations.exchange.bulk import AnnouncementProgress
from rotations.exchange.time_slots import Availability
from rotations.execution.concurrent import ConcurrentRotation
from rotations.execution.confirmations import CONFIRMED_ACTS
from rotations.execution.fingerprint_check import uncompared_evidence, unverified_submission
from rotations.models import BulkAnnouncement, HandedIn, Participant, Rotation, Sighting, Step
from rotations.models.rehearsal import RehearsalResult
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, SETTLED, RotationState, StepState, is_overdue
from rotations.planning.windows import WindowFinding
from rotations.web.presenters.partner_table import CHANGE_ROTATION, PartnerRow
from rotations.web.presenters.partner_tasks import (
    DECISION_STATUSES,
    announcement_tasks,
    change_task,
    is_due_for_announcement,
    participant_tasks,
    window_urgency,
)
from rotations.web.presenters.rehearsal import rehearsal_link
from rotations.web.presenters.rotation_text import join_names
from rotations.web.presenters.step_groups import (
    awaited_participants,
    is_unprepared,
    outstanding_participants,
    settleable_steps,
)


def draft_tasks(
    rotation: Rotation,
    *,
    plan_error: str,
    findings: Sequence[CertificateFinding | WindowFinding],
    four_eyes: str,
) -> list[OpenTask]:
    """Return what keeps a draft from being approved. ``four_eyes`` says why the reader may not approve it."""
    found = [*successor_tasks(rotation), *submission_tasks(rotation), *early_evidence_tasks(rotation)]
    found += early_use_tasks(rotation)
    edit = reverse("rotation-update", args=[rotation.uid])
    if rotation.window_start is None:
        found.append(change_task("needs_you", "No window is chosen yet.", "Choose a window", edit))
    elif plan_error:
        found.append(change_task("urgent", "The plan can't be made.", "Change the draft", edit, plan_error))
    for finding in findings:
        if finding.level == "error":
            found.append(change_task("urgent", finding.reason, "Change the draft", edit, finding.advice))
    if four_eyes:
        found.append(OpenTask("needs_you", four_eyes))
    return found


def successor_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield the state of the new certificate's request while there is no new certificate."""
    if rotation.new is not None:
        return
    request = rotation.request
    edit = reverse("rotation-update", args=[rotation.uid])
    if request is None:
        yield change_task(
            "needs_you",
            "The new certificate is awaited.",
            "Add it",
            edit,
            "Nothing can be approved without it.",
        )
        return
    url = request.get_absolute_url()
    match request.state:
        case CertificateRequest.State.FAILED:
            yield change_task(
                "urgent", "The new certificate could not be made.", "Choose another way", edit, request.error
            )
        case CertificateRequest.State.AWAITING_CA:
            yield OpenTask(
                "needs_you",
                "The new certificate waits for the CA’s answer.",
                "Take in the answer",
                url,
                "identities.change_certificaterequest",
                "Send the CSR to the CA, and bring its answer here.",
            )
        case CertificateRequest.State.DONE:
            yield change_task("needs_you", "The new certificate is made.", "Choose it", edit, f"{request}.")
        case _:
            yield OpenTask(
                "soon",
                f"The new certificate is on its way: {request.get_state_display()}.",
                more=f"{request}.",
            )


def submission_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield the certificates that the rotation's partner submitted and whose fingerprints nobody has compared yet."""
    if rotation.partner_id is None:
        return
    new = rotation.new_partner_certificate_id
    found = HandedIn.objects.filter(partner_id=rotation.partner_id).order_by("id")
    for submitted in found.filter(Q(settled_at=None) | Q(accepted=False, certificate_id=new)):
        url = reverse("handed-in-accept", args=[submitted.uid])
        if submitted.settled_at is not None:
            yield change_task(
                "urgent",
                f"{submitted.settled_by} refused this certificate when it was handed in.",
                "Look at it",
                url,
                submitted.note,
            )
        elif submitted.certificate_id == new:
            text = "The new certificate came by a link, and nobody has compared its fingerprint yet."
            is_used = rotation.partner is not None and is_signed_with(rotation.partner, submitted.certificate)
            if is_used:
                text = (
                    f"{rotation.partner} already signs with a certificate that you have not compared: compare it now."
                )
            more = f"From {submitted.submitted_by}. Nothing is set up with it before that."
            yield change_task("urgent" if is_used else "needs_you", text, "Compare it", url, more)
        elif set(submitted.roles) & set(rotation.roles):
            yield change_task(
                "needs_you",
                "Another certificate for this was handed in meanwhile.",
                "Look at it",
                url,
                f"From {submitted.submitted_by}. Nothing was set up with it: decide which of the two is to take over.",
            )


def is_signed_with(partner: Partner, certificate: PartnerCertificate) -> bool:
    """Return whether a message of the partner was noted that this certificate signed."""
    return partner.sightings.of_certificate(certificate).filter(use=Sighting.Use.SIGNED).exists()


def early_evidence_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield the partners of a draft that use its new certificate already; ``submission_tasks`` has those to compare."""
    if rotation.new is None:
        return
    early = Sighting.objects.early().of_certificate(rotation.new).select_related("partner")
    seen = {sighting.partner_id: sighting for sighting in early.filter(partner__participations__rotation=rotation)}
    for sighting in seen.values():
        evidence = sighting.early_evidence()
        if evidence is not None and evidence.kind == "approve":
            yield OpenTask("urgent", evidence.sentence)


def early_use_tasks(rotation: Rotation) -> Iterator[OpenTask]:
    """Yield the AS2 systems that use the new certificate already, as their comparison with the inventory showed."""
    if rotation.new is None or rotation.applied_at is not None:
        return
    for row in rotation.holder.baselines.differing().select_related("system", "identity", "partner"):
        if rotation.new.sha256 in unexpected_certificates(row):
            yield OpenTask(
                "urgent",
                f"{row.system} uses the new certificate {rotation.new.short_name} already, and this rotation has not "
                "made the change.",
                "Look at it",
                differences_url(row.system),
                "identities.view_as2system",
                "Make the change now, or put the old certificate back in the AS2 system.",
            )


def running_tasks(
    rotation: Rotation,
    steps: Sequence[Step],
    *,
    now: datetime,
    unrehearsed: RehearsalResult | None = None,
    covered: Collection[int] = (),
) -> list[OpenTask]:
    """Return what keeps an approved rotation from continuing. ``unrehearsed`` is the rehearsal that it waits for.

    ``covered`` are the primary keys of participants that another task is about already.
    """
    state = RotationState(rotation.state)
    found = [_failed_step_task(step) for step in steps if step.state == StepState.FAILED]
    found += [_retrying_step_task(step) for step in steps if step.error and step.state == StepState.WAITING]
    found += [*submission_tasks(rotation), *early_use_tasks(rotation)]
    if any(step.act == Act.CHECK and step.state not in SETTLED for step in steps):
        evidence = uncompared_evidence(rotation)
        if evidence is not None and unverified_submission(rotation) is None:  # or else it is a task already
            found.append(change_task("urgent", evidence.sentence, "Look", "#runbook"))
    waiting = awaited_participants(steps)
    single_partner = [step for step in steps if step.act == Act.CUT_OVER and step.participant_id]
    if single_partner:
        found += _single_partner_tasks(single_partner, waiting, covered, now=now)
    elif is_overdue(state, rotation.window_end, now):
        found.append(_overdue_task(rotation, outstanding_participants(steps)))
    elif state is RotationState.EXCHANGING and waiting:
        is_open = rotation.window_start is not None and rotation.window_start <= now
        unconfirmed = waiting if is_open else [p for p in waiting if p.pk not in covered]
        found += [_unconfirmed_task(rotation, unconfirmed, now=now)] if unconfirmed else []
    elif (
        state is RotationState.EXCHANGING
        and rotation.window_start
        and rotation.window_start <= now
        and is_unprepared(steps)
    ):
        found.append(
            change_task(
                "urgent",
                "The window is open, but not everything is prepared.",
                "Look",
                "#runbook",
                "See the first open step.",
            )
        )
    if unrehearsed is not None:
        found.append(_rehearsal_task(rotation, unrehearsed, now=now))
    if state in (*AWAITING_WINDOW, RotationState.APPLIED, RotationState.ROLLING_BACK):
        found += _manual_step_tasks(steps, now=now)
    return found


def _single_partner_tasks(
    cut_overs: Sequence[Step], waiting: Sequence[Participant], covered: Collection[int], *, now: datetime
) -> Iterator[OpenTask]:
    """Yield what keeps single partners from changing over in their own windows; the other partners continue."""
    unsettled = [(s, s.participant) for s in cut_overs if s.state not in SETTLED and s.participant is not None]
    taken_back = [participant for _, participant in unsettled if participant.taken_back_at]
    missed = [participant for step, participant in unsettled if step.latest_at and step.latest_at <= now]
    for affected, one, several in (
        (
            taken_back,
            "has gone back and waits for another moment",
            "have gone back and wait for other moments",
        ),
        (missed, "was not changed over in its window", "were not changed over in their windows"),
    ):
        if affected:
            text = f"{_names(affected)} {one if len(affected) == 1 else several}."
            url = reverse("participant-move", args=[affected[0].uid])
            more = "The others go on; the default changes once they have changed over too."
            yield change_task("urgent", text, "Another moment …", url, more)
    # Where each changes when it is ready, nobody is late before the last moment.
    needed = [(step.latest_at if p.changes_when_ready else step.earliest_at, p) for step, p in unsettled]
    opened = {p.pk for at, p in needed if at and at <= now} - {participant.pk for participant in missed}
    if late := [participant for participant in waiting if participant.pk in opened]:
        yield change_task(
            "urgent",
            f"{_names(late)} {'has' if len(late) == 1 else 'have'} not confirmed, and the window is open.",
            "Record answers",
            "#partners",
            "Only the change with them waits. Record the answer, go on without it with a reason, or give them another "
            "moment.",
        )
    unconfirmed = {participant.pk for participant in waiting} - set(covered)
    ahead = sorted(
        ((at, participant) for at, participant in needed if at and at > now and participant.pk in unconfirmed),
        key=lambda pair: pair[0],
    )
    if ahead:
        meaning, when = window_urgency(ahead[0][0], now)
        who = _names([participant for _, participant in ahead])
        verb, first = ("has", "its window opens") if len(ahead) == 1 else ("have", "the first window opens")
        if ahead[0][1].changes_when_ready:
            first = "the last moment is"
        yield change_task(meaning, f"{who} {verb} not confirmed · {first} {when}.", "Record answers", "#partners")


def _names(participants: Sequence[Participant]) -> str:
    return join_names([participant.partner.name for participant in participants])


def exchange_tasks(
    rotation: Rotation,
    steps: Sequence[Step],
    rows: Sequence[PartnerRow],
    *,
    now: datetime,
    unrehearsed: RehearsalResult | None = None,
) -> list[OpenTask]:
    """Return the tasks of an approved rotation and of its partners, the most urgent first."""
    covered = {row.participant.pk for row in rows if row.status in DECISION_STATUSES or is_due_for_announcement(row)}
    running = running_tasks(rotation, steps, now=now, unrehearsed=unrehearsed, covered=covered)
    return sort_by_urgency(
        [
            *(task for task in running if task.meaning == "urgent"),
            *participant_tasks(rows),
            *announcement_tasks(rotation, rows, now=now),
            *(task for task in running if task.meaning != "urgent"),
        ]
    )


def announcing_tasks(rotation: Rotation, job: BulkAnnouncement | None) -> list[OpenTask]:
    """Return how far announcements to many partners are that are in progress, or that stopped by themselves."""
    if job is None or not (job.is_busy or job.state == BulkAnnouncement.State.FAILED):
        return []
    progress, url = AnnouncementProgress.of(job), reverse("rotation-announcing", args=[rotation.uid])
    far = f"{progress.notified} of {progress.total} partners are notified"
    if job.is_busy:
        text = f"The change is being announced: {far} so far."
        return [OpenTask("neutral", text, "Show progress", url, "rotations.view_rotation")]
    text = f"The announcements have stopped: {far}."
    return [OpenTask("urgent", text, "Look …", url, "rotations.view_rotation", more=job.error)]


def slot_tasks(rotation: Rotation, availability: Availability | None) -> list[OpenTask]:
    """Return how many partners have answered which of the offered times suit them."""
    if availability is None:
        return []
    url, asked = reverse("rotation-slots", args=[rotation.uid]), len(availability.participants)
    best = availability.best
    suits = ""
    if best is not None:
        suits = f"{format_window(best.slot.start, best.slot.end, best.slot.zone)} suits {best.can} of {asked}."
    if availability.silent:
        text = f"{asked - len(availability.silent)} of {asked} have said which of the offered times suit."
        return [change_task("neutral", text, "Look", url, suits)]
    text = "Everybody has said which of the offered times suit."
    return [change_task("needs_you", text, "Take one …", url, suits)]


def concurrent_change_tasks(rotation: Rotation, found: Sequence[ConcurrentRotation]) -> list[OpenTask]:
    """Return the changes that the same partners have to make at about the same time in a different window."""
    state = RotationState(rotation.state)
    verb = "rotation-update" if state is RotationState.DRAFT else "rotation-postpone"
    movable = state in (RotationState.DRAFT, RotationState.EXCHANGING, RotationState.SCHEDULED)
    return [
        change_task(
            "soon",
            f"{join_names(n.partners)} {'has' if len(n.partners) == 1 else 'have'} another change "
            f"{'in an overlapping window' if n.overlaps else 'within a week of this one'}: {n.rotation}.",
            "Use its window …" if movable else "Look at it",
            f"{reverse(verb, args=[rotation.uid])}?window={n.rotation.uid}"
            if movable
            else n.rotation.get_absolute_url(),
            "One window for both means one call and one night for them.",
        )
        for n in found
        if not n.same
    ]


def _failed_step_task(step: Step) -> OpenTask:
    retry = reverse("rotation-step-retry", args=[step.uid])
    label = "Try again" if step.automatic else "Put it back in line"
    return OpenTask(
        "urgent",
        f"{step.title}: this did not work.",
        label,
        retry,
        CHANGE_ROTATION,
        step.error,
        is_post=True,
    )


def _retrying_step_task(step: Step) -> OpenTask:
    return change_task("soon", f"{step.title}: not yet, it is tried again by itself.", "Look", "#runbook", step.error)


def _overdue_task(rotation: Rotation, waiting: Sequence[Participant]) -> OpenTask:
    url = reverse("rotation-postpone", args=[rotation.uid])
    who = f" Not ready by then: {_names(waiting)}." if waiting else ""
    next_move = (
        "Agree a new window with the partners and postpone to it, or cancel."
        if rotation.state != RotationState.UNDER_WAY
        else "Part of the change is made: finish the open steps, postpone the rest to a new window, or roll back."
    )
    return change_task(
        "urgent", "The window is over, and the change is not complete.", "Postpone", url, f"{next_move}{who}"
    )


def _unconfirmed_task(rotation: Rotation, waiting: Sequence[Participant], *, now: datetime) -> OpenTask:
    assert rotation.window_start is not None  # approved rotations have a window
    who = _names(waiting)
    verb = "has" if len(waiting) == 1 else "have"
    if rotation.window_start <= now:
        return change_task(
            "urgent",
            f"{who} {verb} not confirmed, and the window is open.",
            "Record answers",
            "#partners",
            "The change waits for every answer. Record it, go on without it with a reason, or postpone.",
        )
    meaning, when = window_urgency(rotation.window_start, now)
    return change_task(meaning, f"{who} {verb} not confirmed · the window opens {when}.", "Record answers", "#partners")


def _rehearsal_task(rotation: Rotation, result: RehearsalResult, *, now: datetime) -> OpenTask:
    start = rotation.window_start
    assert start is not None  # approved rotations have a window
    meaning, when = window_urgency(start, now)
    text = f"It waits for its rehearsal · the window opens {when}."
    if start <= now:
        meaning, text = "urgent", "It waits for its rehearsal, and its window has come."
    link = rehearsal_link(rotation, result)
    without = ActionLink(
        "Go on without …",
        reverse("rotation-waive-rehearsal", args=[rotation.uid]),
        "rotations.approve_rotation",
    )
    return OpenTask(meaning, text, link.label, link.url, link.permission, result.sentence, alternative=without)


def _manual_step_tasks(steps: Sequence[Step], *, now: datetime) -> Iterator[OpenTask]:
    """Yield one task for all steps that our own people have to carry out now."""
    ours = [
        step
        for step in settleable_steps(steps, now=now)
        if step.state == StepState.WAITING and step.who == "we" and step.act not in CONFIRMED_ACTS
    ]
    if ours:
        more = f"and {len(ours) - 1} more" if len(ours) > 1 else ""
        yield change_task("needs_you", f"To be done by hand: {ours[0].title}", "Go there", "#runbook", more)
