"""Reminders that did not run for three days, an address that is refused, a backlog: who is told what, and the alarm."""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.site import Site
from tests.servers import MailServer, wait_until

pytestmark = pytest.mark.faults(row=13)

#: Three people with a certificate each that ends in so many days; the ladder has 30, 14, 7, 3 and 1 among its rungs.
SEED = """
from as2certs.clock import database_now
from tests.rotations.notifications.expiries import DAY, make_certificate, make_identity, make_user
for name, days in {people}:
    make_certificate(make_identity("ACME-" + name, owners=[make_user(name)]), database_now() + days * DAY)
"""
PEOPLE = [("kim", 15.5), ("nora", 8.5), ("gone", 8.5), ("lee", 40.0)]
#: Three days pass, as far as what ends and what ran are concerned.
THREE_DAYS = (
    "UPDATE identities_identitycertificate SET not_after = not_after - interval '3 days'",
    "UPDATE rotations_heartbeat SET at = at - interval '3 days' WHERE name = 'send_reminders'",
    "UPDATE mail_message SET created_at = created_at - interval '3 days', due_at = due_at - interval '3 days'",
)


@pytest.mark.extended
def test_after_three_days_the_rung_that_was_reached_is_told_once_and_a_bad_address_blocks_nobody(
    site: Site, smtp_server: MailServer
) -> None:
    smtp_server.refused.add("gone@example.com")
    site.python(SEED.format(people=PEOPLE))
    site.start("web")
    site.start_idle("worker", "beat", "loop")
    site.manage("send_reminders")
    wait_for_mail(site)
    first = Counter(smtp_server.recipients)
    for statement in THREE_DAYS:
        site.sql(statement)
    assert [p for p in site.get_json("/readyz")["problems"] if p.startswith("reminders: ")]

    before = len(smtp_server.messages)
    for _ in range(3):
        site.manage("send_reminders")
    wait_for_mail(site)
    told = Counter(smtp_server.recipients) - first
    # 15.5 days have become 12.5, past 14; 8.5 have become 5.5, past 7; 40 have become 37, past nothing.
    assert told == {"kim@example.com": 1, "nora@example.com": 1}
    assert len(smtp_server.messages) == before + 2
    failed = site.sql("SELECT DISTINCT to_address FROM mail_message WHERE state = 'failed'")
    assert failed == [("gone@example.com",)]
    problems = site.get_json("/readyz")["problems"]
    assert [p for p in problems if p.startswith("mail: ")]  # it was given up: a person should look
    assert not [p for p in problems if p.startswith("reminders: ")]


def test_a_backlog_raises_an_alarm_and_leaves_when_the_mail_server_is_back(site: Site, smtp_server: MailServer) -> None:
    site.python(SEED.format(people=[(f"person{n}", 5.5) for n in range(20)]))
    site.start("web")
    smtp_server.stop()
    site.start_idle("worker", "beat", "loop")
    site.manage("send_reminders")
    unreachable = "SELECT 1 FROM mail_message WHERE error LIKE '%can''t be used%'"
    wait_until(lambda: site.sql(unreachable), what="the sender to find nobody")
    assert not [p for p in site.get_json("/readyz")["problems"] if p.startswith("mail: ")]
    site.sql("UPDATE mail_message SET created_at = created_at - interval '16 minutes'")
    assert "mail: 20 messages wait too long or were given up" in site.get_json("/readyz")["problems"]

    smtp_server.start()
    site.sql("UPDATE mail_message SET due_at = clock_timestamp()")
    site.wait_for_mail()
    assert Counter(smtp_server.recipients) == {f"person{n}@example.com": 1 for n in range(20)}
    assert site.get_json("/readyz")["problems"] == []


def wait_for_mail(site: Site) -> None:
    waiting = "SELECT 1 FROM mail_message WHERE state NOT IN ('sent', 'failed')"
    wait_until(lambda: not site.sql(waiting), every=0.2, what="the mail to leave")
