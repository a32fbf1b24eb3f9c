"""The input and output of planning: a certificate change, and the steps that carry it out.

All datetimes are aware and in UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from rotations.errors import PlanError

DEFAULT_GRACE = timedelta(days=14)
"""How long readers keep the old certificate after the window, for late MDNs and retries."""


class Role(StrEnum):
    """A use of a certificate in our inventory: two of our own certificates, two of the partner's."""

    SIGN = "sign"
    DECRYPT = "decrypt"
    VERIFY = "verify"
    ENCRYPT = "encrypt"


OWN_ROLES = frozenset({Role.SIGN, Role.DECRYPT})
PARTNER_ROLES = frozenset({Role.VERIFY, Role.ENCRYPT})
READER_ROLES = frozenset({Role.DECRYPT, Role.VERIFY})
"""Roles in which our system reads and the partner writes."""
WRITER_ROLES = frozenset({Role.SIGN, Role.ENCRYPT})
"""Roles in which our system writes and the partner reads."""


class Capacity(StrEnum):
    """How many certificates the readers of a side can hold at the same time."""

    ONE = "one"
    SEVERAL = "several"
    UNKNOWN = "unknown"

    @property
    def fits_both(self) -> bool:
        """Whether there is room for the old and the new certificate; unknown counts as one."""
        return self is Capacity.SEVERAL


class StepOwner(StrEnum):
    """The side that has to do a step."""

    WE = "we"
    PARTNER = "partner"


class Act(StrEnum):
    """The kinds of steps, in the order of a plan."""

    CHECK = "check"
    STAGE = "stage"
    ANNOUNCE = "announce"
    INSTALL = "install"
    AGREE = "agree"
    HOLD = "hold"
    CUT_OVER = "cut_over"
    PARTNER_CUT_OVER = "partner_cut_over"
    TEST = "test"
    RELEASE = "release"
    PARTNER_RETIRE = "partner_retire"
    RETIRE = "retire"


CHECK_ACTS = frozenset({Act.CHECK})
"""Acts that are required even in an emergency: a certificate that nobody compared could be the intruder's."""
PREPARATION_ACTS = frozenset({Act.CHECK, Act.STAGE, Act.ANNOUNCE, Act.INSTALL, Act.AGREE})
"""Acts that have to be done or skipped before a rotation is scheduled."""
SWITCH_ACTS = frozenset({Act.CUT_OVER, Act.PARTNER_CUT_OVER})
"""Acts that switch writers, and readers with room for one certificate."""


class StepEvidence(StrEnum):
    """What can prove that a step is done."""

    WRITTEN_AND_READ_BACK = "written_and_read_back"
    SENT = "sent"
    FINGERPRINT = "fingerprint"
    WORD = "word"
    AGREED_WINDOW = "agreed_window"
    TEST_MESSAGE = "test_message"
    INBOUND_MESSAGE = "inbound_message"
    TIME_PASSED = "time_passed"
    OPERATOR = "operator"


WEAK_EVIDENCE = frozenset({StepEvidence.SENT, StepEvidence.WORD})
"""Evidence that proves little: neither a sent mail nor a click is an installed certificate."""


class Move(StrEnum):
    """How a step changes the certificates at one place."""

    ADD = "add"
    SWITCH = "switch"
    REPLACE = "replace"
    DROP = "drop"


def our_side(system: str) -> str:
    """Return the side (`Effect.at`) of our AS2 system with this key."""
    return f"us:{system}"


def our_side_to(system: str, party: str) -> str:
    """Return our side towards one partner, if the AS2 system selects the signing certificate per partner."""
    return f"us:{system}>{party}"


def partner_side(party: str) -> str:
    """Return the side (`Effect.at`) of the partner with this key."""
    return f"partner:{party}"


@dataclass(frozen=True)
class Effect:
    """A change of the certificates at one place.

    A place is a side and a role: the role is the use of the certificate in our inventory, the side is who uses it. So
    `sign` at "us:…" is our signing, and `sign` at "partner:…" is the partner's verifying of our signatures. If a system
    signs per partner, `sign` at "us:s1>p1" is our signing to that one partner, and `sign` at "us:s1" the default for
    partners without a choice of their own. When the default switches, all choices per partner end.
    """

    at: str
    role: Role
    move: Move

    @property
    def place(self) -> str:
        """The place as one word, such as "partner:7/sign"."""
        return f"{self.at}/{self.role}"

    @property
    def reads(self) -> bool:
        """Whether the place is a reader, which can hold several certificates; a writer uses exactly one."""
        return (self.role in READER_ROLES) == self.at.startswith("us:")


@dataclass(frozen=True)
class System:
    """An AS2 system of ours; unless `automatic`, it has no connector, and a person carries its steps out.

    A `dated` system switches by itself at a date that is entered beforehand. `drain` is how long after a change late
    messages may still arrive: the time-out of asynchronous MDNs and all retries. `lead` is how long before the agreed
    moment a cut-over is written, since the system uses it only so much later; `unstaged_lead` where no step has stored
    the certificate before.
    """

    key: str
    name: str
    holds: Capacity
    signs_per_partner: bool = False
    automatic: bool = True
    dated: bool = False
    drain: timedelta = timedelta(0)
    lead: timedelta = timedelta(0)
    unstaged_lead: timedelta = timedelta(0)


@dataclass(frozen=True)
class Party:
    """A partner that takes part in the change. `starts` to `ends` is its own moment; without them, the change's window.

    A moment of its own counts only where our signing changes for each partner by itself (`Change.per_partner`).
    """

    key: str
    name: str
    holds: Capacity
    starts: datetime | None = None
    ends: datetime | None = None


@dataclass(frozen=True)
class CertificateChange:
    """The replacement of one certificate by another, with all systems and partners that are affected.

    Side "own": exactly one system, any number of parties. Side "partner": exactly one party, and every system
    of ours that trades with it. `starts` to `ends` is the agreed window, `now` the time of planning.

    In a `fuzzy` window the time of the cut-over is not fixed: both certificates are accepted throughout, and we switch
    at the first evidence or on an operator's decision, at the latest just before the end.

    In a `phased` change each partner changes when it is ready, from `starts` until `ends`: our signing changes for it
    as soon as it has confirmed, whatever the others do. A party with room for one certificate needs its own moment.

    In an `emergency` the old key may be compromised: there is no overlap and no waiting, since messages that are still
    signed with the old certificate or encrypted to it do more harm than messages that fail.
    """

    side: Literal["own", "partner"]
    roles: frozenset[Role]
    systems: tuple[System, ...]
    parties: tuple[Party, ...]
    starts: datetime
    ends: datetime
    now: datetime
    grace: timedelta = DEFAULT_GRACE
    emergency: bool = False
    fuzzy: bool = False
    phased: bool = False
    old_name: str = "the old certificate"
    new_name: str = "the new certificate"
    holder_name: str = ""

    def lead_of(self, system: System) -> timedelta:
        """Return how long before the agreed moment a cut-over of a system is written."""
        staged = self.read_by_us and system.holds.fits_both and not self.emergency
        return system.lead if staged else system.unstaged_lead

    @property
    def read_by_us(self) -> frozenset[Role]:
        """The changing roles in which our systems read and the partners write."""
        return self.roles & READER_ROLES

    @property
    def read_by_them(self) -> frozenset[Role]:
        """The changing roles in which our systems write and the partners read."""
        return self.roles & WRITER_ROLES

    @property
    def per_partner(self) -> bool:
        """Whether our signing switches for each partner separately, and the default last.

        The AS2 system has to support it. If the same certificate also decrypts and the system has room for one, all
        partners have to switch together: when it is replaced, everybody has to encrypt to the new one. A partner with
        one slot switches verifying and encrypting together, so our signing to it has to switch then; and our system
        switches both of its roles together, so it can't sign with the new certificate before.
        """
        decrypts_with_one = Role.DECRYPT in self.roles and any(not s.holds.fits_both for s in self.systems)
        able = all(system.signs_per_partner for system in self.systems)
        signs = Role.SIGN in self.roles and bool(self.parties)
        return signs and able and not decrypts_with_one and not self.emergency

    def window_of(self, party: Party) -> tuple[datetime, datetime]:
        """Return the window in which we switch for a partner: its own, else that of the change."""
        if self.per_partner and party.starts is not None and party.ends is not None:
            return party.starts, party.ends
        return self.starts, self.ends

    def changes_when_ready(self, party: Party | None) -> bool:
        """Return whether a partner changes when it is ready; with its own moment, or without a party, it does not."""
        return self.phased and not self.emergency and party is not None and party.starts is None

    @property
    def windows(self) -> list[tuple[datetime, datetime]]:
        """The windows of all parties; without parties, the window of the change."""
        return [self.window_of(party) for party in self.parties] or [(self.starts, self.ends)]

    @property
    def first_start(self) -> datetime:
        """When the first window opens."""
        return min(starts for starts, _ in self.windows)

    @property
    def last_start(self) -> datetime:
        """When the last window opens."""
        return max(starts for starts, _ in self.windows)

    @property
    def last_end(self) -> datetime:
        """When the last window ends."""
        return max(ends for _, ends in self.windows)


@dataclass(frozen=True)
class PlannedStep:
    """A step that one side carries out.

    `due` is set for steps that a worker carries out (`automatic`), and None for those that wait for a person or for
    evidence. A cut-over takes effect from `earliest` on, and is due its system's lead before that. `after` has the
    keys of the steps to be done or skipped first; the step is carried out no earlier than `wait` after the last of
    them. A `simultaneous` step is carried out together with the other simultaneous steps of the plan, in the window.
    Any one of `evidence` proves that it is done.
    """

    key: str
    who: StepOwner
    act: Act
    roles: tuple[Role, ...]
    system: str | None
    partner: str | None
    earliest: datetime | None
    latest: datetime | None
    due: datetime | None
    automatic: bool
    simultaneous: bool
    after: tuple[str, ...]
    evidence: tuple[StepEvidence, ...]
    effects: tuple[Effect, ...]
    title: str
    why: str
    wait: timedelta = timedelta(0)

    @property
    def at(self) -> str:
        """The side (`Effect.at`) that the step is carried out on."""
        if self.system and self.partner:
            return our_side_to(self.system, self.partner)
        return our_side(self.system) if self.system else partner_side(self.partner or "")


def sort_roles(roles: Collection[Role]) -> tuple[Role, ...]:
    """Return roles in the order of `Role`."""
    return tuple(role for role in Role if role in roles)


CHANGE_LETTERS = {
    frozenset({Role.SIGN}): "A",
    frozenset({Role.DECRYPT}): "B",
    frozenset({Role.SIGN, Role.DECRYPT}): "C",
    frozenset({Role.VERIFY}): "D",
    frozenset({Role.ENCRYPT}): "E",
    frozenset({Role.VERIFY, Role.ENCRYPT}): "F",
}


def change_letter(change: CertificateChange) -> str:
    """Return which of the six changes this is, "A" to "F". Raises PlanError for other combinations of roles."""
    try:
        return CHANGE_LETTERS[change.roles]
    except KeyError:
        found = ", ".join(sorted(change.roles)) or "none"
        raise PlanError(
            f"These roles can't change together: {found}. Choose sign, decrypt or both for an identity; "
            "verify, encrypt or both for a partner."
        ) from None


def validate_change(change: CertificateChange) -> None:
    """Raise PlanError, with the reason and what to do, if a change contradicts itself."""
    change_letter(change)
    own = change.side == "own"
    if not change.roles <= (OWN_ROLES if own else PARTNER_ROLES):
        raise PlanError(
            f"The side is {change.side!r}, but the roles belong to the other one: "
            f"{', '.join(sort_roles(change.roles))}. Plan one side's certificate at a time."
        )
    if own and len(change.systems) != 1:
        raise PlanError(
            f"Our certificate lives in exactly one AS2 system, but {len(change.systems)} were given. "
            "Plan one rotation for each."
        )
    if not own and (len(change.parties) != 1 or not change.systems):
        raise PlanError(
            "A partner's certificate needs exactly one partner and at least one AS2 system of ours; "
            f"{len(change.parties)} and {len(change.systems)} were given."
        )
    sides: list[System | Party] = [*change.systems, *change.parties]
    narrow = [side.name for side in sides if not side.holds.fits_both]
    if change.fuzzy and narrow and change.parties and not change.emergency:
        raise PlanError(
            f"Without a fixed moment both sides have to accept both certificates throughout the window, and "
            f"{', '.join(narrow[:4])}{' and others' if len(narrow) > 4 else ''} can hold one only, or it is not known. "
            "Choose a fixed moment, or find out what they can hold."
        )
    if change.phased and not change.emergency:
        obstacle = phased_obstacle(change.side, change.roles, change.systems, change.parties)
        if obstacle:
            raise PlanError(obstacle)
    for what, keys in (
        ("AS2 system", [s.key for s in change.systems]),
        ("partner", [p.key for p in change.parties]),
    ):
        if len(set(keys)) != len(keys) or not all(keys):
            raise PlanError(f"Each {what} needs a key of its own; these were given: {', '.join(map(repr, keys))}.")
    moments = [change.now, *(moment for window in change.windows for moment in window)]
    if any(moment.utcoffset() is None for moment in (change.starts, change.ends, *moments)):
        raise PlanError("The window and the moment of planning need a time zone; give them in UTC.")
    if change.ends <= change.starts or any(ends <= starts for starts, ends in change.windows):
        raise PlanError("The window ends before it starts, or at once. Choose a later end.")
    if change.last_end <= change.now:
        raise PlanError("The window is over. Choose a later one.")
    for party in change.parties:
        if (party.starts is None) != (party.ends is None):
            raise PlanError(f"The own moment of {party.name} lacks its beginning or its end; give both, or none.")
    if change.grace < timedelta(0):
        raise PlanError("The old certificate can't leave before the window is over: the grace is negative.")


PHASED = "Each partner when it is ready"


def phased_obstacle(
    side: Literal["own", "partner"], roles: Collection[Role], systems: Collection[System], parties: Collection[Party]
) -> str:
    """Return why partners can't change one by one, when each is ready, and what to do; empty if they can.

    Our signing has to change for each partner by itself, and every reader has to hold both certificates meanwhile.
    """
    instead = "or choose another way to switch."
    if side != "own" or Role.SIGN not in roles:
        return f"“{PHASED}” is for a certificate that we sign with, and this one does not sign. Choose another way."
    if not parties:
        return f"“{PHASED}” needs partners, and none takes part. Choose another way to switch."
    for system in systems:
        if not system.signs_per_partner:
            return (
                f"“{PHASED}” needs an AS2 system that selects the signing certificate per partner, and {system.name} "
                f"is not recorded as one. Record it at the AS2 system if it is, {instead}"
            )
        if Role.DECRYPT in roles and not system.holds.fits_both:
            return (
                f"“{PHASED}” needs an AS2 system that decrypts with both certificates, and {system.name} holds one, "
                f"or it is not known. Record at the AS2 system that it holds several if it does, {instead}"
            )
    narrow = [party.name for party in parties if not party.holds.fits_both and party.starts is None]
    if narrow:
        named = f"{', '.join(narrow[:4])}{' and others' if len(narrow) > 4 else ''}"
        return (
            f"“{PHASED}” needs partners that hold the old and the new certificate at once. {named} can hold one only, "
            "or it is not known: such a partner switches together with us, at a moment of its own. Record at the "
            f"partner what its system holds, {instead}"
        )
    return ""
