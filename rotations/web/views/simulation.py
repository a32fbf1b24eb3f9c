"""The simulation of a plan: as planned, and under scenarios in which somebody departs from it."""

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
from rotations.web.views.lookups import get_rotation_or_404


@dataclass(frozen=True)
class PlanSimulation:
    """A rotation's plan with the state to simulate it from."""

    rotation: Rotation
    now: datetime
    zone: str

    @cached_property
    def change(self) -> CertificateChange:
        """Return the planned change. Raises PlanError if there is no plan."""
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
    def scenarios(self) -> tuple[Scenario, ...]:
        return list_scenarios(self.change, self.steps)

    def answer(self, scenario: Scenario) -> SimulationAnswer:
        old, new = self.rotation.old, self.rotation.new
        validity = CertificateValidity(
            old_until=old.not_after if old else None, new_from=new.not_before if new else None
        )
        return what_if(
            self.change,
            self.steps,
            scenario.behaviour,
            validity=validity,
            progress=self.progress,
            zone=self.zone,
        )


@require_permissions("rotations.view_rotation")
def rotation_simulation(request: HttpRequest, uid: UUID) -> HttpResponse:
    """Show what happens to messages as planned, and in the scenario that ``?ask=`` names."""
    rotation, now = get_rotation_or_404(uid), database_now()
    simulation = PlanSimulation(rotation, now, timezone.get_current_timezone_name())
    context = {"rotation": rotation, "environment": rotation.environment, "now": now}
    try:
        chosen = next((s for s in simulation.scenarios if s.key == request.GET.get("ask")), None)
        as_planned = simulation.scenarios[0]
        answers = [simulation.answer(scenario) for scenario in (as_planned, chosen) if scenario]
        context |= {"answers": answers, "chosen": chosen, "scenarios": simulation.scenarios[1:]}
    except PlanError as error:
        context["obstacle"] = str(error)
    return render(request, "rotations/rotation_simulation.html", context)
