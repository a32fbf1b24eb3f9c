"""A django-pyas2 server with a sender, run by the Python of its own environment: see `tests.peers.pyas2_peer`.

    python -m tests.peers.pyas2_program CONFIG           serve, and obey the signals of `tests.peers.station`
    python -m tests.peers.pyas2_program CONFIG assign    put the certificates of a JSON object on standard input to use

Both have the configuration of `tests.peers.station`, with "folder" in place of the store, and one partner. Rows of keys
and certificates are named by the SHA-256 of the certificate, which the journal shows.
"""

from __future__ import annotations

import base64
import json
import os
import sys
import threading
from functools import partial
from pathlib import Path
from typing import Any

import django
import waitress
from django.core.handlers.wsgi import WSGIHandler
from django.core.management import call_command

from tests.peers import journal
from tests.peers.sending import Sender, block_signals, obey_signals

#: The fields of django-pyas2 by the names of `assign`: its own keys, and the certificates that it has of the partner.
OWN = {"sign": "signature_key", "decrypt": "encryption_key"}
THEIRS = {"verify": "signature_cert", "encrypt": "encryption_cert"}
VERDICTS = {"S": "accepted", "E": "refused", "R": "no-answer"}


def set_up(folder: Path) -> None:
    """Start Django with the settings in a folder."""
    sys.path.insert(0, str(folder))
    os.environ["DJANGO_SETTINGS_MODULE"] = "pyas2_project"
    django.setup()


class Receiver:
    """The WSGI application of django-pyas2; it also writes down which messages were stored, whatever is answered."""

    def __init__(self, notes: journal.Journal) -> None:
        self.application, self.notes = WSGIHandler(), notes
        self.last = 0

    def __call__(self, environ: Any, start_response: Any) -> Any:
        from pyas2.models import Message

        response = self.application(environ, start_response)
        for message in Message.objects.filter(direction="IN", pk__gt=self.last).order_by("pk"):
            self.last = message.pk
            if message.status != "S":
                self.notes.write(journal.REFUSED, partner=message.partner_id, problem=message.detailed_status)
                continue
            with message.payload.open() as payload:
                tag = payload.read().decode("ascii").strip()
            self.notes.store(tag, partner=message.partner_id, status=response.status_code)
        return response


def make_stations(as2_id: str, partner: str, url: str) -> None:
    """Create the organization and the partner, who sign and encrypt and ask for signed MDNs."""
    from pyas2.models import Organization, Partner

    Organization.objects.get_or_create(as2_name=as2_id, defaults={"name": as2_id})
    ways = {"signature": "sha256", "encryption": "aes_256_cbc", "mdn": True, "mdn_mode": "SYNC", "mdn_sign": "sha256"}
    Partner.objects.get_or_create(as2_name=partner, defaults={"name": partner, "target_url": url, **ways})


def assign(wanted: dict[str, dict[str, str]]) -> None:
    """Put certificates to use: by role "sha256" and "content" (base64), for our own keys also the "password"."""
    from pyas2.models import Organization, Partner, PrivateKey, PublicCertificate

    for fields, station, model, column in (
        (OWN, Organization.objects.get(), PrivateKey, "key"),
        (THEIRS, Partner.objects.get(), PublicCertificate, "certificate"),
    ):
        for role in fields.keys() & wanted.keys():
            given = wanted[role]
            columns: dict[str, Any] = {column: base64.b64decode(given["content"])}
            columns |= {"key_pass": given["password"]} if model is PrivateKey else {"verify_cert": False}
            row, _ = model.objects.get_or_create(name=given["sha256"], defaults=columns)
            setattr(station, fields[role], row)
        station.save()


def send(notes: journal.Journal, tag: str) -> None:
    """Send the partner a message with a tag, as the command `sendas2message` does, and write down what came of it."""
    from pyas2.models import Message, Organization, Partner
    from pyas2lib import Message as As2Message

    organization, partner = Organization.objects.get(), Partner.objects.get()
    notes.write(journal.SENDING, partner=partner.as2_name, tag=tag)
    built = As2Message(sender=organization.as2org, receiver=partner.as2partner)
    built.build(tag.encode("ascii"), filename=f"{tag}.txt")
    message, _ = Message.objects.create_from_as2message(
        as2message=built, payload=tag.encode("ascii"), filename=f"{tag}.txt", direction="OUT", status="P"
    )
    message.send_message(built.headers, built.content)
    notes.write(
        journal.OUTCOME,
        partner=partner.as2_name,
        tag=tag,
        verdict=VERDICTS.get(message.status, message.status),
        sentence=message.detailed_status or "",
        signed_with=organization.signature_key.name,
        encrypted_to=partner.encryption_cert.name,
    )


def serve(config: dict[str, Any], partner: str) -> None:
    """Serve, and obey the signals."""
    block_signals()
    notes = journal.Journal(Path(config["journal"]))
    # One thread: django-pyas2 sends from another process in real life, and SQLite has one writer anyway.
    options = {"host": "127.0.0.1", "port": config["port"], "threads": 1}
    threading.Thread(target=waitress.serve, args=(Receiver(notes),), kwargs=options, daemon=True).start()
    sender = Sender(partial(send, notes), f"{config['as2_id']}-{partner}", config["seconds"])
    obey_signals([sender], notes)


def main(path: str, *words: str) -> None:
    config = json.loads(Path(path).read_text())
    set_up(Path(config["folder"]))
    ((partner, url),) = config["partners"].items()
    if words == ("assign",):
        call_command("migrate", verbosity=0)
        make_stations(config["as2_id"], partner, url)
        assign(json.load(sys.stdin))
        return
    serve(config, partner)


if __name__ == "__main__":
    main(*sys.argv[1:])
