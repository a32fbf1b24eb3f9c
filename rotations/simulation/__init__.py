"""A rehearsal on paper: carry a plan out between simulated AS2 stations, and see what becomes of their messages.

All is computed from the arguments: no Django, no I/O, no clock.
"""

from rotations.simulation.behaviour import AS_PLANNED, Behaviour, Conduct, Kill, Outage
from rotations.simulation.outcome import Outcome, Used, simulate
from rotations.simulation.stations import Validity
from rotations.simulation.traffic import Failure, Mishap, Reason, Tally, Traffic

__all__ = [
    "AS_PLANNED",
    "Behaviour",
    "Conduct",
    "Failure",
    "Kill",
    "Mishap",
    "Outage",
    "Outcome",
    "Reason",
    "Tally",
    "Traffic",
    "Used",
    "Validity",
    "simulate",
]
