"""Queue mail in the transaction of the change, once per key, in the reader's time zone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from celery import Celery
from django.db import transaction

from as2certs import background
from as2certs.celery import app
from as2certs.mail import outbox, sealed_values, tasks
from as2certs.mail.models import Message
from as2certs.pki.vault import new_vault_key
from tests.mail.messages import NOW, make_message
from tests.mail.scripted_smtp import ScriptedSmtpServer
from tests.servers import free_port

TEMPLATES = {
    "hello.subject.txt": "{{ name }}:\n  starts\n{{ at|date:'H:i T' }}",
    "hello.txt": "{{ name }} starts {{ at|date:'j M Y, H:i T' }}. {{ our_name }}\n\n\n",
    "hello.html": "<p>{{ name }} starts {{ at|date:'j M Y, H:i T' }}</p>",
}
AT = datetime(2026, 11, 25, 4, 0, tzinfo=UTC)


@pytest.fixture(autouse=True)
def templates(tmp_path: Path, settings: Any) -> None:
    """Add the templates of a mail to those of the application."""
    folder = tmp_path / "emails"
    folder.mkdir()
    for name, text in TEMPLATES.items():
        (folder / name).write_text(text)
    (first,) = settings.TEMPLATES
    settings.TEMPLATES = [{**first, "DIRS": [tmp_path, *first["DIRS"]]}]


def queue(key: str = "window:1:kim", **given: Any) -> Message | None:
    """Queue a mail to Kim; None if its key was queued before."""
    columns: dict[str, Any] = {
        "template": "hello",
        "to": "kim@example.com",
        "to_name": "Kim",
        "kind": "window_soon",
        "context": {"name": "R&D <ACME>", "at": AT},
        "now": NOW,
        "time_zone": "America/Chicago",
        **given,
    }
    return next(iter(outbox.queue([outbox.Mail(key=key, **columns)])), None)


@pytest.mark.django_db
def test_it_renders_subject_text_and_html_in_the_readers_zone() -> None:
    message = queue()
    assert message is not None
    message.refresh_from_db()
    assert message.subject == "R&D <ACME>: starts 22:00 CST"
    assert message.text == "R&D <ACME> starts 24 Nov 2026, 22:00 CST. Our company\n"
    assert message.html == "<p>R&amp;D &lt;ACME&gt; starts 24 Nov 2026, 22:00 CST</p>"
    assert (message.state, message.due_at, message.created_at) == ("queued", NOW, NOW)


@pytest.mark.django_db
def test_the_message_id_names_the_host_of_the_installation_and_stays(settings: Any) -> None:
    settings.AS2CERTS_BASE_URL = "https://certs.example.com/as2"
    message = queue()
    assert message is not None
    assert message.message_id == f"<{message.uid}@certs.example.com>"


@pytest.mark.django_db
def test_the_same_key_is_queued_once_and_spoils_nothing() -> None:
    with transaction.atomic():
        first = queue()
        assert queue() is None
        other = queue("window:2:kim")
    assert first is not None
    assert other is not None
    assert set(Message.objects.values_list("uid", flat=True)) == {first.uid, other.uid}


@pytest.mark.django_db
def test_a_mail_disappears_with_the_change_that_caused_it() -> None:
    @transaction.atomic
    def change() -> None:
        queue()
        raise LookupError("the change did not work")

    with pytest.raises(LookupError):
        change()
    assert not Message.objects.exists()


@pytest.mark.django_db
def test_long_keys_stay_different() -> None:
    assert queue("k" * 300 + "a") is not None
    assert queue("k" * 300 + "b") is not None
    assert queue("k" * 300 + "a") is None


@pytest.mark.django_db
def test_attachments_are_kept_with_the_mail() -> None:
    message = queue(attachments=[outbox.AttachedFile("acme.cer", "application/pkix-cert", b"\x30\x82")])
    assert message is not None
    assert [bytes(a.content) for a in message.attachments.all()] == [b"\x30\x82"]
    assert queue(attachments=[outbox.AttachedFile("again.cer", "application/pkix-cert", b"\x30")]) is None
    assert message.attachments.count() == 1


@pytest.mark.django_db
def test_links_that_wait_open_after_the_vault_has_another_key(settings: Any) -> None:
    old, new = settings.AS2CERTS_VAULT_KEYS[0], new_vault_key()
    message = queue(private={"link": "https://certs.example.com/p/secret/"})
    assert message is not None
    queue("without:a:link")
    settings.AS2CERTS_VAULT_KEYS = [new, old]
    assert sealed_values.reseal_all() == 1
    settings.AS2CERTS_VAULT_KEYS = [new]
    message.refresh_from_db()
    assert sealed_values.unseal_values(message) == {"link": "https://certs.example.com/p/secret/"}


@pytest.fixture
def no_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Configure a Celery broker that does not exist."""
    alone = Celery("alone")
    alone.config_from_object("django.conf:settings", namespace="CELERY")
    alone.conf.update(broker_url=f"redis://127.0.0.1:{free_port()}/0", broker_transport="redis")
    alone.set_current()
    monkeypatch.setattr(background._BrokerBackoff, "until", 0.0)
    yield
    app.set_current()


@pytest.mark.django_db(transaction=True)
def test_a_broker_that_is_down_does_not_fail_the_change(no_broker: None, caplog: pytest.LogCaptureFixture) -> None:
    with transaction.atomic():
        message = queue()
    assert message is not None
    assert Message.objects.filter(uid=message.uid, state="queued").exists()
    assert "as2certs.mail.tasks.send_due was not woken" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_a_burst_of_changes_waits_for_a_dead_broker_once(no_broker: None, caplog: pytest.LogCaptureFixture) -> None:
    began = monotonic()
    for number in range(20):
        queue(f"burst:{number}")
    assert monotonic() - began < 10
    assert caplog.text.count("was not woken") == 1


@pytest.mark.django_db
def test_the_task_sends_what_is_due_now(smtp: ScriptedSmtpServer) -> None:
    make_message()
    assert tasks.send_due() == 1
    assert [to for to, _ in smtp.accepted] == ["kim@example.com"]
