"""A pytest plugin (``-p tests.on_postgres``): the tests' database is a private PostgreSQL server instead of SQLite.

It starts when it is imported, which is before pytest-django reads the settings. The processes among which a run is
divided share it: they inherit its address, and pytest-django gives each of them a database of its own.
"""

from __future__ import annotations

import os

import pytest

from tests import programs
from tests.servers import Postgres

server = Postgres() if programs.postgres_folder() and "PYTEST_XDIST_WORKER" not in os.environ else None
if server:
    os.environ["TEST_DATABASE_URL"] = server.url


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        item.add_marker("postgres")  # skipped, and told of, where it is missing


def pytest_unconfigure() -> None:
    if server:
        server.close()
