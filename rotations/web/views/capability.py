"""What partners' systems can hold: two plans beside each other, and which of them holds."""

from __future__ import annotations

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
from partners.models import Partner
from rotations.lifecycle import four_eyes, partner_capability, replanning
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import Participant, Rotation
from rotations.web.forms.actions import PlanDecisionForm
from rotations.web.presenters.plan_comparison import PlanComparison
from rotations.web.views.confirm_page import (
    ConfirmPage,
    confirm,
    get_participant_or_404,
    get_rotation_or_404,
    post_data,
)


@require_permissions("rotations.change_rotation")
def participant_holds(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Decide what becomes of what a partner said that its system can hold."""
    participant, now = get_participant_or_404(uid), database_now()
    partner = participant.partner
    says = f"{partner} says that its system {partner_capability.CAPABILITY_PHRASES[_stated_capability(participant)]}"
    other = partner_capability.compare_with_capability(participant, now=now)
    question = ConfirmPage(
        title=says,
        label=_adopt_label(other, participant),
        consequences=[],
        obstacle=_decision_obstacle(participant) or (other.obstacle if other.differs else ""),
        template="rotations/rotation_plan.html",
    )
    phrase = partner_capability.CAPABILITY_PHRASES[_stated_capability(participant)]
    said = f"{partner} counts as a system that {phrase} from now on."
    back = reverse("participant-detail", args=[participant.uid])
    return _decide_plan(
        request, participant.rotation, other, question, said, back=back, participant=participant
    )


def _stated_capability(participant: Participant) -> Partner.Holds:
    return Partner.Holds(participant.says_holds or Partner.Holds.UNKNOWN)


def _adopt_label(other: AlternativePlan, participant: Participant) -> str:
    return "Take over the new plan" if other.differs else f"Note it of {participant.partner}"


def _decision_obstacle(participant: Participant) -> str:
    partner = participant.partner
    if participant.holds_undecided:
        return ""
    if not participant.says_holds:
        return f"{partner} has said nothing of its system on its page yet."
    return f"Nothing that {partner} said of its system is left to decide."


@require_permissions("rotations.change_rotation")
def rotation_plan(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Decide whether the plan as it would be made now takes the place of the one that was approved."""
    rotation, now = get_rotation_or_404(uid), database_now()
    other = AlternativePlan.of(rotation, now=now)
    nothing = (
        "" if other.differs else "The plan is the one that would be made now: there is nothing to decide."
    )
    question = ConfirmPage(
        title="The plan would be another one now",
        label="Take over the new plan",
        consequences=[],
        obstacle=nothing or other.obstacle,
        template="rotations/rotation_plan.html",
    )
    return _decide_plan(
        request, rotation, other, question, "The new plan holds. Whose steps are others is told."
    )


def _decide_plan(
    request: HttpRequest,
    rotation: Rotation,
    other: AlternativePlan,
    question: ConfirmPage,
    said: str,
    *,
    back: str = "",
    participant: Participant | None = None,
) -> HttpResponse:
    form = PlanDecisionForm(post_data(request))
    leaves = request.POST.get("decision") == PlanDecisionForm.LEAVE
    if leaves:
        said = "It stays as it is."

    def do() -> None:
        answer, by, now = form.cleaned_data, Actor.of(request), database_now()
        decide = replanning.keep_stored_plan if leaves else replanning.adopt_new_plan
        decide(
            rotation,
            seen=answer["seen"],
            reason=answer["reason"],
            participant=participant,
            by=by,
            now=now,
        )

    return confirm(
        request,
        rotation,
        form,
        question,
        do,
        said,
        back=back,
        participant=participant,
        other=other,
        comparison=PlanComparison(other, participant),
        withdraws=four_eyes.withdrawal_warnings(rotation) if other.differs else [],
        said_in=partner_capability.capability_entry(participant) if participant else None,
        # Fresh, not what was sent: whoever reads that somebody else was first sees both plans as they are now.
        seen=other.version,
    )


@require_POST
@require_permissions("partners.change_partner")
def partner_holds_both(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Take over what a past change showed: that a partner's system keeps both certificates."""
    partner = get_object_or_404(Partner, uid=uid)
    try:
        partner_capability.accept_observed_capability(partner, by=Actor.of(request), now=database_now())
    except DomainError as error:
        messages.error(request, str(error))
    else:
        messages.success(
            request, f"{partner} counts as a system that can keep both. Running plans stay as they are."
        )
    return redirect(partner)
