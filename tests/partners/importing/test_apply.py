"""Import a list of partners with a folder or ZIP of their certificates."""

from __future__ import annotations

import io
import os
import unicodedata
import zipfile
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest
from django.core.management import CommandError, call_command
from django.db import IntegrityError, connection
from django.test.utils import CaptureQueriesContext

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor
from identities import role_assignments
from identities.certificates.single_import import import_certificate
from identities.models import PrivateKey
from partners.errors import ImportConflict, UnreadableList, UnreadableSource
from partners.importing import apply, csv_rows
from partners.importing.apply import ImportOptions, InventoryImportResult, import_list
from partners.importing.sources import CertificateSource, FolderSource, NoSource, ZipSource
from partners.models import Contact, Partner, PartnerCertificate, PartnerService, Partnership
from tests.arrivals import files as arrivals
from tests.certificates import cert_pem, key_pem, make_pair, p12
from tests.inventory import NOW, add_certificate, make_identity, make_partner, verbs

pytestmark = pytest.mark.django_db

BY = Actor.command("import_inventory")
HEADINGS = (
    "name,as2_id,environment,url,time_zone,contact_name,contact_email,contact_phone,connected_with,certificate,roles"
)


def pem(name: str, *, days: float = 300, **options: Any) -> bytes:
    """Return the PEM of a certificate that ends so many days after NOW."""
    ends = NOW + timedelta(days=days)
    return cert_pem(make_pair(name, not_before=NOW - timedelta(days=400), not_after=ends, **options)[0])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the certificates of two partners."""
    made = tmp_path / "certificates"
    made.mkdir()
    (made / "northwind.pem").write_bytes(pem("NORTHWIND"))
    (made / "contoso.cer").write_bytes(pem("CONTOSO"))
    return made


def make_list(*rows: str, heads: str = HEADINGS) -> bytes:
    return "\n".join((heads, *rows)).encode()


def run(data: bytes, source: CertificateSource | Path | None = None, **options: Any) -> InventoryImportResult:
    where: CertificateSource = FolderSource(source) if isinstance(source, Path) else source or NoSource()
    now = options.pop("now", NOW)
    return import_list(csv_rows.read_list(data), where, ImportOptions(**options), by=BY, now=now)


def error_text(result: InventoryImportResult) -> str:
    return "\n".join(map(str, result.errors))


def nothing_is_stored() -> bool:
    return not any(
        model._default_manager.exists()
        for model in (Partner, Contact, Partnership, PartnerCertificate, PartnerService, Entry, PrivateKey)
    )


def test_a_certificate_valid_later_is_stored_and_waits_for_a_rotation(folder: Path) -> None:
    later, _ = make_pair("NEXT", not_before=NOW + timedelta(days=20), not_after=NOW + timedelta(days=300))
    (folder / "next.pem").write_bytes(cert_pem(later))
    result = run(make_list("Northwind,NORTHWIND,,,,,,,,next.pem,both"), folder)
    assert (result.certificates, result.in_service, result.waiting) == (1, 0, 1)
    assert "not valid before" in "".join(map(str, result.remarks))
    assert PartnerCertificate.objects.count() == 1
    assert not PartnerService.objects.exists()
    assert "certificate.in_service" not in verbs()


TWO = make_list(
    "Northwind,NORTHWIND,,https://as2.northwind.example,America/Chicago,Dana,dana@northwind.example,+1 312,ACME,"
    "northwind.pem,both",
    "Contoso,CONTOSO,production,,,,,,,contoso.cer,encrypt",
)


@pytest.mark.on_postgres
def test_a_list_imports_partners_with_contacts_partnerships_and_certificates(folder: Path) -> None:
    acme = make_identity("ACME")
    result = run(TWO, folder, name="partners.csv")
    assert not result.errors
    assert result.stored
    numbers = (result.rows, result.partners, result.contacts, result.partnerships, result.certificates)
    assert numbers == (2, 2, 1, 1, 2)
    northwind, contoso = Partner.objects.get(as2_id="NORTHWIND"), Partner.objects.get(as2_id="CONTOSO")
    assert (northwind.name, northwind.environment, northwind.time_zone) == (
        "Northwind",
        "production",
        "America/Chicago",
    )
    assert northwind.url == "https://as2.northwind.example"
    assert contoso.time_zone == "UTC"
    contact = northwind.contacts.get()
    assert (contact.name, contact.email, contact.phone) == ("Dana", "dana@northwind.example", "+1 312")
    assert contact.confirmed_at is None
    assert Partnership.objects.get().identity == acme
    assert {role: len(held) for role, held in role_assignments.certificates_by_role(northwind).items()} == {
        "verify": 1,
        "encrypt": 1,
    }
    assert {role: len(held) for role, held in role_assignments.certificates_by_role(contoso).items()} == {
        "verify": 0,
        "encrypt": 1,
    }
    assert result.in_service == 2
    assert result.waiting == 0


def test_each_imported_object_is_recorded_as_if_it_had_been_created_alone(folder: Path) -> None:
    acme = make_identity("ACME")
    run(TWO, folder, name="partners.csv")
    assert sorted(verbs()) == sorted(
        [
            *["partner.created"] * 2,
            "contact.created",
            "partnership.created",
            *["certificate.taken_in"] * 2,
            *["certificate.in_service"] * 2,
            "inventory.imported",
        ]
    )
    northwind = Partner.objects.get(as2_id="NORTHWIND")
    about = [entry.verb for entry in Entry.objects.about(northwind).order_by("id")]
    assert about == [
        "partner.created",
        "contact.created",
        "partnership.created",
        "certificate.taken_in",
        "certificate.in_service",
    ]
    assert [entry.verb for entry in Entry.objects.about(acme)] == ["partnership.created"]
    taken = Entry.objects.about(northwind).get(verb="certificate.taken_in")
    certificate = northwind.certificates.get()
    assert taken.new == {
        "sha256": certificate.sha256,
        "not_after": certificate.not_after.isoformat(),
        "source": "uploaded",
    }
    assert (taken.actor_name, taken.source, taken.at) == ("manage.py import_inventory", "command", NOW)
    summary = Entry.objects.get(verb="inventory.imported")
    assert summary.new["list"] == "partners.csv"
    assert summary.new["certificates"] == 2


def test_many_unreadable_files_are_one_error_per_row(folder: Path) -> None:
    (folder / "bad.cer").write_bytes(b"This is no certificate.")
    rows = [f"Bad {number},BAD{number:03}" for number in range(129)]  # more than the limit in MiB
    data = make_list(*(f"{row},bad.cer" for row in rows), "Good,GOOD,northwind.pem", heads="name,as2_id,certificate")
    result = run(data, folder, skip_faulty=True)
    assert len(result.errors) == 129
    assert "bad.cer: The file is a text without a certificate" in result.errors[0].text
    assert result.partners == 1


def test_an_as2_id_that_a_spreadsheet_rounded_is_refused() -> None:
    (error,) = run(make_list("GLN Partner,4.01235E+12", heads="name,as2_id")).errors
    assert "“4.01235E+12” looks like a long number that a spreadsheet rounded" in error.text
    assert not run(make_list("Short,4E12", heads="name,as2_id")).errors


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_a_file_is_found_in_either_form_of_its_name(form: Literal["NFC", "NFD"]) -> None:
    name = unicodedata.normalize(form, "müller.cer")
    members = {f"new/{name}": pem("MUELLER"), f"__MACOSX/new/._{name}": b"\0\5", f"__MACOSX/new/{name}": b"x"}
    packed = io.BytesIO(arrivals.make_zip(members))
    result = run(make_list("Müller,MUELLER,müller.cer", heads="name,as2_id,certificate"), ZipSource(packed))
    assert (result.errors, result.certificates) == ([], 1)


def test_what_was_repaired_in_a_file_is_a_remark(folder: Path) -> None:
    (folder / "northwind.pem").write_bytes(pem("NORTHWIND").replace(b"-----", "———".encode()))
    result = run(make_list("Northwind,NORTHWIND,northwind.pem", heads="name,as2_id,certificate"), folder)
    assert not result.errors
    assert any("typographic dashes" in remark.text for remark in result.remarks)


def test_a_certificate_of_a_list_is_stored_like_an_uploaded_one(folder: Path) -> None:
    make_identity("ACME")
    run(TWO, folder)
    alone = make_partner("ALONE")
    data = (folder / "northwind.pem").read_bytes()
    import_certificate(alone, pki.read_public(data, partner=True), roles=("verify", "encrypt"), by=BY, now=NOW)

    def columns(one: PartnerCertificate) -> dict[str, Any]:
        its_own = ("id", "uid", "partner_id")
        return {f.attname: f.value_from_object(one) for f in one._meta.fields if f.attname not in its_own}

    ours, theirs = alone.certificates.get(), Partner.objects.get(as2_id="NORTHWIND").certificates.get()
    assert {**columns(theirs), "der": bytes(theirs.der)} == {**columns(ours), "der": bytes(ours.der)}
    assert theirs.certificate == ours.certificate
    assert ours.uid != theirs.uid


@pytest.mark.on_postgres
def test_the_same_list_again_changes_nothing_and_leaves_no_entry(folder: Path) -> None:
    make_identity("ACME")
    run(TWO, folder)
    count = Entry.objects.count()
    years_later = NOW + timedelta(days=2000)  # the certificates have expired: they were judged when they came
    again = run(TWO, folder, now=years_later)
    assert again.is_nothing_new
    assert not again.errors
    assert (Entry.objects.count(), Partner.objects.count(), PartnerCertificate.objects.count()) == (
        count,
        2,
        2,
    )


def test_a_certificate_that_differs_from_the_one_in_use_waits_for_a_rotation(folder: Path) -> None:
    partner = make_partner("NORTHWIND", name="Northwind Ltd")
    in_use = add_certificate(partner)
    result = run(make_list("Northwind,NORTHWIND,,,,,,,,northwind.pem,"), folder)
    assert (result.partners, result.certificates, result.in_service, result.waiting) == (0, 1, 0, 1)
    assert role_assignments.certificates_by_role(partner) == {"verify": [in_use], "encrypt": [in_use]}
    assert partner.certificates.count() == 2
    partner.refresh_from_db()
    assert partner.name == "Northwind Ltd"
    assert "another name here (Northwind Ltd), which stays" in str(result.remarks)


def test_of_two_certificates_in_a_list_the_first_serves_and_the_second_waits(folder: Path) -> None:
    (folder / "next.pem").write_bytes(pem("NORTHWIND", days=700))
    result = run(
        make_list("Northwind,NORTHWIND,,,,,,,,northwind.pem,verify", "Northwind,NORTHWIND,,,,,,,,next.pem,both"),
        folder,
    )
    partner = Partner.objects.get()
    now, soon = partner.certificates.order_by("not_after")
    assert role_assignments.certificates_by_role(partner) == {"verify": [now], "encrypt": [soon]}
    assert (result.in_service, result.waiting) == (2, 1)


def test_one_partner_may_have_rows_for_production_and_for_test(folder: Path) -> None:
    result = run(
        make_list(
            "Northwind,NORTHWIND,production,,,,,,,northwind.pem,",
            "Northwind,NORTHWIND,test,,,,,,,contoso.cer,",
        ),
        folder,
    )
    assert (result.partners, result.certificates) == (2, 2)


def test_the_same_certificate_in_two_rows_is_one_with_the_roles_of_both(folder: Path) -> None:
    result = run(
        make_list(
            "Northwind,NORTHWIND,,,,,,,,northwind.pem,verify",
            ",NORTHWIND,,,,Eve,eve@northwind.example,,,northwind.pem,encrypt",
        ),
        folder,
    )
    assert (result.partners, result.certificates, result.contacts) == (1, 1, 1)
    assert PartnerService.objects.count() == 2


@pytest.mark.parametrize("how", ["bom", "semicolons", "tabs", "windows line ends", "sep=", "heads in words"])
def test_it_reads_what_spreadsheets_write(folder: Path, how: str) -> None:
    make_identity("ACME")
    text = TWO.decode()
    changed = {
        "bom": "\ufeff" + text,
        "semicolons": text.replace(",", ";"),
        "tabs": text.replace(",", "\t"),
        "windows line ends": text.replace("\n", "\r\n") + "\r\n\r\n",
        "sep=": "sep=;\r\n" + text.replace(",", ";"),
        "heads in words": text.replace(HEADINGS, HEADINGS.replace("as2_id", "AS2 ID").replace("_", " ").title()),
    }[how]
    result = run(changed.encode(), folder)
    assert not result.errors
    assert result.partners == 2


def test_an_error_has_the_first_line_of_a_row_with_line_breaks() -> None:
    data = make_list('"North\nwind",NORTHWIND,,,,,,,,,', "", "Contoso,,,,,,,,,,")
    errors = run(data).errors
    assert [error.line for error in errors] == [2, 5]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("Northwind,,,,,,,,,,", "no AS2 ID"),
        (",NORTHWIND,,,,,,,,,", "The name can’t be taken"),
        (f"{'N' * 121},NORTHWIND,,,,,,,,,", "at most 120"),
        ('Northwind,"NORTH""WIND",,,,,,,,,', "no quotation mark"),
        ("Northwind,NORTHWIND,prod,,,,,,,,", "production or test"),
        ("Northwind,NORTHWIND,,javascript:alert(1),,,,,,,", "url can’t be taken"),
        ("Northwind,NORTHWIND,,,Europe/Atlantis,,,,,,", "not a time zone"),
        ("Northwind,NORTHWIND,,,,Dana,,,,,", "neither e-mail nor phone"),
        ("Northwind,NORTHWIND,,,,Dana,dana at northwind,,,,", "valid email"),
        ("Northwind,NORTHWIND,,,,,,,GLOBEX,,", "No identity of yours has the AS2 ID GLOBEX"),
        ("Northwind,NORTHWIND,test,,,,,,ACME,,", "No identity of yours has the AS2 ID ACME in test"),
        ("Northwind,NORTHWIND,,,,,,,,,sign", "is no role"),
        ("Northwind,NORTHWIND,,,,,,,,northwind.pem,both,more", "more cells"),
        ("North\x00wind,NORTHWIND,,,,,,,,,", "can’t be shown"),
        ("North\x1b[31mwind,NORTHWIND,,,,,,,,,", "can’t be shown"),
        ("Northwind,NORTHWIND,,,,,,,,nobody.pem,", "no file nobody.pem"),
        ("Northwind,NORTHWIND,,,,,,,,expired.pem,", "upload it on the partner's page"),
        ("Northwind,NORTHWIND,,,,,,,,weak.pem,", "1024 bits"),
        ("Northwind,NORTHWIND,,,,,,,,letter.txt,", "letter.txt: The file is a text"),
        ("Northwind,NORTHWIND,,,,,,,,large.pem,", "larger than 1 MiB"),
        ("Northwind,NORTHWIND,,,,,,,,pipe,", "no file"),
        ("Northwind,NORTHWIND,,,,,,,,../outside.pem,", "leads out of the folder"),
        ("Northwind,NORTHWIND,,,,,,,,/etc/passwd,", "leads out of the folder"),
        ("Northwind,NORTHWIND,,,,,,,,C:\\outside.pem,", "leads out of the folder"),
        ("Northwind,NORTHWIND,,,,,,,,link.pem,", "A link is no file"),
        (f"Northwind,NORTHWIND,,,,,,,,{'n' * 5000},", "no file"),
    ],
)
def test_with_one_invalid_row_nothing_is_stored(folder: Path, row: str, what: str) -> None:
    (folder.parent / "outside.pem").write_bytes(pem("OUTSIDE"))
    (folder / "link.pem").symlink_to(folder.parent / "outside.pem")
    (folder / "expired.pem").write_bytes(pem("OLD", days=-1))
    (folder / "weak.pem").write_bytes(pem("WEAK", bits=1024))
    (folder / "letter.txt").write_text("Dear partner")
    (folder / "large.pem").write_bytes(b"x" * (pki.MAX_FILE_BYTES + 1))
    os.mkfifo(folder / "pipe")
    make_identity("ACME")
    result = run(make_list("Contoso,CONTOSO,,,,,,,,contoso.cer,", row), folder)
    assert [error.line for error in result.errors] == [3]
    assert what in result.errors[0].text
    assert not result.stored
    assert nothing_is_stored()


def test_all_rows_with_errors_are_reported_in_the_order_of_the_list(folder: Path) -> None:
    result = run(
        make_list("A,A,,,,,,,,nothing.pem,", "B,,,,,,,,,,", "C,C,,,,,,,GLOBEX,,", "D,D,,,,,,,,contoso.cer,"),
        folder,
    )
    assert [error.line for error in result.errors] == [2, 3, 4]
    assert (result.rows, result.faulty_rows) == (4, 3)


def test_faulty_rows_are_left_out_when_that_is_asked_for(folder: Path) -> None:
    result = run(
        make_list("A,A,,,,Al,al@a.example,,,nothing.pem,", "D,D,,,,,,,,contoso.cer,"),
        folder,
        skip_faulty=True,
    )
    assert result.stored
    assert [partner.name for partner in Partner.objects.all()] == ["D"]
    assert not Contact.objects.exists()


def test_a_trial_run_returns_the_result_and_stores_nothing(folder: Path) -> None:
    make_identity("ACME")
    tried = run(TWO, folder, dry_run=True)
    assert nothing_is_stored()
    done = run(TWO, folder)
    assert not tried.stored
    tried.stored = True
    assert tried == done


def test_an_archived_partner_is_not_created_again() -> None:
    make_partner("NORTHWIND", archived_at=NOW)
    assert "was archived here" in error_text(run(make_list("Northwind,NORTHWIND,,,,,,,,,")))


def test_a_partnership_that_was_ended_stays_ended() -> None:
    partner, identity = make_partner("NORTHWIND"), make_identity("ACME")
    Partnership.objects.create(identity=identity, partner=partner, archived_at=NOW)
    result = run(make_list("Northwind,NORTHWIND,,,,,,,ACME,,"))
    assert result.partnerships == 0
    assert "was ended: it stays so" in str(result.remarks)
    assert Partnership.objects.get().archived_at == NOW


def test_a_cell_may_name_several_identities() -> None:
    for as2_id in ("ACME", "ACME EU", "A|B"):
        make_identity(as2_id)
    run(make_list("Northwind,NORTHWIND,,,,,,,ACME | ACME EU,,", "Northwind,NORTHWIND,,,,,,,A|B,,"))
    assert {str(p.identity.as2_id) for p in Partnership.objects.all()} == {"ACME", "ACME EU", "A|B"}


def test_a_contact_is_identified_by_its_address_regardless_of_case() -> None:
    partner = make_partner("NORTHWIND")
    Contact.objects.create(partner=partner, name="Dana W.", email="dana@northwind.example")
    result = run(
        make_list(
            "Northwind,NORTHWIND,,,,Dana,Dana@Northwind.example,,,,",
            "Northwind,NORTHWIND,,,,,ed@northwind.example,,,,",
            "Northwind,NORTHWIND,,,,Ed,ED@northwind.example,,,,",
        )
    )
    assert result.contacts == 1
    assert {contact.name for contact in Contact.objects.all()} == {"Dana W.", "ed@northwind.example"}


# The content of files.


@pytest.mark.parametrize("kind", ["PEM", "DER", "PKCS#12", "beside its certificate"])
def test_a_file_with_a_private_key_is_refused_and_not_stored(folder: Path, kind: str) -> None:
    pair = make_pair("NORTHWIND")
    der = pki.key_to_der(pair[1])
    data = {
        "PEM": key_pem(pair[1]),
        "DER": der,
        "PKCS#12": p12(pair),
        "beside its certificate": cert_pem(pair[0]) + key_pem(pair[1]),
    }[kind]
    (folder / "key.pem").write_bytes(data)
    result = run(make_list("Northwind,NORTHWIND,,,,,,,,key.pem,"), folder)
    assert "private key" in error_text(result)
    assert "key.pem" in error_text(result)
    assert nothing_is_stored()


def test_a_list_that_holds_a_private_key_is_not_read() -> None:
    key = key_pem(make_pair("NORTHWIND")[1]).decode()
    with pytest.raises(UnreadableList, match="holds a private key"):
        run(make_list(f'Northwind,NORTHWIND,,,,,,,,"{key}",'))


def test_a_name_that_looks_like_a_formula_is_a_name() -> None:
    run(make_list('"=HYPERLINK(""http://x.example"")",NORTHWIND,,,,@dana,dana@northwind.example,,,,'))
    assert Partner.objects.get().name == '=HYPERLINK("http://x.example")'
    assert Contact.objects.get().name == "@dana"


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "is empty"),
        (b"\xff\xfen\x00a\x00", "not UTF-8"),
        ("name,as2_id\nBäcker,B".encode("latin-1"), r"not UTF-8 \(see line 2\)"),
        (b"PK\x03\x04rest", "workbook"),
        (b"name,as2_id,colour\nA,A,blue", "no column “colour”"),
        (b"name,as2_id,AS2 ID\nA,A,A", "two columns “as2_id”"),
        (b"name\nA", "no head “as2_id”"),
        (b"name,as2_id\n", "nothing below"),
        (b'name,as2_id\n"A,A', "can't be read as CSV"),
        (b"name,as2_id\n" + b"A" * 200_000 + b",A", "can't be read as CSV"),
        (b"name,as2_id\n" + b"A,A\n" * 20_001, "more than 20,000 rows"),
        (b"x" * (16 * 1024 * 1024 + 1), "larger than 16 MiB"),
    ],
)
def test_invalid_lists_are_refused_in_one_sentence(data: bytes, why: str) -> None:
    with pytest.raises(UnreadableList, match=why):
        csv_rows.read_list(data)


# ZIP files.


def make_zip(**files: bytes) -> io.BytesIO:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made:
        for name, data in files.items():
            made.writestr(name.replace("__", "/"), data)
    return stream


def import_one_from(stream: io.BytesIO, name: str = "n.pem") -> InventoryImportResult:
    return run(make_list(f"Northwind,NORTHWIND,,,,,,,,{name},"), ZipSource(stream))


def test_files_in_a_zip_are_found_by_name_or_path() -> None:
    stream = make_zip(**{"all__n.pem": pem("NORTHWIND"), "old__c.pem": pem("A"), "new__c.pem": pem("B")})
    assert not import_one_from(stream).errors
    assert not run(make_list("C,C,,,,,,,,new/c.pem,"), ZipSource(stream)).errors
    assert "2 files c.pem in different folders" in error_text(import_one_from(stream, "c.pem"))
    assert "no file x.pem in the ZIP" in error_text(import_one_from(stream, "x.pem"))


def test_a_zip_bomb_is_read_up_to_the_limit_only() -> None:
    assert "larger than 1 MiB" in error_text(import_one_from(make_zip(**{"n.pem": bytes(200 * 1024 * 1024)})))


def test_a_zip_with_wrong_sizes_is_read_up_to_the_limit_only() -> None:
    data = bytearray(make_zip(**{"n.pem": bytes(20 * 1024 * 1024)}).getvalue())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (100).to_bytes(4, "little")
    assert error_text(import_one_from(io.BytesIO(bytes(data))))
    assert nothing_is_stored()


def test_large_files_are_one_error_per_row_and_are_not_read() -> None:
    rows = [f"P{n},P{n},,,,,,,,{'n' if n else 'good'}.pem," for n in range(131)]
    stream = make_zip(**{"n.pem": bytes(2 * 1024 * 1024), "good.pem": pem("GOOD")})
    result = run(make_list(*rows), ZipSource(stream), skip_faulty=True)
    assert [error.line for error in result.errors] == list(range(3, 133))
    assert {error.text for error in result.errors} == {
        "The file n.pem is larger than 1 MiB, and one with a certificate takes a few kilobytes: name the right file."
    }
    assert result.partners == 1


def test_rows_after_too_many_bytes_are_not_read_and_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apply, "MAX_BYTES", 3 * 1024 * 1024)
    rows = [f"P{n},P{n},,,,,,,,n.pem," for n in range(6)]
    result = run(make_list(*rows), ZipSource(make_zip(**{"n.pem": bytes(1024 * 1024)})))
    assert [error.line for error in result.errors] == [2, 3, 4, 5, 6, 7]
    assert ["more than 3 MiB together" in error.text for error in result.errors] == [False] * 4 + [True] * 2
    assert nothing_is_stored()


@pytest.mark.parametrize(
    ("member", "name"),
    [
        ("new/c.pem", "new\\c.pem"),
        ("new\\c.pem", "new/c.pem"),
        ("new\\c.pem", "c.pem"),
        ("New/C.PEM", "new/c.pem"),
        ("c.pem", "C.pem"),
        ("./c.pem", "c.pem"),
        ("Straße/MÜLLER.cer", "straße\\mu\u0308ller.CER"),
    ],
)
def test_a_file_is_found_in_spite_of_backslashes_and_case(member: str, name: str, tmp_path: Path) -> None:
    assert not import_one_from(io.BytesIO(arrivals.make_zip({member: pem("NORTHWIND"), "d.pem": b"x"})), name).errors


def test_a_name_in_utf8_that_a_zip_does_not_mark_is_read() -> None:
    data = arrivals.make_zip({"mxxller.cer": pem("MUELLER")}).replace(b"mxxller", "müller".encode())
    assert not import_one_from(io.BytesIO(data), "müller.cer").errors


def test_files_that_differ_in_case_only_are_found_by_their_exact_names() -> None:
    stream = make_zip(**{"c.pem": pem("A"), "C.pem": pem("B")})
    assert not import_one_from(stream, "C.pem").errors
    assert "differ in upper and lower case" in error_text(import_one_from(stream, "C.PEM"))


def test_names_that_lead_out_of_a_zip_are_refused() -> None:
    stream = make_zip(**{"..__..__etc__n.pem": pem("NORTHWIND")})
    assert "leads out of the ZIP" in error_text(import_one_from(stream, "../../etc/n.pem"))


@pytest.mark.parametrize("spoil", ["locked", "damaged"])
def test_damaged_files_in_a_zip_are_reported(spoil: str) -> None:
    data = bytearray(make_zip(**{"n.pem": pem("NORTHWIND")}).getvalue())
    if spoil == "locked":
        data[6] |= 1
        data[data.rindex(b"PK\x01\x02") + 8] |= 1
    else:
        data[60:90] = bytes(30)
    assert "damaged, or locked" in error_text(import_one_from(io.BytesIO(bytes(data))))


@pytest.mark.parametrize("data", [b"", b"no zip", b"PK\x05\x06" + b"\xff" * 18, b"PK\x05\x06" + bytes(8)])
def test_other_files_than_zips_are_refused(data: bytes) -> None:
    with pytest.raises(UnreadableSource):
        ZipSource(io.BytesIO(data)).read("n.pem")


# Comparison with the inventory, and with each other.


def test_a_certificate_is_compared_with_the_inventory_and_with_the_rows_before_it(folder: Path) -> None:
    other = make_partner("FABRIKAM")
    add_certificate(other, name="NORTHWIND", days=300)
    result = run(
        make_list(
            "Northwind,NORTHWIND,,,,,,,,northwind.pem,",
            "A,A,,,,,,,,contoso.cer,",
            "B,B,test,,,,,,,contoso.cer,",
        ),
        folder,
    )
    told = "\n".join(map(str, result.remarks))
    assert "Line 2: northwind.pem: This same certificate is used by Fabrikam." in told
    assert "Line 4: contoso.cer: This same certificate is used by A." in told
    assert "Line 4: contoso.cer: This same certificate is used in production too, by A." in told
    assert result.stored


def test_two_certificates_of_a_partner_with_the_same_issuer_and_serial_are_refused(folder: Path) -> None:
    (folder / "a.pem").write_bytes(pem("NORTHWIND", serial=7))
    (folder / "b.pem").write_bytes(pem("NORTHWIND", serial=7, days=500))
    rows = ("Northwind,NORTHWIND,,,,,,,,a.pem,", "Northwind,NORTHWIND,,,,,,,,b.pem,")
    assert "Line 3: b.pem: It has the same issuer and serial" in error_text(run(make_list(*rows), folder))
    run(make_list(rows[0]), folder)
    assert "Line 2: b.pem: It has the same issuer and serial" in error_text(run(make_list(rows[1]), folder))
    run(make_list(rows[1].replace("NORTHWIND", "OTHER")), folder)
    assert PartnerCertificate.objects.count() == 2


@pytest.mark.parametrize("is_stored", [True, False], ids=["stored before", "in the row before"])
def test_a_successor_that_keeps_the_key_or_ends_earlier_is_a_remark_and_warns_the_owners(
    folder: Path, is_stored: bool
) -> None:
    _, key = make_pair("NORTHWIND")
    (folder / "old.pem").write_bytes(pem("NORTHWIND", days=100, key=key))
    (folder / "same.pem").write_bytes(pem("NORTHWIND", days=500, key=key))
    (folder / "earlier.pem").write_bytes(pem("NORTHWIND", days=50))
    first = "Northwind,NORTHWIND,,,,,,,,old.pem,encrypt"
    rows = [f"Northwind,NORTHWIND,,,,,,,,{name}.pem,both" for name in ("same", "earlier")]
    if is_stored:
        run(make_list(first), folder)
    result = run(make_list(*rows) if is_stored else make_list(first, *rows), folder)
    told = "\n".join(map(str, result.remarks))
    assert "same.pem: It has the same key as the certificate that it replaces." in told
    assert "earlier.pem: It ends on" in told
    assert told.count("the one it replaces") == 1
    assert (result.stored, result.waiting) == (True, 2)
    assert Entry.objects.filter(verb="certificate.warnings_accepted").count() == 2


def test_a_certificate_for_a_role_that_nothing_serves_replaces_none(folder: Path) -> None:
    partner = make_partner("NORTHWIND")
    add_certificate(partner, days=900, roles=("verify",))
    assert not run(make_list("Northwind,NORTHWIND,,,,,,,,northwind.pem,encrypt"), folder).remarks
    remarks = run(make_list("Northwind,NORTHWIND,,,,,,,,northwind.pem,both"), folder).remarks
    assert not remarks  # it is stored already


# The import as a whole.


def test_a_failure_rolls_back_the_whole_import(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_identity("ACME")

    def fail(*args: object, **kwargs: object) -> None:
        raise IntegrityError("somebody was first")

    monkeypatch.setattr("identities.certificates.bulk_import.record_many", fail)
    with pytest.raises(ImportConflict, match="run it again"):
        run(TWO, folder)
    assert nothing_is_stored()


def test_the_number_of_queries_does_not_grow_with_the_rows(folder: Path) -> None:
    make_identity("ACME")
    for n in range(40):
        (folder / f"{n}.pem").write_bytes(pem(f"P{n}"))

    def some(first: int, last: int) -> tuple[int, int]:
        """Return how many statements write rows for so many partners, and how many there are beside these."""
        rows = (f"P{n},P{n},,,,Al,al{n}@x.example,,ACME,{n}.pem," for n in range(first, last))
        with CaptureQueriesContext(connection) as captured:
            assert run(make_list(*rows), folder).stored
        written = sum(query["sql"].startswith("INSERT") for query in captured.captured_queries)
        return written, len(captured) - written

    (few_writes, few_others), (many_writes, many_others) = some(0, 2), some(2, 40)
    assert many_others == few_others
    assert many_writes <= few_writes + 10  # SQLite takes about 50 rows by one statement


# The command.


def command(*arguments: str) -> str:
    out, wrong = io.StringIO(), io.StringIO()
    try:
        call_command("import_inventory", *arguments, stdout=out, stderr=wrong)
    except CommandError as error:
        wrong.write(f"{error}\n")
    return f"{out.getvalue()}{wrong.getvalue()}"


@pytest.fixture
def csv_file(tmp_path: Path, folder: Path) -> Path:
    path = tmp_path / "partners.csv"
    path.write_bytes(TWO)
    return path


def test_the_command_makes_a_trial_run_stores_and_finds_nothing_new(csv_file: Path, folder: Path) -> None:
    make_identity("ACME")
    tried = command(str(csv_file), "--certificates", str(folder), "--dry-run")
    assert "New would be: 2 partners, 1 contact, 1 partnership and 2 certificates." in tried
    assert nothing_is_stored()
    done = command(str(csv_file), "--certificates", str(folder))
    assert "2 certificates. Certificates used at once: 2; waiting" in done
    assert "nothing of them is new" in command(str(csv_file), "--certificates", str(folder))


def test_the_command_prints_the_errors_and_fails(csv_file: Path) -> None:
    told = command(str(csv_file))
    assert "Line 2: It names the file northwind.pem, but no folder of certificates was given" in told
    assert "Line 3:" in told
    assert "2 of 2 rows have errors, so nothing was stored" in told


def test_the_command_reports_unreadable_files(tmp_path: Path, csv_file: Path) -> None:
    assert "can’t be read: No such file" in command(str(tmp_path / "none.csv"))
    assert "neither a folder nor a ZIP" in command(str(csv_file), "--certificates", str(csv_file))
