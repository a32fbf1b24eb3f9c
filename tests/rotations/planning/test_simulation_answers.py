"""The result of a simulation in sentences, and the scenarios."""

import re
from dataclasses import replace
from datetime import timedelta

import pytest

from rotations.errors import UnknownZone
from rotations.planning.change import Act, Capacity, CertificateChange, Role
from rotations.planning.plan import plan
from rotations.planning.simulation import answers
from rotations.planning.simulation.answers import SimulationAnswer, what_if
from rotations.planning.simulation.clock_texts import format_duration
from rotations.planning.simulation.failures import format_names
from rotations.planning.simulation.scenario_behaviour import (
    AS_PLANNED,
    Behaviour,
    PartnerBehaviour,
    WorkerOutage,
)
from rotations.planning.simulation.scenarios import describe_behaviour, list_scenarios
from rotations.planning.simulation.stations import CertificateValidity
from rotations.planning.simulation.timeline import Progress
from rotations.planning.simulation.traffic import Traffic
from tests.rotations.planning.changes import ENDS, ONE, ROLES, SEVERAL, STARTS, make_change

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def named(which: str, ours: Capacity = SEVERAL, theirs: Capacity = SEVERAL) -> CertificateChange:
    """Return a change with realistic names."""
    change = make_change(which, (ours,), (theirs,))
    return replace(
        change,
        systems=(replace(change.systems[0], name="OpenAS2"),),
        parties=(replace(change.parties[0], name="Northwind"),),
    )


def ask(change: CertificateChange, *, zone: str = "UTC", **partner_behaviour: object) -> SimulationAnswer:
    behaviour = Behaviour(partners={"p1": PartnerBehaviour(**partner_behaviour)})  # type: ignore[arg-type]
    return what_if(change, plan(change), behaviour, zone=zone)


def test_as_planned_nothing_fails() -> None:
    change = named("C")
    assert str(what_if(change, plan(change))) == (
        "If everybody keeps to the plan: No message is rejected, lost or delivered twice."
    )
    assert what_if(change, plan(change)).level == "good"


def test_a_partner_that_installs_two_hours_late_and_says_so_makes_us_wait() -> None:
    answer = ask(named("E"), shifts={Act.INSTALL: 2 * HOUR})
    assert answer.condition == "If Northwind loads C2’s key two hours late"
    assert answer.sentences == (
        (
            "We do not make the change in OpenAS2 before the window ends, because “Northwind loads C2's key beside "
            "C1 and says so” is not done by then; C1 stays in use there. Agree a new window."
        ),
        "No message is rejected, lost or delivered twice.",
    )
    assert answer.level == "warning"


def test_a_partner_that_confirms_too_early_rejects_for_two_hours() -> None:
    answer = ask(named("E"), shifts={Act.INSTALL: 2 * HOUR}, claims_done=True, zone="America/Chicago")
    assert answer.condition == ("If Northwind loads C2’s key two hours late, although it says in time that it has")
    assert answer.sentences == (
        (
            "8 of our messages to Northwind on Tue 24 Nov 2026 between 22:00 and 23:45 CST (UTC−06:00) are rejected "
            "with decryption-failed; they go through with the retries, nothing is lost."
        ),
    )
    assert answer.level == "warning"


def test_unverified_mdns_name_the_side_on_which_they_fail() -> None:
    own = ask(named("A"), shifts={Act.INSTALL: 2 * HOUR}, claims_done=True)
    assert own.sentences[1] == (
        "7 messages from Northwind on Wed 25 Nov 2026 between 04:06 and 05:36 UTC are processed, but our MDN does not "
        "verify there: Northwind sends them again, and they are delivered up to 5 times."
    )
    theirs = ask(named("D"), shifts={Act.PARTNER_CUT_OVER: -2 * HOUR})
    assert theirs.condition == "If Northwind switches to C2 for signing two hours too early"
    assert "but the MDN does not verify here: we send them again, and they are delivered" in theirs.sentences[0]
    assert (own.level, theirs.level) == ("bad", "bad")


def test_endless_failures_are_described() -> None:
    answer = ask(named("E"), never=frozenset({Act.INSTALL}), claims_done=True)
    assert answer.sentences == (
        (
            "From Wed 25 Nov 2026, 04:00 UTC on, our messages to Northwind are rejected with decryption-failed and "
            "lost when their retries run out, until somebody steps in."
        ),
        "C1 stays in OpenAS2 until “Send a test message from OpenAS2 to Northwind” is done.",
    )
    assert answer.level == "bad"


def test_lost_messages_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    change = named("E")
    behaviour = Behaviour(partners={"p1": PartnerBehaviour(shifts={Act.INSTALL: 2 * HOUR}, claims_done=True)})
    impatient = Traffic(every=15 * MINUTE, retries=(5 * MINUTE, 10 * MINUTE))
    monkeypatch.setattr(answers, "PAGE_TRAFFIC", impatient)
    (sentence,) = what_if(change, plan(change), behaviour).sentences
    assert sentence.endswith("are rejected with decryption-failed; 7 of them are lost when the retries run out.")
    monkeypatch.setattr(answers, "PAGE_TRAFFIC", replace(impatient, retries=()))
    (sentence,) = what_if(change, plan(change), behaviour).sentences
    assert sentence.endswith("all are lost when their retries run out.")


def test_a_single_message_is_described_in_the_singular() -> None:
    change = named("B", ONE, ONE)
    answer = ask(change, lag=10 * MINUTE)
    assert answer.condition == "If Northwind switches ten minutes after the agreed moment"
    assert answer.sentences == (
        (
            "One of the messages from Northwind on Wed 25 Nov 2026 at 04:06 UTC is rejected with decryption-failed; "
            "it goes through with a retry, nothing is lost."
        ),
    )


def test_waiting_messages_are_described_with_their_release() -> None:
    answer = what_if(named("E", ONE, ONE), plan(named("E", ONE, ONE)))
    assert answer.sentences == (
        "No message is rejected, lost or delivered twice.",
        "4 of our messages from OpenAS2 wait on Wed 25 Nov 2026 from 03:05 until 04:10 UTC, and go out then.",
    )
    assert answer.level == "good"


def test_a_pause_of_a_partner_is_described_like_ours() -> None:
    answer = ask(named("C", ONE, ONE), pauses=True)
    assert answer.sentences == (
        "No message is rejected, lost or delivered twice.",
        "4 of our messages from OpenAS2 wait on Wed 25 Nov 2026 from 03:05 until 04:10 UTC, and go out then.",
        "4 of the messages from Northwind wait on Wed 25 Nov 2026 from 03:00 until 04:05 UTC, and go out then.",
    )


def test_a_queue_that_is_never_released_is_described() -> None:
    answer = ask(named("E", ONE, ONE), never=frozenset({Act.PARTNER_CUT_OVER}))
    assert answer.condition == "If Northwind never switches to C2 for decrypting"
    assert answer.sentences[:2] == (
        "From Wed 25 Nov 2026, 03:15 UTC on, our messages to Northwind wait and are never sent.",
        (
            "Nothing in the plan releases the queue of OpenAS2 then, because it waits for “Northwind decrypts with C2 "
            "instead of C1”: somebody has to."
        ),
    )
    assert answer.level == "bad"


def test_a_window_without_workers_and_a_late_worker_are_described() -> None:
    change = named("C")
    down = what_if(change, plan(change), Behaviour(outages=(WorkerOutage(STARTS, ENDS),)))
    assert down.condition == "If no worker of ours runs for one hour"
    assert "because no worker of ours runs before that; C1 stays in use there." in down.sentences[0]
    late = what_if(change, plan(change), Behaviour(outages=(WorkerOutage(STARTS, STARTS + 20 * MINUTE),)))
    assert late.sentences[0] == "We make the change in OpenAS2 on Wed 25 Nov 2026, 04:20 UTC."
    assert late.level == "good"


def test_a_longer_window_waits_for_the_late_partner() -> None:
    change = replace(named("A"), ends=STARTS + 4 * HOUR)
    answer = ask(change, shifts={Act.INSTALL: 2 * HOUR})
    assert answer.sentences[0] == (
        "We make the change in OpenAS2 on Wed 25 Nov 2026, 06:00 UTC, because it waits for “Northwind adds C2 beside "
        "C1, for messages and MDNs, and confirms the fingerprint”."
    )


def test_an_expired_certificate_is_named_as_the_reason() -> None:
    change = named("B")
    behaviour = Behaviour(partners={"p1": PartnerBehaviour(never=frozenset({Act.PARTNER_CUT_OVER}))})
    answer = what_if(change, plan(change), behaviour, validity=CertificateValidity(old_until=ENDS + 20 * DAY))
    assert answer.sentences[0] == (
        "From Tue 15 Dec 2026, 05:06 UTC on, messages from Northwind are rejected with decryption-failed, as C1 has "
        "ended, and lost when their retries run out, until somebody steps in."
    )
    change = named("E")
    early = what_if(change, plan(change), validity=CertificateValidity(new_from=STARTS + 30 * MINUTE))
    assert "are rejected with decryption-failed, as C2 is not valid yet,; they" not in early.sentences[0]
    assert "are rejected with decryption-failed, as C2 is not valid yet; they go through" in early.sentences[0]


def test_a_missed_window_is_described_with_the_time_left() -> None:
    change = named("E")
    behaviour = Behaviour(partners={"p1": PartnerBehaviour(never=frozenset({Act.INSTALL}))})
    answer = what_if(change, plan(change), behaviour, validity=CertificateValidity(old_until=STARTS + 20 * DAY))
    assert answer.sentences[0].endswith(
        "C1 stays in use there. Agree a new window before C1 ends on Tue 15 Dec 2026, 04:00 UTC."
    )
    assert answer.sentences[1:] == ("No message is rejected, lost or delivered twice.",)


def test_an_open_retirement_names_the_step_it_waits_for() -> None:
    answer = ask(named("B"), never=frozenset({Act.PARTNER_CUT_OVER}))
    assert answer.sentences == (
        "No message is rejected, lost or delivered twice.",
        "C1 stays in OpenAS2 until “Northwind encrypts to C2” is done.",
    )


def test_several_systems_of_ours_are_named() -> None:
    change = make_change("D", (ONE, ONE), (ONE,))
    answer = ask(change, shifts={Act.PARTNER_CUT_OVER: 2 * HOUR})
    assert answer.sentences[0].startswith("16 messages from Partner 1 to System 1 and System 2 on Wed 25 Nov 2026")


def test_the_same_failure_of_many_partners_is_one_sentence() -> None:
    change = make_change("B", (ONE,), (ONE,) * 6)
    answer = what_if(change, plan(change), Behaviour(outages=(WorkerOutage(STARTS, ENDS),)))
    assert answer.sentences[1:] == (
        (
            "From Wed 25 Nov 2026, 04:06 UTC on, messages from Partner 1, Partner 2, Partner 3 and 3 others are "
            "rejected with decryption-failed and lost when their retries run out, until somebody steps in."
        ),
    )


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (["A"], "A"),
        (["A", "B"], "A and B"),
        (["A", "B", "C", "D"], "A, B, C and D"),
        (["A", "B", "C", "D", "E"], "A, B, C and 2 others"),
    ],
)
def test_many_names_are_counted(found: list[str], told: str) -> None:
    assert format_names(found) == told


def test_a_waived_partner_is_not_waited_for() -> None:
    change = named("A")
    steps = plan(change)
    answer = what_if(change, steps, progress=Progress(skipped=["install:p1", "partner_retire:p1"]))
    assert answer.sentences[0].startswith("From Wed 25 Nov 2026, 04:00 UTC on, our messages to Northwind are rejected")
    assert answer.level == "bad"


def test_an_unknown_zone_is_refused() -> None:
    change = named("B", ONE, ONE)
    with pytest.raises(UnknownZone):
        ask(change, lag=10 * MINUTE, zone="Mars/Olympus")


@pytest.mark.parametrize("ours", [ONE, SEVERAL])
@pytest.mark.parametrize("theirs", [ONE, SEVERAL])
@pytest.mark.parametrize("which", ROLES)
def test_every_scenario_has_an_answer_in_whole_sentences(which: str, ours: Capacity, theirs: Capacity) -> None:
    change = named(which, ours, theirs)
    steps = plan(change)
    asked = list_scenarios(change, steps)
    assert asked[0].key == "as-planned"
    assert len({question.key for question in asked}) == len({question.text for question in asked}) == len(asked)
    for question in asked:
        answer = what_if(change, steps, question.behaviour)
        assert answer.condition == question.text
        assert question.text.startswith("If ")
        assert answer.sentences
        for sentence in answer.sentences:
            assert sentence[0].isupper() or sentence[0].isdigit()
            assert sentence.endswith(".")
            assert not re.search(r"  |\b1 (of|messages)\b|None|“”", sentence)


@pytest.mark.parametrize(
    ("which", "ours", "theirs", "keys"),
    [
        ("A", SEVERAL, SEVERAL, "late late-but-confirmed never-but-confirmed replaces not-for-mdns"),
        ("A", SEVERAL, ONE, "switches-late switches-early pauses"),
        ("B", SEVERAL, SEVERAL, "never-switches"),
        ("B", ONE, SEVERAL, "switches-late switches-early pauses"),
        ("C", SEVERAL, ONE, "switches-late switches-early pauses only-sign only-decrypt"),
        ("D", SEVERAL, SEVERAL, "switches-early never-switches"),
        ("E", SEVERAL, SEVERAL, "late late-but-confirmed never-but-confirmed replaces"),
        (
            "F",
            SEVERAL,
            SEVERAL,
            (
                "late late-but-confirmed never-but-confirmed replaces switches-early never-switches only-verify "
                "only-encrypt"
            ),
        ),
    ],
)
def test_scenarios_depend_on_the_steps_of_the_partner(which: str, ours: Capacity, theirs: Capacity, keys: str) -> None:
    change = named(which, ours, theirs)
    asked = [question.key for question in list_scenarios(change, plan(change))]
    of_partner = [key.removesuffix(":p1") for key in asked if key.endswith(":p1")]
    assert of_partner == keys.split()


def test_scenarios_of_workers_depend_on_automatic_steps() -> None:
    for automatic, found in ((True, ["killed:s1", "down"]), (False, [])):
        change = make_change("C", automatic=automatic)
        asked = [question.key for question in list_scenarios(change, plan(change))]
        assert asked[0] == "as-planned"
        assert [key for key in asked[1:] if not key.endswith(":p1")] == found


def test_a_condition_joins_several_clauses() -> None:
    change = named("C")
    behaviour = Behaviour(
        partners={
            "p1": PartnerBehaviour(roles=frozenset({Role.SIGN}), replaces=True, shifts={Act.AGREE: timedelta(0)})
        },
        lag=90 * timedelta(seconds=1),
    )
    assert describe_behaviour(change, plan(change), behaviour) == (
        "If Northwind agrees to the window by the clock, whatever we do and Northwind installs C2 for verifying only "
        "and Northwind replaces C1 at once instead of keeping both and our side switches 90 seconds after the agreed "
        "moment"
    )
    assert describe_behaviour(change, plan(change), AS_PLANNED) == "If everybody keeps to the plan"


@pytest.mark.parametrize(
    ("time", "told"),
    [
        (timedelta(0), "no seconds"),
        (timedelta(seconds=1), "one second"),
        (timedelta(seconds=90), "90 seconds"),
        (HOUR, "one hour"),
        (2 * DAY, "two days"),
        (36 * HOUR, "36 hours"),
    ],
)
def test_durations_are_formatted_in_their_largest_whole_unit(time: timedelta, told: str) -> None:
    assert format_duration(time) == told


def test_where_each_partner_changes_when_it_is_ready_the_answer_says_whom_we_wait_for() -> None:
    change = make_change("C", theirs=(SEVERAL, SEVERAL), per_partner=True)
    change = replace(change, starts=change.now, phased=True)
    answer = what_if(change, plan(change))
    assert answer.level == "good"
    for name in ("Partner 1", "Partner 2"):
        (sentence,) = [sentence for sentence in answer.sentences if f"System 1 for {name}" in sentence]
        assert f"because it waits for “{name} adds C2 beside C1" in sentence
        assert "Load C2" not in sentence
