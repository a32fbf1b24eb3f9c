"""What the actions on a rotation have in common: a page that names the consequence, and one call when it is sent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render

from as2certs.clock import database_now
from as2certs.errors import DomainError
from rotations.errors import IllegalTransition
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.models import Participant, Rotation, Step
from rotations.planning.states import RotationAction, RotationState, next_state
from rotations.web.forms.windows import has_suggestion


@dataclass(frozen=True)
class ConfirmPage:
    """A page that asks before something is done. ``label`` is on the button and names the consequence."""

    title: str
    label: str
    consequences: Sequence[str]
    danger: bool = False
    obstacle: str = ""
    template: str = "rotations/rotation_act.html"


def post_data(request: HttpRequest) -> QueryDict | None:
    """Return what was sent, even if it is nothing; None when the page was only opened."""
    return request.POST if request.method == "POST" else None


def get_rotation_or_404(uid: UUID) -> Rotation:
    """Return a rotation with all that belongs to it; 404 where there is none."""
    return get_object_or_404(Rotation.objects.select_related(*ROTATION_RELATIONS, "request"), uid=uid)


def get_step_or_404(uid: UUID) -> Step:
    rotation = [f"rotation__{name}" for name in ROTATION_RELATIONS]
    return get_object_or_404(
        Step.objects.select_related("system", "participant__partner", *rotation), uid=uid
    )


def get_participant_or_404(uid: UUID) -> Participant:
    rotation = [f"rotation__{name}" for name in ROTATION_RELATIONS]
    return get_object_or_404(Participant.objects.select_related("partner", *rotation), uid=uid)


def transition_obstacle(rotation: Rotation, action: RotationAction) -> str:
    """Say why an action is not possible in this state; empty when it is."""
    try:
        next_state(RotationState(rotation.state), action)
    except IllegalTransition as error:
        return str(error)
    return ""


def confirm(
    request: HttpRequest,
    rotation: Rotation,
    form: Form,
    question: ConfirmPage,
    do: Callable[[], Any],
    said: str,
    *,
    back: str = "",
    after: Rotation | None = None,
    **context: Any,
) -> HttpResponse:
    """Show the page of an action; carry it out when it was sent, and go to ``after``, ``back``, or else the rotation.

    What is refused comes back with the sentence and with everything that was filled in.
    """
    if request.method == "POST" and not has_suggestion(request.POST) and form.is_valid():
        try:
            do()
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, said)
            return redirect(after or back or rotation)
    context |= {
        "back": back or rotation.get_absolute_url(),
        "rotation": rotation,
        "environment": rotation.environment,
        "form": form,
        "question": question,
        "now": database_now(),
    }
    return render(request, question.template, context, status=422 if form.errors else 200)
