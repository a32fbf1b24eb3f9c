"""One step that can't be carried out among very many: the others are, and it is put before a person in the end."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tests.faults.site import Site
from tests.servers import wait_until

pytestmark = pytest.mark.faults(row=11)

LOOK = "SELECT state, attempts, extract(epoch FROM due_at)::float8, error FROM rotations_step WHERE id = {step}"
#: The window is about to end, and the next attempt comes before that.
LAST_CALL = """
UPDATE rotations_step SET due_at = clock_timestamp(), latest_at = clock_timestamp() + interval '3 s' WHERE id = {step}
"""
#: The database itself refuses to let this step be done, whoever tries.
POISON = """
CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'poisoned'; END $$;
CREATE TRIGGER poison BEFORE UPDATE ON rotations_step FOR EACH ROW
    WHEN (NEW.id = {step} AND NEW.state = 'done') EXECUTE FUNCTION refuse();
"""


def test_one_failing_step_among_many_is_tried_again_with_growing_pauses_and_then_before_a_person(
    site: Site, full: bool
) -> None:
    count, times = (10_000, 4) if full else (200, 2)
    site.start_idle("worker", "worker", "beat", "loop")
    assert site.crowd(count, 3.0) == count
    ((step,),) = site.sql("SELECT id FROM rotations_step WHERE act = 'cut_over' ORDER BY id LIMIT 1 OFFSET 20")
    for statement in POISON.format(step=step).strip().split(";\n"):
        site.sql(statement)

    tries: dict[int, float] = {}

    def look() -> str:
        ((state, attempts, due, error),) = site.sql(LOOK.format(step=step))
        tries.setdefault(attempts, due)
        assert not attempts or "poisoned" in error
        return str(state)

    wait_until(lambda: look() and len(tries) > times, seconds=300, every=0.2, what="attempts")
    wait_until(lambda: done(site) >= count - 1, seconds=120, every=0.5, what="the others")
    pauses = [following - one for one, following in pairwise(tries.values())]
    # At least, since the others come before an attempt that was put off.
    assert all(pause >= least for pause, least in zip(pauses, (2, 2, 5, 15), strict=False)), pauses
    site.sql(LAST_CALL.format(step=step))
    wait_until(lambda: look() == "failed", seconds=60, every=0.2, what="the step to be given up")

    assert site.judge(count, failed=1).wrong == []


def done(site: Site) -> int:
    return int(site.sql("SELECT count(*) FROM rotations_step WHERE act = 'cut_over' AND state = 'done'")[0][0])
