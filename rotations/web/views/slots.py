"""Offering partners times to choose from, and moving the change to one of them."""

from __future__ import annotations

from functools import partial
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_POST

from as2certs.accounts.access import current_user, require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from as2certs.time_format import format_window
from identities.views.common import post_data
from rotations.errors import ActionRefused
from rotations.exchange import time_slots
from rotations.exchange.responses import refuse_begun
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.lifecycle import drafts, four_eyes
from rotations.models import Rotation, Slot
from rotations.web.forms.actions import EmptyForm
from rotations.web.forms.slots import OfferSlotsForm
from rotations.web.presenters.rotation_text import count_noun, join_names
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_rotation_or_404

#: How many times are proposed when none is offered yet.
MAX_PROPOSED = 3


@require_permissions("rotations.change_rotation")
def rotation_slots(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show which partners can when, and offer other times; no mail is sent."""
    rotation, now = get_rotation_or_404(uid), database_now()
    zone = timezone.get_current_timezone_name()
    proposed = drafts.suggest_windows(
        rotation.holder, old=rotation.old, new=rotation.new, zone=rotation.window_zone or zone, now=now
    )
    form = OfferSlotsForm(
        rotation,
        current_user(request),
        post_data(request),
        now=now,
        proposed=[s.window for s in proposed[:MAX_PROPOSED]],
    )
    obstacle = _slots_obstacle(rotation)
    if request.method == "POST" and form.is_valid():
        try:
            offered = time_slots.offer_slots(rotation, form.offered, by=Actor.of(request), now=now)
        except DomainError as error:
            form.add_error(None, str(error))
        else:
            messages.success(
                request,
                f"{count_noun(len(offered), 'time')} offered: partners choose on their pages. Nobody got a mail.",
            )
            return redirect("rotation-slots", uid=uid)
    context = {
        "rotation": rotation,
        "environment": rotation.environment,
        "availability": time_slots.load_availability(rotation, now=now),
        "form": form,
        "proposed": proposed,
        "obstacle": obstacle,
        "now": now,
    }
    refused = request.method == "POST"  # what was taken has led elsewhere
    return render(request, "rotations/rotation_slots.html", context, status=422 if refused else 200)


@require_POST
@require_permissions("rotations.change_rotation")
def rotation_slots_withdraw(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Withdraw the offered times."""
    rotation = get_rotation_or_404(uid)
    try:
        time_slots.withdraw_slots(rotation, by=Actor.of(request), now=database_now())
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, "No times are offered any more. The window stays as it is.")
    return redirect(rotation)


@require_permissions("rotations.change_rotation")
def slot_take(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Move the change to an offered time."""
    rotation_ = [f"rotation__{name}" for name in ROTATION_RELATIONS]
    slot = get_object_or_404(Slot.objects.select_related(*rotation_), uid=uid)
    rotation, now = slot.rotation, database_now()
    column = next(c for c in time_slots.load_availability(rotation, now=now).columns if c.slot.pk == slot.pk)
    when = format_window(slot.start, slot.end, slot.zone)
    page = ConfirmPage(
        title=f"Take {when}",
        label="Move the change to this time",
        success=f"The change is made {when}.",
        consequences=[*_consequences(rotation, column), *_approval_warning(slot)],
        obstacle=_slots_obstacle(rotation) or ("This time is over." if column.is_over else ""),
        back=reverse("rotation-slots", args=[rotation.uid]),
        next_url=rotation.get_absolute_url(),
    )

    form = EmptyForm(post_data(request))
    return confirm(request, rotation, form, page, partial(time_slots.take_slot, slot))


def _consequences(rotation: Rotation, column: time_slots.SlotAnswers) -> list[str]:
    by_pk = {p.pk: p for p in rotation.participants.filter(removed_reason="").select_related("partner")}
    can = [by_pk[pk].partner.name for pk, answer in column.answers.items() if answer is True]
    others = [by_pk[pk].partner.name for pk, answer in column.answers.items() if answer is not True]
    informed = sum(participant.announced_at is not None for participant in by_pk.values())
    found = [f"{join_names(can)} {'counts' if len(can) == 1 else 'count'} as agreed."] if can else []
    if others:
        found.append(
            f"{join_names(others)} {'is' if len(others) == 1 else 'are'} asked to agree, as far as that is needed."
        )
    if informed:
        found.append(
            f"{count_noun(informed, 'partner')} that heard of the change get a mail with the new calendar entry."
        )
    return [*found, "The plan is made again for this time. What was installed stays installed."]


def _approval_warning(slot: Slot) -> list[str]:
    """Return the warning that moving the change withdraws its approval, unless the window stays the same."""
    stays = (slot.start, slot.end) == (slot.rotation.window_start, slot.rotation.window_end)
    return [] if stays else four_eyes.withdrawal_warnings(slot.rotation)


def _slots_obstacle(rotation: Rotation) -> str:
    """Return why partners can't choose a time; empty when they can."""
    if rotation.approved_at is None:
        return "Approve the plan first: partners choose once they are told of the change."
    try:
        refuse_begun(rotation, now=database_now())
    except ActionRefused as error:
        return str(error)
    return ""
