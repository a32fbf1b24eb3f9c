"""What the tests of rotations' pages share: a clock that stands still, and people in their browsers."""

from __future__ import annotations

import pkgutil
from datetime import datetime
from importlib import import_module

import pytest
from django.test import Client

from rotations import web
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company

#: Modules of the pages that ask the clock by themselves: views, and the filters of lists.
ASK_THE_CLOCK = [
    name
    for module in pkgutil.walk_packages(web.__path__, f"{web.__name__}.")
    if hasattr(import_module(name := module.name), "database_now")
]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """Stop the clock of the views at NOW."""
    for name in ASK_THE_CLOCK:
        monkeypatch.setattr(f"{name}.database_now", lambda: NOW)
    monkeypatch.setattr("django.utils.timezone.now", lambda: NOW)
    return NOW


@pytest.fixture
def company(db: None, clock: datetime) -> Company:
    """A company without a connected AS2 system: changes are made in the inventory alone."""
    return make_company(connector=None)


@pytest.fixture
def operator(company: Company) -> Client:
    return log_in(make_person("olivia", "operator"))


@pytest.fixture
def approver(company: Company) -> Client:
    return log_in(make_person("amir", "approver"))


@pytest.fixture
def viewer(company: Company) -> Client:
    return log_in(make_person("vera", "viewer"))
