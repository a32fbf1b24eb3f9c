"""Fixtures for everybody: private servers, a browser, the whole application; and what was skipped without them."""

from __future__ import annotations

import gc
import os
import sqlite3
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import connection
from django.test import TransactionTestCase
from hypothesis import settings
from playwright.sync_api import Browser, Page

from tests import programs
from tests.e2e.desk import own_browser
from tests.faults import rows
from tests.servers import MailServer, Postgres, Redis
from tests.stack import Stack
from tests.trail import unguarded

#: Fixtures that want a program, by its marker: whoever uses one need not mark the test.
FIXTURES = {
    "postgres": "postgres",
    "redis_server": "redis",
    "broker": "redis",
    "chromium": "browser",
    "libfaketime": "libfaketime",
}

#: Fixtures of tests with processes of their own: installations and browsers. Each test gets its own marker from them.
PROCESS_FIXTURES = {"moulds", "chromium"}
#: A test that uses one of these uses the database of the tests' own process.
DATABASE_FIXTURES = {"db", "transactional_db"}

MISSING = programs.missing()

# A machine that is busy with something else is no failure of what is tried.
settings.register_profile("busy", deadline=None)
settings.load_profile("busy")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--fail-on-skip", action="store_true", help="A skipped test is a failure, as it is in CI.")
    rows.add_option(parser)


def pytest_configure(config: pytest.Config) -> None:
    """Let each run end with the search for what it had to do with in secret."""
    config.pluginmanager.import_plugin("tests.secret_search")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Keep the garbage collector from going again and again through all modules and tests, which stay anyway."""
    gc.disable()
    yield
    gc.freeze()
    gc.set_threshold(20_000, 20, 20)
    gc.enable()


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by the fixtures that they use and where they are, and skip those whose program is missing."""
    rows.sort_out(config, items)
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if PROCESS_FIXTURES & fixtures and not item.get_closest_marker("alone"):
            item.add_marker("processes")
        if item.get_closest_marker("django_db") or DATABASE_FIXTURES & fixtures:
            item.add_marker("database")
        for fixture in getattr(item, "fixturenames", ()):
            if fixture in FIXTURES:
                item.add_marker(FIXTURES[fixture])
        for marker, program in MISSING.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=f"{program.name} is not installed"))


def pytest_report_collectionfinish(config: pytest.Config, items: list[pytest.Item]) -> list[str]:
    """Say how the rows of the table of faults are covered, where it is they that are asked for."""
    return list(rows.counted(items)) if config.option.markexpr.startswith("faults") else []


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
    """Say last which programs would have been wanted, and the command that brings them."""
    yield
    if terminalreporter.config.getoption("--faults") == "full":
        reports = [report for kind in ("passed", "failed", "error") for report in terminalreporter.getreports(kind)]
        terminalreporter.write_sep("-", "seconds for each row of the table of faults")
        for line in rows.took(reports):
            terminalreporter.write_line(line)
    skipped = terminalreporter.stats.get("skipped", [])
    wanted = [p for p in MISSING.values() if any(f"{p.name} is not installed" in str(r.longrepr) for r in skipped)]
    if wanted:
        names = ", ".join(program.name for program in wanted)
        terminalreporter.write_sep("-", f"{len(skipped)} tests were skipped: {names} not installed")
        terminalreporter.write_line(f"To run them too: {programs.command_for(wanted)}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the processes of the test's installations logged last."""
    report = yield
    if report.failed:
        for value in getattr(item, "funcargs", {}).values():
            for process in value.processes if isinstance(value, Stack) else ():
                report.sections.append((f"Log of {process.name}, {process.pid}", process.log[-3000:]))
    return report


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--fail-on-skip") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = session.exitstatus or pytest.ExitCode.TESTS_FAILED


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Restore the database after each test that commits.

    On SQLite a copy of the new database is put back, which is much faster than to empty each table. On PostgreSQL
    Django empties the tables, without what guards the trail's.
    """
    empty = vars(TransactionTestCase)["_fixture_teardown"]
    new = sqlite3.connect(":memory:", check_same_thread=False)
    if on_sqlite := connection.vendor == "sqlite":
        with django_db_blocker.unblock():
            connection.ensure_connection()
            connection.connection.backup(new)

    def restore_copy() -> None:
        connection.ensure_connection()
        deadline = time.monotonic() + 30
        while True:
            try:
                return new.backup(connection.connection)
            except sqlite3.OperationalError:  # a browser's last request is still using a table
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.05)

    def restore(case: TransactionTestCase) -> None:
        if on_sqlite:
            restore_copy()
        else:
            with unguarded():
                empty(case)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TransactionTestCase, "_fixture_teardown", restore)
        yield
    new.close()


@pytest.fixture(scope="session")
def full(pytestconfig: pytest.Config) -> bool:
    """Say whether the tests of faults take their whole numbers: ``make test-faults``."""
    return bool(pytestconfig.getoption("--faults") == "full")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A PostgreSQL server; ``url`` is an empty database, ``new_database()`` makes more."""
    server = Postgres()
    yield server
    server.close()


@pytest.fixture(scope="session")
def redis_server() -> Iterator[Redis]:
    """A Redis server; ``pause()`` lets it hang, ``kill()`` and ``start()`` empty it."""
    server = Redis()
    yield server
    server.close()


@pytest.fixture
def smtp_server() -> Iterator[MailServer]:
    """A mail server that keeps what it is given in ``messages``."""
    server = MailServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """A headless browser, the one that is installed."""
    # Playwright keeps an event loop running in this thread; Django would refuse the database for that.
    os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
    with own_browser() as browser:
        yield browser
    del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]


@pytest.fixture
def page(chromium: Browser) -> Iterator[Page]:
    """A page of a browser that knows nobody yet."""
    context = chromium.new_context(viewport={"width": 1440, "height": 1200}, locale="en-GB")
    context.set_default_timeout(15_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def moulds(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Postgres | None], Stack]:
    """Return an installation on SQLite or on this server that was prepared once, to make others from."""
    made: dict[Postgres | None, Stack] = {}

    def mould(server: Postgres | None) -> Stack:
        if server not in made:
            url = server.new_database() if server else ""
            made[server] = Stack(tmp_path_factory.mktemp("mould"), database_url=url)
            made[server].prepare()
        return made[server]

    return mould


@pytest.fixture
def make_stack(tmp_path: Path, moulds: Callable[[Postgres | None], Stack]) -> Iterator[Callable[..., Stack]]:
    """Make installations of the application with real processes; all end with the test.

    ``postgres`` gives it a database of its own on that server, ``redis_url``, ``email_url`` and ``environment`` are
    passed on to Stack. Then ``start()`` what is wanted.
    """
    stacks: list[Stack] = []

    def make(*, postgres: Postgres | None = None, **options: Any) -> Stack:
        mould = moulds(postgres)
        if postgres:
            options["database_url"] = postgres.new_database(template=mould.database_url)
        stack = Stack(tmp_path / f"var{len(stacks)}", **options)
        stacks.append(stack)
        stack.prepare(mould=None if stack.database_url and not postgres else mould)
        return stack

    yield make
    for stack in stacks:
        stack.kill()
