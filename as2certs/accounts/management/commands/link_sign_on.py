"""Link an account to single sign-on, or unlink it."""

from __future__ import annotations

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.accounts import sign_on
from as2certs.accounts.models import User
from as2certs.audit.recording import Actor


class Command(BaseCommand):
    help = (
        "Link a person's account to their subject (sub) at the OpenID provider of the settings. They find it on the "
        "login page when they try in vain; be sure that it is them. From then on their roles are those of their groups "
        "there. --unlink ends it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("username", help="the name with which the person logs in here")
        parser.add_argument("subject", nargs="?", default="", help="what the provider calls the person (sub)")
        parser.add_argument("--unlink", action="store_true", help="take single sign-on from the person")

    def handle(self, *args: Any, **options: Any) -> None:
        user = User.objects.filter(username=options["username"]).first()
        if user is None:
            raise CommandError(f"Nobody logs in as “{options['username']}”. Names are case-sensitive.")
        if not sign_on.is_enabled():
            raise CommandError("Single sign-on is off: set AS2CERTS_OIDC_ISSUER and what belongs to it.")
        by = Actor.command("link_sign_on")
        if options["unlink"]:
            if not sign_on.unlink(user, by=by):
                raise CommandError(f"{user.username} is not linked. Nothing was changed.")
            self.stdout.write(f"{user.username} does not log in with {sign_on.provider_name()} any more.")
            return
        if not options["subject"]:
            raise CommandError("Give the subject (sub) too, or --unlink.")
        try:
            sign_on.link(user, options["subject"], by=by)
        except ValidationError as error:
            raise CommandError(error.messages[0]) from error
        self.stdout.write(f"{user.username} logs in with {sign_on.provider_name()} as {options['subject']}.")
