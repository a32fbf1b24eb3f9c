"""The instructions for a partner that follow from a plan."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Literal

import pytest

from rotations.letters.instructions import PartnerTask, build_instructions
from rotations.planning.change import Act, Capacity, CertificateChange, Party, Role, System
from rotations.planning.plan import plan

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
STARTS = NOW + timedelta(days=10)


def instructed(side: str, roles: set[Role], ours: Capacity, theirs: Capacity) -> list[tuple[str, str]]:
    change = CertificateChange(
        side=side,  # type: ignore[arg-type]
        roles=frozenset(roles),
        systems=(System("s", "OpenAS2", ours),),
        parties=(Party("p", "Northwind", theirs),),
        starts=STARTS,
        ends=STARTS + timedelta(hours=1),
        now=NOW,
    )
    steps = [
        SimpleNamespace(
            act=s.act,
            simultaneous=s.simultaneous,
            roles=s.roles,
            state="waiting",
            blocked=False,
            earliest_at=s.earliest,
            latest_at=s.latest,
        )
        for s in plan(change)
        if s.partner == "p"
    ]
    task = PartnerTask(side, steps, change.starts, change.ends)  # type: ignore[arg-type]
    return [(i.title, i.when) for i in build_instructions(task, may_switch=True)]


BOTH, ONE = Capacity.SEVERAL, Capacity.ONE
ADD = ("Add our new certificate beside the old one", "by")
ENCRYPT = ("Encrypt your messages to us with the new certificate", "by")
AGREE = ("Agree to the time, or propose another one", "by")
REPLACE = ("Replace the old certificate by the new one, exactly then", "at")
FLOW = ("Tell us whether messages flow", "from")
REMOVE = ("Remove our old certificate", "from")
LOAD = ("Load the private key of your new certificate beside the old one, and tell us", "by")
SWITCH = ("Switch to your new certificate, exactly then", "at")
COMPARE = ("Compare the fingerprint of your new certificate with us by telephone", "by")
SIGN = ("Sign with your new certificate, when you like", "by")
REMOVE_KEY = ("Remove the key of your old certificate", "from")


@pytest.mark.parametrize(
    ("side", "roles", "ours", "theirs", "expected"),
    [
        ("own", {Role.SIGN}, BOTH, BOTH, [ADD, FLOW, REMOVE]),
        ("own", {Role.SIGN}, BOTH, ONE, [AGREE, REPLACE, FLOW]),
        ("own", {Role.DECRYPT}, BOTH, BOTH, [ENCRYPT]),
        ("own", {Role.DECRYPT}, ONE, BOTH, [AGREE, REPLACE, FLOW]),
        ("own", {Role.SIGN, Role.DECRYPT}, BOTH, BOTH, [ADD, ENCRYPT, FLOW, REMOVE]),
        ("own", {Role.SIGN, Role.DECRYPT}, BOTH, ONE, [AGREE, REPLACE, FLOW]),
        ("partner", {Role.VERIFY}, BOTH, BOTH, [COMPARE, SIGN]),
        ("partner", {Role.ENCRYPT}, BOTH, BOTH, [COMPARE, LOAD, FLOW, REMOVE_KEY]),
        ("partner", {Role.VERIFY, Role.ENCRYPT}, ONE, BOTH, [COMPARE, LOAD, AGREE, SWITCH, FLOW, REMOVE_KEY]),
    ],
)
def test_what_a_partner_does_follows_the_plan(
    side: str, roles: set[Role], ours: Capacity, theirs: Capacity, expected: list[tuple[str, str]]
) -> None:
    assert instructed(side, roles, ours, theirs) == expected


def partner_step(
    act: Act, *, blocked: bool = False, state: str = "waiting", simultaneous: bool = False
) -> SimpleNamespace:
    return SimpleNamespace(
        act=act,
        simultaneous=simultaneous,
        roles=["decrypt"],
        state=state,
        blocked=blocked,
        earliest_at=None,
        latest_at=STARTS,
    )


@pytest.mark.parametrize(
    ("side", "may_switch", "why"),
    [
        ("own", True, "You may do so from now on: we can read both."),
        ("own", False, "Not yet: go on with the old one until we tell you that we can read the new one."),
        ("partner", True, "We accept both once we have told you so."),
        ("partner", False, "Not yet: go on with the old one until we tell you that we accept the new one."),
    ],
)
def test_a_partner_that_switches_by_itself_is_told_whether_it_may(
    side: Literal["own", "partner"], may_switch: bool, why: str
) -> None:
    task = PartnerTask(side, [partner_step(Act.PARTNER_CUT_OVER)], STARTS, STARTS + timedelta(hours=1))
    (switch,) = build_instructions(task, may_switch=may_switch)
    assert switch.why.startswith(why)


@pytest.mark.parametrize("state", ["waiting", "done", "skipped"])
def test_a_certificate_is_to_be_installed_by_the_same_moment_whatever_the_step_says(state: str) -> None:
    by = STARTS - timedelta(days=2)  # the step of an earlier window keeps that one's moment
    task = PartnerTask(
        "own", [partner_step(Act.INSTALL, state=state)], STARTS, STARTS + timedelta(hours=1), install_by=by
    )
    (install,) = build_instructions(task, may_switch=True)
    assert (install.when, install.moment) == ("by", by)
    assert (install.done, install.is_open) == (state == "done", state == "waiting")


def test_an_agreement_is_due_when_the_answer_is_due() -> None:
    answer_by = STARTS - timedelta(days=2)
    task = PartnerTask("own", [partner_step(Act.AGREE)], STARTS, STARTS + timedelta(hours=1), answer_by=answer_by)
    assert [(one.when, one.moment) for one in build_instructions(task, may_switch=True)] == [("by", answer_by)]


@pytest.mark.parametrize(
    ("side", "software", "named"),
    [
        ("own", "biztalk", "Party Properties"),
        ("partner", "biztalk", "install the .pfx"),
        ("own", "mendelson", ""),
        ("own", "", ""),
    ],
)
def test_a_partner_is_told_where_its_product_takes_the_certificate(
    side: Literal["own", "partner"], software: str, named: str
) -> None:
    step = SimpleNamespace(
        act=Act.INSTALL,
        simultaneous=False,
        roles=["sign"],
        state="waiting",
        blocked=False,
        earliest_at=None,
        latest_at=None,
    )
    task = PartnerTask(side, [step], STARTS, STARTS + timedelta(hours=1), software=software)
    instruction = build_instructions(task, may_switch=True)[0]
    assert named in instruction.why
    assert ("In BizTalk Server" in instruction.why) is bool(named)
