"""How people, partners and workers carry a plan out: as it asks for, or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rotations.planning.change import Act, Role

OPERATOR_DELAY = timedelta(minutes=5)
"""How long our own people take for a step that they may begin."""
OPEN_ENDED_TIME = timedelta(days=1)
"""The time in which a step without a last moment is done."""


@dataclass(frozen=True)
class PartnerBehaviour:
    """How one partner keeps to a plan. As it stands, it does everything in the time that the plan leaves it.

    `shifts` holds acts that it does by its own clock, whatever they should have waited for: that much before the
    first moment that the plan allows it, or after the last one. It never uses a certificate of ours before we sent
    it. `never` holds acts that it does not do at all. With `says_so`, it tells us in time that a shifted or omitted
    act is done; a participant that was waived comes to the same.

    `roles` limits what it installs to these roles of the change, while it believes itself done. With `replaces`, it
    has room for one certificate although we noted several. With `forgets_mdns`, it installs our signing certificate
    for messages but not for MDNs. With `pauses`, it sends nothing from an hour before the window until the tests
    with it have passed. `lag` is how long after the agreed moment it makes the switch that both sides make at once.
    """

    shifts: Mapping[Act, timedelta] = field(default_factory=dict)
    never: frozenset[Act] = frozenset()
    says_so: bool = False
    roles: frozenset[Role] | None = None
    replaces: bool = False
    forgets_mdns: bool = False
    pauses: bool = False
    lag: timedelta = timedelta(0)


@dataclass(frozen=True)
class WorkerKill:
    """A worker that ends in the middle of an automatic step; the next one takes the step up after `gap`.

    `written` is how many of the step's writes had reached the AS2 system by then.
    """

    step: str
    written: int
    gap: timedelta


@dataclass(frozen=True)
class WorkerOutage:
    """A time in which no worker of ours runs: automatic steps wait for its end."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True)
class Behaviour:
    """Everything about carrying a plan out that the plan leaves open, or that goes against it.

    `partners` is keyed by the partner's key. `pace` is keyed by the step's key and says when in the time that the
    plan leaves for it a step by hand is done: 0 at once, 1 at the last moment; without it our people are prompt and
    partners are halfway. `lag` is how long after the agreed moment our side makes a switch that both sides make at
    once. `called_off` says that our side does not make the change: nothing had shown it by the end of its window.
    """

    partners: Mapping[str, PartnerBehaviour] = field(default_factory=dict)
    pace: Mapping[str, float] = field(default_factory=dict)
    kills: tuple[WorkerKill, ...] = ()
    outages: tuple[WorkerOutage, ...] = ()
    lag: timedelta = timedelta(0)
    called_off: bool = False

    def of(self, partner: str | None) -> PartnerBehaviour:
        """Return how this partner behaves."""
        return self.partners.get(partner or "", RELIABLE_PARTNER)


RELIABLE_PARTNER = PartnerBehaviour()
AS_PLANNED = Behaviour()
