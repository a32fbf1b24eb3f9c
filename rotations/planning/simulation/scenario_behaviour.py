"""How our people, partners and workers carry out a plan: as it is, or not."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from rotations.planning.change import Act, Role

OPERATOR_DELAY = timedelta(minutes=5)
"""How long our own people take for a step that is ready."""
OPEN_ENDED_TIME = timedelta(days=1)
"""The time within which a step without a latest time is done."""


@dataclass(frozen=True)
class PartnerBehaviour:
    """How one partner carries out its steps. By default, it does everything in time.

    `shifts` has acts that it does at its own time, whatever they should have waited for: that much before the earliest
    or after the latest time of the plan. It never uses a certificate of ours before we sent it. `never` has acts that
    it does not do at all. If `claims_done`, it reports in time that a shifted or omitted act is done; waiving a
    participant has the same effect.

    `roles` limits what it installs to these roles of the change, although it reports the whole as done. If `replaces`,
    it has room for one certificate although we recorded several. If `forgets_mdns`, it installs our signing certificate
    for messages but not for MDNs. If `pauses`, it sends nothing from an hour before the window until its tests have
    passed. `lag` is how long after the agreed time it makes a simultaneous switch.
    """

    shifts: Mapping[Act, timedelta] = field(default_factory=dict)
    never: frozenset[Act] = frozenset()
    claims_done: bool = False
    roles: frozenset[Role] | None = None
    replaces: bool = False
    forgets_mdns: bool = False
    pauses: bool = False
    lag: timedelta = timedelta(0)


@dataclass(frozen=True)
class WorkerKill:
    """A worker that is killed during an automatic step; the next one resumes the step after `gap`.

    `written` is how many of the step's writes had reached the AS2 system by then.
    """

    step: str
    written: int
    gap: timedelta


@dataclass(frozen=True)
class WorkerOutage:
    """A time in which no worker of ours runs."""

    begins: datetime
    ends: datetime


@dataclass(frozen=True)
class Behaviour:
    """Everything about the execution of a plan that the plan leaves open, or that violates it.

    `partners` is keyed by the partner's key. `pace` is keyed by the step's key: when in its time a step by hand is
    done, from 0 (at once) to 1 (at the latest time); by default our people are prompt and partners take half the
    time. `lag` is how long after the agreed time our side makes a simultaneous switch. If `called_off`, our side does
    not switch, as there was no evidence by the end of the window.
    """

    partners: Mapping[str, PartnerBehaviour] = field(default_factory=dict)
    pace: Mapping[str, float] = field(default_factory=dict)
    kills: tuple[WorkerKill, ...] = ()
    outages: tuple[WorkerOutage, ...] = ()
    lag: timedelta = timedelta(0)
    called_off: bool = False

    def of(self, partner: str | None) -> PartnerBehaviour:
        """Return the behaviour of a partner."""
        return self.partners.get(partner or "", RELIABLE_PARTNER)


RELIABLE_PARTNER = PartnerBehaviour()
AS_PLANNED = Behaviour()
