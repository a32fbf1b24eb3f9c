"""Compares two plans of a rotation: which lines differ, and what changes for which partners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rotations.letters.sending import informed_contacts
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import Letter, Participant, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepState
from rotations.web.presenters.rotation_text import join_names
from rotations.web.presenters.step_groups import StepGroup, group_steps

#: How a line differs from the other plan, as the page shows it.
SAME, CHANGED, REMOVED, ADDED = "", "otherwise", "falls away", "new"


@dataclass(frozen=True)
class StepGroupDiff:
    """A line of one plan and its difference from the other; ``partners`` names those it differs for, if not all."""

    group: StepGroup
    difference: str
    partners: str = ""

    @property
    def is_done(self) -> bool:
        return self.group.state == StepState.DONE

    @property
    def step(self) -> Step:
        """Return the step whose time is shown: the next one of the group."""
        return self.group.first

    @property
    def who(self) -> str:
        return "we" if self.group.first.who == "we" else "partners" if len(self.group.steps) > 1 else "partner"


@dataclass(frozen=True)
class ParticipantPlanChange:
    """What changes for one partner: its part in both plans, and the consequences."""

    participant: Participant
    before: str
    after: str
    consequences: Sequence[str]


@dataclass(frozen=True)
class PlanComparison:
    """A rotation's stored plan and the one that would be made now, with the answer of ``answering`` applied."""

    other: AlternativePlan
    answering: Participant | None = None

    @cached_property
    def before(self) -> list[StepGroupDiff]:
        return self._diff(self.other.before, self._after, REMOVED)

    @cached_property
    def after(self) -> list[StepGroupDiff]:
        return self._diff(self.other.after, self._before, ADDED)

    @cached_property
    def _before(self) -> Mapping[str, Step]:
        return {step.key: step for step in self.other.before}

    @cached_property
    def _after(self) -> Mapping[str, Step]:
        return {step.key: step for step in self.other.after}

    def _diff(self, steps: Sequence[Step], other: Mapping[str, Step], if_missing: str) -> list[StepGroupDiff]:
        return [_diff_group(group, other, if_missing) for group in group_steps(self.other.rotation, steps)]

    @property
    def done(self) -> list[str]:
        """Return the titles of the groups that are done and stay done."""
        stays = [step for step in self.other.after if step.state == StepState.DONE]
        return [group.title for group in group_steps(self.other.rotation, stays)]

    @cached_property
    def participant_changes(self) -> list[ParticipantPlanChange]:
        """Return the changes for each partner whose steps differ."""
        return [self._participant_change(participant) for participant in self.other.changed_participants]

    def _participant_change(self, participant: Participant) -> ParticipantPlanChange:
        before = self.other.task(participant, self.other.before)
        after = self.other.task(participant, self.other.after)
        return ParticipantPlanChange(
            participant, before.in_short, after.in_short, list(self._consequences(participant))
        )

    def _consequences(self, participant: Participant) -> list[str]:
        partner, found = participant.partner, []
        acts = {step.act: step for step in self.other.after if step.participant_id == participant.pk}
        had = {step.act for step in self.other.before if step.participant_id == participant.pk}
        installs, agrees = acts.get(Act.INSTALL), acts.get(Act.AGREE)
        if installs and Act.INSTALL not in had:
            again = " What it confirmed until now was about the other plan." if participant.confirmed_at else ""
            found.append(f"The change waits until it says that the new one is there beside the old one.{again}")
        if agrees and agrees.state not in SETTLED:
            again = " once more: what it agreed to was something else" if participant.agreed_at else ""
            found.append(f"The change waits until it agrees to the window{again}.")
        elif Act.AGREE in had and not agrees:
            found.append("It need not agree to the window any more: nobody has to be there at that moment.")
        if participant.waived_reason:
            found.append("It is waited for again, although you went on without it before.")
        if participant.announced_at is None:
            return [*found, "It was not told yet: it hears of its steps when it is."]
        if not informed_contacts(participant, Letter.Kind.REPLANNED):
            return [*found, f"No mail reaches {partner}: tell it of its steps yourself."]
        return [*found, f"{partner} gets a mail with its new steps; they are on its page at once."]

    @property
    def others_text(self) -> str:
        """Return what changes for all other partners."""
        others = [p for p in self.other.participants if p not in self.other.changed_participants]
        if not others:
            return ""
        who = join_names([participant.partner.name for participant in others])
        kept = f"Nothing changes in what {who} {'does' if len(others) == 1 else 'do'}; what they said stays."
        ours = " What we do ourselves changes too, see below." if self.other.changes_shared_steps else ""
        return f"{kept}{ours}"

    @property
    def unchanged_reason(self) -> str:
        """Return why the plan stays as it is; empty when the new plan differs."""
        if self.other.differs:
            return ""
        rotation = self.other.rotation
        if rotation.ended_at is not None:
            return "This change is over, so it counts from the next one on."
        if self.other.shape is None:
            return "The cut-over has begun, or its window is over, so it counts from the next change on."
        if self.answering is not None and self.answering.pk in self.other.started:
            return (
                "The change with it has begun already, so its steps stay as they are: it counts from the next change "
                "on."
            )
        return "The plan of this change stays as it is: it makes no difference to it."


def _diff_group(group: StepGroup, other: Mapping[str, Step], if_missing: str) -> StepGroupDiff:
    missing = [step for step in group.steps if step.key not in other]
    changed = [step for step in group.steps if step.key in other and _step_text(step) != _step_text(other[step.key])]
    for steps, difference in ((missing, if_missing), (changed, CHANGED)):
        if steps:
            some = steps if len(steps) < len(group.steps) else []
            names = [step.participant.partner.name for step in some if step.participant]
            return StepGroupDiff(group, difference, join_names(names))
    return StepGroupDiff(group, SAME)


def _step_text(step: Step) -> tuple[bool, str]:
    return step.simultaneous, step.title
