"""What the page of a rotation shows, read in a constant number of queries."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Generic, TypeVar

from django.core.cache import cache
from django.db.models import Q, QuerySet
from django.urls import reverse

from as2certs.accounts.models import User
from as2certs.audit.recording import Actor
from as2certs.background_jobs import BUSY
from as2certs.pki import CertificateFinding
from identities.models import AS2System, CertificateRequest
from identities.open_tasks import OpenTask
from rotations.errors import ActionRefused, PlanError
from rotations.exchange import time_slots
from rotations.exchange.responses import BEFORE_CHANGE
from rotations.execution import partner_situation, stored_plan
from rotations.execution.concurrent import concurrent_rotations
from rotations.execution.transitions import ROTATION_RELATIONS
from rotations.execution.version_token import PageState, read_page_state, version_token
from rotations.lifecycle import drafts, endings, four_eyes, rescheduling
from rotations.lifecycle.evidence import probes
from rotations.models import BulkAnnouncement, Participant, Rotation, Step
from rotations.planning.change import Act
from rotations.planning.states import AWAITING_WINDOW, ENDED, RotationState, StepState
from rotations.planning.windows import Window, WindowFinding
from rotations.web.presenters import partner_table, rotation_text
from rotations.web.presenters.cutover_progress import (
    EndpointStatus,
    Overlap,
    build_overlap,
    endpoint_statuses,
)
from rotations.web.presenters.open_tasks import (
    announcing_tasks,
    concurrent_change_tasks,
    draft_tasks,
    exchange_tasks,
    slot_tasks,
)
from rotations.web.presenters.partner_table import PartnerEntry, PartnerRow, StatusFilter, partner_rows
from rotations.web.presenters.partner_tasks import (
    capability_tasks,
    due_for_announcement,
    observed_capability_tasks,
    replanning_tasks,
)
from rotations.web.presenters.rehearsal import REHEARSAL_RELATED, RehearsalSummary
from rotations.web.presenters.rotation_text import LocalWindow
from rotations.web.presenters.step_groups import (
    GroupSummary,
    StepGroup,
    group_steps,
    settleable_steps,
)

#: More rows than this are taken from all of them.
MAX_ROWS_READ = 200
#: How long what was derived from many partners is kept; what changes one of them makes another one.
MEMORY_SECONDS = 900
#: While a step is due within this time, the page is refreshed every second.
CLOSE_TO_DUE = timedelta(minutes=3)


T = TypeVar("T")


class remembered(Generic[T]):  # a decorator, as cached_property
    """A property that is derived from all partners, and kept until the rotation or its partners change.

    Its value has to be small and must not depend on the reader, except for the time zone. See ``PageMemory``.
    """

    def __init__(self, derive: Callable[[Any], T]) -> None:
        self.derive, self.name = derive, derive.__name__
        self.__doc__ = derive.__doc__

    def __get__(self, detail: RotationDetail, owner: type | None = None) -> T:
        if self.name not in detail.memory.values:
            detail.memory.values[self.name] = self.derive(detail)
            detail.memory.is_changed = True
        found: T = detail.memory.values[self.name]
        return found


@dataclass
class PageMemory:
    """What was derived from all partners of a rotation, by the names of properties; ``key`` is that of the cache.

    Without a key, nothing is kept: with few partners, deriving it costs less than reading it.
    """

    key: str
    values: dict[str, Any]
    is_changed: bool = False

    @classmethod
    def load(cls, key: str) -> PageMemory:
        """Return the memory as another request left it; else an empty one."""
        return cls(key, cache.get(key) or {})

    def save(self) -> None:
        if self.key and self.is_changed:
            cache.set(self.key, self.values, MEMORY_SECONDS)
            self.is_changed = False


@dataclass
class RotationDetail:
    """A rotation as one person sees it at ``now``; ``zone`` is the reader's time zone."""

    rotation: Rotation
    user: User
    now: datetime
    zone: str
    show: str = ""
    #: Only partners whose name or AS2 ID contains this are listed.
    words: str = ""

    @classmethod
    def of(cls, rotation: Rotation, *, user: User, now: datetime, zone: str, show: str = "") -> RotationDetail:
        """Load a rotation with the relations that its page needs. ``show`` is the name of a StatusFilter, or empty."""
        relations = (*ROTATION_RELATIONS, *REHEARSAL_RELATED, "request", "set_up_by", "approved_by")
        found = Rotation.objects.with_rehearsal_rule().select_related(*relations).get(pk=rotation.pk)
        return cls(found, user, now, zone, show)

    @cached_property
    def page_state(self) -> PageState:
        return read_page_state(self.rotation, now=self.now)

    @cached_property
    def _token(self) -> str:
        return version_token(
            [self.page_state.token, self.rehearsal.version, self.announcing and self.announcing.state, self.busy_probes]
        )

    @cached_property
    def announcing(self) -> BulkAnnouncement | None:
        """Return the last announcements to many partners at once."""
        return self.rotation.bulk_announcements.first()

    @cached_property
    def busy_probes(self) -> int:
        """Return how many test messages with the new certificate are on their way."""
        return 0 if self.is_draft else probes.probes_with_new(self.rotation).filter(state__in=BUSY).count()

    @cached_property
    def memory(self) -> PageMemory:
        if self.is_draft or self.page_state.is_small:
            return PageMemory("", {})
        return PageMemory.load(f"rotation-page:{self._token}:{self.zone}")

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
        """Return all participants, including removed ones."""
        return _with_contacts(self.rotation.participants.all())

    @property
    def taking_part(self) -> list[Participant]:
        return [p for p in self.participants if not p.is_removed]

    @cached_property
    def removed(self) -> list[Participant]:
        return list(self.rotation.participants.exclude(removed_reason="").select_related("partner"))

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
        """Return the stored steps; of a draft, those that approving it now would store."""
        if self.is_draft:
            return self._planned[0]
        by_pk = {p.pk: p for p in self.participants}
        # With many partners these are thousands; what a page shows of a few is read by ``StepGroup.shown``.
        unread = ("after", "evidence", "checkpoint", "roles", "why", "lease_until", "attempts")
        steps = list(self.rotation.steps.defer(*unread))
        systems = AS2System.objects.in_bulk({step.system_id for step in steps if step.system_id})
        for step in steps:
            step.rotation = self.rotation
            if step.system_id:
                step.system = systems[step.system_id]
            if step.participant_id:
                step.participant = by_pk[step.participant_id]
        return steps

    @cached_property
    def groups(self) -> Sequence[StepGroup | GroupSummary]:
        """Return the lines of the runbook; of approved rotations with their listed steps only."""
        if self.is_draft:
            return group_steps(self.rotation, self.steps)
        wanted = {pk for group in self._group_summaries for pk in (group.first_pk, *group.shown_pks)}
        found = self.rotation.steps.select_related("system", "participant__partner").in_bulk(wanted)
        for step in found.values():
            step.rotation = self.rotation
            if step.participant is not None:
                step.participant.rotation = self.rotation
        return [group.load(found) for group in self._group_summaries]

    @remembered
    def _group_summaries(self) -> list[GroupSummary]:
        return [GroupSummary.of(group) for group in group_steps(self.rotation, self.steps)]

    @remembered
    def settleable(self) -> set[object]:
        """Return the public ids of the steps that a person may record as done or skip now."""
        if self.is_draft or self.has_ended:
            return set()
        ours = settleable_steps(self.steps, now=self.now)
        return {step.uid for step in (*ours, *stored_plan.filter_open_releases(self.steps))}

    @remembered
    def settleable_by_act(self) -> dict[str, int]:
        """Return how many steps can be recorded as done together, by act; two at least."""
        counts = Counter(s.act for s in self.steps if s.uid in self.settleable and s.participant_id)
        return {act: n for act, n in counts.items() if n > 1 and act not in (Act.INSTALL, Act.AGREE)}

    @cached_property
    def rows(self) -> list[PartnerRow]:
        return partner_rows(self.rotation, self.taking_part, self.steps, now=self.now)

    @remembered
    def entries(self) -> list[PartnerEntry]:
        """Return what filters and sorts the table of partners."""
        return [PartnerEntry.of(row) for row in self.rows]

    @property
    def filtered_entries(self) -> list[PartnerEntry]:
        """Return the entries of the partners that match the filter and the search."""
        found = partner_table.filter_rows(self.entries, self.show)
        return [entry for entry in found if not self.words or entry.matches(self.words)]

    @property
    def filtered_rows(self) -> list[PartnerRow]:
        return self.rows_of(self.filtered_entries)

    def rows_of(self, entries: Sequence[PartnerEntry]) -> list[PartnerRow]:
        """Return the rows of these partners, in their order."""
        pks = [entry.pk for entry in entries]
        if "rows" in self.__dict__ or len(pks) > MAX_ROWS_READ:
            by_pk = {row.participant.pk: row for row in self.rows}
        else:
            some = _with_contacts(self.rotation.participants.filter(pk__in=pks))
            steps = [] if self.is_draft else list(self.rotation.steps.filter(participant__in=pks).order_by("position"))
            by_pk = {row.participant.pk: row for row in partner_rows(self.rotation, some, steps, now=self.now)}
        return [by_pk[pk] for pk in pks if pk in by_pk]

    @remembered
    def filters(self) -> list[StatusFilter]:
        return [] if self.is_draft else partner_table.status_filters(self.entries)

    @remembered
    def summary(self) -> str:
        return partner_table.summarize_partners(self.entries) if self.entries and not self.is_draft else ""

    @remembered
    def is_outstanding(self) -> bool:
        """Return whether a partner is not ready."""
        return not self.is_draft and not self.has_ended and any(one.readiness.is_outstanding for one in self.entries)

    @remembered
    def due_for_announcement(self) -> int:
        """Return how many partners are to be informed now, and can be reached by mail."""
        return len(due_for_announcement(self.rows))

    @cached_property
    def rehearsal(self) -> RehearsalSummary:
        return RehearsalSummary(self.rotation)

    @cached_property
    def findings(self) -> list[CertificateFinding]:
        """Return the findings about the new certificate of a draft."""
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
    def availability(self) -> time_slots.Availability | None:
        """Return which partners can at which offered times; None when none are offered or the change has begun."""
        if self.state not in BEFORE_CHANGE or not self.rotation.slots.exists():
            return None
        found = time_slots.load_availability(self.rotation, now=self.now)
        return found if found.columns else None

    @remembered
    def local_windows(self) -> list[LocalWindow]:
        """Return the window in the time zones of everybody concerned, the agreed one first."""
        window = self.window
        if window is None:
            return []
        end_only = self.rotation.is_phased and window.start <= self.now
        return rotation_text.local_windows(window, self.taking_part, reader=self.zone, end_only=end_only)

    @remembered
    def moment(self) -> str:
        """Return when the change is made, if that is not at the start of its window."""
        return self.rotation.describe_moment(self.steps)

    @property
    def begins_with_approval(self) -> bool:
        """Return whether this is a draft in which each partner changes when it is ready, from the approval on."""
        start = self.rotation.window_start
        return self.is_draft and self.rotation.is_phased and start is not None and start <= self.now

    @remembered
    def overlap(self) -> Overlap | None:
        """Return since when each partner accepts both certificates, when our system signs per partner."""
        return None if self.is_draft else build_overlap(self.rotation, self.rows, self.steps)

    @property
    def has_countdown(self) -> bool:
        """Return whether the time until the window is shown."""
        window = self.window
        return self.state in AWAITING_WINDOW and window is not None and window.end > self.now

    # Status and approval

    @property
    def title(self) -> str:
        return rotation_text.rotation_title(self.rotation)

    @remembered
    def lead(self) -> str:
        return rotation_text.status_sentence(
            self.rotation,
            self.steps,
            readiness=partner_table.count_rows(self.entries),
            now=self.now,
            unrehearsed=bool(self.rehearsal.obstacle),
            frozen=self._frozen,
        )

    @property
    def _frozen(self) -> dict[int, datetime]:
        if not self.rotation.is_phased or self.is_draft:
            return {}
        for participant in self.taking_part:
            participant.rotation = self.rotation
        return partner_situation.find_frozen(
            self.taking_part, partner_situation.SharedFacts(self.rotation), now=self.now
        )

    @cached_property
    def four_eyes_obstacle(self) -> str:
        """Return why the reader must not approve although they have the permission; empty when they may."""
        try:
            four_eyes.require_second_person(self.rotation, Actor(str(self.user), "web", self.user))
        except ActionRefused as error:
            return str(error)
        return ""

    @cached_property
    def tasks(self) -> list[OpenTask]:
        """Return what people have to decide or do, in order; none once the rotation has ended."""
        if self.has_ended:
            return []
        if self.is_draft:
            return [*self._draft_tasks(), *self._concurrent_tasks()]
        return [*self._approval_tasks(), *announcing_tasks(self.rotation, self.announcing), *self._partner_tasks]

    def _concurrent_tasks(self) -> list[OpenTask]:
        return concurrent_change_tasks(self.rotation, concurrent_rotations(self.rotation))

    @remembered
    def _partner_tasks(self) -> list[OpenTask]:
        unrehearsed = self.rehearsal.result if self.rehearsal.obstacle else None
        return [
            *exchange_tasks(self.rotation, self.steps, self.rows, now=self.now, unrehearsed=unrehearsed),
            *capability_tasks(self.taking_part),
            *replanning_tasks(self.rotation, self.taking_part, self.steps, now=self.now),
            *slot_tasks(self.rotation, self.availability),
            *self._concurrent_tasks(),
        ]

    def _draft_tasks(self) -> list[OpenTask]:
        may_approve = self.user.has_perm("rotations.approve_rotation")
        found = draft_tasks(
            self.rotation,
            plan_error=self.plan_error,
            findings=[*self.findings, *self.window_findings],
            four_eyes=self.four_eyes_obstacle if may_approve else "",
        )
        if self.rotation.depends_on_capability:
            found += observed_capability_tasks([p.partner for p in self.taking_part])
        return found

    def _approval_tasks(self) -> Iterator[OpenTask]:
        """Yield a task when the approval is withdrawn, with a link for those who may approve again."""
        if not self.rotation.is_withdrawn:
            return
        may_approve = not self.four_eyes_obstacle
        yield OpenTask(
            "needs_you",
            four_eyes.withdrawal_text(self.rotation, zone=self.zone),
            "Approve again …" if may_approve else "",
            reverse("rotation-approve", args=[self.rotation.uid]) if may_approve else "",
            "rotations.approve_rotation",
            "Until then nothing further is made. What was done stays done, and partners may go on answering.",
        )

    @property
    def can_be_approved(self) -> bool:
        if self.rotation.is_withdrawn:
            return not self.four_eyes_obstacle
        found: list[CertificateFinding | WindowFinding] = [*self.findings, *self.window_findings]
        errors = any(finding.level == "error" for finding in found)
        return (
            self.is_draft
            and bool(self.steps)
            and self.rotation.new is not None
            and not errors
            and not self.four_eyes_obstacle
        )

    @property
    def approval_obstacle(self) -> str:
        """Return everything that keeps the reader from approving the rotation; empty when nothing does."""
        if self.can_be_approved:
            return ""
        if self.rotation.is_withdrawn:
            return self.four_eyes_obstacle
        return " ".join(f"{task.text} {task.more}".strip() for task in self.tasks)

    # A change that is made in part

    @remembered
    def endpoints(self) -> list[EndpointStatus]:
        return endpoint_statuses(self.rotation, self.steps)

    @property
    def partial_cutover_text(self) -> str:
        """Return how much of the change is made, and how to finish it or go back."""
        new = self.rotation.new.short_name if self.rotation.new else ""
        made = sum(endpoint.is_certain and endpoint.uses == new for endpoint in self.endpoints)
        if self.state is RotationState.ROLLING_BACK:
            return f"{len(self.endpoints) - made} of {len(self.endpoints)} are back on the old certificate."
        obstacle = endings.roll_back_obstacle(self.rotation, now=self.now)
        back = f"there is no way back. {obstacle}" if obstacle else "or all go back (“Roll back …”)."
        forward = "with each partner once it is ready" if self.rotation.is_phased else "at its moment"
        return (
            f"{made} of {len(self.endpoints)} use the new certificate. What is left goes forward {forward}, by trying "
            f"again or in another window (“Postpone …”); {back}"
        )

    # Refreshing the page

    @cached_property
    def poll_interval(self) -> int:
        """Return after how many seconds the page is refreshed; 0 when nothing will change any more."""
        if self.has_ended:
            return 0
        request = self.rotation.request
        generating = (CertificateRequest.State.QUEUED, CertificateRequest.State.WORKING)
        if self.is_draft:
            return 1 if self.rotation.new is None and request and request.state in generating else 15
        return (
            1 if self._is_close_to_due() else 5 if self.state is RotationState.UNDER_WAY or self.is_outstanding else 15
        )

    def _is_close_to_due(self) -> bool:
        soon = Q(automatic=True, blocked=False, due_at__lte=self.now + CLOSE_TO_DUE)
        return self.rotation.steps.filter(Q(state=StepState.RUNNING) | Q(soon, state=StepState.WAITING)).exists()

    @property
    def version(self) -> str:
        """Return a token that changes when the page would look different, except for elapsed time."""
        return self._token


def _with_contacts(participants: QuerySet[Participant]) -> list[Participant]:
    """Return participants with what their rows show."""
    return list(participants.select_related("partner").prefetch_related("partner__contacts", "slot_answers"))
