"""Steps that a person settles: done by hand, left out, tried again."""

from __future__ import annotations

from uuid import UUID

from django.db import transaction
from django.http import HttpRequest, HttpResponse

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from rotations.lifecycle import step_actions
from rotations.planning.change import Act
from rotations.web.forms.actions import EmptyForm, RotationReasonForm, StepDoneForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.open_tasks import steps_for_hand
from rotations.web.views.confirm_page import (
    ConfirmPage,
    confirm,
    get_rotation_or_404,
    get_step_or_404,
    post_data,
)

#: What only a partner's own answer settles.
PARTNER_ACTS = (Act.INSTALL, Act.AGREE)


@require_permissions("rotations.change_rotation")
def step_done(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = StepDoneForm(post_data(request))
    consequences = [step.why] if step.why else []
    if step.earliest_at and step.earliest_at > database_now():
        when = rotation_text.format_at_place(step.earliest_at, step.rotation.window_zone, database_now())
        consequences.insert(0, f"Too early: the plan says not before {when}.")
    question = ConfirmPage(title=step.title, label="Record it as done", consequences=consequences)

    def do() -> None:
        step_actions.complete_step(
            step, note=form.cleaned_data["note"], by=Actor.of(request), now=database_now()
        )

    return confirm(request, step.rotation, form, question, do, f"Recorded as done: {step.title}.")


@require_permissions("rotations.change_rotation")
def steps_done(request: HttpRequest, uid: UUID, act: str) -> HttpResponse:
    """Record what was done for several partners alike, such as one mail to all of them."""
    rotation, now = get_rotation_or_404(uid), database_now()
    same = rotation.steps.filter(act=act).select_related("participant__partner")
    steps = [step for step in steps_for_hand(same, now=now) if step.act not in PARTNER_ACTS]
    form = StepDoneForm(post_data(request))
    question = ConfirmPage(
        title=f"Record {len(steps)} steps as done",
        label=f"Record all {len(steps)} as done",
        consequences=[step.title for step in steps],
        obstacle="" if steps else "None of these steps is waiting to be done now.",
    )

    @transaction.atomic
    def do() -> None:
        for step in steps:
            step_actions.complete_step(
                step, note=form.cleaned_data["note"], by=Actor.of(request), now=database_now()
            )

    return confirm(request, rotation, form, question, do, f"Recorded as done: {len(steps)} steps.")


@require_permissions("rotations.change_rotation")
def step_skip(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = RotationReasonForm(post_data(request))
    question = ConfirmPage(
        title=f"Leave out: {step.title}",
        label="Leave this step out",
        consequences=["The steps after it go on as if it were done.", *([step.why] if step.why else [])],
        danger=True,
    )

    def do() -> None:
        step_actions.skip_step(
            step, reason=form.cleaned_data["reason"], by=Actor.of(request), now=database_now()
        )

    return confirm(request, step.rotation, form, question, do, f"Left out: {step.title}.")


@require_permissions("rotations.change_rotation")
def step_retry(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = EmptyForm(post_data(request))
    tried = f"It failed: {step.error}" if step.error else "It is tried once more."
    question = ConfirmPage(title=f"Try again: {step.title}", label="Try again now", consequences=[tried])

    def do() -> None:
        step_actions.retry_step(step, by=Actor.of(request), now=database_now())

    return confirm(request, step.rotation, form, question, do, f"Tried again: {step.title}.")
