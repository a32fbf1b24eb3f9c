"""The interface of connectors: a change of one station's certificates in an AS2 system, and its result."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from as2certs.pki import PrivateKey

MOVES = frozenset({"add", "switch", "replace", "drop"})
"""What a change does in a role: `add` accepts the new certificate too, `drop` removes the old one; see
`rotations.planning.change`."""

ROLES: Mapping[str, tuple[str, ...]] = {"own": ("decrypt", "sign"), "partner": ("verify", "encrypt")}
"""The roles of a station on each side, readers first."""

_ROLE = re.compile(r"[a-z][a-z_]{0,30}")


class ConnectorError(Exception):
    """The AS2 system can't be read; the message is one sentence that says what is wrong and what to do."""


class ConnectorUnreachable(ConnectorError):
    """The AS2 system does not answer: nothing was changed. `wait` is the pause that it asked for, None if none."""

    def __init__(self, message: str, wait: timedelta | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class ConnectorOutcome(StrEnum):
    """The outcome of a call. After `UNKNOWN`, the system is read before it is written to again."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    REJECTED = "rejected"
    RETRYABLE = "retryable"
    UNREACHABLE = "unreachable"
    """The system does not answer: nothing was changed, and other changes of it need not be tried."""
    UNKNOWN = "unknown"
    PENDING = "pending"
    """Stored, but the system does not use it yet: it is asked again later, and nothing is written again."""

    @property
    def good(self) -> bool:
        """Return whether the change is in force."""
        return self in (ConnectorOutcome.APPLIED, ConnectorOutcome.ALREADY_APPLIED)


class ConnectorState(StrEnum):
    """The state of a system in relation to a change."""

    OLD = "old"
    """Before the change."""
    NEW = "new"
    """After the change."""
    STORED = "stored"
    """After the change, but the system answered that it does not use it yet."""
    PARTLY = "partly"
    """Started and not finished: applying it again continues."""
    EMPTY = "empty"
    """No certificates in these roles yet."""
    DRIFT = "drift"
    """Another certificate, which somebody else installed: a person decides."""


@dataclass(frozen=True)
class ConnectorResult:
    """The outcome of a call, with one sentence for the operator.

    `in_use` is set if the system itself answered that it uses the change; without it, the change is stored. With
    `PENDING`, `wait` says after how long something can be expected, with `RETRYABLE` and `UNREACHABLE` for which pause
    the system asked: it is not asked before. `is_undone` says that a stored change was taken back.
    """

    outcome: ConnectorOutcome
    message: str
    in_use: bool = False
    wait: timedelta | None = None
    is_undone: bool = False


@dataclass(frozen=True)
class Lead:
    """How long before the agreed moment a cut-over is begun, since the system uses what is stored only so much later.

    `staged` is for a certificate that an earlier step has stored already, `unstaged` for one that comes with it.
    """

    staged: timedelta = timedelta(0)
    unstaged: timedelta = timedelta(0)


@dataclass(frozen=True)
class InstallableCertificate:
    """A certificate as connectors install it.

    `sha256` is the fingerprint of the DER as 64 lowercase hex digits, the dates are aware and in UTC. `key` unseals the
    private key and is called by a connector only when it writes the key; it is None for a partner's certificate.
    """

    certificate_pem: bytes
    chain_pem: bytes
    sha256: str
    serial: int
    not_before: datetime
    not_after: datetime
    key: Callable[[], PrivateKey] | None = field(default=None, repr=False)


@dataclass(frozen=True)
class ConnectorChange:
    """The change that one step makes for one station in one AS2 system.

    `operation` is the idempotency key, the same whenever the change is applied again. `moves` has one of `MOVES` for
    each role. `partner` is the AS2 ID of the only partner for whom the signing certificate changes; if it is empty, the
    change is for all partners, and choices for single partners end. A system that uses what is written with a delay
    aims at the agreed moment, `active_at` (UTC); None is at once. `reading` has the SHA-256 of the certificates that
    the station's reader has by the inventory, empty if that is not known. Raises ValueError for an invalid change.
    """

    operation: str
    side: Literal["own", "partner"]
    as2_id: str
    moves: Mapping[str, str]
    old: InstallableCertificate | None
    new: InstallableCertificate
    partner: str = ""
    active_at: datetime | None = None
    reading: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        _check_station(self.operation, self.side, self.as2_id)
        if not self.partner.isprintable():
            raise ValueError("The AS2 ID of the partner of a change has printable characters only.")
        if self.partner and (self.side != "own" or set(self.moves.values()) != {"switch"}):
            raise ValueError("For one partner alone, only what we write with can switch.")
        if not self.moves or not set(self.moves.values()) <= MOVES:
            raise ValueError(f"Each role of a change has a move out of {', '.join(sorted(MOVES))}.")
        if not all(_ROLE.fullmatch(role) for role in self.moves):
            raise ValueError(f"A role is a word in small letters, not one of {', '.join(map(repr, self.moves))}.")


@dataclass(frozen=True)
class Baseline:
    """The certificates in use at one station by the inventory, which are compared with what its AS2 system uses.

    `roles` has the certificates of each role: the one in use, and after it those that are accepted too. `choices` has
    the certificates that sign for one partner alone, by the partner's AS2 ID. Raises ValueError for an invalid one.
    """

    operation: str
    side: Literal["own", "partner"]
    as2_id: str
    roles: Mapping[str, tuple[InstallableCertificate, ...]]
    choices: Mapping[str, InstallableCertificate] = field(default_factory=dict)

    def __post_init__(self) -> None:
        _check_station(self.operation, self.side, self.as2_id)
        if not self.roles or not all(self.roles.values()) or not set(self.roles) <= set(ROLES[self.side]):
            raise ValueError(f"A baseline has certificates for roles out of {', '.join(ROLES[self.side])}.")
        if self.choices and self.side != "own":
            raise ValueError("Only an identity has certificates that sign for one partner alone.")
        if not all(partner and partner.isprintable() for partner in self.choices):
            raise ValueError("The AS2 ID of a partner has printable characters only.")


def _check_station(operation: str, side: str, as2_id: str) -> None:
    """Raise ValueError unless these name an operation on a station."""
    if not operation:
        raise ValueError("A change needs an operation: its idempotency key.")
    if side not in ROLES:
        raise ValueError(f"A change is on the side own or partner, not {side!r}.")
    if not as2_id or not as2_id.isprintable():
        raise ValueError("A change needs the station's AS2 ID, in printable characters.")


@dataclass(frozen=True)
class HeldCertificates:
    """The certificates in one role of a system, as SHA-256 in hex: the one in use, and others that are accepted too."""

    current: str | None
    beside: tuple[str, ...] = ()


@dataclass(frozen=True)
class RoleUse:
    """The certificates that a system uses in one role, as SHA-256 in hex; with `partner`, those for it alone.

    `where` names the source in sentences, such as "OpenAS2". What reads may have several certificates.
    """

    where: str
    role: str
    in_use: frozenset[str]
    partner: str = ""


@dataclass(frozen=True)
class StationUse:
    """What a system uses at one station, and the certificates (DER) that it shows, by their SHA-256 in hex."""

    roles: tuple[RoleUse, ...]
    certificates: Mapping[str, bytes] = field(default_factory=dict, repr=False)


@runtime_checkable
class BaselineWriter(Protocol):
    """A connector whose system needs the certificates in use written down before the first change."""

    def write_baseline(self, baseline: Baseline) -> ConnectorResult:
        """Write the certificates in use where the system has none; reject the baseline if it has others."""
        ...


def baseline_writer(connector: object) -> BaselineWriter | None:
    """Return a connector that writes baselines, None for another."""
    return connector if isinstance(connector, BaselineWriter) else None


class Connector(Protocol):
    """A connector to one AS2 system.

    Retiring is a change whose moves are `drop`, a rollback is the reverse change. `used`, `read`, `state` and
    `checkpoint` raise ConnectorError if the system can't be read; the other methods return a ConnectorResult whatever
    happens. One that writes certificates before the first change is a `BaselineWriter` too.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    summary: ClassVar[str]
    """How changes get to the system, as a sentence for its page."""
    signs_per_partner: ClassVar[bool]
    """Whether it can apply a change for one partner alone."""
    sends_keys: ClassVar[bool]
    """Whether private keys of our certificates get to the system by it; else a person takes them there first."""
    holds_two: ClassVar[bool]
    """Whether the system can accept the old certificate beside the new one; else a change replaces it."""

    @property
    def shows_use(self) -> bool:
        """Whether the system can be asked if it uses a change; else a change is only known to be stored."""
        ...

    @classmethod
    def from_settings(cls, config: Mapping[str, Any], settings: Any, credentials: Mapping[str, str]) -> Connector:
        """Return the connector for a system's `config`, with the server's settings. Raises ConnectorError.

        `credentials` are the passwords of the system, by the name of their field in its form.
        """
        ...

    @classmethod
    def lead(cls, config: Mapping[str, Any]) -> Lead:
        """Return how long before the agreed moment a cut-over of a system with this `config` is begun."""
        ...

    @classmethod
    def repetition(cls, config: Mapping[str, Any]) -> str:
        """Return what `repeat` does with a system of this `config`, as a sentence; "" if there is nothing to repeat."""
        ...

    def used(self, baseline: Baseline) -> StationUse:
        """Return what the system uses in the roles of a baseline, without changing anything."""
        ...

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Return the certificates in each role of the change."""
        ...

    def state(self, change: ConnectorChange) -> ConnectorState:
        """Return the state of the system in relation to the change."""
        ...

    def difference(self, change: ConnectorChange) -> Sequence[str]:
        """Return what applying a change would alter beyond the roles, as lines in the system's own words.

        Nothing is changed. Empty if the roles say it all. Raises ConnectorError if the system can't be read, or would
        refuse the change.
        """
        ...

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Return the state before the change as JSON without secrets, for people: no code reads it."""
        ...

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Apply the change, once per operation; after a failure the old certificate is still in force."""
        ...

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read the system, compare it with the change, and ask whether it is used, as far as the system shows that."""
        ...

    def repeat(self, change: ConnectorChange) -> ConnectorResult:
        """Notify the system of a change that is stored, once more; reject it if something else is stored since."""
        ...

    def check(self) -> ConnectorResult:
        """Check that the system can be reached and written to, without changing it."""
        ...
