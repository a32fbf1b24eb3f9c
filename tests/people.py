"""People for tests, and browsers in which they are logged in."""

from __future__ import annotations

from django.contrib.auth.models import Group
from django.test import Client
from django.urls import reverse

from as2certs.accounts.models import User

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


def confirm(client: Client, password: str = PASSWORD) -> Client:
    """Show again, by the password, who it is that is logged in: for five minutes grave things can be done."""
    client.post(reverse("account_reauthenticate"), {"password": password})
    return client
