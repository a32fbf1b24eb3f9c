"""Loads what a URL names: rotations, participants and steps by their public ids."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from django.http import HttpRequest
from django.shortcuts import get_object_or_404
from django.utils import timezone

from as2certs.accounts.access import current_user
from as2certs.clock import database_now
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.models import Participant, Rotation, Step
from rotations.web.forms.partners import selected_uids, ticked_uids
from rotations.web.presenters.rotation_detail import RotationDetail

_VIA_ROTATION = tuple(f"rotation__{name}" for name in ROTATION_RELATIONS)


def get_rotation_or_404(uid: UUID) -> Rotation:
    return get_object_or_404(Rotation.objects.select_related(*ROTATION_RELATIONS, "request"), uid=uid)


def get_step_or_404(uid: UUID) -> Step:
    related = ("system", "participant__partner", *_VIA_ROTATION)
    return get_object_or_404(Step.objects.select_related(*related), uid=uid)


def get_participant_or_404(uid: UUID) -> Participant:
    return get_object_or_404(Participant.objects.select_related("partner", *_VIA_ROTATION), uid=uid)


def load_detail(request: HttpRequest, rotation: Rotation, *, show: str = "") -> RotationDetail:
    """Return a rotation as the user of the request sees it now. ``show`` is the name of a filter of its partners."""
    return RotationDetail.of(
        rotation,
        user=current_user(request),
        now=database_now(),
        zone=timezone.get_current_timezone_name(),
        show=show,
    )


def selected_partners(request: HttpRequest, rotation: Rotation, participants: Sequence[Participant]) -> set[str]:
    """Return the ids of the ticked partners, or of all that match the filter of the table, on whichever page."""
    params = request.POST if request.method == "POST" else request.GET
    if "all" not in params:
        return selected_uids(ticked_uids(params), participants)
    detail = load_detail(request, rotation, show=params.get("show", ""))
    detail.words = params.get("q", "")
    return {entry.uid for entry in detail.filtered_entries}
