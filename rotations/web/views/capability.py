"""Decisions on what partners' systems can hold, with the stored plan and the new one compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.urls import reverse
from django.views.decorators.http import require_POST

from as2certs.accounts.access import require_permissions
from as2certs.audit.recording import Actor
from as2certs.clock import database_now
from as2certs.errors import DomainError
from identities.capabilities import Support
from identities.views.common import post_data
from partners.models import Partner
from rotations.lifecycle import four_eyes, partner_capability, replanning
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import CAPABILITY_PHRASES, Participant
from rotations.web.forms.actions import PlanDecisionForm
from rotations.web.presenters.plan_comparison import PlanComparison
from rotations.web.views.confirm_page import ConfirmPage, confirm
from rotations.web.views.lookups import get_participant_or_404, get_rotation_or_404


@require_permissions("rotations.change_rotation")
def participant_capability(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Decide on what a partner answered about its system."""
    participant, now = get_participant_or_404(uid), database_now()
    partner = participant.partner
    phrase = CAPABILITY_PHRASES[Support(participant.says_keeps_both or Support.UNKNOWN)]
    other = partner_capability.compare_with_capability(participant, now=now)
    page = ConfirmPage(
        title=f"{partner} says that its system {phrase}",
        label="Take over the new plan" if other.differs else f"Note it of {partner}",
        obstacle=_decision_obstacle(participant) or (other.obstacle if other.differs else ""),
        template="rotations/rotation_plan.html",
        back=reverse("participant-detail", args=[participant.uid]),
        success=f"{partner} counts as a system that {phrase} from now on.",
        context=_comparison(other, participant),
    )
    return _decide_plan(request, other, page, participant)


def _decision_obstacle(participant: Participant) -> str:
    partner = participant.partner
    if participant.is_capability_undecided:
        return ""
    if not participant.says_keeps_both:
        return f"{partner} has said nothing of its system on its page yet."
    return f"Nothing that {partner} said of its system is left to decide."


@require_permissions("rotations.change_rotation")
def rotation_plan(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Decide whether the plan as it would be made now replaces the approved one."""
    other = AlternativePlan.of(get_rotation_or_404(uid), now=database_now())
    obstacle = other.obstacle
    if not other.differs:
        obstacle = "The plan is the one that would be made now: there is nothing to decide."
    page = ConfirmPage(
        title="The plan would be another one now",
        label="Take over the new plan",
        obstacle=obstacle,
        template="rotations/rotation_plan.html",
        success="The new plan is in force. The partners whose steps changed are told.",
        context=_comparison(other),
    )
    return _decide_plan(request, other, page)


def _comparison(other: AlternativePlan, participant: Participant | None = None) -> dict[str, Any]:
    return {
        "participant": participant,
        "comparison": PlanComparison(other, participant),
        "warnings": four_eyes.withdrawal_warnings(other.rotation) if other.differs else [],
        "capability_entry": partner_capability.capability_entry(participant) if participant else None,
        # The current plans, not those that were posted: after a conflict, the reader decides on what is there now.
        "seen": other.version,
    }


def _decide_plan(
    request: HttpRequest, other: AlternativePlan, page: ConfirmPage, participant: Participant | None = None
) -> HttpResponse:
    form = PlanDecisionForm(post_data(request))
    decide: Callable[..., object] = replanning.adopt_new_plan
    if request.POST.get("decision") == PlanDecisionForm.LEAVE:
        decide, page = replanning.keep_stored_plan, replace(page, success="It stays as it is.")

    def apply(seen: str, reason: str, by: Actor, now: datetime, **_: object) -> None:
        decide(other.rotation, seen=seen, reason=reason, participant=participant, by=by, now=now)

    return confirm(request, other.rotation, form, page, apply)


@require_POST
@require_permissions("partners.change_partner")
def partner_keeps_both(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Record that a partner's system keeps both certificates, as a past change showed."""
    partner = get_object_or_404(Partner, uid=uid)
    try:
        partner_capability.accept_observed_capability(partner, by=Actor.of(request), now=database_now())
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(request, f"{partner} counts as a system that can keep both. Running plans stay as they are.")
    return redirect(partner)
