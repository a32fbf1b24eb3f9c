"""A report of a fault tells where it happened, and nothing of what was handled there."""

from __future__ import annotations

import logging
import sys
from types import TracebackType
from typing import Any

import pytest
from django.conf import LazySettings
from django.http import HttpRequest
from django.test import RequestFactory
from django.views.debug import ExceptionReporter, get_exception_reporter_filter

from as2certs.logs import OneLineFormatter

SECRET = "a secret that was typed"


def _break_with(password: str) -> None:
    key_bytes = f"PRIVATE KEY {password}"
    raise ZeroDivisionError(len(key_bytes) * 0)


def fault(password: str) -> tuple[type[BaseException], BaseException, TracebackType]:
    try:
        _break_with(password)
    except ZeroDivisionError:
        kind, error, trace = sys.exc_info()
        assert kind is not None
        assert error is not None
        assert trace is not None
        return kind, error, trace
    raise AssertionError


@pytest.fixture
def request_with_secrets() -> HttpRequest:
    request = RequestFactory().post("/anything/", {"reason": SECRET, "upload-password": SECRET})
    request.COOKIES["sessionid"] = SECRET
    request.META["HTTP_COOKIE"] = f"sessionid={SECRET}"
    return request


@pytest.mark.parametrize("kind", ["text", "html"])
def test_no_variable_field_or_cookie_is_in_a_report(request_with_secrets: HttpRequest, kind: str) -> None:
    reporter = ExceptionReporter(request_with_secrets, *fault(SECRET), is_email=True)
    report = reporter.get_traceback_text() if kind == "text" else reporter.get_traceback_html()
    assert "ZeroDivisionError" in report
    assert "_break_with" in report
    assert SECRET not in report


def test_the_passwords_of_servers_and_the_vaults_keys_are_not_in_a_report(settings: LazySettings) -> None:
    settings.REDIS_URL = settings.CELERY_BROKER_URL = f"redis://:{SECRET}@redis.example/0"
    settings.EMAIL_HOST_PASSWORD = settings.AS2CERTS_BUNDLE_PASSWORD = SECRET
    shown = str(get_exception_reporter_filter(None).get_safe_settings())
    assert SECRET not in shown
    assert settings.AS2CERTS_VAULT_KEYS[0] not in shown
    assert settings.SECRET_KEY not in shown


def test_a_name_with_line_ends_writes_no_log_line_of_its_own(settings: LazySettings) -> None:
    told: dict[str, Any] = settings.LOGGING["formatters"]["line"]  # type: ignore[index]
    formatter = OneLineFormatter(told["format"], style=told["style"])
    name = "ACME\r\n2026-11-23 12:00:00 INFO rotations: all is well\u2028\u202e"
    record = logging.LogRecord("rotations", logging.ERROR, "x", 1, "%s failed", (name,), None)
    record.exc_info = fault(SECRET)
    line, *below = formatter.format(record).splitlines()
    assert "\\r\\n2026" in line
    assert line.endswith("\\u2028\\u202e failed")
    assert below[0] == "Traceback (most recent call last):"
