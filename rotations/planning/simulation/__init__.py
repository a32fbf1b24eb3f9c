"""A rehearsal on paper: carry a plan out between simulated AS2 stations, and see what becomes of their messages.

`simulate` counts; `what_if` answers in sentences, for a page; `questions` lists what is worth asking about a plan. All
is computed from the arguments: no Django, no I/O, no clock. docs/simulation.md says what is simulated.
"""

from rotations.planning.simulation.answers import PAGE_TRAFFIC, SimulationAnswer, what_if
from rotations.planning.simulation.run import CertificateUsage, SimulationResult, simulate
from rotations.planning.simulation.scenario_behaviour import (
    AS_PLANNED,
    Behaviour,
    PartnerBehaviour,
    WorkerKill,
    WorkerOutage,
)
from rotations.planning.simulation.scenarios import Scenario, describe_behaviour, list_scenarios
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.traffic import (
    DisruptedMessage,
    FailedAttempt,
    FailureReason,
    FlowResult,
    Traffic,
)

__all__ = [
    "AS_PLANNED",
    "PAGE_TRAFFIC",
    "Behaviour",
    "CertificateUsage",
    "CertificateValidity",
    "DisruptedMessage",
    "FailedAttempt",
    "FailureReason",
    "FlowResult",
    "PartnerBehaviour",
    "Scenario",
    "SimulationAnswer",
    "SimulationResult",
    "Traffic",
    "WorkerKill",
    "WorkerOutage",
    "describe_behaviour",
    "list_scenarios",
    "simulate",
    "what_if",
]
