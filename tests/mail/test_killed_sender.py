"""A sender process that is killed between the server's acceptance and the update of the row."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.mail.scripted_smtp import ScriptedSmtpServer
from tests.stack import ROOT, Stack

QUEUE = """
from datetime import UTC, datetime
from as2certs.mail.models import Message
now = datetime.now(UTC)
Message.objects.create(key="k", kind="test", to_address="kim@example.com", subject="s", text="t",
                       message_id="<one@example.com>", created_at=now, due_at=now)
"""
STATE = """
import json
from as2certs.mail.models import Message
message = Message.objects.get()
print(json.dumps([message.state, message.attempts]))
"""
LATER = """
from datetime import UTC, datetime, timedelta
from as2certs.mail.models import Message
Message.objects.update(lease_until=datetime.now(UTC) - timedelta(seconds=1))
"""


@pytest.mark.extended
@pytest.mark.faults(row=12)
def test_it_makes_at_most_one_double_with_the_same_message_id_and_never_none(
    make_stack: Callable[..., Stack],
) -> None:
    with ScriptedSmtpServer() as server:
        stack = make_stack(email_url=f"smtp://127.0.0.1:{server.port}")
        stack.python(QUEUE)
        sender: list[int] = []
        server.on_data = lambda: os.kill(sender[0], signal.SIGKILL)
        process = subprocess.Popen(
            [sys.executable, "manage.py", "send_mail"],
            cwd=ROOT,
            env=stack.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        sender.append(process.pid)
        assert process.wait(timeout=60) == -signal.SIGKILL
        assert server.ids_for("kim@example.com") == ["<one@example.com>"]
        assert stack.python(STATE) == ["sending", 1]

        server.on_data = lambda: None
        assert stack.manage("send_mail") == "0 sent.\n", "the dead sender's lease still runs"
        stack.python(LATER)
        assert stack.manage("send_mail") == "1 sent.\n"
        assert stack.manage("send_mail") == "0 sent.\n"
        assert stack.python(STATE) == ["sent", 2]
        assert server.ids_for("kim@example.com") == ["<one@example.com>"] * 2
