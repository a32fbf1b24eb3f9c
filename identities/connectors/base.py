"""What every connector speaks: a change to one station's certificates, and what came of it.

Plain values, no models: a connector knows one AS2 system and nothing of rotations, people or the database.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

if TYPE_CHECKING:
    from as2certs.pki import PrivateKey

MOVES = frozenset({"add", "switch", "replace", "drop"})
"""What can happen in a role: `add` accepts the new beside the old, `drop` lets the old go; see
`rotations.planning.change`."""

SIDES = frozenset({"own", "partner"})

_ROLE = re.compile(r"[a-z][a-z_]{0,30}")


class ConnectorError(Exception):
    """The AS2 system can't be asked; the message is one sentence that says what is wrong and what to do."""


class ConnectorOutcome(StrEnum):
    """What came of a call. After `UNKNOWN` the system is read, never written to at once."""

    APPLIED = "applied"
    ALREADY_APPLIED = "already_applied"
    REJECTED = "rejected"
    RETRYABLE = "retryable"
    UNREACHABLE = "unreachable"
    """The whole system does not answer just now: nothing was changed, and other changes need not be tried either."""
    UNKNOWN = "unknown"

    @property
    def good(self) -> bool:
        """Say whether what was asked for is so now."""
        return self in (ConnectorOutcome.APPLIED, ConnectorOutcome.ALREADY_APPLIED)


class ConnectorState(StrEnum):
    """Where a system stands in relation to one change."""

    OLD = "old"
    """As before the change."""
    NEW = "new"
    """As after it."""
    PARTLY = "partly"
    """Begun and not finished: applying goes on."""
    EMPTY = "empty"
    """It holds nothing for these roles yet."""
    DRIFT = "drift"
    """It holds something else, which somebody else put there: a person decides."""


@dataclass(frozen=True)
class ConnectorResult:
    """The outcome of a call, and one sentence that a person can act on."""

    outcome: ConnectorOutcome
    message: str


@dataclass(frozen=True)
class InstallableCertificate:
    """One certificate, as an AS2 system needs it.

    `sha256` is 64 lowercase hex digits over the DER, the dates are aware and in UTC. `key` opens the private key and
    is called inside a connector's call only; it is None for a partner's certificate.
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
    """What one step changes for one station in one AS2 system.

    `operation` is the idempotency key: the same change carries the same one each time. `moves` says for each role
    what happens in it. `partner` is the AS2 ID of the one partner for whom our writer changes; empty, it changes for
    everybody, and what was chosen for single partners ends with it. Raises ValueError when it can't be a change.
    """

    operation: str
    side: Literal["own", "partner"]
    as2_id: str
    moves: Mapping[str, str]
    old: InstallableCertificate | None
    new: InstallableCertificate
    partner: str = ""

    def __post_init__(self) -> None:
        if not self.operation:
            raise ValueError("A change needs an operation: its idempotency key.")
        if self.side not in SIDES:
            raise ValueError(f"A change is on the side own or partner, not {self.side!r}.")
        if not self.as2_id or not self.as2_id.isprintable():
            raise ValueError("A change needs the station's AS2 ID, in printable characters.")
        if not self.partner.isprintable():
            raise ValueError("The AS2 ID of the partner of a change has printable characters only.")
        if self.partner and (self.side != "own" or set(self.moves.values()) != {"switch"}):
            raise ValueError("For one partner alone, only what we write with can switch.")
        if not self.moves or not set(self.moves.values()) <= MOVES:
            raise ValueError(f"Each role of a change has a move out of {', '.join(sorted(MOVES))}.")
        if not all(_ROLE.fullmatch(role) for role in self.moves):
            raise ValueError(
                f"A role is a word in small letters, not one of {', '.join(map(repr, self.moves))}."
            )


@dataclass(frozen=True)
class HeldCertificates:
    """What a system holds in one role, as SHA-256 in hex: the one it uses first, and others that it still accepts."""

    current: str | None
    beside: tuple[str, ...] = ()


class Connector(Protocol):
    """A way to one kind of AS2 system.

    There is no way back of its own: going back is the same change the other way round.
    `read`, `standing` and `checkpoint` raise ConnectorError when the system can't be asked. The others answer with a
    Result whatever happens to the system.
    """

    kind: ClassVar[str]
    label: ClassVar[str]
    automatic: ClassVar[bool]
    signs_per_partner: ClassVar[bool]
    """Whether it can make a change for one partner alone; without, such a change is never asked of it."""

    def read(self, change: ConnectorChange) -> Mapping[str, HeldCertificates]:
        """Say what the system holds in each role of the change."""
        ...

    def standing(self, change: ConnectorChange) -> ConnectorState:
        """Say where the system stands in relation to the change."""
        ...

    def checkpoint(self, change: ConnectorChange) -> dict[str, Any]:
        """Note the state before the change, as JSON and without a secret: for people, nothing reads it again."""
        ...

    def apply(self, change: ConnectorChange) -> ConnectorResult:
        """Make the change: once per operation, and on failure with the old certificate in force."""
        ...

    def verify(self, change: ConnectorChange) -> ConnectorResult:
        """Read back and compare with what the change asked for."""
        ...

    def check(self) -> ConnectorResult:
        """Say whether the system can be reached and written to, without changing anything there."""
        ...
