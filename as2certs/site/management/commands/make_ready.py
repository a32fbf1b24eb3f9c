"""Bring an installation to where its processes can be started."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.checks import ERROR, CheckMessage, run_checks
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError, connection, transaction

from as2certs import private_folder
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.mail.delivery import uses_mail_folder


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


class Command(BaseCommand):
    help = "Bring the database to today's shape, collect static files, and check settings and vault."
    requires_system_checks: list[str] = []  # checked in handle, in one line each

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--administrator",
            action="store_true",
            help="where nobody can log in yet, make the first administrator and print a one-time password",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare everything. Raises CommandError with one sentence, such as when the disk is full."""
        try:
            private_folder.prepare(settings.VAR)
            self._create_database_file()
            self._prepare(administrator=options["administrator"])
            private_folder.prepare(settings.VAR)  # what was made meanwhile
        except private_folder.FolderRefused as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(private_folder.explain(Path(error.filename or settings.VAR), error)) from error
        except OperationalError as error:
            raise CommandError(f"The database can't be written: {_first_line(error)}. Is its disk full?") from error

    def _create_database_file(self) -> None:
        """Create SQLite's file if it is missing: its journals get its rights."""
        if connection.vendor == "sqlite":
            with contextlib.suppress(FileExistsError):
                os.close(os.open(connection.settings_dict["NAME"], os.O_CREAT | os.O_EXCL, 0o600))

    def _prepare(self, *, administrator: bool) -> None:
        for folder in self._broker_folders():
            folder.mkdir(parents=True, exist_ok=True)
        if settings.AS2CERTS_DIRECTORY_ROOT == settings.VAR / "as2":
            # Only our own default: a root that was named may be a disk that is not mounted yet.
            settings.AS2CERTS_DIRECTORY_ROOT.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._check(databases=None)
        try:
            connection.ensure_connection()
        except OperationalError as error:
            raise CommandError(f"The database can't be opened: {_first_line(error)}") from error
        call_command("migrate", interactive=False, verbosity=0)
        self._check(databases=["default"])
        call_command("collectstatic", interactive=False, verbosity=0)
        if administrator:
            self._make_first_administrator()

    def _broker_folders(self) -> list[Path]:
        transport = settings.CELERY_BROKER_TRANSPORT_OPTIONS
        return [Path(transport[name]) for name in ("data_folder_in", "control_folder") if name in transport]

    def _check(self, *, databases: list[str] | None) -> None:
        found = run_checks(databases=databases)
        if errors := [one for one in found if one.level >= ERROR]:
            raise CommandError(" ".join(_in_one_line(error) for error in errors))
        for warning in found:
            if (warning.id or "").startswith("as2certs."):
                self.stderr.write(_in_one_line(warning))

    def _make_first_administrator(self) -> None:
        password = secrets.token_urlsafe(12)
        with transaction.atomic():
            if User.objects.exists():
                return
            user = User(username="admin", is_staff=True, is_superuser=True, must_change_password=True)
            # Without a mail server every mail stays in the built-in mail view, so any address will do.
            user.email = "admin@localhost" if uses_mail_folder() else ""
            user.set_password(password)
            user.save()
            user.groups.add(Group.objects.get(name="administrator"))
            record(AuditEvent("user.created", user), by=Actor.command("make_ready"), now=database_now())
        self.stdout.write(
            f"\n    Log in as  admin\n    password   {password}\n\n"
            "    It is shown this once. You are asked for one of your own at the first login.\n"
        )


def _in_one_line(found: CheckMessage) -> str:
    return f"{found.msg} {found.hint or ''}".strip()
