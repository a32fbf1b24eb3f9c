"""Import a list of partners: check all of it, then store all of it in one transaction, or nothing.

A trial run is the same run, rolled back at its end, so that its result is what an import would do.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import IntegrityError, models, transaction

from as2certs import pki
from as2certs.accounts.models import Installation
from as2certs.audit.recording import Actor, AuditEvent, record, record_many
from as2certs.rows import in_batches, insert_objects
from identities.capabilities import QUESTIONS, answers_of
from identities.certificates.bulk_import import (
    BATCH_SIZE,
    CertificateIndex,
    IncomingCertificate,
    import_certificates,
)
from identities.models import Identity
from partners.errors import ImportConflict, UnreadableCertificateFile
from partners.importing.csv_rows import ListRow, ParsedList, RowProblem
from partners.importing.sources import MAX_BYTES, CertificateSource
from partners.models import Contact, Partner, PartnerCertificate, Partnership

#: A list has no place for the reason that an expired certificate needs.
EXPIRED_ADVICE = (
    "Ask for its successor. If it is in use all the same, leave it out of this list, and upload it on the partner's "
    "page, which asks how you know that."
)

StationKey = tuple[str, str]
"""AS2 ID and environment."""


@dataclass(frozen=True)
class ImportOptions:
    """How a list is imported: its ``name`` for the audit trail, as a trial, or without the rows that have errors."""

    name: str = ""
    dry_run: bool = False
    skip_faulty: bool = False


@dataclass
class InventoryImportResult:
    """What an import stored, or would store: the number of rows and of new objects, and what was found in the rows.

    A row with an error stores nothing. A row with a remark is stored, but should be read: the certificate has a
    warning, or a value of the list differs from the stored one, which stays.
    """

    rows: int = 0
    errors: list[RowProblem] = field(default_factory=list)
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
        return not any((self.partners, self.contacts, self.partnerships, self.certificates, self.in_service))

    @property
    def new_objects(self) -> str:
        """Return how many of each are new: "2 partners, 1 contact, no partnerships and 2 certificates"."""
        counts = [
            _format_count(self.partners, "partner"),
            _format_count(self.contacts, "contact"),
            _format_count(self.partnerships, "partnership"),
            _format_count(self.certificates, "certificate"),
        ]
        return f"{', '.join(counts[:-1])} and {counts[-1]}"

    @property
    def faulty_rows(self) -> int:
        return len({error.line for error in self.errors})


def import_list(
    rows: ParsedList, source: CertificateSource, options: ImportOptions, *, by: Actor, now: datetime
) -> InventoryImportResult:
    """Store the new objects of a list, and return what was stored and found.

    1. Read and check the certificate of each row.
    2. In one transaction, check each row against the inventory and store all that is new.
    3. Undo that for a trial run, and for an error in any row unless ``options.skip_faulty`` leaves out such rows.

    Raises ImportConflict if somebody stored the same meanwhile.
    """
    result = InventoryImportResult(rows=rows.total, errors=list(rows.errors))
    read = list(_read_certificates(rows.rows, source, result))
    try:
        with transaction.atomic():
            _ImportRun(read, result, by=by, now=now).execute()
            result.errors.sort(key=lambda error: error.line)
            result.stored = not options.dry_run and (options.skip_faulty or not result.errors)
            if result.stored and not result.is_nothing_new:
                _record(result, options.name, by=by, now=now)
            if not result.stored:
                transaction.set_rollback(True)
    except IntegrityError as error:
        raise ImportConflict("Somebody stored the same at this moment, so nothing was: run it again.") from error
    return result


@dataclass(frozen=True)
class _ReadCertificate:
    """The description of a row's certificate, the values of its columns, and findings about its file."""

    description: pki.Description
    columns: dict[str, Any]
    findings: Sequence[pki.CertificateFinding] = ()


def _read_certificates(
    rows: Iterable[ListRow], source: CertificateSource, result: InventoryImportResult
) -> Iterator[tuple[ListRow, _ReadCertificate | None]]:
    """Read the certificate of each row; leave out rows whose file can't be read, and those after too many bytes."""
    left = MAX_BYTES
    chains: dict[str, str] = {}  # a chain that thousands of files share is kept once
    for row in rows:
        if not row.certificate:
            yield row, None
            continue
        if left < 0:
            problem = (
                f"It was not read, since the files of the rows above take more than {MAX_BYTES // 1024 // 1024} MiB"
                " together, where 20,000 certificates take less: look which of them are no certificates, or cut the"
                " list into several."
            )
            result.errors.append(RowProblem(row.line, _prefix_file_name(row.certificate, problem)))
            continue
        data = None
        try:
            data = source.read(row.certificate)
            left -= len(data)
            material = pki.read_public(data, partner=True)
        except (UnreadableCertificateFile, pki.PkiError) as error:
            # Of a file that is too large, as much was read as a certificate may have.
            left -= pki.MAX_FILE_BYTES if data is None and isinstance(error, pki.UnreadableFile) else 0
            result.errors.append(RowProblem(row.line, _prefix_file_name(row.certificate, str(error))))
        else:
            columns = PartnerCertificate.columns_from(material)
            columns["chain_pem"] = chains.setdefault(columns["chain_pem"], columns["chain_pem"])
            yield row, _ReadCertificate(material.description, columns, material.findings)


def _prefix_file_name(name: str, message: str) -> str:
    return message if name in message else f"{name}: {message}"


def _format_count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


@dataclass
class _RowFindings:
    """The errors and remarks about one row."""

    errors: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


class _ImportRun:
    """One import inside its transaction."""

    def __init__(
        self,
        rows: list[tuple[ListRow, _ReadCertificate | None]],
        result: InventoryImportResult,
        *,
        by: Actor,
        now: datetime,
    ) -> None:
        self.rows, self.result, self.by, self.now = rows, result, by, now
        self.new_partners: dict[StationKey, Partner] = {}
        self.new_contacts: list[Contact] = []
        self.new_partnerships: list[Partnership] = []
        self.new_certificates: list[IncomingCertificate] = []

    def execute(self) -> None:
        self._load_inventory()
        for row, read in self.rows:
            self._check_row(row, read)
        self._store()

    def _load_inventory(self) -> None:
        """Load the objects that the rows name, with some queries per batch of rows; lock the partners."""
        ids = {row.as2_id for row, _ in self.rows}
        self.partners: dict[StationKey, Partner] = {}
        self.archived: set[StationKey] = set()
        for batch in in_batches(sorted(ids), BATCH_SIZE):
            found = Partner.objects.filter(as2_id__in=batch)
            # One import per partner at a time, as for a single upload; locked in one order, so that two don't deadlock.
            for partner in found.active().order_by("pk").select_for_update(no_key=True):
                self.partners[partner.as2_id, partner.environment] = partner
            self.archived.update(found.exclude(archived_at=None).values_list("as2_id", "environment"))
        identity_ids = {one for row, _ in self.rows for one in _identity_ids(row)}
        self.identities: dict[StationKey, Identity] = {}
        for batch in in_batches(sorted(identity_ids), BATCH_SIZE):
            for identity in Identity.objects.active().filter(as2_id__in=batch):
                self.identities[identity.as2_id, identity.environment] = identity
        self.contacts: set[tuple[int, str]] = set()
        self.partnerships: dict[tuple[int, int], bool] = {}
        for partners in in_batches([partner.pk for partner in self.partners.values()], BATCH_SIZE):
            for contact in Contact.objects.filter(partner__in=partners):
                self.contacts.add((contact.partner_id, _contact_key(contact)))
            pairs = Partnership.objects.filter(partner__in=partners)
            for partner, identity, archived_at in pairs.values_list("partner_id", "identity_id", "archived_at"):
                self.partnerships[partner, identity] = archived_at is None
        descriptions = [read.description for _, read in self.rows if read is not None]
        self.index = CertificateIndex(descriptions, self.partners.values())
        self.new_contact_keys: set[tuple[StationKey, str]] = set()
        self.new_pairs: set[tuple[StationKey, int]] = set()

    def _check_row(self, row: ListRow, read: _ReadCertificate | None) -> None:
        """Add all new objects of a row, or its errors."""
        findings = _RowFindings()
        partner = self._partner(row, findings)
        contact = self._contact(row, partner, findings)
        pairs = self._partnerships(row, partner, findings)
        certificate = self._certificate(row, partner, read, findings)
        if findings.errors:
            self.result.errors += [RowProblem(row.line, text) for text in findings.errors]
            return
        self.result.remarks += [RowProblem(row.line, text) for text in findings.remarks]
        if partner._state.adding:
            self.new_partners[row.station] = partner
        if contact is not None:
            self.new_contacts.append(contact)
            self.new_contact_keys.add((row.station, _contact_key(contact)))
        self.new_partnerships += pairs
        self.new_pairs.update((row.station, pair.identity_id) for pair in pairs)
        if certificate is not None:
            self.new_certificates.append(certificate)
            self.index.add(certificate, now=self.now)

    def _partner(self, row: ListRow, findings: _RowFindings) -> Partner:
        known = self.partners.get(row.station) or self.new_partners.get(row.station)
        if known is not None:
            for column, here in (("name", known.name), ("url", known.url), ("time_zone", known.time_zone)):
                if getattr(row, column) not in ("", here):
                    findings.remarks.append(
                        f"{known} has another {column.replace('_', ' ')} here ({here}), which stays."
                    )
            return known
        partner = Partner(
            name=row.name,
            as2_id=row.as2_id,
            environment=row.environment,
            url=row.url,
            time_zone=row.time_zone or "UTC",
            software=row.software,
            **answers_of(row.software),
        )
        if row.station in self.archived:
            findings.errors.append(
                f"The partner {row.as2_id} in {row.environment} was archived here: bring it back on its page, or take "
                "the row out."
            )
        findings.errors += _field_errors(partner, ("name", "as2_id", "url", "time_zone"))
        return partner

    def _contact(self, row: ListRow, partner: Partner, findings: _RowFindings) -> Contact | None:
        if not (row.contact_name or row.contact_email or row.contact_phone):
            return None
        name = row.contact_name or row.contact_email or row.contact_phone
        contact = Contact(partner=partner, name=name, email=row.contact_email, phone=row.contact_phone)
        if not row.contact_email and not row.contact_phone:
            findings.errors.append(
                f"The contact {row.contact_name} has neither e-mail nor phone: how else could they be reached?"
            )
        findings.errors += _field_errors(contact, ("name", "email", "phone"))
        key = _contact_key(contact)
        exists = (partner.pk, key) in self.contacts or (row.station, key) in self.new_contact_keys
        return None if exists else contact

    def _partnerships(self, row: ListRow, partner: Partner, findings: _RowFindings) -> list[Partnership]:
        new = []
        for as2_id in self._identities_of(row):
            identity = self.identities.get((as2_id, row.environment))
            if identity is None:
                findings.errors.append(
                    f"No identity of yours has the AS2 ID {as2_id} in {row.environment}: set it up first, or mend the "
                    "AS2 ID. Several stand with | between them."
                )
                continue
            pair = (partner.pk, identity.pk)
            if pair in self.partnerships and not self.partnerships[pair]:
                findings.remarks.append(f"It was connected with {identity}, and that was ended: it stays so.")
            elif pair not in self.partnerships and (row.station, identity.pk) not in self.new_pairs:
                new.append(Partnership(partner=partner, identity=identity))
        return new

    def _identities_of(self, row: ListRow) -> list[str]:
        """Return the AS2 IDs of a row's identities: the whole cell if that is one, else its parts."""
        cell = row.connected_with
        return [cell] if (cell, row.environment) in self.identities else _identity_ids(row)[1:]

    def _certificate(
        self, row: ListRow, partner: Partner, read: _ReadCertificate | None, findings: _RowFindings
    ) -> IncomingCertificate | None:
        if read is None or self.index.holds(partner, read.description.sha256):
            return None  # a stored certificate is not checked again: it may have expired since
        certificate = IncomingCertificate(partner, row.roles, read.description, read.columns)
        warnings: list[str] = []
        for finding in (*self.index.findings(certificate, now=self.now), *read.findings):
            if finding.level == "warning":
                warnings.append(finding.reason)
            found = findings.errors if finding.level == "error" else findings.remarks
            advice = EXPIRED_ADVICE if finding.code == "expired" else finding.advice
            found.append(_prefix_file_name(row.certificate, f"{finding.reason} {advice}"))
        return replace(certificate, warnings=tuple(warnings))

    def _store(self) -> None:
        new_partners = list(self.new_partners.values())
        insert_objects(
            new_partners, ("uid", "name", "as2_id", "environment", "url", "time_zone", "software", *QUESTIONS)
        )
        for rows in (self.new_contacts, self.new_partnerships):
            for row in rows:
                row.partner = row.partner  # sets the primary key, which the partner has only now
            for batch in in_batches(rows, BATCH_SIZE):
                type(batch[0])._default_manager.bulk_create(batch)
        events = [
            AuditEvent("partner.created", one, new=_audit_values(one, _PARTNER_AUDIT_FIELDS)) for one in new_partners
        ]
        events += [
            AuditEvent("contact.created", one, also=(one.partner,), new=_audit_values(one, _CONTACT_AUDIT_FIELDS))
            for one in self.new_contacts
        ]
        events += [AuditEvent("partnership.created", one, also=one.audit_subjects) for one in self.new_partnerships]
        record_many(events, by=self.by, now=self.now)
        imported = import_certificates(self.new_certificates, by=self.by, now=self.now)
        self.result.partners = len(new_partners)
        self.result.contacts = len(self.new_contacts)
        self.result.partnerships = len(self.new_partnerships)
        self.result.certificates = len({one.certificate.pk for one in imported})
        self.result.in_service = len({one.certificate.pk for one in imported if one.assigned})
        self.result.waiting = len({one.certificate.pk for one in imported if one.waiting})


#: The fields that the audit trail keeps of new objects, as after a form.
_PARTNER_AUDIT_FIELDS = ("name", "environment", "as2_id", "url", "time_zone", "software")
_CONTACT_AUDIT_FIELDS = ("name", "email", "phone")


def _audit_values(obj: models.Model, names: Iterable[str]) -> Mapping[str, Any]:
    return {name: value for name in names if (value := getattr(obj, name))}


def _record(result: InventoryImportResult, name: str, *, by: Actor, now: datetime) -> None:
    counts = {
        "list": name,
        "rows": result.rows - result.faulty_rows,
        "partners": result.partners,
        "contacts": result.contacts,
        "partnerships": result.partnerships,
        "certificates": result.certificates,
    }
    record(AuditEvent("inventory.imported", Installation.current(), new=counts), by=by, now=now)


def _identity_ids(row: ListRow) -> list[str]:
    """Return the possible AS2 IDs of a row's identities: the whole cell, which may be one, then its parts."""
    cell = row.connected_with
    return [cell, *dict.fromkeys(part.strip() for part in cell.replace("\n", "|").split("|") if part.strip())]


def _contact_key(contact: Contact) -> str:
    """Return what identifies a contact of a partner: the address, else name and phone number."""
    return contact.email.lower() or f"{contact.name} {contact.phone}"


def _field_errors(obj: models.Model, names: tuple[str, ...]) -> list[str]:
    """Return the validation errors of these fields as sentences."""
    others = {f.name for f in obj._meta.fields} - set(names)
    try:
        obj.clean_fields(exclude=others)
    except ValidationError as error:
        return [
            f"The {name.replace('_', ' ').replace('as2 id', 'AS2 ID')} can’t be taken: {' '.join(messages)}"
            for name, messages in error.message_dict.items()
        ]
    return []
