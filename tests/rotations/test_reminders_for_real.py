"""Reminders and the outbox with several concurrent processes on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable

from tests.mail.scripted_smtp import ScriptedSmtpServer
from tests.servers import Postgres
from tests.stack import ROOT, Stack

SEED = """
from datetime import UTC, datetime
from tests.rotations.notifications.expiries import DAY, make_certificate, make_identity, make_user
people = [make_user(f"person{n}") for n in range(30)]
for n in range(90):
    make_certificate(make_identity(f"ACME-{n}", owners=[people[n % 30]]), datetime.now(UTC) + 20 * DAY)
"""
COUNT = """
import json
from as2certs.mail.models import Message
from rotations.models import Notice
print(json.dumps([Message.objects.count(), Notice.objects.count(), Message.objects.filter(state="sent").count()]))
"""


def at_once(stack: Stack, command: str, processes: int) -> None:
    """Run a command of manage.py in several processes at the same time."""
    running = [
        subprocess.Popen(
            [sys.executable, "manage.py", command],
            cwd=ROOT,
            env=stack.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for _ in range(processes)
    ]
    assert [process.wait(timeout=120) for process in running] == [0] * processes


def test_concurrent_runs_remind_everybody_once(make_stack: Callable[..., Stack], postgres: Postgres) -> None:
    with ScriptedSmtpServer() as server:
        stack = make_stack(postgres=postgres, email_url=f"smtp://127.0.0.1:{server.port}")
        stack.python(SEED)
        at_once(stack, "send_reminders", 4)
        assert stack.python(COUNT) == [30, 90, 0]
        at_once(stack, "send_mail", 4)
        stack.manage("send_mail")
        assert stack.python(COUNT) == [30, 90, 30]
        accepted = Counter(message["Message-ID"] for _, message in server.accepted)
        assert len(accepted) == 30
        assert set(accepted.values()) == {1}
