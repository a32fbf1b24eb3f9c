"""No log line contains the token of a link."""

from __future__ import annotations

import io
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.conf import LazySettings
from django.http import HttpRequest, HttpResponse
from django.test import Client, override_settings
from django.urls import path, reverse

from as2certs import urls
from as2certs.logs import OneLineFormatter
from tests.servers import wait_until
from tests.stack import Stack

TOKEN = "Qk3vTOKENthatMustNotBeSeenZx9w"


def breaks(request: HttpRequest, token: str) -> HttpResponse:
    raise ZeroDivisionError(request.path)


handler400, handler404, handler500 = urls.handler400, urls.handler404, urls.handler500
urlpatterns = [*urls.urlpatterns, path("p/<str:token>/breaks/", breaks)]


@pytest.fixture
def log(settings: LazySettings) -> Iterator[io.StringIO]:
    """The log as the application's own handler writes it."""
    logged: dict[str, Any] = settings.LOGGING["formatters"]["line"]  # type: ignore[index]
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(OneLineFormatter(logged["format"], style=logged["style"]))
    handler.setLevel(logging.DEBUG)
    logging.getLogger().addHandler(handler)
    yield stream
    logging.getLogger().removeHandler(handler)


@pytest.mark.django_db
@override_settings(ROOT_URLCONF="tests.rotations.web.portal.test_logs")
def test_djangos_log_of_refused_requests_has_no_token(log: io.StringIO) -> None:
    client = Client(raise_request_exception=False, enforce_csrf_checks=True)
    client.cookies["csrftoken"] = "a" * 32  # as a client that has loaded a form
    address = reverse("portal", args=[TOKEN])
    statuses = [
        client.get(address).status_code,
        client.get(f"{address}nowhere/?p=/p/{TOKEN}/").status_code,
        client.post(address).status_code,
        client.get(f"/p/{TOKEN}/breaks/").status_code,
        client.post(address, b"x" * 3_000_000, content_type="application/x-www-form-urlencoded").status_code,
    ]
    assert statuses == [404, 404, 403, 500, 413]
    message = log.getvalue()
    assert TOKEN not in message
    for message_parts in (
        "Not Found: /p/•••/",
        "Forbidden (CSRF token missing.): /p/•••/",
        "Internal Server Error: /p/•••/breaks/",
        "ZeroDivisionError: /p/•••/breaks/",
    ):
        assert message_parts in message


def test_tokens_are_removed_from_logged_urls() -> None:
    formatter = OneLineFormatter("%(message)s")
    for message in (
        f"GET /p/{TOKEN} HTTP/1.1",
        f"POST /stop/{TOKEN}/ HTTP/1.1",
        f"POST /as2/mdn/6d3ce6a2-1f3c-4d6e-9f10-0123456789ab/{TOKEN}/ HTTP/1.1",
        f"'https://certs.example.com/p/{TOKEN}/installed/'",
        f'"/p/{TOKEN}?x=1"',
        f"<a href=/p/{TOKEN}>",
    ):
        record = logging.LogRecord("x", logging.WARNING, "x", 1, "%s", (message,), None)
        assert TOKEN not in formatter.format(record)
    other = logging.LogRecord("x", logging.WARNING, "x", 1, "Not Found: /partners/%s/", ("17",), None)
    assert formatter.format(other) == "Not Found: /partners/17/"


def test_the_web_server_logs_no_token(make_stack: Callable[..., Stack]) -> None:
    stack = make_stack()
    (web,) = stack.start("web")
    assert stack.get(f"/p/{TOKEN}/")[0] == 404
    assert stack.get(f"/p/{TOKEN}/nowhere/")[0] == 404
    assert _raw(stack, f"GET /p/{TOKEN}/ <>\r\n\r\n").startswith("HTTP/1.1 400")
    wait_until(lambda: "Invalid request" in web.log, what="gunicorn's complaint")
    assert "Not Found: /p/•••/nowhere/" in web.log
    assert TOKEN not in web.log


def _raw(stack: Stack, request: str) -> str:
    with socket.create_connection(("127.0.0.1", stack.port), timeout=10) as connection:
        connection.sendall(request.encode())
        return connection.recv(200).decode()
