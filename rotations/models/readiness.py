"""Whether a partner is ready for the change, and if not, why: the one answer of pages, mails, lists and reports.

``find_readiness`` answers for one participant whose steps are loaded, ``with_readiness`` is the same as a query. A
partner is ready when the runner waits for nothing that it has to do: its own preparations are settled, and it objects
to nothing. An objection keeps the change back until a person has decided about it, even after an earlier answer; in an
emergency, nothing does. Whether that is proven is said apart: *verified* or *unverified*.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from django.db.models import Case, CharField, Count, Exists, F, OuterRef, Q, QuerySet, Value, When

from rotations.models.rotation import HAS_OBJECTION, Participant, Rotation, Step, StepQuerySet
from rotations.planning.change import CHECK_ACTS, PREPARATION_ACTS, Act, StepOwner
from rotations.planning.states import SETTLED, RotationState, StepState

#: States of a rotation before its change, in which a partner's objection matters.
_BEFORE_CHANGE = (RotationState.EXCHANGING, RotationState.SCHEDULED)


class Readiness(StrEnum):
    """Whether a participant is ready, and why it is not. All but the first three are *outstanding*."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    WAIVED = "waived"
    DOES_NOT_WORK = "does not work"
    USES_OLD = "uses the old certificate"
    DECLINED = "declined"
    OTHER_TIME = "proposes another time"
    NOT_ACCEPTED = "does not accept the new certificate"
    WAITS_FOR_US = "waits for us"
    NO_ANSWER = "has not answered"

    @property
    def is_ready(self) -> bool:
        return self in READY

    @property
    def is_outstanding(self) -> bool:
        return self in OUTSTANDING

    @property
    def group(self) -> str:
        """Return "verified", "unverified", "outstanding" or "waived"."""
        return "outstanding" if self.is_outstanding else self.value


READY = frozenset({Readiness.VERIFIED, Readiness.UNVERIFIED})
OUTSTANDING = frozenset(set(Readiness) - READY - {Readiness.WAIVED})
#: Outstanding, although the partner has nothing left to do: it objects, or something went wrong with it.
OBJECTIONS = OUTSTANDING - {Readiness.WAITS_FOR_US, Readiness.NO_ANSWER}
#: What keeps a change back until a person has decided about it.
DECISIONS = frozenset({Readiness.DECLINED, Readiness.OTHER_TIME, Readiness.NOT_ACCEPTED})


def find_readiness(participant: Participant, steps: Iterable[Step]) -> Readiness:
    """Return the readiness of a participant, whose rotation is loaded. ``steps`` are those of this participant.

    1. What does not work after the change, and a partner that still uses the old certificate then.
    2. A waived partner is not waited for.
    3. A partner that declined or proposed another time before the change, even if it had answered before; or one that
       did not accept a test message, although it had confirmed the installation.
    4. An open preparation: *waits for us* unless there is one that the partner can do now.
    5. Otherwise it is ready: verified if its evidence is strong enough, see ``_is_verified``.
    """
    rotation, steps = participant.rotation, list(steps)
    if participant.works is False:
        return Readiness.DOES_NOT_WORK
    if participant.straggling_at is not None:
        return Readiness.USES_OLD
    if participant.waived_reason:
        return Readiness.WAIVED
    if _is_before_change(rotation, steps) and participant.declined_at is not None:
        return Readiness.DECLINED
    if _is_before_change(rotation, steps) and participant.proposed_at is not None:
        return Readiness.OTHER_TIME
    if _is_before_change(rotation, steps) and participant.contradicts_confirmation:
        return Readiness.NOT_ACCEPTED
    open_ = open_preparations(rotation, steps)
    if any(step.who == StepOwner.PARTNER and not step.blocked for step in open_):
        return Readiness.NO_ANSWER
    if open_ or rotation.state == RotationState.DRAFT or participant.taken_back_at is not None:
        return Readiness.WAITS_FOR_US
    return Readiness.VERIFIED if _is_verified(participant, steps) else Readiness.UNVERIFIED


def open_preparations(rotation: Rotation, steps: Iterable[Step]) -> list[Step]:
    """Return those of one participant's steps for which the runner keeps the change waiting."""
    return [step for step in steps if step.act in rotation.preparation_acts and step.state not in SETTLED]


def _is_before_change(rotation: Rotation, steps: Iterable[Step]) -> bool:
    """Return whether the change with this participant is still ahead; where we sign per partner, others may be done."""
    if rotation.state == RotationState.UNDER_WAY:
        return any(step.act == Act.CUT_OVER and step.state not in SETTLED for step in steps)
    return rotation.state in _BEFORE_CHANGE


def _is_verified(participant: Participant, steps: Iterable[Step]) -> bool:
    """Return whether evidence proves that a partner is ready, and not only its word.

    1. The fingerprint that its system shows is the new certificate's, or it accepted a test message.
    2. A message used the new certificate. That a partner encrypts to ours does not prove that it has it for our
       signatures, so that this does not prove the installation of ours.
    3. It has nothing to install before the window, and agreed to it.
    """
    if participant.evidence == Participant.Evidence.STRONG:
        return True
    installs = any(step.act == Act.INSTALL for step in steps)
    if participant.migrated_at is not None and (participant.rotation.side == "partner" or not installs):
        return True
    return participant.agreed_at is not None and not installs


def with_readiness(participants: QuerySet[Participant]) -> QuerySet[Any]:
    """Annotate participants with ``readiness`` (a value of ``Readiness``), as ``find_readiness`` returns it.

    ``is_waited_for`` says whether the runner waits for one of its preparations, or for a decision about its objection.
    """
    steps = Step.objects.filter(participant=OuterRef("pk"))
    open_ = steps.unsettled()
    is_open = _in_preparation(open_)
    theirs = _in_preparation(open_.filter(who=StepOwner.PARTNER, blocked=False))
    alone = Q(rotation__state=RotationState.UNDER_WAY) & Q(Exists(open_.filter(act=Act.CUT_OVER)))
    before = Q(rotation__state__in=_BEFORE_CHANGE) | alone
    without_install = ~Q(Exists(steps.filter(act=Act.INSTALL)))
    verified = (
        Q(evidence=Participant.Evidence.STRONG)
        | Q(migrated_at__isnull=False, rotation__partner__isnull=False)
        | (Q(migrated_at__isnull=False) | Q(agreed_at__isnull=False)) & without_install
    )
    waits = is_open | Q(rotation__state=RotationState.DRAFT) | Q(taken_back_at__isnull=False)
    readiness = Case(
        When(works=False, then=Value(Readiness.DOES_NOT_WORK.value)),
        When(straggling_at__isnull=False, then=Value(Readiness.USES_OLD.value)),
        When(~Q(waived_reason=""), then=Value(Readiness.WAIVED.value)),
        When(Q(declined_at__isnull=False) & before, then=Value(Readiness.DECLINED.value)),
        When(Q(proposed_at__isnull=False) & before, then=Value(Readiness.OTHER_TIME.value)),
        When(Q(probe_refused_at__gte=F("confirmed_at")) & before, then=Value(Readiness.NOT_ACCEPTED.value)),
        When(theirs, then=Value(Readiness.NO_ANSWER.value)),
        When(waits, then=Value(Readiness.WAITS_FOR_US.value)),
        When(verified, then=Value(Readiness.VERIFIED.value)),
        default=Value(Readiness.UNVERIFIED.value),
        output_field=CharField(),
    )
    is_kept_back = HAS_OBJECTION & before & Q(rotation__emergency_reason="")
    return participants.annotate(
        readiness=readiness,
        is_waited_for=Case(When(is_open | is_kept_back, then=Value(True)), default=Value(False)),
    )


def _in_preparation(steps: StepQuerySet) -> Q:
    """Return whether one of these steps is a preparation: ``Rotation.preparation_acts`` as a condition."""
    # The column comes first: it spares one of the two look-ups in the steps.
    planned = Q(rotation__emergency_reason="") & Q(Exists(steps.filter(act__in=PREPARATION_ACTS)))
    return planned | ~Q(rotation__emergency_reason="") & Q(Exists(steps.filter(act__in=CHECK_ACTS)))


@dataclass(frozen=True)
class ReadinessCount:
    """How many participants are in each state of readiness."""

    counts: Mapping[Readiness, int]

    @classmethod
    def of(cls, found: Iterable[Readiness]) -> ReadinessCount:
        return cls(Counter(found))

    @property
    def verified(self) -> int:
        return self.counts.get(Readiness.VERIFIED, 0)

    @property
    def unverified(self) -> int:
        return self.counts.get(Readiness.UNVERIFIED, 0)

    @property
    def outstanding(self) -> int:
        return sum(self.counts.get(one, 0) for one in OUTSTANDING)

    @property
    def waits_for_us(self) -> int:
        """Return how many of the outstanding ones can do nothing before we have done something."""
        return self.counts.get(Readiness.WAITS_FOR_US, 0)

    @property
    def waived(self) -> int:
        return self.counts.get(Readiness.WAIVED, 0)

    @property
    def ready(self) -> int:
        return self.verified + self.unverified

    @property
    def expected(self) -> int:
        """Return how many partners are waited for, or were; without waived ones."""
        return self.ready + self.outstanding

    def __str__(self) -> str:
        """Return the count in words: "2 of 3 ready (1 unverified), 1 waived"."""
        unverified = f" ({self.unverified} unverified)" if self.unverified else ""
        waived = f", {self.waived} waived" if self.waived else ""
        return f"{self.ready} of {self.expected} ready{unverified}{waived}"


def count_readiness(rotations: Iterable[int]) -> dict[int, ReadinessCount]:
    """Return the readiness of the partners that take part in rotations, by the rotations' primary keys: one query."""
    rows = with_readiness(Participant.objects.filter(rotation__in=list(rotations), removed_reason="")).order_by()
    counts: dict[int, dict[Readiness, int]] = {}
    for rotation, readiness, number in rows.values_list("rotation", "readiness").annotate(Count("pk")):
        counts.setdefault(rotation, {})[Readiness(readiness)] = number
    return {rotation: ReadinessCount(found) for rotation, found in counts.items()}


# What is still open on our side

#: Our own acts up to our cut-over.
OWN_ACTS = (Act.CHECK, Act.STAGE, Act.ANNOUNCE, Act.HOLD, Act.CUT_OVER)


def own_open_steps(steps: StepQuerySet) -> StepQuerySet:
    """Return those of some steps that our own people still have to do up to our cut-over; failed ones need them too."""
    by_hand = Q(automatic=False) | Q(state=StepState.FAILED)
    return steps.filter(by_hand, who=StepOwner.WE, act__in=OWN_ACTS).unsettled()


def is_open_for_our_people(step: Step) -> bool:
    """Return whether our own people still have to do a step: the condition of ``own_open_steps`` for a loaded one."""
    by_hand = not step.automatic or step.state == StepState.FAILED
    return by_hand and step.who == StepOwner.WE and step.state not in SETTLED


def own_open_titles(rotation: Rotation) -> list[str]:
    """Return the titles of a rotation's ``own_open_steps`` in their order; announcements to several count as one."""
    return _step_titles(own_open_steps(rotation.steps.all()).order_by("position").values_list("act", "title"))


def missed_own_titles(rotations: Iterable[int], now: datetime) -> dict[int, list[str]]:
    """Return which of our own steps can be done in rotations whose window is over, by their primary keys: one query."""
    missed = Rotation.objects.overdue(now).filter(pk__in=list(rotations)).order_by()
    steps = own_open_steps(Step.objects.filter(rotation__in=missed.values("pk"), blocked=False))
    found: dict[int, list[tuple[str, str]]] = {}
    for rotation, act, title in steps.order_by("position").values_list("rotation", "act", "title"):
        found.setdefault(rotation, []).append((act, title))
    return {rotation: _step_titles(rows) for rotation, rows in found.items()}


def _step_titles(steps: Iterable[tuple[str, str]]) -> list[str]:
    """Return the titles of steps (act, title) without duplicates; announcements to several count as one."""
    rows = list(steps)
    announcements = sum(act == Act.ANNOUNCE for act, _ in rows)
    together = f"Send the new certificate to {announcements} partners"
    return list(dict.fromkeys(together if act == Act.ANNOUNCE and announcements > 1 else title for act, title in rows))


@dataclass(frozen=True)
class OwnStep:
    """The title of a step of ours, and whether the application carries it out without a person."""

    title: str
    runs_by_itself: bool


def first_own_steps(rotations: Iterable[int]) -> dict[int, OwnStep]:
    """Return the first open step of ours for which partners wait, by the rotations' primary keys: one query."""
    steps = Step.objects.filter(rotation__in=list(rotations), who=StepOwner.WE, act__in=PREPARATION_ACTS)
    rows = steps.unsettled().order_by("-position").values_list("rotation", "title", "automatic", "state")
    # The last one that is put in is the first one of its rotation.
    return {
        rotation: OwnStep(title, automatic and state != StepState.FAILED) for rotation, title, automatic, state in rows
    }


# Names for mails and lists


@dataclass(frozen=True)
class NotReady:
    """The partners of a rotation that are not ready: names with reasons, in the order of the names.

    ``is_answer_missing``: the change waits for what at least one of them has to do, or for a decision about it;
    ``waits_for_us``: at least one waits for us. Neither: nothing waits for them, as in an emergency.
    """

    partners: list[tuple[str, Readiness]]
    is_answer_missing: bool
    waits_for_us: bool

    @property
    def undecided(self) -> list[tuple[str, Readiness]]:
        """Return those about which a person has to decide: they declined, propose another time, or refused a test."""
        return [(name, readiness) for name, readiness in self.partners if readiness in DECISIONS]


def list_unchanged(rotation: Rotation) -> list[tuple[str, Readiness]]:
    """Return the partners (names) for which we have not changed where each changes when it is ready: one query."""
    ours = Step.objects.for_one_partner().unsettled().filter(participant=OuterRef("pk"))
    left = rotation.participants.filter(Exists(ours), removed_reason="", window_start=None)
    rows = with_readiness(left).order_by("partner__name", "pk").values_list("partner__name", "readiness")
    return [(name, Readiness(readiness)) for name, readiness in rows]


def list_not_ready(rotation: Rotation) -> NotReady:
    """Return the partners of a rotation that are not ready: one query."""
    rows = with_readiness(rotation.participants.filter(removed_reason="")).filter(readiness__in=OUTSTANDING)
    found = [
        (name, Readiness(readiness), is_waited_for)
        for name, readiness, is_waited_for in rows.order_by("partner__name", "pk").values_list(
            "partner__name", "readiness", "is_waited_for"
        )
    ]
    return NotReady(
        partners=[(name, readiness) for name, readiness, _ in found],
        is_answer_missing=any(waited and one is not Readiness.WAITS_FOR_US for _, one, waited in found),
        waits_for_us=any(one is Readiness.WAITS_FOR_US for _, one, _ in found),
    )
