"""Decide about a rotation: approve, postpone, cancel, close, roll back."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.utils import timezone

from as2certs.accounts.access import needs, person
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.execution import transitions
from rotations.lifecycle import actions, drafts, four_eyes, open_window
from rotations.lifecycle.edit_conflicts import must_be_as_seen, stamp
from rotations.models import Rotation
from rotations.planning.plan import Act
from rotations.planning.states import SETTLED, RotationAction
from rotations.web.forms.actions import ApproveForm, OptionalReasonForm, PostponeForm, ReasonForm
from rotations.web.forms.windows import window_of
from rotations.web.presenters import rotation_text
from rotations.web.presenters.rotation_detail import Sheet
from rotations.web.views.confirm_page import Question, ask, found, not_now, posted


@needs("rotations.approve_rotation")
def rotation_approve(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = found(uid), database_now()
    sheet = Sheet.of(rotation, user=person(request), now=now, zone=timezone.get_current_timezone_name())
    form = ApproveForm(posted(request), initial={"seen": stamp(rotation)})
    again = rotation.is_withdrawn
    left = [step for step in sheet.steps if step.state not in SETTLED]
    action = RotationAction.APPROVE_AGAIN if again else RotationAction.APPROVE
    question = Question(
        title=f"{'Approve again:' if again else 'Approve'} {rotation_text.title(rotation)}",
        label=rotation_text.approve_label(rotation, left, now=now),
        consequences=[
            *([four_eyes.sentence(rotation, zone=sheet.zone)] if again else []),
            *rotation_text.set_in_motion(left, zone=rotation.window_zone, now=now),
            *_rehearsed_first(sheet),
        ],
        obstacle=not_now(rotation, action) or sheet.not_approved_because,
        template="rotations/rotation_approve.html",
    )

    @transaction.atomic
    def do() -> None:
        must_be_as_seen(transitions.lock(rotation.pk), form.cleaned_data["seen"])
        actions.approve(rotation, by=Actor.of(request), now=database_now())

    return ask(
        request,
        rotation,
        form,
        question,
        do,
        "It is approved again, and goes on."
        if again
        else "The rotation is approved, and its first steps begin.",
        sheet=sheet,
    )


def _rehearsed_first(sheet: Sheet) -> list[str]:
    if not sheet.rehearsal.obstacle:
        return []
    return [f"Not scheduled before its rehearsal has passed. {sheet.rehearsal.result.sentence}"]


@needs("rotations.change_rotation")
def rotation_postpone(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = found(uid), database_now()
    seen = posted(request)
    form = PostponeForm(rotation, person(request), seen, now=now, initial=window_of(request.GET))
    question = Question(
        title=f"Postpone {rotation_text.title(rotation)}",
        label="Move the change to this window",
        consequences=[
            "The plan is made again for the new window. What was done stays done, what was installed stays installed.",
            "Every partner that agreed to the old window has to agree to the new one.",
            *four_eyes.warning(rotation),
        ],
        obstacle=not_now(rotation, RotationAction.POSTPONE),
        template="rotations/rotation_postpone.html",
    )

    @transaction.atomic
    def do() -> None:
        must_be_as_seen(transitions.lock(rotation.pk), form.cleaned_data["seen"])
        assert form.window is not None  # the form asks for it
        actions.postpone(
            rotation,
            form.window,
            reason=form.cleaned_data["reason"],
            freeze_reason=form.cleaned_data["freeze_reason"],
            by=Actor.of(request),
            now=database_now(),
        )

    zone = timezone.get_current_timezone_name()
    suggestions = drafts.suggestions(rotation.holder, old=rotation.old, new=rotation.new, zone=zone, now=now)
    said = "The change is postponed. Tell the partners, and record what they say to the new window."
    return ask(request, rotation, form, question, do, said, stamp=stamp(rotation), suggestions=suggestions)


@needs("rotations.change_rotation")
def rotation_switch_now(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Make the change of a window without a fixed moment now, on somebody's word."""
    rotation, now = found(uid), database_now()
    form = ReasonForm(posted(request))
    waiting = rotation.steps.filter(act=Act.CUT_OVER, state="waiting", automatic=True)
    question = Question(
        title=f"Switch now: {rotation_text.title(rotation)}",
        label="Make the change now",
        consequences=[f"At once, by itself: {step.title}." for step in waiting.select_related("system")[:12]],
        obstacle=open_window.switch_obstacle(rotation, now=now),
    )

    def do() -> None:
        open_window.switch_now(
            rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return ask(request, rotation, form, question, do, "The change is being made now.")


@needs("rotations.change_rotation")
def rotation_cancel(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = found(uid)
    form = ReasonForm(posted(request))
    consequences = ["Nothing of it happens any more; the old certificate stays in use."]
    if rotation.approved_at:
        consequences.append(
            "Partners that were told keep the new certificate: tell them that it will not be used."
        )
    if rotation.old and rotation.new:
        consequences.append(f"{rotation.new.short_name} stays in the inventory, for another rotation.")
    question = Question(
        title=f"Cancel {rotation_text.title(rotation)}",
        label="Cancel this rotation for good",
        consequences=consequences,
        danger=True,
        obstacle=not_now(rotation, RotationAction.CANCEL),
    )

    def do() -> None:
        actions.cancel(rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now())

    return ask(
        request, rotation, form, question, do, "The rotation is cancelled. The old certificate stays in use."
    )


@needs("rotations.change_rotation")
def rotation_close(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation = found(uid)
    form = OptionalReasonForm(posted(request))
    left = list(rotation.steps.exclude(state__in=SETTLED).values_list("title", "act"))
    retiring = any(act == Act.RETIRE for _, act in left)
    question = Question(
        title=f"Close {rotation_text.title(rotation)}",
        label="Close it, and leave out what is open" if left else "Close it",
        consequences=[f"Left out: {title}." for title, _ in left[:12]]
        + ([f"… and {len(left) - 12} more steps."] if len(left) > 12 else [])
        + ["It can't be rolled back from here any more."],
        obstacle=not_now(rotation, RotationAction.CLOSE)
        or (
            "The old certificate is still accepted: it closes by itself once that is over."
            if retiring
            else ""
        ),
    )

    def do() -> None:
        actions.close(rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now())

    return ask(request, rotation, form, question, do, "The rotation is closed.")


@needs("rotations.change_rotation")
def rotation_roll_back(request: HttpRequest, uid: UUID) -> HttpResponse:
    rotation, now = found(uid), database_now()
    form = ReasonForm(posted(request))
    question = Question(
        title=f"Roll back {rotation_text.title(rotation)}",
        label=_back_label(rotation),
        consequences=_back_consequences(rotation),
        danger=True,
        obstacle=actions.way_back_obstacle(rotation, now=now) or "",
    )

    def do() -> None:
        actions.roll_back(
            rotation, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return ask(request, rotation, form, question, do, "The old certificate is taking over again.")


def _back_label(rotation: Rotation) -> str:
    return f"Go back to {rotation.old.short_name} now" if rotation.old else "Go back now"


def _back_consequences(rotation: Rotation) -> list[str]:
    assert (
        rotation.old is not None or rotation.state
    )  # without an old certificate the obstacle is shown instead
    found = []
    for step in rotation.steps.filter(act=Act.CUT_OVER, state="done").select_related("system"):
        where = str(step.system) if step.system else "the inventory"
        hand = "by itself" if step.automatic else "by hand: record it when it is done"
        found.append(f"At once, {where} goes back to the old certificate, {hand}.")
    found.append("All open steps are left out, and the rotation ends as cancelled.")
    if rotation.old:
        until = rotation_text.at(rotation.old.not_after, rotation.window_zone, database_now())
        found.append(
            f"Possible until the old certificate ends ({until}), a partner drops it, or it is retired here: "
            "after that nobody could read what it signs or decrypt for it."
        )
    return found
