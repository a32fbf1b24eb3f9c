"""All that the page of a rotation shows, read in a constant number of queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

from django.urls import reverse

from as2certs.accounts.models import Installation, User
from as2certs.audit.recording import Actor
from as2certs.pki import CertificateFinding
from as2certs.time_format import window_ends
from identities.models import CertificateRequest
from rotations.errors import ActionRefused, PlanError
from rotations.exchange import time_slots
from rotations.exchange.responses import BEFORE_CHANGE
from rotations.execution import stored_plan
from rotations.execution.concurrent import concurrent_rotations
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.execution.version_token import version_token
from rotations.lifecycle import (
    drafts,
    endings,
    four_eyes,
    open_window,
    partner_capability,
    rescheduling,
)
from rotations.models import Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import (
    AWAITING_WINDOW,
    ENDED,
    SETTLED,
    RotationAction,
    RotationState,
    StepState,
    actions_from,
)
from rotations.planning.windows import Window, WindowFinding
from rotations.web.presenters import partner_summary, plan_comparison, rotation_text
from rotations.web.presenters.open_tasks import (
    OpenTask,
    announce_label,
    awaited_participants,
    concurrent_change_tasks,
    draft_tasks,
    due_for_announcement,
    exchange_tasks,
    slot_tasks,
    steps_for_hand,
)
from rotations.web.presenters.overlap import Overlap, build_overlap
from rotations.web.presenters.partial_cutover import EndpointStatus, endpoint_statuses
from rotations.web.presenters.partner_table import ActionLink, PartnerRow, partner_rows
from rotations.web.presenters.rehearsal import REHEARSAL_RELATED, RehearsalSummary
from rotations.web.presenters.step_groups import StepGroup, group_steps

#: A step due within this time is watched every second.
CLOSE_TO_DUE = timedelta(minutes=3)

_ACTIONS = {
    RotationAction.EDIT: ("update", "Change the draft", "rotations.change_rotation"),
    RotationAction.APPROVE: ("approve", "Approve …", "rotations.approve_rotation"),
    RotationAction.APPROVE_AGAIN: ("approve", "Approve again …", "rotations.approve_rotation"),
    RotationAction.POSTPONE: ("postpone", "Postpone …", "rotations.change_rotation"),
    RotationAction.ROLL_BACK: ("roll-back", "Roll back …", "rotations.change_rotation"),
    RotationAction.CLOSE: ("close", "Close …", "rotations.change_rotation"),
    RotationAction.EMERGENCY: ("emergency", "Emergency: change at once …", "rotations.approve_rotation"),
    RotationAction.CANCEL: ("cancel", "Cancel …", "rotations.change_rotation"),
}
#: Of these, what gives a plan its approval.
_APPROVING = (RotationAction.APPROVE, RotationAction.APPROVE_AGAIN)


@dataclass(frozen=True)
class LocalWindow:
    """The window on one clock. ``whose`` says who reads it there."""

    zone: str
    start: str
    end: str
    whose: str

    @property
    def place(self) -> str:
        return self.zone.split("/")[-1].replace("_", " ")


@dataclass
class RotationDetail:
    """A rotation as one person sees it at one moment."""

    rotation: Rotation
    user: User
    now: datetime
    zone: str
    show: str = ""

    @classmethod
    def of(
        cls, rotation: Rotation, *, user: User, now: datetime, zone: str, show: str = ""
    ) -> RotationDetail:
        """Read the rotation again with all that its page needs. ``zone`` is the reader's.

        ``show`` narrows the table of partners: a name of ``summary.chips``.
        """
        wanted = (*ROTATION_RELATIONS, *REHEARSAL_RELATED, "request", "set_up_by", "approved_by")
        found = Rotation.objects.with_rehearsal_rule().select_related(*wanted).get(pk=rotation.pk)
        return cls(found, user, now, zone, show)

    # What is there.

    @property
    def state(self) -> RotationState:
        return RotationState(self.rotation.state)

    @property
    def is_draft(self) -> bool:
        return self.state is RotationState.DRAFT

    @property
    def has_ended(self) -> bool:
        return self.state in ENDED

    @cached_property
    def participants(self) -> list[Participant]:
        """Return everybody, those that were removed too."""
        return list(
            self.rotation.participants.select_related("partner").prefetch_related(
                "partner__contacts", "slot_answers"
            )
        )

    @property
    def taking_part(self) -> list[Participant]:
        return [p for p in self.participants if not p.is_removed]

    @property
    def removed(self) -> list[Participant]:
        return [p for p in self.participants if p.is_removed]

    @cached_property
    def _planned(self) -> tuple[list[Step], str]:
        try:
            return stored_plan.preview_steps(self.rotation, now=self.now, awaited=True), ""
        except PlanError as error:
            return [], str(error)

    @property
    def plan_error(self) -> str:
        return self._planned[1] if self.is_draft else ""

    @cached_property
    def steps(self) -> list[Step]:
        """Return the steps as stored; of a draft, as approving it now would store them."""
        if self.is_draft:
            return self._planned[0]
        by_pk = {p.pk: p for p in self.participants}
        steps = list(self.rotation.steps.select_related("system"))
        for step in steps:
            step.rotation = self.rotation
            if step.participant_id:
                step.participant = by_pk[step.participant_id]
        return steps

    @cached_property
    def lines(self) -> list[StepGroup]:
        return group_steps(self.rotation, self.steps)

    @cached_property
    def turns(self) -> set[object]:
        """Return the public ids of the steps that a person may settle now."""
        if self.is_draft or self.has_ended:
            return set()
        ours = steps_for_hand(self.steps, now=self.now)
        return {step.uid for step in (*ours, *stored_plan.filter_open_releases(self.steps))}

    @property
    def turns_by_act(self) -> dict[str, int]:
        """Count, for each act, the steps that can be recorded as done together: at least two."""
        counts = Counter(s.act for s in self.steps if s.uid in self.turns and s.participant_id)
        return {act: n for act, n in counts.items() if n > 1 and act not in (Act.INSTALL, Act.AGREE)}

    @cached_property
    def rows(self) -> list[PartnerRow]:
        return partner_rows(self.rotation, self.taking_part, self.steps, now=self.now)

    @property
    def shown(self) -> list[PartnerRow]:
        """Return the rows that are asked for."""
        return partner_summary.filter_rows(self.rows, self.show)

    @property
    def chips(self) -> list[partner_summary.StatusFilter]:
        return [] if self.is_draft else partner_summary.status_filters(self.rows)

    @property
    def summary(self) -> str:
        return partner_summary.summarize_partners(self.rows) if self.rows and not self.is_draft else ""

    @cached_property
    def awaited(self) -> list[Participant]:
        return [] if self.is_draft or self.has_ended else awaited_participants(self.steps)

    @cached_property
    def rehearsal(self) -> RehearsalSummary:
        return RehearsalSummary(self.rotation)

    @cached_property
    def findings(self) -> list[CertificateFinding]:
        """Return what speaks against the successor; once it is approved, only the stored facts count."""
        return drafts.successor_findings(self.rotation, now=self.now) if self.is_draft else []

    @cached_property
    def window_findings(self) -> list[WindowFinding]:
        if not self.is_draft or self.window is None:
            return []
        return rescheduling.window_findings(self.rotation, self.window, now=self.now)

    @property
    def window(self) -> Window | None:
        rotation = self.rotation
        if rotation.window_start is None or rotation.window_end is None:
            return None
        return Window(rotation.window_start, rotation.window_end, rotation.window_zone)

    @cached_property
    def times(self) -> time_slots.Availability | None:
        """Return who can at which of the offered moments; None while none are offered, or it is too late for them."""
        if self.state not in BEFORE_CHANGE:
            return None
        found = time_slots.load_availability(self.rotation, now=self.now)
        return found if found.columns else None

    @property
    def clocks(self) -> list[LocalWindow]:
        """Return the window on the clocks of all concerned, that of the agreement first."""
        window = self.window
        return local_windows(window, self.taking_part, reader=self.zone) if window else []

    @cached_property
    def overlap(self) -> Overlap | None:
        """Return who accepts both certificates since when, where our system can change for each partner by itself."""
        return None if self.is_draft else build_overlap(self.rotation, self.rows, self.steps)

    @property
    def is_counting(self) -> bool:
        """Say whether how far the window is away still matters."""
        window = self.window
        return self.state in AWAITING_WINDOW and window is not None and window.end > self.now

    # What it means.

    @property
    def title(self) -> str:
        return rotation_text.rotation_title(self.rotation)

    @property
    def lead(self) -> str:
        return rotation_text.status_sentence(
            self.rotation,
            self.steps,
            partners=len(self.taking_part),
            now=self.now,
            unrehearsed=bool(self.rehearsal.obstacle),
        )

    @cached_property
    def four_eyes(self) -> str:
        """Say why this person can't approve although they have the right; empty when they can."""
        try:
            four_eyes.require_second_person(self.rotation, Actor(str(self.user), "web", self.user))
        except ActionRefused as error:
            return str(error)
        return ""

    @cached_property
    def needs(self) -> list[OpenTask]:
        if self.has_ended:
            return []
        beside = concurrent_change_tasks(self.rotation, concurrent_rotations(self.rotation))
        if not self.is_draft:
            kept = self.rehearsal.result if self.rehearsal.obstacle else None
            found = exchange_tasks(self.rotation, self.steps, self.rows, now=self.now, unrehearsed=kept)
            held = [
                *plan_comparison.undecided_tasks(self.taking_part),
                *plan_comparison.plan_tasks(self.rotation, self.taking_part, self.steps, now=self.now),
            ]
            again = list(self._approval_needs())
            return [*again, *found, *held, *slot_tasks(self.rotation, self.times), *beside]
        may = self.user.has_perm("rotations.approve_rotation")
        found = draft_tasks(
            self.rotation,
            plan_error=self.plan_error,
            findings=[*self.findings, *self.window_findings],
            four_eyes=self.four_eyes if may else "",
        )
        seen = plan_comparison.observed_tasks([p.partner for p in self.taking_part])
        return [*found, *(seen if partner_capability.is_relevant(self.rotation) else []), *beside]

    def _approval_needs(self) -> Iterator[OpenTask]:
        """Yield that the approval is withdrawn, and who can give it again."""
        if not self.rotation.is_withdrawn:
            return
        ours = "" if self.four_eyes else "Approve again …"
        yield OpenTask(
            "needs_you",
            four_eyes.withdrawal_text(self.rotation, zone=self.zone),
            "Until then nothing further is made. What was done stays done, and partners may go on answering.",
            ours,
            reverse("rotation-approve", args=[self.rotation.uid]) if ours else "",
            "rotations.approve_rotation",
        )

    @property
    def can_be_approved(self) -> bool:
        if self.rotation.is_withdrawn:
            return not self.four_eyes
        found: list[CertificateFinding | WindowFinding] = [*self.findings, *self.window_findings]
        errors = any(finding.level == "error" for finding in found)
        return (
            self.is_draft
            and bool(self.steps)
            and self.rotation.new is not None
            and not errors
            and not self.four_eyes
        )

    @property
    def not_approved_because(self) -> str:
        """Say all that keeps the reader from approving it; empty where nothing does."""
        if self.can_be_approved:
            return ""
        if self.rotation.is_withdrawn:
            return self.four_eyes
        return " ".join(f"{need.text} {need.more}".strip() for need in self.needs)

    # What is where, while the change is half made.

    @cached_property
    def places(self) -> list[EndpointStatus]:
        return endpoint_statuses(self.rotation, self.steps)

    @property
    def half_made(self) -> str:
        """Say how much of the change is made, and the ways out: forward, back, or one by one."""
        new = self.rotation.new.short_name if self.rotation.new else ""
        made = sum(place.sure and place.uses == new for place in self.places)
        if self.state is RotationState.ROLLING_BACK:
            return f"{len(self.places) - made} of {len(self.places)} are back on the old certificate."
        obstacle = endings.roll_back_obstacle(self.rotation, now=self.now)
        back = "or all go back (“Roll back …”)." if obstacle is None else f"there is no way back. {obstacle}"
        return (
            f"{made} of {len(self.places)} use the new certificate. What is left goes forward at its moment, by trying "
            f"again or in another window (“Postpone …”); {back}"
        )

    # What can be done.

    @cached_property
    def choices(self) -> dict[RotationAction, ActionLink]:
        possible = actions_from(self.state)
        return {
            action: ActionLink(
                label, reverse(f"rotation-{name}", args=[self.rotation.uid]), right, self._obstacle(action)
            )
            for action, (name, label, right) in _ACTIONS.items()
            if action in possible and self.user.has_perm(right)
            if action is not RotationAction.APPROVE_AGAIN or self.rotation.is_withdrawn
        }

    def _obstacle(self, action: RotationAction) -> str:
        if action is RotationAction.ROLL_BACK:
            return endings.roll_back_obstacle(self.rotation, now=self.now) or ""
        if action is RotationAction.CLOSE:
            retiring = any(s.act == Act.RETIRE and s.state not in SETTLED for s in self.steps)
            return (
                "The old certificate is still accepted: it closes by itself once that is over."
                if retiring
                else ""
            )
        if action is RotationAction.EMERGENCY and self.rotation.is_emergency:
            return "Everything that can be done at once is being done."
        if action in _APPROVING and not self.can_be_approved:
            return self.four_eyes or "Something is missing: see what needs attention."
        return ""

    @property
    def primary(self) -> ActionLink | None:
        """Return the one thing to do next, or None where there is nothing."""
        choices = self.choices
        approve = choices.get(RotationAction.APPROVE) or choices.get(RotationAction.APPROVE_AGAIN)
        edit = choices.get(RotationAction.EDIT)
        if approve and not approve.obstacle:
            return approve
        if edit:
            return edit if any(need.url == edit.url for need in self.needs) else None
        if (switching := self._switching) and not switching[0].obstacle:
            return switching[0]
        may = self.user.has_perm("rotations.change_rotation")
        if may and (waiting := due_for_announcement(self.rows)):
            url = reverse("rotation-announce", args=[self.rotation.uid])
            return ActionLink(announce_label(waiting), url, "rotations.change_rotation")
        if may and self.awaited and self.state is RotationState.EXCHANGING:
            return ActionLink("Record answers", "#partners", "rotations.change_rotation")
        way = self.rehearsal.way
        if way and self.rehearsal.obstacle and self.user.has_perm(way.permission):
            return ActionLink(way.label, way.url, way.permission)
        close = choices.get(RotationAction.CLOSE)
        return close if close and not close.obstacle else None

    @property
    def _switching(self) -> list[ActionLink]:
        """Return that somebody's word makes the change now, where its moment is not known before."""
        right = "rotations.change_rotation"
        going_on = self.state in AWAITING_WINDOW and self.rotation.is_fuzzy
        if not going_on or not self.user.has_perm(right):
            return []
        url = reverse("rotation-switch-now", args=[self.rotation.uid])
        return [
            ActionLink("Switch now …", url, right, open_window.switch_obstacle(self.rotation, now=self.now))
        ]

    @property
    def menu(self) -> list[ActionLink]:
        """Return everything else that can be done."""
        about = [*self._switching, *self._following, *self._offering]
        about = [choice for choice in about if choice != self.primary]
        return [*about, *(choice for choice in self.choices.values() if choice != self.primary)]

    @property
    def _following(self) -> list[ActionLink]:
        right = "rotations.change_rotation"
        if self.has_ended or not self.taking_part or not self.user.has_perm(right):
            return []
        return [ActionLink("Following up", reverse("rotation-following", args=[self.rotation.uid]), right)]

    @property
    def _offering(self) -> list[ActionLink]:
        right = "rotations.change_rotation"
        if self.state not in BEFORE_CHANGE or not self.taking_part or not self.user.has_perm(right):
            return []
        return [ActionLink("Offer times …", reverse("rotation-slots", args=[self.rotation.uid]), right)]

    # How often the page looks again.

    @property
    def pace(self) -> int:
        """Return after how many seconds the page should look again; 0 when nothing will change any more."""
        if self.has_ended:
            return 0
        request = self.rotation.request
        generating = (CertificateRequest.State.QUEUED, CertificateRequest.State.WORKING)
        if self.is_draft:
            return 1 if self.rotation.new is None and request and request.state in generating else 15
        return 1 if self._is_close() else 5 if self.state is RotationState.UNDER_WAY or self.awaited else 15

    def _is_close(self) -> bool:
        return any(
            step.state == StepState.RUNNING
            or (
                step.state == StepState.WAITING
                and step.automatic
                and not step.blocked
                and step.due_at is not None
                and step.due_at <= self.now + CLOSE_TO_DUE
            )
            for step in self.steps
        )

    @property
    def version(self) -> str:
        """Return what changes exactly when the page would show something else (apart from the passing of time)."""
        request = self.rotation.request
        facts = [
            self.rotation.state,
            self.pace,
            request.state if request else "",
            self.rotation.new.sha256 if self.rotation.new else "",
            self.rotation.window_start,
            self.rehearsal.version,
            *((n.meaning, n.text, n.more) for n in self.needs),
            *((s.key, s.state, s.error, s.note, s.attempts, s.blocked, s.late) for s in self.steps),
            *(
                (p.pk, p.removed_reason, p.evidence, p.waived_reason, p.agreed_at, p.note)
                for p in self.participants
            ),
            *(self._seen_of(row) for row in self.rows),
            sorted(map(str, self.turns)) if not self.is_draft else "",
        ]
        return version_token(facts)

    @staticmethod
    def _seen_of(row: PartnerRow) -> tuple[object, ...]:
        """Return what the table shows of a partner beside its steps."""
        p = row.participant
        heard = (p.announced_at, p.opened_at, p.downloaded_at, p.proposed_at, p.proposed_start, p.works_at)
        slots = [(answer.slot_id, answer.can) for answer in p.slot_answers.all()]
        return (row.standing, row.told_at, row.reminded_at, row.word, slots, *heard)


def local_windows(window: Window, participants: Sequence[Participant], *, reader: str) -> list[LocalWindow]:
    """Tell a window on the clocks of its agreement, of the partners, of the reader, and in UTC, each once."""
    whose: dict[str, list[str]] = {window.zone: ["as agreed"]}
    for participant in participants:
        whose.setdefault(participant.partner.time_zone, []).append(participant.partner.name)
    whose.setdefault(reader, []).append("you")
    ours = Installation.current().time_zone
    whose.setdefault(ours, []).append("our zone")
    whose.setdefault("UTC", [])
    return [
        LocalWindow(zone, *window_ends(window.start, window.end, zone), _short_list(who))
        for zone, who in whose.items()
    ]


def _short_list(who: Sequence[str]) -> str:
    return ", ".join(who[:3]) + (f" and {len(who) - 3} more" if len(who) > 3 else "")
