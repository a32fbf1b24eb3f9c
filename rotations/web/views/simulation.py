"""Rehearse on paper: the plan carried out between simulated stations, as planned and when somebody departs from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils import timezone

from as2certs.accounts.access import require_permissions
from as2certs.clock import database_now
from rotations.errors import PlanError
from rotations.execution import stored_plan
from rotations.models import Rotation
from rotations.planning import plan
from rotations.planning.change import CertificateChange, PlannedStep
from rotations.planning.simulation.answers import SimulationAnswer, what_if
from rotations.planning.simulation.scenarios import Scenario, list_scenarios
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.timeline import Progress
from rotations.planning.states import StepState
from rotations.web.views.confirm_page import get_rotation_or_404


@dataclass(frozen=True)
class PlanSimulation:
    """A rotation's plan, ready to be asked about."""

    rotation: Rotation
    now: datetime
    zone: str

    @cached_property
    def change(self) -> CertificateChange:
        """Return what is planned. Raises PlanError where nothing can be."""
        return stored_plan.build_change(self.rotation, now=self.now, awaited=True)

    @cached_property
    def steps(self) -> Sequence[PlannedStep]:
        return plan.plan(self.change)

    @cached_property
    def progress(self) -> Progress:
        done = self.rotation.steps.filter(state=StepState.DONE, done_at__isnull=False)
        skipped = self.rotation.steps.filter(state=StepState.SKIPPED)
        return Progress(
            {key: at for key, at in done.values_list("key", "done_at") if at is not None},
            frozenset(skipped.values_list("key", flat=True)),
        )

    @cached_property
    def questions(self) -> tuple[Scenario, ...]:
        return list_scenarios(self.change, self.steps)

    def answer(self, question: Scenario) -> SimulationAnswer:
        old, new = self.rotation.old, self.rotation.new
        validity = CertificateValidity(
            old_until=old.not_after if old else None, new_from=new.not_before if new else None
        )
        return what_if(
            self.change,
            self.steps,
            question.behaviour,
            validity=validity,
            progress=self.progress,
            zone=self.zone,
        )


@require_permissions("rotations.view_rotation")
def rotation_simulation(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what becomes of messages as planned, and what would under the question that the address asks."""
    rotation, now = get_rotation_or_404(uid), database_now()
    paper = PlanSimulation(rotation, now, timezone.get_current_timezone_name())
    context = {"rotation": rotation, "environment": rotation.environment, "now": now}
    try:
        asked = next((q for q in paper.questions if q.key == request.GET.get("ask")), None)
        answers = [paper.answer(question) for question in (paper.questions[0], asked) if question is not None]
        context |= {"answers": answers, "asked": asked, "questions": paper.questions[1:]}
    except PlanError as error:
        context["obstacle"] = str(error)
    return render(request, "rotations/rotation_paper.html", context)
