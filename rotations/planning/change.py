"""What a plan is made of: the change that is asked for, and the steps that carry it out.

Pure values without Django, I/O or a clock. All datetimes are aware and in UTC.
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Literal

from rotations.errors import PlanError

DEFAULT_GRACE = timedelta(days=14)
"""How long readers keep the old certificate after the window, so that late MDNs and retries have drained."""


class Role(StrEnum):
    """A use of a certificate, named from our inventory: two of our own, two of the partner's."""

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
    """How many certificates the readers of a side accept at the same time."""

    ONE = "one"
    SEVERAL = "several"
    UNKNOWN = "unknown"

    @property
    def both(self) -> bool:
        """Say whether the old and the new fit beside each other; unknown counts as one."""
        return self is Capacity.SEVERAL


class StepOwner(StrEnum):
    """Whose hands a step needs."""

    WE = "we"
    PARTNER = "partner"


class Act(StrEnum):
    """What is done in a step, in the order in which a runbook lists it."""

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
"""What is waited for even in an emergency: a certificate that nobody compared could be the intruder's own."""
PREPARATION_ACTS = frozenset({Act.CHECK, Act.STAGE, Act.ANNOUNCE, Act.INSTALL, Act.AGREE})
"""Acts that are all done or skipped before a rotation counts as scheduled."""
SWITCH_ACTS = frozenset({Act.CUT_OVER, Act.PARTNER_CUT_OVER})
"""Acts that move writers, and with them the readers that hold one."""


class StepEvidence(StrEnum):
    """What may show that a step is done."""

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
"""Evidence that says less than it seems to: "sent" is not "installed", nor is a click."""


class Move(StrEnum):
    """What a step does to one place that picks a certificate."""

    ADD = "add"
    SWITCH = "switch"
    REPLACE = "replace"
    DROP = "drop"


def our_side(system: str) -> str:
    """Name the side of ours that the AS2 system with this key is, as `Effect.at` spells it."""
    return f"us:{system}"


def our_side_to(system: str, party: str) -> str:
    """Name our side towards one partner alone, where the AS2 system signs for each with a certificate of its own."""
    return f"us:{system}>{party}"


def partner_side(party: str) -> str:
    """Name the side that the partner with this key is, as `Effect.at` spells it."""
    return f"partner:{party}"


@dataclass(frozen=True)
class Effect:
    """One place that picks a certificate, and what happens to its choice.

    The place is side and role together: the role says whose certificate changes and for what, the side says
    who uses it. So `sign` at "us:…" is our signing, `sign` at "partner:…" is the partner's verifying of it. Where a
    system signs per partner, `sign` at "us:s1>p1" is our signing to that one partner, and `sign` at "us:s1" the
    default: what signs for all who have no choice of their own. When the default switches, all choices end with it.
    """

    at: str
    role: Role
    move: Move

    @property
    def place(self) -> str:
        """Spell the place as one word, such as "partner:7/sign"."""
        return f"{self.at}/{self.role}"

    @property
    def reads(self) -> bool:
        """Say whether the place is a reader, which may hold several, and not a writer, which holds one."""
        return (self.role in READER_ROLES) == self.at.startswith("us:")


@dataclass(frozen=True)
class System:
    """An AS2 system of ours; with `automatic` off it has no connector, and a person carries its steps out.

    `dated`: it takes over a certificate by itself at a date that is entered beforehand. `drain` is how long after a
    change late messages may still come: the time-out of asynchronous MDNs and all retries.
    """

    key: str
    name: str
    holds: Capacity
    signs_per_partner: bool = False
    automatic: bool = True
    dated: bool = False
    drain: timedelta = timedelta(0)


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
    """One certificate that gives way to another, and everybody whom that touches.

    Side "own": exactly one system, any number of parties. Side "partner": exactly one party, and every system
    of ours that trades with it. `starts` to `ends` is the agreed window, `now` the moment of planning.

    In a `fuzzy` window the moment is not known before: both certificates are accepted throughout, and our cut-over
    is made at the first evidence or on somebody's word, at the latest just before the end.

    In an `emergency` the old key may be known to somebody else: nothing overlaps and nobody is waited for, since
    what is still signed with the old certificate or encrypted to it does more harm than a message that fails.
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
    old_name: str = "the old certificate"
    new_name: str = "the new certificate"
    holder_name: str = ""

    @property
    def read_by_us(self) -> frozenset[Role]:
        """Give the changing roles in which our systems read and the partners write."""
        return self.roles & READER_ROLES

    @property
    def read_by_them(self) -> frozenset[Role]:
        """Give the changing roles in which our systems write and the partners read."""
        return self.roles & WRITER_ROLES

    @property
    def per_partner(self) -> bool:
        """Say whether our signing changes for each partner by itself, and for nobody in particular last.

        The AS2 system has to be able to. It is of no use where the same certificate also decrypts and the system has
        room for one: at the moment at which that is replaced, everybody has to encrypt to the new one. A partner with
        one slot flips verifying and encrypting with one save, so our signing to it belongs to that same moment; and a
        system that holds one single certificate flips its own two roles with one save, so it can't sign with the new
        one before. Such a change has one moment for all, whatever the system could sign with.
        """
        decrypts_with_one = Role.DECRYPT in self.roles and any(not s.holds.both for s in self.systems)
        able = all(system.signs_per_partner for system in self.systems)
        one_by_one = Role.SIGN in self.roles and bool(self.parties) and able and not decrypts_with_one
        return one_by_one and not self.emergency

    def window_of(self, party: Party) -> tuple[datetime, datetime]:
        """Give the window in which we change over towards a partner: its own moment, or else everybody's."""
        if self.per_partner and party.starts is not None and party.ends is not None:
            return party.starts, party.ends
        return self.starts, self.ends

    @property
    def windows(self) -> list[tuple[datetime, datetime]]:
        """List the windows of all parties; where there are none, the window of the change."""
        return [self.window_of(party) for party in self.parties] or [(self.starts, self.ends)]

    @property
    def first_start(self) -> datetime:
        """Give the moment before which nothing that waits for a window may happen."""
        return min(starts for starts, _ in self.windows)

    @property
    def last_start(self) -> datetime:
        """Give the moment at which the last window opens."""
        return max(starts for starts, _ in self.windows)

    @property
    def last_end(self) -> datetime:
        """Give the moment at which the last window is over."""
        return max(ends for _, ends in self.windows)


@dataclass(frozen=True)
class PlannedStep:
    """One thing that one side does.

    `due` is set where the step carries itself out (`automatic`), and None where it waits for a person or for
    evidence. `after` names the steps that are done or skipped first; the step comes no earlier than `wait` after the
    last of them. A `simultaneous` step happens together
    with the other simultaneous ones of the plan, inside the window. Any one of `evidence` shows that it is
    done.
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
        """Name the side that whoever does the step has in hand, as `Effect.at` spells it."""
        if self.system and self.partner:
            return our_side_to(self.system, self.partner)
        return our_side(self.system) if self.system else partner_side(self.partner or "")


def sort_roles(roles: Collection[Role]) -> tuple[Role, ...]:
    """Sort roles as `Role` lists them."""
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
    """Name which of the six changes this is, "A" to "F".

    Raises PlanError when the roles are none of the six.
    """
    try:
        return CHANGE_LETTERS[change.roles]
    except KeyError:
        found = ", ".join(sorted(change.roles)) or "none"
        raise PlanError(
            f"These roles can't change together: {found}. Choose sign, decrypt or both for an identity; "
            "verify, encrypt or both for a partner."
        ) from None


def validate_change(change: CertificateChange) -> None:
    """Refuse a change that contradicts itself: raises PlanError with the reason and what to do."""
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
    narrow = [side.name for side in sides if not side.holds.both]
    if change.fuzzy and narrow and change.parties and not change.emergency:
        raise PlanError(
            f"Without a fixed moment both sides have to accept both certificates throughout the window, and "
            f"{', '.join(narrow[:4])}{' and others' if len(narrow) > 4 else ''} can hold one only, or it is not known. "
            "Choose a fixed moment, or find out what they can hold."
        )
    for what, keys in (
        ("AS2 system", [s.key for s in change.systems]),
        ("partner", [p.key for p in change.parties]),
    ):
        if len(set(keys)) != len(keys) or not all(keys):
            raise PlanError(
                f"Each {what} needs a key of its own; these were given: {', '.join(map(repr, keys))}."
            )
    moments = [change.now, *(moment for window in change.windows for moment in window)]
    if any(moment.utcoffset() is None for moment in (change.starts, change.ends, *moments)):
        raise PlanError("The window and the moment of planning need a time zone; give them in UTC.")
    if change.ends <= change.starts or any(ends <= starts for starts, ends in change.windows):
        raise PlanError("The window ends before it starts, or at once. Choose a later end.")
    if change.last_end <= change.now:
        raise PlanError("The window is over. Choose a later one.")
    for party in change.parties:
        if (party.starts is None) != (party.ends is None):
            raise PlanError(
                f"The own moment of {party.name} lacks its beginning or its end; give both, or none."
            )
    if change.grace < timedelta(0):
        raise PlanError("The old certificate can't leave before the window is over: the grace is negative.")
