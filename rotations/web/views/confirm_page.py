"""The page on which a person confirms an action on a rotation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.contrib import messages
from django.forms import Form
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render

from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from rotations.errors import IllegalTransition
from rotations.models import Rotation
from rotations.planning.states import RotationAction, RotationState, next_state
from rotations.web.forms.windows import has_suggestion


@dataclass(frozen=True)
class ConfirmPage:
    """What a confirmation page shows. ``label`` is the text of its button and names the consequence; ``success`` is the
    message afterwards.

    With an obstacle, the page shows that instead of the form. ``back`` is the URL to leave the page, by default the
    rotation's; ``next_url`` is the one to continue at, by default ``back``. ``context`` is for the template.
    """

    title: str
    label: str
    success: str = ""
    consequences: Sequence[str] = ()
    danger: bool = False
    obstacle: str = ""
    template: str = "rotations/rotation_confirm.html"
    back: str = ""
    next_url: str = ""
    context: Mapping[str, Any] = field(default_factory=dict)


def confirm(
    request: HttpRequest,
    rotation: Rotation,
    form: Form,
    page: ConfirmPage,
    apply: Callable[..., object],
) -> HttpResponse:
    """Show a confirmation page; on a valid POST, call ``apply``, show the success message and redirect.

    ``apply`` gets the form's cleaned data, ``by`` and ``now`` as keyword arguments. A DomainError is shown in the form,
    with everything that was filled in.
    """
    back = page.back or rotation.get_absolute_url()
    if request.method == "POST" and not has_suggestion(request.POST) and form.is_valid():
        try:
            apply(**form.cleaned_data, by=Actor.of(request), now=database_now())
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(request, page.success)
            return redirect(page.next_url or back)
    context = {
        "back": back,
        "rotation": rotation,
        "environment": rotation.environment,
        "form": form,
        "page": page,
        "now": database_now(),
        **page.context,
    }
    return render(request, page.template, context, status=422 if form.errors else 200)


def transition_obstacle(rotation: Rotation, action: RotationAction) -> str:
    """Return why an action is not possible in the rotation's state; empty when it is."""
    try:
        next_state(RotationState(rotation.state), action)
    except IllegalTransition as error:
        return str(error)
    return ""
