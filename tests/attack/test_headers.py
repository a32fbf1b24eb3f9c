"""What goes with each answer: policies, cookies, and where a log-in may lead."""

from __future__ import annotations

import urllib.request
from collections.abc import Callable

import pytest
from django.core.handlers.wsgi import get_script_name
from django.test import Client
from django.urls import reverse

from as2certs.content_security_policy import POLICY
from as2certs.mail.models import Message
from tests.attack.addresses import root_client
from tests.inventory import NOW
from tests.people import PASSWORD, log_in, make_person
from tests.stack import Stack

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("name", ["login", "home", "settings", "healthz", "admin:index", "nothing"])
def test_each_answer_says_what_a_page_may_do(name: str) -> None:
    answer = root_client().get("/nothing/" if name == "nothing" else reverse(name), follow=True)
    assert answer["Content-Security-Policy"] == POLICY
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Referrer-Policy"] == "same-origin"
    assert answer["X-Frame-Options"] == "DENY"
    assert answer["Cross-Origin-Opener-Policy"] == "same-origin"


def test_a_mails_html_has_a_stricter_policy_of_its_own_and_fits_into_its_frame() -> None:
    message = Message.objects.create(
        key="k",
        kind="test",
        to_address="a@example.com",
        subject="s",
        text="t",
        html="<head></head><script>alert(1)</script>",
        message_id="<m@x>",
        created_at=NOW,
        due_at=NOW,
    )
    answer = root_client().get(reverse("mail-html", args=[message.uid]))
    assert "default-src 'none'" in answer["Content-Security-Policy"]
    assert "sandbox" in answer["Content-Security-Policy"]
    assert "allow-scripts" not in answer["Content-Security-Policy"]
    assert answer["X-Frame-Options"] == "SAMEORIGIN"


def test_cookies_are_out_of_the_reach_of_scripts_and_other_sites() -> None:
    make_person("vera", "viewer")
    client = Client()
    client.get(reverse("login"))
    client.post(reverse("login"), {"username": "vera", "password": PASSWORD})
    for name in ("sessionid", "csrftoken"):
        assert client.cookies[name]["httponly"], name
        assert client.cookies[name]["samesite"] == "Lax", name


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.example/",
        "//evil.example/",
        "/\\evil.example/",
        "javascript:alert(1)",
        "http:evil",
        "\x00//evil",
    ],
)
def test_logging_in_and_out_leads_to_no_other_site(target: str) -> None:
    make_person("vera", "viewer")
    client = Client()
    for address in (reverse("login"), f"{reverse('login')}?next={target}"):
        answer = client.post(address, {"username": "vera", "password": PASSWORD, "next": target})
        assert answer["Location"] == reverse("home")
        answer = client.post(f"{reverse('logout')}?next={target}", {"next": target})
        assert answer["Location"] == reverse("login")


def test_looking_at_the_address_logs_nobody_out() -> None:
    client = log_in(make_person("vera", "viewer"))
    assert client.get(reverse("logout")).status_code == 405
    assert client.get(reverse("home")).status_code == 200


def test_an_address_of_another_host_is_not_believed() -> None:
    for host in ("evil.example", "localhost.evil.example", "localhost:80@evil.example", "evil.example:80"):
        assert Client().get(reverse("login"), headers={"host": host}).status_code == 400, host
    answer = Client().get(reverse("login"), headers={"x-forwarded-host": "evil.example"})
    assert "evil.example" not in answer.content.decode()


@pytest.mark.processes
@pytest.mark.parametrize("proxies", ["198.51.100.0/24", pytest.param("127.0.0.0/8", marks=pytest.mark.extended)])
def test_gunicorn_believes_the_proxies_of_the_settings_and_moves_links_for_nobody(
    make_stack: Callable[..., Stack], proxies: str
) -> None:
    stack = make_stack(
        environment={
            "AS2CERTS_BASE_URL": "https://certs.example.com",
            "AS2CERTS_PROXIES": proxies,
            "FORWARDED_ALLOW_IPS": "*",
        }
    )
    stack.start("web")
    forged = {
        "SCRIPT_NAME": "/evil",
        "Script-Name": "/evil",
        "PATH_INFO": "/evil/",
        "X-Forwarded-Host": "evil.example",
        "X-Forwarded-Prefix": "/evil",
        "X-Forwarded-Proto": "https",
    }
    request = urllib.request.Request(f"{stack.url}/login/", headers=forged)  # noqa: S310  # our own address
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
        page = answer.read().decode()
    assert 'name="password"' in page
    assert "evil" not in page
    assert ("Strict-Transport-Security" in answer.headers) is (proxies == "127.0.0.0/8")


def test_a_script_name_moves_no_link() -> None:
    # As another WSGI server may take it from a header.
    assert get_script_name({"SCRIPT_NAME": "/evil"}) == ""
