"""Remove the second factors of a user who lost them."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.accounts import second_factors
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor
from as2certs.clock import database_now


class Command(BaseCommand):
    help = (
        "Take all second factors of a person away who lost theirs. They log in with their password alone, and set up "
        "another one. Be sure that it is them who asks: call them back."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the name with which the person logs in")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"Nobody logs in as “{options['username']}”. Names are case-sensitive.")
        count = second_factors.remove_all(user, by=Actor.command("reset_second_factor"), now=database_now())
        if not count:
            raise CommandError(f"{user.username} has no second factor. Nothing was changed.")
        self.stdout.write(f"{user.username} has no second factor any more, and logs in with the password alone.")
