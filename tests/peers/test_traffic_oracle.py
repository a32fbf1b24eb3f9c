"""The judge of the traffic: what it finds in journals that are wrong in one point each."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.peers.oracle import Announced, judge_traffic

BEGIN = datetime(2026, 11, 23, 9, 30, tzinfo=UTC)
PAIR = ("ACME", "NORTHWIND")


def entry(event: str, number: int, **facts: Any) -> dict[str, Any]:
    at = BEGIN + timedelta(seconds=number + (event == "outcome") / 2)
    return {"at": at.isoformat(), "event": event, "tag": f"tag-{number}", **facts}


def sent(number: int, verdict: str = "accepted", certificate: str = "old") -> list[dict[str, Any]]:
    facts = {"verdict": verdict, "signed_with": certificate, "encrypted_to": "theirs"}
    return [entry("sending", number, partner="NORTHWIND"), entry("outcome", number, **facts)]


def stored(*numbers: int) -> list[dict[str, Any]]:
    return [entry("stored", number) for number in numbers]


def test_each_message_that_is_stored_once_and_confirmed_is_good() -> None:
    found = judge_traffic({"ACME": [*sent(1), *sent(2, certificate="new"), *sent(3)], "NORTHWIND": stored(1, 2, 3)})
    assert (found.wrong, found.announced) == ([], [])
    assert found.good == {PAIR: 3}
    assert found.certificates[PAIR] == [("old", "theirs"), ("new", "theirs")]


@pytest.mark.parametrize(
    ("acme", "northwind", "complaint"),
    [
        (sent(1), [], "not stored, accepted."),
        (sent(1, "delivered-not-confirmed"), stored(1), "stored, delivered-not-confirmed."),
        (sent(1, "signature-not-accepted"), [], "not stored, signature-not-accepted."),
        (sent(1)[:1], stored(1), "stored, without an outcome."),
    ],
)
def test_it_finds_what_is_lost_or_not_confirmed_unless_it_was_announced(
    acme: list[dict[str, Any]], northwind: list[dict[str, Any]], complaint: str
) -> None:
    journals = {"ACME": acme, "NORTHWIND": northwind}
    answered = timedelta(seconds=len(acme) / 2)
    (line,) = judge_traffic(journals).wrong
    assert line.endswith(f"tag-1 from ACME to NORTHWIND: {complaint}")
    for partner, starts, is_excused in (
        ("NORTHWIND", BEGIN, True),
        ("NORTHWIND", BEGIN - timedelta(seconds=59), True),  # it was sent at the very end
        ("NORTHWIND", BEGIN - timedelta(seconds=60), False),
        ("NORTHWIND", BEGIN + timedelta(seconds=0.5) + answered, True),  # it was answered at the very beginning
        ("NORTHWIND", BEGIN + timedelta(seconds=0.6) + answered, False),
        ("FABRIKAM", BEGIN, False),
    ):
        found = judge_traffic(journals, [Announced(partner, starts, starts + timedelta(minutes=1))])
        assert (found.wrong, found.announced) == (([], [line]) if is_excused else ([line], []))


def test_what_comes_twice_is_wrong_at_any_time() -> None:
    minute = [Announced("NORTHWIND", BEGIN, BEGIN + timedelta(minutes=1))]
    found = judge_traffic({"ACME": sent(1), "NORTHWIND": [*stored(1), entry("repeated", 1)]}, minute)
    assert found.wrong == ["tag-1 came to NORTHWIND more than once."]
    assert judge_traffic({"ACME": sent(1), "NORTHWIND": stored(1, 1)}, minute).wrong != []


def test_what_nobody_sent_is_wrong() -> None:
    found = judge_traffic({"ACME": [], "NORTHWIND": stored(1)})
    assert found.wrong == ["tag-1 is stored by NORTHWIND, and nobody sent it."]
