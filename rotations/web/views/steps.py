"""Steps that a person records as done, skips or retries."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Any
from uuid import UUID

from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from identities.connectors import ConnectorError
from identities.views.common import post_data
from rotations.execution import connector_steps, preconditions
from rotations.lifecycle import step_actions
from rotations.models import Rotation
from rotations.planning.change import Act
from rotations.web.forms.actions import EmptyForm, RotationReasonForm, StepDoneForm
from rotations.web.presenters import rotation_text
from rotations.web.presenters.step_groups import settleable_steps
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_rotation_or_404, get_step_or_404

#: Acts that only a partner's own answer completes.
PARTNER_ACTS = (Act.INSTALL, Act.AGREE)


@require_permissions("rotations.change_rotation")
def step_done(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = StepDoneForm(post_data(request))
    consequences = [text for text in (step.screen, step.why) if text]
    too_early = preconditions.early_obstacle(step, now=database_now())
    if not too_early and step.earliest_at and step.earliest_at > database_now():
        when = rotation_text.format_at_place(step.earliest_at, step.rotation.window_zone, database_now())
        consequences.insert(0, f"Too early: the plan says not before {when}.")
    page = ConfirmPage(
        title=step.title,
        label="Record it as done",
        success=f"Recorded as done: {step.title}.",
        consequences=consequences,
        obstacle=too_early,
    )
    return confirm(request, step.rotation, form, page, partial(step_actions.complete_step, step))


@require_permissions("rotations.change_rotation")
def steps_done(request: HttpRequest, uid: UUID, act: str) -> HttpResponse:
    """Record the same step of several partners as done, such as one mail to all of them."""
    rotation, now = get_rotation_or_404(uid), database_now()
    same = rotation.steps.filter(act=act).select_related("participant__partner")
    steps = [step for step in settleable_steps(same, now=now) if step.act not in PARTNER_ACTS]
    form = StepDoneForm(post_data(request))
    page = ConfirmPage(
        title=f"Record {len(steps)} steps as done",
        label=f"Record all {len(steps)} as done",
        success=f"Recorded as done: {len(steps)} steps.",
        consequences=[step.title for step in steps],
        obstacle="" if steps else "None of these steps is waiting to be done now.",
    )

    @transaction.atomic
    def apply(**options: Any) -> None:
        for step in steps:
            step_actions.complete_step(step, **options)

    return confirm(request, rotation, form, page, apply)


@require_permissions("rotations.change_rotation")
def step_skip(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = RotationReasonForm(post_data(request))
    page = ConfirmPage(
        title=f"Leave out: {step.title}",
        label="Leave this step out",
        success=f"Left out: {step.title}.",
        consequences=["The steps after it go on as if it were done.", *([step.why] if step.why else [])],
        danger=True,
    )
    return confirm(request, step.rotation, form, page, partial(step_actions.skip_step, step))


@require_permissions("rotations.change_rotation")
def step_retry(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    form = EmptyForm(post_data(request))
    failure = f"It failed: {step.error}" if step.error else "It is tried once more."
    page = ConfirmPage(
        title=f"Try again: {step.title}",
        label="Try again now",
        success=f"Tried again: {step.title}.",
        consequences=[failure],
    )
    return confirm(request, step.rotation, form, page, partial(step_actions.retry_step, step))


@require_permissions("rotations.view_rotation")
@require_GET
def step_preview(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what an automatic step would change in its AS2 system, by reading that; nothing is changed."""
    step, now = get_step_or_404(uid), database_now()
    if not step.is_previewable:
        raise Http404("This step is done, or a person does it: there is nothing to preview.")
    context: dict[str, Any] = {"step": step, "rotation": step.rotation, "now": now}
    try:
        preview = connector_steps.preview_step(step, now=now)
    except ConnectorError as error:
        context["error"] = str(error)
    else:
        rows = [
            (row.role, _name_all(step.rotation, row.now), _name_all(step.rotation, row.after)) for row in preview.roles
        ]
        context |= {"preview": preview, "rows": rows}
    return render(request, "rotations/step_preview.html", context)


def _name_all(rotation: Rotation, certificates: Iterable[str]) -> list[tuple[str, str]]:
    """Return certificates by SHA-256, each with what it is in a rotation."""
    pairs = ((rotation.old, "old certificate"), (rotation.new, "new certificate"))
    names = {certificate.sha256: name for certificate, name in pairs if certificate is not None}
    return [(sha256, names.get(sha256, "another certificate")) for sha256 in certificates]


@require_permissions("rotations.change_rotation")
def step_repeat(request: HttpRequest, uid: UUID) -> HttpResponse:
    step = get_step_or_404(uid)
    page = ConfirmPage(
        title=f"Notify the AS2 system again: {step.title}",
        label="Notify again",
        success=f"{step.system} is notified again. The result appears in the trail of this rotation.",
        consequences=[step.repetition] if step.repetition else [],
    )
    return confirm(request, step.rotation, EmptyForm(post_data(request)), page, partial(step_actions.repeat_step, step))
