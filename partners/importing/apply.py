"""Bring a list into the inventory: read and check everything, then store all of it in one transaction, or nothing.

Trying it out is the same run, undone at its end: so what it says is what will be done.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record, record_many
from as2certs.rows import in_batches, insert_objects
from identities.certificate_bulk_import import (
    BATCH_SIZE,
    CertificateIndex,
    IncomingCertificate,
    import_certificates,
)
from identities.models import Identity
from partners.errors import ImportConflict, UnreadableCertificateFile, UnreadableSource
from partners.importing.csv_rows import ListRow, ParsedList, RowProblem
from partners.importing.sources import MAX_BYTES, CertificateSource
from partners.models import Contact, Partner, PartnerCertificate, Partnership

StationKey = tuple[str, str]


@dataclass
class InventoryImportResult:
    """What a run did, or would do: numbers of rows and of what they bring, and what is to be said about rows.

    A row with a trouble brings nothing. ``unlike`` rows are brought in, and want to be read all the same: a
    certificate with a warning, or what is known differently here and stays so.
    """

    rows: int = 0
    troubles: list[RowProblem] = field(default_factory=list)
    remarks: list[RowProblem] = field(default_factory=list)
    partners: int = 0
    contacts: int = 0
    partnerships: int = 0
    certificates: int = 0
    in_service: int = 0
    waiting: int = 0
    stored: bool = False

    @property
    def is_nothing_new(self) -> bool:
        """Say whether all that the rows say is here already."""
        return not any((self.partners, self.contacts, self.partnerships, self.certificates, self.in_service))

    @property
    def brings(self) -> str:
        """Say how many of each are new: "2 partners, 1 contact, no partnerships and 2 certificates"."""
        counts = [
            _format_count(self.partners, "partner"),
            _format_count(self.contacts, "contact"),
            _format_count(self.partnerships, "partnership"),
            _format_count(self.certificates, "certificate"),
        ]
        return f"{', '.join(counts[:-1])} and {counts[-1]}"

    @property
    def faulty_rows(self) -> int:
        return len({trouble.line for trouble in self.troubles})


def import_list(
    listing: ParsedList,
    source: CertificateSource,
    *,
    by: Actor,
    now: datetime,
    name: str = "",
    dry_run: bool = False,
    skip_faulty: bool = False,
) -> InventoryImportResult:
    """Store what a list says, and return what became of it; ``name`` is the list's, for the trail.

    With a trouble in any row nothing is stored, unless ``skip_faulty`` leaves out such rows. Raises UnreadableSource
    for more bytes of certificates than a run may have, ImportConflict.
    """
    outcome = InventoryImportResult(rows=listing.rows_in_all, troubles=list(listing.troubles))
    rows = list(_read_certificates(listing.rows, source, outcome))
    try:
        with transaction.atomic():
            _ImportRun(rows, outcome, by=by, now=now).do()
            outcome.troubles.sort(key=lambda trouble: trouble.line)
            outcome.stored = not dry_run and (skip_faulty or not outcome.troubles)
            if outcome.stored and not outcome.is_nothing_new:
                _record(outcome, name, by=by, now=now)
            if not outcome.stored:
                transaction.set_rollback(True)
    except IntegrityError as error:
        raise ImportConflict(
            "Somebody stored the same at this moment, so nothing was: run it again."
        ) from error
    return outcome


@dataclass(frozen=True)
class _ReadCertificate:
    """What is kept of a row's file: what it says, and the columns of its row, without the parsed certificate."""

    description: pki.Description
    columns: dict[str, Any]


def _read_certificates(
    rows: Iterable[ListRow], source: CertificateSource, outcome: InventoryImportResult
) -> Iterator[tuple[ListRow, _ReadCertificate | None]]:
    """Read each row's certificate; a row whose file is none is left out, and a trouble. Raises UnreadableSource."""
    left = MAX_BYTES
    chains: dict[str, str] = {}  # a chain that thousands of files share is held once
    for row in rows:
        if not row.certificate:
            yield row, None
            continue
        try:
            data = source.read(row.certificate)
            left -= len(data)
            material = pki.read_public(data, partner=True)
        except (UnreadableCertificateFile, pki.PkiError) as error:
            left -= pki.MAX_FILE_BYTES if isinstance(error, pki.UnreadableFile) else 0
            outcome.troubles.append(RowProblem(row.line, _prefix_file_name(row.certificate, str(error))))
        else:
            columns = PartnerCertificate.columns_from(material)
            columns["chain_pem"] = chains.setdefault(columns["chain_pem"], columns["chain_pem"])
            yield row, _ReadCertificate(material.description, columns)
        if left < 0:
            raise UnreadableSource(
                f"The certificates take more than {MAX_BYTES // 1024 // 1024} MiB together, where 20,000 take less: "
                "look which files are no certificates, or cut the list into several."
            )


def _prefix_file_name(name: str, said: str) -> str:
    return said if name in said else f"{name}: {said}"


def _format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


class _ImportRun:
    """One run inside its transaction."""

    def __init__(
        self,
        rows: list[tuple[ListRow, _ReadCertificate | None]],
        outcome: InventoryImportResult,
        *,
        by: Actor,
        now: datetime,
    ) -> None:
        self.rows, self.outcome, self.by, self.now = rows, outcome, by, now
        self.arrivals: list[IncomingCertificate] = []
        self.contacts: list[Contact] = []
        self.partnerships: list[Partnership] = []
        self.new_partners: dict[StationKey, Partner] = {}

    def do(self) -> None:
        self._look_up()
        for row, read in self.rows:
            self._take(row, read)
        self._store()

    # What is here already: a number of queries per batch of rows.

    def _look_up(self) -> None:
        ids = {row.as2_id for row, _ in self.rows}
        self.partners: dict[StationKey, Partner] = {}
        self.archived: set[StationKey] = set()
        for some in in_batches(sorted(ids), BATCH_SIZE):
            found = Partner.objects.filter(as2_id__in=some)
            # One at a time for a partner, as in a single upload; in one order, so that two runs don't block each other.
            for partner in found.active().order_by("pk").select_for_update(no_key=True):
                self.partners[partner.as2_id, partner.environment] = partner
            self.archived.update(found.exclude(archived_at=None).values_list("as2_id", "environment"))
        wanted = {one for row, _ in self.rows for one in _identity_ids(row)}
        self.identities: dict[StationKey, Identity] = {}
        for some in in_batches(sorted(wanted), BATCH_SIZE):
            for identity in Identity.objects.active().filter(as2_id__in=some):
                self.identities[identity.as2_id, identity.environment] = identity
        self.people: set[tuple[int, str]] = set()
        self.connected: dict[tuple[int, int], bool] = {}
        for partners in in_batches([partner.pk for partner in self.partners.values()], BATCH_SIZE):
            for contact in Contact.objects.filter(partner__in=partners):
                self.people.add((contact.partner_id, _contact_key(contact)))
            pairs = Partnership.objects.filter(partner__in=partners)
            for partner, identity, ended in pairs.values_list("partner_id", "identity_id", "archived_at"):
                self.connected[partner, identity] = ended is None
        self.register = CertificateIndex(read.description for _, read in self.rows if read is not None)
        self.new_people: set[tuple[StationKey, str]] = set()
        self.new_pairs: set[tuple[StationKey, int]] = set()

    # One row: all of it, or its troubles.

    def _take(self, row: ListRow, read: _ReadCertificate | None) -> None:
        troubles: list[str] = []
        remarks: list[str] = []
        partner = self._partner(row, troubles, remarks)
        contact = self._contact(row, partner, troubles)
        pairs = self._partnerships(row, partner, troubles, remarks)
        arrival = self._arrival(row, partner, read, troubles, remarks)
        if troubles:
            self.outcome.troubles += [RowProblem(row.line, text) for text in troubles]
            return
        self.outcome.remarks += [RowProblem(row.line, text) for text in remarks]
        if partner._state.adding:
            self.new_partners[row.station] = partner
        if contact is not None:
            self.contacts.append(contact)
            self.new_people.add((row.station, _contact_key(contact)))
        self.partnerships += pairs
        self.new_pairs.update((row.station, pair.identity_id) for pair in pairs)
        if arrival is not None:
            self.arrivals.append(arrival)
            self.register.add(arrival)

    def _partner(self, row: ListRow, troubles: list[str], remarks: list[str]) -> Partner:
        known = self.partners.get(row.station) or self.new_partners.get(row.station)
        if known is not None:
            for column, here in (("name", known.name), ("url", known.url), ("time_zone", known.time_zone)):
                if getattr(row, column) not in ("", here):
                    remarks.append(
                        f"{known} has another {column.replace('_', ' ')} here ({here}), which stays."
                    )
            return known
        partner = Partner(
            name=row.name,
            as2_id=row.as2_id,
            environment=row.environment,
            url=row.url,
            time_zone=row.time_zone or "UTC",
        )
        if row.station in self.archived:
            troubles.append(
                f"The partner {row.as2_id} in {row.environment} was archived here: bring it back on its page, or take "
                "the row out."
            )
        troubles += _field_errors(partner, ("name", "as2_id", "url", "time_zone"))
        return partner

    def _contact(self, row: ListRow, partner: Partner, troubles: list[str]) -> Contact | None:
        if not (row.contact_name or row.contact_email or row.contact_phone):
            return None
        name = row.contact_name or row.contact_email or row.contact_phone
        contact = Contact(partner=partner, name=name, email=row.contact_email, phone=row.contact_phone)
        if not row.contact_email and not row.contact_phone:
            troubles.append(
                f"The contact {row.contact_name} has neither e-mail nor phone: how else could they be reached?"
            )
        troubles += _field_errors(contact, ("name", "email", "phone"))
        here = (partner.pk, _contact_key(contact)) in self.people
        return None if here or (row.station, _contact_key(contact)) in self.new_people else contact

    def _partnerships(
        self, row: ListRow, partner: Partner, troubles: list[str], remarks: list[str]
    ) -> list[Partnership]:
        found = []
        for as2_id in self._named(row):
            identity = self.identities.get((as2_id, row.environment))
            if identity is None:
                troubles.append(
                    f"No identity of yours has the AS2 ID {as2_id} in {row.environment}: set it up first, or mend the "
                    "AS2 ID. Several stand with | between them."
                )
                continue
            pair = (partner.pk, identity.pk)
            if pair in self.connected and not self.connected[pair]:
                remarks.append(f"It was connected with {identity}, and that was ended: it stays so.")
            elif pair not in self.connected and (row.station, identity.pk) not in self.new_pairs:
                found.append(Partnership(partner=partner, identity=identity))
        return found

    def _named(self, row: ListRow) -> list[str]:
        """Return the AS2 IDs of a row's identities; one that has a | in it stands alone."""
        whole = row.connected_with
        return [whole] if (whole, row.environment) in self.identities else _identity_ids(row)[1:]

    def _arrival(
        self,
        row: ListRow,
        partner: Partner,
        read: _ReadCertificate | None,
        troubles: list[str],
        remarks: list[str],
    ) -> IncomingCertificate | None:
        if read is None or self.register.holds(partner, read.description.sha256):
            return None  # what is here already is not judged again: it may have expired since
        arrival = IncomingCertificate(partner, row.roles, read.description, read.columns)
        for finding in self.register.findings(arrival, now=self.now):
            said = troubles if finding.level == "error" else remarks
            said.append(_prefix_file_name(row.certificate, f"{finding.reason} {finding.advice}"))
        return arrival

    # All that is new.

    def _store(self) -> None:
        new = list(self.new_partners.values())
        insert_objects(new, ("uid", "name", "as2_id", "environment", "url", "time_zone"))
        for rows in (self.contacts, self.partnerships):
            for row in rows:
                row.partner = row.partner  # its key, now that it has one
            _bulk_create(rows)
        happened = [
            *(
                AuditEvent("partner.created", one, new=_audit_values(one, _PARTNER_AUDIT_FIELDS))
                for one in new
            ),
            *(
                AuditEvent(
                    "contact.created", one, also=(one.partner,), new=_audit_values(one, _CONTACT_AUDIT_FIELDS)
                )
                for one in self.contacts
            ),
            *(
                AuditEvent("partnership.created", one, also=(one.identity, one.partner))
                for one in self.partnerships
            ),
        ]
        record_many(happened, by=self.by, now=self.now)
        intakes = import_certificates(self.arrivals, by=self.by, now=self.now)
        self.outcome.partners = len(new)
        self.outcome.contacts = len(self.contacts)
        self.outcome.partnerships = len(self.partnerships)
        self.outcome.certificates = len({intake.certificate.pk for intake in intakes})
        self.outcome.in_service = len({intake.certificate.pk for intake in intakes if intake.serves})
        self.outcome.waiting = len({intake.certificate.pk for intake in intakes if intake.waits})


#: What the trail holds of what was set up, as after a form.
_PARTNER_AUDIT_FIELDS = ("name", "environment", "as2_id", "url", "time_zone", "holds")
_CONTACT_AUDIT_FIELDS = ("name", "email", "phone")


def _audit_values(obj: models.Model, names: Iterable[str]) -> Mapping[str, Any]:
    return {name: value for name in names if (value := getattr(obj, name))}


def _bulk_create(rows: list[Any]) -> None:
    for batch in in_batches(rows, BATCH_SIZE):
        type(batch[0])._default_manager.bulk_create(batch)


def _record(outcome: InventoryImportResult, name: str, *, by: Actor, now: datetime) -> None:
    counts = {
        "list": name,
        "rows": outcome.rows - outcome.faulty_rows,
        "partners": outcome.partners,
        "contacts": outcome.contacts,
        "partnerships": outcome.partnerships,
        "certificates": outcome.certificates,
    }
    record(AuditEvent("inventory.imported", Installation.current(), new=counts), by=by, now=now)


def _identity_ids(row: ListRow) -> list[str]:
    """Return what a row's identities may be called: the whole cell, which may be one, then its parts."""
    cell = row.connected_with
    return [cell, *dict.fromkeys(part.strip() for part in cell.replace("\n", "|").split("|") if part.strip())]


def _contact_key(contact: Contact) -> str:
    """Return by what a person at a partner is known: the address, else name and number."""
    return contact.email.lower() or f"{contact.name} {contact.phone}"


def _field_errors(obj: models.Model, names: tuple[str, ...]) -> list[str]:
    """Return what the model says against these values, in words."""
    others = {f.name for f in obj._meta.fields} - set(names)
    try:
        obj.clean_fields(exclude=others)
    except ValidationError as error:
        return [
            f"The {name.replace('_', ' ').replace('as2 id', 'AS2 ID')} can’t be taken: {' '.join(said)}"
            for name, said in error.message_dict.items()
        ]
    return []
