"""The test servers behave as the tests of faults require."""

from __future__ import annotations

import smtplib

import psycopg
import pytest
import redis
from playwright.sync_api import Page

from tests.servers import MailServer, Postgres, Redis


def rows(url: str) -> list[int]:
    with psycopg.connect(url, connect_timeout=5) as connection:
        return [number for (number,) in connection.execute("SELECT n FROM numbers")]


def test_postgres_restarts_with_its_data_after_a_kill(postgres: Postgres) -> None:
    url = postgres.new_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE numbers AS SELECT 7 AS n")
    postgres.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url, connect_timeout=5)
    postgres.start()
    assert rows(url) == [7]
    postgres.restart()
    assert rows(postgres.new_database(template=url)) == [7]


def test_redis_hangs_while_paused_and_is_empty_after_a_kill(redis_server: Redis) -> None:
    connection = redis.Redis.from_url(redis_server.url, socket_timeout=0.5, decode_responses=True)
    connection.set("word", "kept")
    redis_server.pause()
    with pytest.raises(redis.TimeoutError):
        connection.get("word")
    redis_server.resume()
    assert connection.get("word") == "kept"
    redis_server.kill()
    redis_server.start()
    assert connection.get("word") is None


def test_the_mail_server_keeps_mail_and_refuses_configured_recipients(smtp_server: MailServer) -> None:
    smtp_server.refused.add("nobody@example.com")
    with smtplib.SMTP("127.0.0.1", smtp_server.port) as client:
        text = "Subject: Hello\r\n\r\nThere."
        client.sendmail("a@example.com", ["b@example.com"], text)
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.com", ["nobody@example.com"], text)
    assert [message["Subject"] for message in smtp_server.messages] == ["Hello"]
    assert smtp_server.recipients == ["b@example.com"]


def test_the_browser_shows_a_page(page: Page) -> None:
    page.set_content("<h1>Here</h1>")
    assert page.inner_text("h1") == "Here"
