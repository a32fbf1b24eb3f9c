"""The owner of a station is notified of every decision that overrides a check, whichever it was."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from as2certs.mail.models import Message
from partners.importing import csv_rows
from partners.importing.apply import ImportOptions, import_list
from partners.importing.sources import FolderSource
from partners.models import Partner, PartnerCertificate
from rotations.execution import confirmations
from rotations.lifecycle import approval, emergency, endings, rescheduling, step_actions
from rotations.models import Freeze, Rotation
from rotations.notifications import outcome_mail
from rotations.planning.change import Act
from tests.certificates import cert_pem, make_pair
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, make_company, make_draft, window
from tests.rotations.pages import STARTS
from tests.rotations.rehearsals import make_test_side, require_rehearsals

pytestmark = pytest.mark.django_db

REASON = "The plant stands still otherwise"


@pytest.fixture
def company() -> Company:
    """A company whose identity Alice owns; Bob decides."""
    return make_company()


@pytest.fixture
def rotation(company: Company) -> Rotation:
    return approval.approve(make_draft(company, starts=STARTS), by=company.approver, now=NOW)


def forced() -> Message:
    """Return the only mail about a forced decision; it goes to the owner and holds the reason."""
    message = Message.objects.get(kind="forced")
    assert message.to_address == "alice@example.com"
    for part in (message.text, message.html):
        assert REASON in " ".join(part.split())
    return message


def test_a_regular_approval_is_no_forced_decision(rotation: Rotation) -> None:
    assert not Message.objects.filter(kind="forced").exists()


def test_going_on_without_a_partner(rotation: Rotation, company: Company) -> None:
    northwind = rotation.participants.get(partner__name="Northwind")
    confirmations.waive(northwind, reason=REASON, by=company.approver, now=NOW)
    assert forced().subject == "ACME: Bob decided to go on without Northwind"


def test_going_on_without_several_partners_is_one_mail(rotation: Rotation, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("bulk", "lookups"):
        monkeypatch.setattr(f"rotations.web.views.{name}.database_now", lambda: NOW)
    client: Client = log_in(make_person("olivia", "operator"))
    chosen = [str(participant.uid) for participant in rotation.participants.all()]
    url = reverse("rotation-together", args=[rotation.uid])
    client.post(url, {"act": "waive", "partner": chosen, "reason": REASON, "sure": "1"})
    assert not rotation.participants.filter(waived_reason="").exists()
    assert "decided to go on without Fabrikam and Northwind" in forced().subject


def test_going_on_without_a_rehearsal(company: Company) -> None:
    make_test_side(company)
    require_rehearsals()
    draft = make_draft(company, starts=STARTS)
    approval.waive_rehearsal(draft, reason=REASON, by=company.approver, now=NOW)
    assert forced().subject == "ACME: Bob decided to go on without a rehearsal"


def test_an_emergency(rotation: Rotation, company: Company) -> None:
    emergency.declare_emergency(rotation, reason=REASON, alone="", by=company.approver, now=NOW)
    assert forced().subject == "ACME: Bob declared an emergency"


def test_skipping_a_step(rotation: Rotation, company: Company) -> None:
    step = rotation.steps.filter(act=Act.ANNOUNCE).first()
    assert step is not None
    step_actions.skip_step(step, reason=REASON, by=company.approver, now=NOW)
    assert forced().subject == f"ACME: Bob skipped the step “{step.title}”"


def test_closing_with_steps_left(rotation: Rotation, company: Company) -> None:
    rotation.steps.exclude(act=Act.PARTNER_RETIRE).update(state="done", done_at=NOW)
    Rotation.objects.filter(pk=rotation.pk).update(state="applied")
    endings.close(rotation, reason=REASON, by=company.approver, now=NOW)
    assert forced().subject == "ACME: Bob closed the rotation with steps left"


def test_approving_despite_warnings(company: Company) -> None:
    draft = make_draft(company, starts=NOW + timedelta(days=1))
    Rotation.objects.filter(pk=draft.pk).update(freeze_reason=REASON)
    approval.approve(draft, by=company.approver, now=NOW)
    message = forced()
    assert message.subject == "ACME: Bob approved the change despite warnings"
    assert "Partners get less than 3 days' notice" in " ".join(message.text.split())


def test_moving_the_window_into_a_freeze(rotation: Rotation, company: Company) -> None:
    later = STARTS + timedelta(days=1)
    Freeze.objects.create(name="Count", first=later.date(), last=later.date(), zone="UTC")
    change = rescheduling.WindowChange(window(later), reason="They asked", freeze_reason=REASON)
    rescheduling.postpone(rotation, change, by=company.approver, now=NOW)
    assert forced().subject == "ACME: Bob moved the window despite warnings"


def test_moving_the_window_without_warnings_is_no_forced_decision(rotation: Rotation, company: Company) -> None:
    change = rescheduling.WindowChange(window(STARTS + timedelta(days=1)), reason="They asked")
    rescheduling.postpone(rotation, change, by=company.approver, now=NOW)
    assert not Message.objects.filter(kind="forced").exists()


# Imports, which have no rotation.


@pytest.fixture
def operator() -> Client:
    return log_in(make_person("olivia", "operator"))


def upload(client: Client, company: Company, monkeypatch: pytest.MonkeyPatch, *, days: float, **fields: str) -> None:
    """Upload a certificate of Northwind with a validity that ends in so many days."""
    monkeypatch.setattr("identities.views.certificate_import.database_now", lambda: NOW)
    pem = cert_pem(
        make_pair("NORTHWIND-2", not_before=NOW - timedelta(days=1), not_after=NOW + timedelta(days=days))[0]
    )
    northwind = Partner.objects.get(name="Northwind")
    northwind.owners.add(company.alice)
    given = {"certificate_text": pem.decode(), "roles": ["verify", "encrypt"], **fields}
    client.post(reverse("partner-upload", args=[northwind.uid]), given)


def test_importing_a_certificate_despite_warnings(
    operator: Client, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(operator, company, monkeypatch, days=4000)
    assert not PartnerCertificate.objects.filter(partner__name="Northwind").exists()
    upload(operator, company, monkeypatch, days=4000, despite_warnings="on")
    certificate = PartnerCertificate.objects.get(partner__name="Northwind")
    warning = Entry.objects.get(verb="certificate.warnings_accepted").reason
    assert warning
    for now in (NOW, NOW + timedelta(minutes=1)):
        outcome_mail.notify_forced_imports(now)
    message = Message.objects.get(kind="forced")
    assert message.to_address == "alice@example.com"
    assert message.subject.startswith("Northwind: ")
    assert message.subject.endswith(" imported a certificate despite warnings")
    assert " ".join(warning.split()) in " ".join(message.text.split())
    assert certificate.get_absolute_url() in message.text


def test_an_expired_certificate_that_is_in_use(
    operator: Client, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(operator, company, monkeypatch, days=-0.5, despite_warnings="on", expired_reason=REASON)
    outcome_mail.notify_forced_imports(NOW)
    assert "imported a certificate despite warnings" in forced().subject


def test_an_import_without_warnings_is_no_forced_decision(
    operator: Client, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload(operator, company, monkeypatch, days=400)
    assert PartnerCertificate.objects.filter(partner__name="Northwind").exists()
    assert outcome_mail.notify_forced_imports(NOW) == 0


def import_partners(company: Company, folder: Path, *, days: dict[str, float]) -> None:
    """Import a list of partners, each with a certificate whose validity ends in so many days."""
    rows = ["name,as2_id,certificate,roles"]
    for name, left in days.items():
        ends = NOW + timedelta(days=left)
        made = make_pair(name.upper(), not_before=NOW - timedelta(days=1), not_after=ends)[0]
        (folder / f"{name}.pem").write_bytes(cert_pem(made))
        partner = Partner.objects.create(name=name, as2_id=name.upper())
        partner.owners.add(company.alice)
        rows.append(f"{name},{name.upper()},{name}.pem,both")
    listed = csv_rows.read_list("\n".join(rows).encode())
    result = import_list(listed, FolderSource(folder), ImportOptions(), by=company.approver, now=NOW)
    assert not result.errors


def test_an_import_of_a_list_despite_warnings_is_one_mail(company: Company, tmp_path: Path) -> None:
    import_partners(company, tmp_path, days={"Contoso": 4000, "Initech": 300, "Umbrella": 5000})
    assert Entry.objects.filter(verb="certificate.warnings_accepted").count() == 2
    for now in (NOW, NOW + timedelta(minutes=1)):
        outcome_mail.notify_forced_imports(now)
    message = Message.objects.get(kind="forced")
    assert message.subject == "Contoso and Umbrella: Bob imported 2 certificates despite warnings"
    text = " ".join(message.text.split())
    for name in ("Contoso", "Umbrella"):
        certificate = PartnerCertificate.objects.get(partner__name=name)
        assert f"{name}, {certificate.short_name}: " in text
    assert "Initech" not in text


def test_an_import_of_a_list_with_one_doubtful_certificate_reads_like_an_upload(
    company: Company, tmp_path: Path
) -> None:
    import_partners(company, tmp_path, days={"Contoso": 4000, "Initech": 300})
    outcome_mail.notify_forced_imports(NOW)
    message = Message.objects.get(kind="forced")
    assert message.subject == "Contoso: Bob imported a certificate despite warnings"
    assert PartnerCertificate.objects.get(partner__name="Contoso").get_absolute_url() in message.text
