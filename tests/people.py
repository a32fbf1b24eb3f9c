"""People for tests, and browsers in which they are logged in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.conf import settings
from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext

PASSWORD = "a long password"


def make_person(username: str, role: str | None = None, **columns: object) -> User:
    """Store a person in the group of a role; None: in no group."""
    user = User.objects.create_user(username, f"{username}@example.com", PASSWORD, **columns)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def log_in(user: User) -> Client:
    """Return a client in which this person is logged in."""
    client = Client()
    client.force_login(user)
    return client


def log_in_browser(context: BrowserContext, user: User, url: str) -> None:
    """Log a person in at an address without its pages: by the cookie of a session."""
    session = log_in(user).cookies[settings.SESSION_COOKIE_NAME]
    context.add_cookies([{"name": session.key, "value": session.value, "url": url}])


def confirm(client: Client, password: str = PASSWORD) -> Client:
    """Show again, by the password, who it is that is logged in: for five minutes grave things can be done."""
    client.post(reverse("account_reauthenticate"), {"password": password})
    return client
