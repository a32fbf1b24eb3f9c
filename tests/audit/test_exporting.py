"""Exports of the trail: complete or filtered, verified by the script of the documentation, and recorded."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.http import HttpResponse
from django.test import Client
from django.urls import reverse

from as2certs.audit import chain as chained
from as2certs.audit import sealing
from as2certs.audit.models import Chain, Entry
from as2certs.audit.recording import AuditEvent, record
from as2certs.clock import database_now
from partners.models import Partner
from tests.audit.conftest import ALICE, add_entries, findings, run_verify_audit
from tests.people import log_in, make_person
from tests.trail import tamper

pytestmark = [pytest.mark.django_db, pytest.mark.dates]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def client() -> Client:
    """Somebody who may export, in front of a trail that is empty."""
    client = log_in(make_person("ada", "administrator", time_zone="Europe/Berlin"))
    tamper("DELETE FROM audit_subject")
    tamper("DELETE FROM audit_entry")
    return client


def export(client: Client, form: str, query: str = "") -> Any:
    return client.post(f"{reverse('audit-export')}{query}", {"format": form})


def content(answer: Any) -> bytes:
    assert answer.status_code == 200
    assert answer.streaming
    return b"".join(answer.streaming_content)


def lines(answer: Any) -> list[dict[str, Any]]:
    return [json.loads(line) for line in content(answer).splitlines()]


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The standalone script, as it is printed in the documentation."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "trail.md").read_text(), re.DOTALL)
    path = tmp_path / "verify_trail.py"
    path.write_text(code)
    return path


def run(script: Path, data: bytes) -> tuple[int, list[str]]:
    """Run the script on a file with nothing of ours within its reach."""
    file = script.with_name("trail.jsonl")
    file.write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-I", "-S", script, file], capture_output=True, text=True, check=False, cwd="/"
    )
    assert done.stderr == ""
    return done.returncode, done.stdout.splitlines()


def test_json_lines_hold_the_whole_chain_and_end_with_the_export_itself(client: Client, partner: Partner) -> None:
    add_entries(partner, 3)
    answer = export(client, "jsonl")
    rows = lines(answer)
    assert [row["position"] for row in rows] == [1, 2, 3, 4]
    assert rows == chained.read_entries(Entry.objects.sealed())
    assert rows[0]["new"] == Entry.objects.get(position=1).new
    assert (rows[-1]["verb"], rows[-1]["actor_name"], rows[-1]["new"]) == (
        "trail.exported",
        "ada",
        {"format": "jsonl"},
    )
    assert answer["Content-Type"] == "application/jsonl"
    assert re.fullmatch(r'attachment; filename="trail-\d{4}-\d\d-\d\d\.jsonl"', answer["Content-Disposition"])
    assert answer["Cache-Control"] == "no-store"


def test_the_script_of_the_documentation_verifies_an_export(client: Client, partner: Partner, script: Path) -> None:
    add_entries(partner, 5)
    code, said = run(script, content(export(client, "jsonl")))
    assert (code, said) == (0, [f"6 entries, 0 faults. The last one is {Chain.objects.get()}"])


SEALED = "Position {0}, entry {1}: is not what was sealed."
FITS = "Position {0}, entry {1}: does not fit to the entry before it."
GAP = "Position {0}, entry {1}: does not follow on 2: entries are missing, or the export was narrowed."


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda rows: rows[2].update(reason="x"), [(SEALED, 3)]),
        (lambda rows: rows[2]["subjects"].pop(), [(SEALED, 3)]),
        (lambda rows: rows.pop(2), [(GAP, 4)]),
        (lambda rows: rows[0].update(previous="1" * 64), [(SEALED, 1), (FITS, 1)]),
        (lambda rows: rows[2].update(hash="1" * 64), [(SEALED, 3), (FITS, 4)]),
    ],
)
def test_the_script_of_the_documentation_finds_what_was_changed(
    client: Client, partner: Partner, script: Path, change: Any, said: list[tuple[str, int]]
) -> None:
    entries = add_entries(partner, 5)
    rows = lines(export(client, "jsonl"))
    change(rows)
    code, exported = run(script, b"".join(json.dumps(row).encode() + b"\n" for row in rows))
    ids = [0, *(entry.pk for entry in entries)]
    assert code == 1
    assert exported[:-1] == [words.format(position, ids[position]) for words, position in said]


def test_a_file_is_verified_with_its_signatures(client: Client, partner: Partner, tmp_path: Path) -> None:
    add_entries(partner, 5)
    path = tmp_path / "trail.jsonl"
    path.write_bytes(content(export(client, "jsonl")))
    assert findings("--file", str(path)) == []
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    rows[2]["reason"] = "x"
    rows[2]["hash"] = chained.compute_hash(rows[2])
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows[1:]))
    (found,) = findings("--file", str(path))
    assert found.startswith("FORGED: position 3 ")


@pytest.mark.parametrize("text", ["", "x\n", "[]\n", '{"position": 1}\n', "\xff"])
def test_a_file_that_is_no_trail_is_reported(tmp_path: Path, text: str) -> None:
    path = tmp_path / "trail.jsonl"
    path.write_bytes(text.encode("latin-1"))
    (said,) = run_verify_audit("--file", str(path))
    assert str(path) in said


def test_the_export_has_the_filters_of_the_page(client: Client, partner: Partner) -> None:
    add_entries(partner, 2)
    other = Partner.objects.create(name="Fabrikam", as2_id="F")
    add_entries(other)
    rows = lines(export(client, "jsonl", f"?about=partners.partner:{other.uid}&who=ali"))
    assert [row["object_name"] for row in rows] == ["Fabrikam"]
    exported = Entry.objects.get(verb="trail.exported").new
    assert exported == {"format": "jsonl", "about": f"partners.partner:{other.uid}", "who": "ali"}


def test_an_invalid_filter_exports_nothing(client: Client, partner: Partner) -> None:
    add_entries(partner)
    answer = export(client, "jsonl", "?since=yesterday")
    assert answer.status_code == 302
    assert not Entry.objects.filter(verb="trail.exported").exists()


def test_csv_starts_no_formula(client: Client, partner: Partner) -> None:
    evil = Partner(name='=HYPERLINK("https://evil")', as2_id="E")
    record(
        AuditEvent("partner.created", evil, new={"name": "Zoë"}, reason="a,b\nc"),
        by=ALICE,
        now=database_now(),
    )
    answer = export(client, "csv")
    text = content(answer).decode("utf-8-sig")
    row, own = csv.DictReader(io.StringIO(text))
    assert row["object_name"] == '\'=HYPERLINK("https://evil")'
    assert (row["new"], row["reason"], row["actor_id"]) == ('{"name": "Zoë"}', "a,b\nc", "")
    assert (row["position"], row["hash"]) == ("1", Entry.objects.get(position=1).hash)
    assert own["verb"] == "trail.exported"
    assert answer["Content-Type"] == "text/csv; charset=utf-8"


def test_more_than_a_batch_is_streamed(client: Client, partner: Partner) -> None:
    Entry.objects.bulk_create(
        Entry(at=database_now() + timedelta(seconds=n), verb="x", actor_name="Alice", source="web")
        for n in range(chained.BATCH_SIZE + 2)
    )
    answer = export(client, "jsonl")
    parts = list(answer.streaming_content)
    assert len(parts) == 2
    assert [json.loads(line)["position"] for line in b"".join(parts).splitlines()] == list(
        range(1, chained.BATCH_SIZE + 4)
    )


def test_later_entries_are_not_exported(client: Client, partner: Partner) -> None:
    answer = export(client, "jsonl")
    add_entries(partner)
    sealing.seal()
    assert [row["verb"] for row in lines(answer)] == ["trail.exported"]


@pytest.mark.parametrize("form", ["", "xml", "x" * 1000])
def test_other_formats_are_refused(client: Client, form: str) -> None:
    assert export(client, form).status_code == 404
    assert not Entry.objects.filter(verb="trail.exported").exists()


def test_the_export_requires_post_and_the_permission(client: Client) -> None:
    assert client.get(reverse("audit-export")).status_code == 405
    viewer = log_in(make_person("vera", "viewer"))
    before = Entry.objects.count()
    refused: HttpResponse = export(viewer, "csv")
    assert refused.status_code == 403
    page = viewer.get(reverse("audit-list")).content.decode()
    assert reverse("audit-export") not in page
    page = client.get(reverse("audit-list"), {"who": "a&b", "below": "7"}).content.decode()
    assert f'action="{reverse("audit-export")}?who=a%26b"' in page
    assert Entry.objects.count() == before


def test_a_file_shows_the_same_tampering_as_the_trail(client: Client, partner: Partner, script: Path) -> None:
    add_entries(partner, 3)
    sealing.seal()
    tamper("UPDATE audit_entry SET reason = 'x' WHERE position = 2")
    code, said = run(script, content(export(client, "jsonl")))
    assert code == 1
    assert "Position 2" in said[0]
