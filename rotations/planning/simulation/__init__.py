"""A rehearsal on paper: carry a plan out between simulated AS2 stations, and see what becomes of their messages.

`simulate` counts; `what_if` answers in sentences, for a page; `questions` lists what is worth asking about a plan. All
is computed from the arguments: no Django, no I/O, no clock. docs/simulation.md says what is simulated.
"""

from rotations.planning.simulation.answers import ON_A_PAGE, Answer, what_if
from rotations.planning.simulation.run import Outcome, Used, simulate
from rotations.planning.simulation.scenario_behaviour import AS_PLANNED, Behaviour, Conduct, Kill, Outage
from rotations.planning.simulation.scenarios import Question, condition, questions
from rotations.planning.simulation.stations import Validity
from rotations.planning.simulation.traffic import Failure, Mishap, Reason, Tally, Traffic

__all__ = [
    "AS_PLANNED",
    "ON_A_PAGE",
    "Answer",
    "Behaviour",
    "Conduct",
    "Failure",
    "Kill",
    "Mishap",
    "Outage",
    "Outcome",
    "Question",
    "Reason",
    "Tally",
    "Traffic",
    "Used",
    "Validity",
    "condition",
    "questions",
    "simulate",
    "what_if",
]
