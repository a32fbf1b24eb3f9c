"""Two plans of a rotation beside each other, in words: which lines differ, what changes for whom, and what stays."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from django.urls import reverse

from partners.models import Partner
from rotations.letters.sending import informed_contacts
from rotations.lifecycle.partner_capability import CAPABILITY_PHRASES, observed_capabilities
from rotations.lifecycle.replanning import AlternativePlan
from rotations.models import Letter, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import SETTLED, StepState
from rotations.web.presenters.open_tasks import OpenTask, join_names
from rotations.web.presenters.step_groups import StepGroup, group_steps

#: How a line differs from the other plan's, in words and as a sign.
SAME, OTHERWISE, GOES, COMES = "", "otherwise", "falls away", "new"


@dataclass(frozen=True)
class StepGroupDiff:
    """A line of one of the plans, and how it differs from the other plan: for ``whose`` of several partners."""

    line: StepGroup
    differs: str
    whose: str = ""

    @property
    def is_done(self) -> bool:
        return self.line.state == StepState.DONE

    @property
    def step(self) -> Step:
        """Return the step that tells when: the next one of a line."""
        return self.line.first

    @property
    def who(self) -> str:
        return "we" if self.line.first.who == "we" else "partners" if len(self.line.steps) > 1 else "partner"


@dataclass(frozen=True)
class ParticipantPlanChange:
    """What changes for one partner: its part until now, and then; and what comes of that."""

    participant: Participant
    before: str
    after: str
    follows: Sequence[str]


@dataclass(frozen=True)
class PlanComparison:
    """A rotation's stored plan and the one that would be made now; ``speaking`` is whose word that supposes."""

    other: AlternativePlan
    speaking: Participant | None = None

    @cached_property
    def before(self) -> list[StepGroupDiff]:
        return self._sides(self.other.before, self._after, GOES)

    @cached_property
    def after(self) -> list[StepGroupDiff]:
        return self._sides(self.other.after, self._before, COMES)

    @cached_property
    def _before(self) -> Mapping[str, Step]:
        return {step.key: step for step in self.other.before}

    @cached_property
    def _after(self) -> Mapping[str, Step]:
        return {step.key: step for step in self.other.after}

    def _sides(self, steps: Sequence[Step], there: Mapping[str, Step], lacking: str) -> list[StepGroupDiff]:
        return [_diff_group(line, there, lacking) for line in group_steps(self.other.rotation, steps)]

    @property
    def done(self) -> list[str]:
        """Return what is done already and stays done, in the words of the runbook."""
        stays = [step for step in self.other.after if step.state == StepState.DONE]
        return [line.title for line in group_steps(self.other.rotation, stays)]

    @cached_property
    def for_whom(self) -> list[ParticipantPlanChange]:
        """Return what changes for each partner whose part is another one."""
        return [self._for_one(participant) for participant in self.other.changed_participants]

    def _for_one(self, participant: Participant) -> ParticipantPlanChange:
        before = self.other.task(participant, self.other.before)
        after = self.other.task(participant, self.other.after)
        return ParticipantPlanChange(
            participant, before.in_short, after.in_short, list(self._follows(participant))
        )

    def _follows(self, participant: Participant) -> list[str]:
        partner, found = participant.partner, []
        acts = {step.act: step for step in self.other.after if step.participant_id == participant.pk}
        had = {step.act for step in self.other.before if step.participant_id == participant.pk}
        installs, agrees = acts.get(Act.INSTALL), acts.get(Act.AGREE)
        if installs and Act.INSTALL not in had:
            again = (
                " What it confirmed until now was about the other plan." if participant.confirmed_at else ""
            )
            found.append(
                f"The change waits until it says that the new one is there beside the old one.{again}"
            )
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
    def for_others(self) -> str:
        """Say what changes for all others."""
        others = [p for p in self.other.participants if p not in self.other.changed_participants]
        if not others:
            return ""
        who = join_names([participant.partner.name for participant in others])
        kept = f"Nothing changes in what {who} {'does' if len(others) == 1 else 'do'}; what they said stays."
        ours = " What we do ourselves changes too, see below." if self.other.changes_shared_steps else ""
        return f"{kept}{ours}"

    @property
    def unchanged(self) -> str:
        """Say why the plan of this rotation stays as it is; empty where it is another one."""
        if self.other.differs:
            return ""
        rotation = self.other.rotation
        if rotation.ended_at is not None:
            return "This change is over, so it counts from the next one on."
        if self.other.shape is None:
            return "The cut-over has begun, or its window is over, so it counts from the next change on."
        if self.speaking is not None and self.speaking.pk in self.other.started:
            return (
                "The change with it has begun already, so its steps stay as they are: it counts from the next change "
                "on."
            )
        return "The plan of this change stays as it is: it makes no difference to it."


def _diff_group(line: StepGroup, there: Mapping[str, Step], lacking: str) -> StepGroupDiff:
    absent = [step for step in line.steps if step.key not in there]
    present = [step for step in line.steps if step.key in there]
    moved = [step for step in present if _step_text(step) != _step_text(there[step.key])]
    for those, differs in ((absent, lacking), (moved, OTHERWISE)):
        if those:
            some = those if len(those) < len(line.steps) else []
            return StepGroupDiff(
                line, differs, join_names([s.participant.partner.name for s in some if s.participant])
            )
    return StepGroupDiff(line, SAME)


def _step_text(step: Step) -> tuple[bool, str]:
    return step.simultaneous, step.title


def undecided_tasks(participants: Sequence[Participant]) -> Iterator[OpenTask]:
    """Yield what partners stated about their systems and nobody here has decided about."""
    for participant in participants:
        if participant.holds_undecided:
            holds = Partner.Holds(participant.says_holds)
            yield OpenTask(
                "needs_you",
                f"{participant.partner} says that its system {CAPABILITY_PHRASES[holds]}.",
                "Its plan stays as it is until you have looked at what that changes.",
                "Look at both plans …",
                reverse("participant-holds", args=[participant.uid]),
            )


def plan_tasks(
    rotation: Rotation, participants: Sequence[Participant], steps: Sequence[Step], *, now: datetime
) -> Iterator[OpenTask]:
    """Yield a task if the plan would differ now; at most two queries, whatever the number of partners."""
    other = AlternativePlan.of(rotation, now=now, participants=participants, steps=steps)
    if not other.needs_decision:
        return
    who = join_names([participant.partner.name for participant in other.changed_participants])
    yield OpenTask(
        "needs_you",
        f"The plan would be another one now: something else is known of what {who or 'our AS2 system'} can hold.",
        "What was approved stays as it is until you decide.",
        "Look at both plans …",
        reverse("rotation-plan", args=[rotation.uid]),
    )


def observed_tasks(partners: Collection[Partner]) -> Iterator[OpenTask]:
    """Yield the capabilities that past changes have shown, to be accepted with one click."""
    for shown in observed_capabilities(partners).values():
        yield OpenTask(
            "soon",
            f"{shown.partner} seems to be able to keep both certificates for a while.",
            shown.sentence,
            "It can keep both",
            reverse("partner-holds-both", args=[shown.partner.uid]),
            "partners.change_partner",
            is_post=True,
        )


def partner_tasks(partner: Partner) -> list[OpenTask]:
    """Return what is to be decided about a partner's system, for the partner's page; two queries."""
    undecided = partner.participations.filter(holds_decided_at=None, removed_reason="").exclude(says_holds="")
    participants = list(undecided.order_by("-says_holds_at"))
    for participant in participants:
        participant.partner = partner
    return [*list(undecided_tasks(participants))[:1], *observed_tasks([partner])]
