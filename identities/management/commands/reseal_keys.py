"""Seal all keys, second factors, passwords, and links in mails that wait, anew with the first key of the vault."""

from __future__ import annotations

from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from as2certs.accounts import second_factors
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.clock import database_now
from as2certs.mail import sealed_values
from as2certs.pki import VaultError, new_vault_key
from identities import system_credentials
from identities.certificates import private_keys


class Command(BaseCommand):
    help = (
        "Seal every private key, second factor, password of an AS2 system, and link in a mail with the first key of "
        "AS2CERTS_VAULT_KEYS; "
        "the application may run meanwhile. "
        "To change the vault's key: put a new one first, restart, run this, then take the old one out and restart. "
        "--new-key prints a new key for the vault and changes nothing."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--new-key", action="store_true", help="print a new vault key, and change nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        if options["new_key"]:
            self.stdout.write(new_vault_key())
            return
        try:
            count = private_keys.reseal_all()
            mails = sealed_values.reseal_all()
            people = second_factors.reseal_all()
            systems = system_credentials.reseal_all()
        except VaultError as error:
            raise CommandError(f"{error} The keys sealed anew so far are fine; run this again.") from error
        record(
            AuditEvent("vault.resealed", Installation.current(), new={"keys": count}),
            by=Actor.command("reseal_keys"),
            now=database_now(),
        )
        self.stdout.write(
            f"{count} private keys, {people} second factors, the passwords of {systems} AS2 systems and the links in "
            f"{mails} mails are sealed with the first key of the vault."
        )
