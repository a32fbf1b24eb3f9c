"""Setting up a rotation and changing its draft."""

from __future__ import annotations

import subprocess
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from as2certs.audit.models import Entry
from identities.certificates.generation import generate_next
from identities.models import AS2System, CertificateRequest, IdentityCertificate, IdentityService, PrivateKey
from partners.models import Partner, PartnerCertificate
from rotations.execution.version_token import rotation_version
from rotations.lifecycle import drafts
from rotations.models import Rotation
from rotations.planning.windows import Window
from rotations.web.forms import draft_preview
from tests.capabilities import SIGNS_PER_PARTNER, keeps_both
from tests.certificates import cert_pem, key_pem, make_pair, p12
from tests.people import log_in, make_person
from tests.rotations.company import NOW, Company, partner_certificate
from tests.rotations.pages import (
    STARTS,
    WINDOW,
    get_page,
    make_approved,
    make_drafted,
    page_text,
    plan_form,
    post_form,
    untouched_input,
)

DAY = 86400
NO_WINDOW: dict[str, Any] = {**dict.fromkeys(WINDOW, ""), "window_zone": "UTC", "window_known": ""}


def create(client: Client, company: Company, **changed: Any) -> Any:
    url = f"{reverse('rotation-create')}?identity={company.identity.uid}"
    return client.post(url, plan_form(company, **changed))


def only() -> Rotation:
    return Rotation.objects.get()


def test_the_holder_can_be_chosen(operator: Client, company: Company) -> None:
    shown = page_text(get_page(operator, "rotation-create"))
    assert f"?identity={company.identity.uid}" in shown
    assert company.partners[0].name not in shown  # its certificate is not known


def test_running_rotations_are_shown(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    assert rotation.get_absolute_url() in page_text(get_page(operator, "rotation-create"))


def test_the_search_finds_other_holders(operator: Client, company: Company) -> None:
    assert f"?identity={company.identity.uid}" in page_text(operator.get(reverse("rotation-create"), {"q": "acme-p"}))
    assert "Nothing with a certificate" in page_text(operator.get(reverse("rotation-create"), {"q": "zzz"}))


def test_the_form_presets_the_expiring_certificate_and_its_roles(operator: Client, company: Company) -> None:
    form = operator.get(reverse("rotation-create"), {"identity": str(company.identity.uid)}).context["form"]
    assert form["old"].value() == str(company.old.uid)
    assert form["roles"].value() == ["sign", "decrypt"]
    assert form["successor"].value() == "generate"


def test_a_url_presets_successor_and_roles(operator: Client, company: Company) -> None:
    query = {
        "identity": str(company.identity.uid),
        "new": str(company.new.uid),
        "roles": ["decrypt", "nonsense"],
    }
    form = operator.get(reverse("rotation-create"), query).context["form"]
    assert (form["successor"].value(), form["certificate"].value()) == ("inventory", str(company.new.uid))
    assert form["roles"].value() == ["decrypt"]


@pytest.mark.parametrize("uid", ["nonsense", "00000000-0000-4000-8000-000000000000"])
def test_a_url_with_an_unknown_holder_is_not_found(operator: Client, uid: str) -> None:
    assert operator.get(reverse("rotation-create"), {"identity": uid}).status_code == 404


def test_presets_of_another_holder_are_ignored(operator: Client, company: Company) -> None:
    query = {"identity": str(company.identity.uid), "old": "nonsense", "new": "nonsense"}
    form = operator.get(reverse("rotation-create"), query).context["form"]
    assert (form["old"].value(), form["successor"].value()) == (str(company.old.uid), "generate")


def test_a_draft_has_all_connected_partners(operator: Client, company: Company) -> None:
    response = create(operator, company, notes="Night shift knows")
    rotation = only()
    assert response["Location"] == rotation.get_absolute_url()
    assert (rotation.state, rotation.old, rotation.new) == ("draft", company.old, company.new)
    assert (rotation.window_start, rotation.window_zone) == (STARTS, "America/Chicago")
    assert rotation.window_local == "2026-12-03 22:00–23:00"
    assert [p.partner.name for p in rotation.participants.all()] == ["Fabrikam", "Northwind"]
    assert rotation.notes == "Night shift knows"
    assert Entry.objects.about(rotation).get().verb == "rotation.set_up"


def test_warnings_about_the_window_must_be_acknowledged(operator: Client, company: Company) -> None:
    late = {**WINDOW, "window_date": "2026-12-10"}
    response = create(operator, company, **late, window_known="")
    assert response.status_code == 422
    assert "Less than 7 days lie between the window and the end of the old certificate" in page_text(response)
    assert not Rotation.objects.exists()
    assert create(operator, company, **late, window_known="close_to_old_end").status_code == 302


def test_a_window_that_starts_before_the_successor_is_valid_is_refused(operator: Client, company: Company) -> None:
    leaf, key = make_pair("ACME-PROD", not_before=STARTS.replace(month=12, day=20), not_after=STARTS.replace(year=2028))
    file = SimpleUploadedFile("next.p12", p12((leaf, key)))
    response = create(
        operator,
        company,
        **{"successor": "upload", "upload-certificate_file": file, "upload-password": "secret"},
    )
    assert "not valid when the window starts" in response.context["form"].errors["window_date"][0]
    assert IdentityCertificate.objects.count() == 2


def test_the_successor_is_generated(operator: Client, company: Company) -> None:
    assert create(operator, company, successor="generate", certificate="").status_code == 302
    rotation, request = only(), CertificateRequest.objects.get()
    assert (rotation.request, rotation.new) == (request, None)
    assert (request.bits, request.roles, request.subject["common_name"]) == (
        2048,
        ["sign", "decrypt"],
        "ACME-PROD",
    )
    assert "waiting for its turn" in page_text(get_page(operator, "rotation-detail", rotation.uid))
    generate_next(now=NOW)
    assert get_page(operator, "rotation-detail", rotation.uid).status_code == 200
    assert only().new is None  # a GET changes nothing
    drafts.assign_generated_successors(now=NOW)
    assert only().new == CertificateRequest.objects.get().certificate


def test_the_subject_of_the_old_certificate_is_repeated(operator: Client, company: Company) -> None:
    company.identity.email = "edi@acme.example"
    company.identity.save()
    form = operator.get(reverse("rotation-create"), {"identity": str(company.identity.uid)}).context["form"]
    assert form.generate.initial["common_name"] == "ACME-PROD"
    assert form.generate.initial["email"] == ""  # the old one names none


def test_an_invalid_key_request_is_an_error_of_its_field(operator: Client, company: Company) -> None:
    response = create(operator, company, **{"successor": "generate", "generate-common_name": ""})
    assert response.status_code == 422
    assert "common_name" in response.context["form"].generate.errors
    assert not Rotation.objects.exists()


def test_fields_of_other_options_are_ignored(operator: Client, company: Company) -> None:
    assert create(operator, company, **{"generate-common_name": "", "generate-days": "x"}).status_code == 302


def test_the_successor_is_uploaded_with_its_key(operator: Client, company: Company) -> None:
    pair = make_pair("ACME-PROD 2028", not_before=NOW.replace(month=1), not_after=NOW.replace(year=2028))
    response = create(
        operator,
        company,
        **{
            "successor": "upload",
            "upload-certificate_file": SimpleUploadedFile("c.pem", cert_pem(make_pair("PARTNER")[0], pair[0])),
            "upload-key_file": SimpleUploadedFile("k.pem", key_pem(pair[1])),
        },
    )
    assert response.status_code == 302
    assert any("(“PARTNER”) were left out" in str(one) for one in get_messages(response.wsgi_request))
    new = only().new
    assert isinstance(new, IdentityCertificate)
    assert new.private_key is not None
    assert company.identity.service.open().filter(certificate=new).count() == 0


def test_a_wrong_password_is_an_error_of_its_field_and_stores_nothing(operator: Client, company: Company) -> None:
    keys = PrivateKey.objects.count()
    pair = make_pair("ACME-PROD 2028", not_after=NOW.replace(year=2028))
    file = SimpleUploadedFile("c.p12", p12(pair))
    response = create(
        operator, company, **{"successor": "upload", "upload-certificate_file": file, "upload-password": "no"}
    )
    assert "password" in response.context["form"].upload.errors
    assert (Rotation.objects.count(), PrivateKey.objects.count()) == (0, keys)
    assert 'value="2026-12-03"' in page_text(response)  # the rest is still filled in


def test_the_successor_may_come_later_and_the_window_too(operator: Client, company: Company) -> None:
    open_window = dict.fromkeys(WINDOW, "") | {"window_zone": "UTC"}
    assert create(operator, company, successor="awaited", **open_window).status_code == 302
    rotation = only()
    assert (rotation.new, rotation.window_start) == (None, None)
    shown = page_text(get_page(operator, "rotation-detail", rotation.uid))
    assert "The new certificate is awaited." in shown
    assert "No window is chosen yet." in shown


def test_the_old_certificate_can_not_be_its_own_successor(operator: Client, company: Company) -> None:
    response = create(operator, company, certificate=str(company.old.uid))
    assert "This is the one that leaves" in response.context["form"].errors["certificate"][0]


def test_a_role_that_another_certificate_serves_is_refused(operator: Client, company: Company) -> None:
    company.identity.service.filter(role="sign").update(certificate=company.new)
    response = create(operator, company, successor="awaited")
    assert "does not serve sign now" in response.context["form"].errors["roles"][0]


def test_a_second_rotation_of_the_same_role_is_refused_at_the_roles(operator: Client, company: Company) -> None:
    make_drafted(company)
    response = create(operator, company, roles=["sign"])
    assert "already changes sign" in response.context["form"].errors["roles"][0]
    assert Rotation.objects.count() == 1


def test_posting_twice_creates_one_draft(operator: Client, company: Company) -> None:
    assert create(operator, company).status_code == 302
    assert create(operator, company).status_code == 422
    assert Rotation.objects.count() == 1


def test_an_archived_identity_starts_no_rotation(operator: Client, company: Company) -> None:
    company.identity.archived_at = NOW
    company.identity.save()
    assert create(operator, company).status_code == 302
    assert not Rotation.objects.exists()


def test_creating_and_changing_require_permissions(viewer: Client, approver: Client, company: Company) -> None:
    rotation = make_drafted(company)
    for client in (viewer, approver):
        assert create(client, company).status_code == 403
        assert get_page(client, "rotation-create").status_code == 403
        assert get_page(client, "rotation-update", rotation.uid).status_code == 403
    assert Client().get(reverse("rotation-create"))["Location"].startswith(reverse("login"))


# A partner's certificate


def expire(certificate: Any, *, at: datetime) -> None:
    type(certificate).objects.filter(pk=certificate.pk).update(not_after=at)


def test_an_expired_certificate_is_not_offered_as_successor_and_refused_at_its_field(
    operator: Client, company: Company
) -> None:
    expire(company.new, at=NOW - timedelta(seconds=1))
    form = operator.get(reverse("rotation-create"), {"identity": str(company.identity.uid)}).context["form"]
    assert str(company.new.uid) not in [value for value, _ in form.fields["certificate"].choices]
    response = create(operator, company, **NO_WINDOW, notes="Night shift knows")
    assert response.status_code == 422
    assert "nothing is rotated to an expired certificate" in response.context["form"].errors["certificate"][0]
    assert "Night shift knows" in page_text(response)
    assert not Rotation.objects.exists()
    expire(company.new, at=NOW)
    assert create(operator, company, **NO_WINDOW).status_code == 302


def test_an_expired_certificate_can_still_be_replaced(operator: Client, company: Company) -> None:
    expire(company.old, at=NOW - timedelta(days=1))
    form = operator.get(reverse("rotation-create"), {"identity": str(company.identity.uid)}).context["form"]
    assert form["old"].value() == str(company.old.uid)
    assert create(operator, company, **NO_WINDOW).status_code == 302


def test_a_draft_keeps_no_successor_that_has_expired(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    expire(company.new, at=NOW - timedelta(seconds=1))
    refused = change(operator, rotation, company, **NO_WINDOW)
    assert list(refused.context["form"].errors) == ["certificate"]
    assert change(operator, rotation, company, **NO_WINDOW, successor="awaited").status_code == 302
    assert only().new is None


def test_an_expired_upload_is_refused_as_successor_whatever_the_reason(operator: Client, company: Company) -> None:
    pair = make_pair("OLD", not_before=NOW - timedelta(days=30), not_after=NOW - timedelta(days=1))
    response = create(
        operator,
        company,
        **NO_WINDOW,
        **{
            "successor": "upload",
            "upload-certificate_file": SimpleUploadedFile("old.p12", p12(pair)),
            "upload-password": "secret",
            "upload-despite_warnings": "on",
            "upload-expired_reason": "it is in use",
        },
    )
    assert "It expired on" in page_text(response)
    assert IdentityCertificate.objects.count() == 2
    assert not Rotation.objects.exists()


def test_an_uploaded_successor_is_not_in_use_before_its_rotation(operator: Client, company: Company) -> None:
    IdentityService.objects.update(ends_at=NOW)
    pair = make_pair("NEXT", not_before=NOW + timedelta(days=5), not_after=NOW + timedelta(days=800))
    response = create(
        operator,
        company,
        **NO_WINDOW,
        **{
            "old": "",
            "successor": "upload",
            "upload-certificate_file": SimpleUploadedFile("next.p12", p12(pair)),
            "upload-password": "secret",
        },
    )
    assert response.status_code == 302
    assert (only().old, only().new is not None) == (None, True)
    assert not company.identity.service.open().exists()


def test_the_preset_of_a_certificate_valid_later_is_a_draft_with_its_window(operator: Client, company: Company) -> None:
    IdentityService.objects.update(ends_at=NOW)
    begins = NOW + timedelta(days=20)
    type(company.new).objects.filter(pk=company.new.pk).update(not_before=begins)
    query = {
        "identity": str(company.identity.uid),
        "new": str(company.new.uid),
        "roles": ["sign", "decrypt"],
    }
    form = operator.get(reverse("rotation-create"), query).context["form"]
    names = (*WINDOW, "old", "roles", "successor", "certificate")
    preset = {name: form[name].value() for name in names}
    response = create(operator, company, **preset, window_known="")
    assert response.status_code == 302
    rotation = only()
    assert (rotation.old, rotation.new, rotation.window_start) == (None, company.new, begins)


def test_a_role_in_use_needs_the_certificate_to_replace(operator: Client, company: Company) -> None:
    IdentityService.objects.filter(role="decrypt").update(ends_at=NOW)
    refused = create(operator, company, **NO_WINDOW, old="")
    assert "A certificate serves sign now" in refused.context["form"].errors["roles"][0]
    assert create(operator, company, **NO_WINDOW, old="", roles=["decrypt"]).status_code == 302
    assert only().old is None


def test_a_partners_p7b_becomes_the_successor(operator: Client, company: Company, tmp_path: Path) -> None:
    partner = company.partners[0]
    old = partner_certificate(partner, by=company.by, now=NOW, ends=NOW.replace(year=2027))
    leaf, _ = make_pair("FABRIKAM", not_before=NOW.replace(month=2), not_after=NOW.replace(year=2029))
    (tmp_path / "c.pem").write_bytes(cert_pem(leaf))
    argv = ["openssl", "crl2pkcs7", "-nocrl", "-certfile", str(tmp_path / "c.pem"), "-outform", "DER"]
    p7b = subprocess.run(argv, check=True, capture_output=True).stdout
    data = plan_form(
        company,
        old=str(old.uid),
        roles=["verify", "encrypt"],
        successor="upload",
        certificate="",
        window_known="",
    )
    data["upload-certificate_file"] = SimpleUploadedFile("new.p7b", p7b)
    response = operator.post(f"{reverse('rotation-create')}?partner={partner.uid}", data)
    assert response.status_code == 302
    rotation = only()
    assert (rotation.partner, rotation.old) == (partner, old)
    assert isinstance(rotation.new, PartnerCertificate)
    assert [p.partner for p in rotation.participants.all()] == [partner]
    assert "Compare the SHA-256" in page_text(get_page(operator, "rotation-detail", rotation.uid))


def test_a_partners_file_with_a_private_key_is_refused(operator: Client, company: Company) -> None:
    partner = company.partners[0]
    partner_certificate(partner, by=company.by, now=NOW, ends=NOW.replace(year=2027))
    pair = make_pair("FABRIKAM", not_after=NOW.replace(year=2029))
    data = plan_form(company, old="", roles=["verify"], successor="upload", certificate="", window_known="")
    data["upload-certificate_file"] = SimpleUploadedFile("new.pem", cert_pem(pair[0]) + key_pem(pair[1]))
    response = operator.post(f"{reverse('rotation-create')}?partner={partner.uid}", data)
    assert "compromised" in page_text(response)
    assert PartnerCertificate.objects.count() == 1


# Changing a draft


def change(client: Client, rotation: Rotation, company: Company, **changed: Any) -> Any:
    return post_form(
        client,
        "rotation-update",
        rotation.uid,
        **plan_form(company, **{"seen": rotation_version(rotation), **changed}),
    )


def test_the_form_of_a_draft_shows_stored_values(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    form = get_page(operator, "rotation-update", rotation.uid).context["form"]
    assert form["certificate"].value() == str(company.new.uid)
    assert str(form["window_date"].value()) == "2026-12-03"


@pytest.mark.parametrize(
    ("start", "length", "words"),
    [
        (STARTS + timedelta(seconds=7), timedelta(minutes=15, seconds=5), "2026-12-03 22:00:07–22:15:12"),
        # On the night on which the clocks go back in Auckland: from 02:45 NZDT until 02:30 NZST.
        (
            datetime(2027, 4, 3, 13, 45, tzinfo=UTC),
            timedelta(minutes=45),
            "2027-04-04 02:45 NZDT–02:30 NZST",
        ),
    ],
)
def test_a_draft_sent_as_it_is_shown_keeps_its_window(
    operator: Client, company: Company, start: datetime, length: timedelta, words: str
) -> None:
    rotation = make_drafted(company)
    zone = "America/Chicago" if "NZ" not in words else "Pacific/Auckland"
    drafts.set_window(rotation, Window(start, start + length, zone))
    rotation.save()
    sent = untouched_input(get_page(operator, "rotation-update", rotation.uid).context["form"])
    known = "after_old_ends" if "NZ" in words else ""
    response = change(operator, rotation, company, **{**sent, "window_known": known, "notes": "Changed"})
    assert response.status_code == 302, response.context["form"].errors
    stored = only()
    assert (stored.window_start, stored.window_end) == (start, start + length)
    assert (stored.window_local, stored.notes) == (words, "Changed")
    assert "window" not in Entry.objects.about(rotation)[0].new


def test_a_change_of_a_draft_is_audited(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    assert change(operator, rotation, company, roles=["sign"], grace_days="7").status_code == 302
    rotation = only()
    assert (rotation.roles, rotation.grace_days) == (["sign"], 7)
    assert rotation.set_up_by is not None
    assert rotation.set_up_by.username == "olivia"
    entry = Entry.objects.about(rotation)[0]
    assert (entry.verb, entry.old["roles"], entry.new["roles"]) == (
        "rotation.changed",
        ["sign", "decrypt"],
        ["sign"],
    )
    assert set(entry.new) == {"roles", "grace_days"}  # unchanged values are not audited


@pytest.mark.on_postgres
def test_the_second_of_two_concurrent_changes_is_refused(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    seen = rotation_version(rotation)
    other = log_in(make_person("oscar", "operator"))
    assert change(other, rotation, company, grace_days="30").status_code == 302
    response = change(operator, rotation, company, grace_days="7", seen=seen)
    assert response.status_code == 422
    assert "has changed in the meantime" in page_text(response)
    assert 'value="7"' in page_text(response)  # the input is kept
    assert only().grace_days == 30


def test_a_successor_that_arrives_meanwhile_is_no_conflict(operator: Client, company: Company) -> None:
    create(operator, company, successor="generate", certificate="")
    rotation, seen = only(), rotation_version(only())
    generate_next(now=NOW)
    drafts.assign_generated_successors(now=NOW)
    request = CertificateRequest.objects.get()
    response = change(
        operator, rotation, company, seen=seen, successor="request", request=str(request.uid), grace_days="9"
    )
    assert response.status_code == 302
    rotation = only()
    assert (rotation.new, rotation.request, rotation.grace_days) == (request.certificate, request, 9)


def test_an_approved_rotation_is_not_changed(operator: Client, company: Company) -> None:
    rotation = make_approved(company)
    assert get_page(operator, "rotation-update", rotation.uid)["Location"] == rotation.get_absolute_url()
    assert change(operator, rotation, company, grace_days="1").status_code == 302
    assert only().grace_days == 14


# Preview


def preview(client: Client, company: Company, **changed: Any) -> Any:
    url = f"{reverse('rotation-preview')}?identity={company.identity.uid}"
    return client.post(url, plan_form(company, **changed))


def test_the_preview_shows_the_window_in_all_zones_and_the_plan(operator: Client, company: Company) -> None:
    shown = page_text(preview(operator, company))
    assert 'Thu 3 Dec 2026, 22:00 <span class="until">– 23:00 CST (UTC−06:00)' in shown
    assert "Fri 4 Dec 2026, 04:00" in shown
    assert "Partners" not in shown
    assert "of ACME with its SHA-256 to Fabrikam" in shown
    assert not Rotation.objects.exists()


def test_the_preview_for_many_partners_shows_the_plan_with_some_of_each_kind(
    operator: Client, company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(draft_preview, "MAX_PLANNED", 1)
    monkeypatch.setattr(draft_preview, "PLANNED_OF_KIND", 1)
    northwind = company.partners[1]
    for answer, is_shown in (("yes", False), ("no", True)):
        Partner.objects.filter(pk=northwind.pk).update(**keeps_both(answer))
        shown = page_text(preview(operator, company))
        assert "with its SHA-256 to Fabrikam" in shown
        assert ("to Northwind" in shown) is is_shown
        assert ("With 1 of the 2 partners as examples" in shown) is not is_shown


def test_the_preview_shows_errors_of_the_window(operator: Client, company: Company) -> None:
    shown = page_text(preview(operator, company, window_date="2027-03-14", window_from="02:30"))
    assert "does not exist in America/Chicago" in shown


def test_the_preview_of_an_incomplete_form_shows_no_errors(operator: Client, company: Company) -> None:
    response = preview(operator, company, window_date="", roles=None, certificate="")
    assert response.status_code == 200
    assert "Say the day" not in page_text(response)


def test_the_preview_of_a_draft_leaves_removed_partners_out(operator: Client, company: Company) -> None:
    rotation = make_drafted(company)
    rotation.participants.filter(partner__name="Northwind").update(removed_reason="moved away")
    url = f"{reverse('rotation-preview')}?rotation={rotation.uid}"
    shown = page_text(operator.post(url, plan_form(company)))
    assert "to Fabrikam" in shown
    assert "Northwind" not in shown


def test_the_preview_requires_a_permission_and_a_holder(viewer: Client, operator: Client, company: Company) -> None:
    assert preview(viewer, company).status_code == 403
    assert operator.post(reverse("rotation-preview"), {}).status_code == 404
    assert operator.get(reverse("rotation-preview")).status_code == 405


# Each partner when it is ready.

PHASED: dict[str, Any] = {
    **WINDOW,
    "at_end": "phased",
    "window_date": "",
    "window_from": "",
    "window_until": "18:00",
    "window_last_date": "2026-12-11",
    "window_known": "close_to_old_end",
}


@pytest.fixture
def signing_per_partner(company: Company) -> Company:
    company.identity.as2_system = AS2System.objects.create(
        name="OpenAS2", connector="directory", config={}, **keeps_both("yes"), **SIGNS_PER_PARTNER
    )
    company.identity.save()
    return company


def test_partners_that_change_when_they_are_ready_need_only_a_last_moment(
    operator: Client, signing_per_partner: Company
) -> None:
    page = create(operator, signing_per_partner, **PHASED)
    assert page.status_code == 302, page.context["form"].errors
    rotation = only()
    assert (rotation.at_end, rotation.is_phased, rotation.is_fuzzy) == ("phased", True, False)
    assert (rotation.window_start, rotation.window_end) == (NOW, datetime(2026, 12, 12, 0, tzinfo=UTC))
    shown = page_text(operator.get(rotation.get_absolute_url()))
    assert "each partner when it is ready, until the end of the window" in shown
    entry = Entry.objects.get(verb="rotation.set_up")
    assert entry.new["moment"] == "each partner when it is ready, until the end of the window"


def test_a_change_that_begins_with_its_approval_is_shown_and_changed_without_a_start(
    operator: Client, signing_per_partner: Company
) -> None:
    create(operator, signing_per_partner, **PHASED)
    rotation = only()
    Rotation.objects.update(window_start=NOW - timedelta(hours=30))
    shown = page_text(operator.get(rotation.get_absolute_url()))
    assert "until Fri 11 Dec 2026, 18:00 CST" in shown
    assert "after all partners" in shown
    assert "As agreed" not in shown
    assert "22 Nov 2026, 00:00" not in shown
    form = get_page(operator, "rotation-update", rotation.uid).context["form"]
    assert (form["window_date"].value(), form["window_from"].value()) == (None, None)
    assert form["window_last_date"].value() == date(2026, 12, 11)


def test_partners_that_change_when_they_are_ready_can_begin_on_a_later_day(
    operator: Client, signing_per_partner: Company
) -> None:
    create(operator, signing_per_partner, **PHASED | {"window_date": "2026-12-01", "window_from": "08:00"})
    assert only().window_start == datetime(2026, 12, 1, 14, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changed", "field", "complaint"),
    [
        ({"window_last_date": ""}, "window_last_date", "Say until which day."),
        ({"window_until": ""}, "window_until", "Say until when"),
        ({"window_last_date": "2026-11-20"}, "window_last_date", "The last moment is over. Choose a later one."),
        ({"window_date": "2026-12-01"}, "window_from", "Say from when"),
        ({"window_last_date": "2026-12-12"}, "window_until", "has to be valid for at least 24 hours after that"),
        ({"roles": ["decrypt"]}, "at_end", "this one does not sign"),
    ],
)
def test_what_is_missing_for_partners_that_change_when_ready_is_named(
    operator: Client, signing_per_partner: Company, changed: dict[str, Any], field: str, complaint: str
) -> None:
    page = create(operator, signing_per_partner, **PHASED | changed)
    assert page.status_code == 422
    assert complaint in " ".join(page.context["form"].errors[field])
    assert not Rotation.objects.exists()
    form = page.context["form"]
    kept = {name: form[name].value() for name in ("at_end", "window_date", "window_until", "window_last_date")}
    assert kept == {name: (PHASED | changed)[name] for name in kept}


def test_partners_change_when_ready_only_where_our_system_signs_per_partner(operator: Client, company: Company) -> None:
    page = create(operator, company, **PHASED)
    assert "our AS2 system is not recorded as one" in " ".join(page.context["form"].errors["at_end"])


def test_partners_that_hold_one_are_named_where_each_changes_when_ready(
    operator: Client, signing_per_partner: Company
) -> None:
    Partner.objects.filter(name="Northwind").update(**keeps_both("no"))
    page = create(operator, signing_per_partner, **PHASED)
    assert "Northwind can hold one only" in " ".join(page.context["form"].errors["at_end"])
    assert "Fabrikam" not in " ".join(page.context["form"].errors["at_end"])


def test_the_preview_shows_the_plan_of_partners_that_change_when_ready(
    operator: Client, signing_per_partner: Company
) -> None:
    url = f"{reverse('rotation-preview')}?identity={signing_per_partner.identity.uid}"
    shown = page_text(operator.post(url, plan_form(signing_per_partner, **PHASED)))
    assert "Sign to Northwind with" in shown
    assert "<dd>until Fri 11 Dec 2026, 18:00 CST</dd>" in shown
    assert "after all partners" in shown
    for words in ("Windows that suit", "No window suits"):
        assert words not in shown
    too_late = page_text(
        operator.post(url, plan_form(signing_per_partner, **PHASED | {"window_last_date": "2026-12-12"}))
    )
    assert "has to be valid for at least 24 hours after that" in too_late
    empty = page_text(operator.post(url, plan_form(signing_per_partner, **PHASED | {"window_last_date": ""})))
    assert "Windows that suit" not in empty


def test_what_is_said_before_the_approval_names_the_last_moment(
    operator: Client, approver: Client, signing_per_partner: Company
) -> None:
    create(operator, signing_per_partner, **PHASED)
    shown = page_text(get_page(approver, "rotation-approve", only().uid))
    assert "From now on, until Fri 11 Dec 2026, 18:00 CST" in shown
    assert "with each once it is ready, whatever the others do" in shown
    assert "Approve: each partner changes over when it is ready, until Fri 11 Dec" in shown


def test_a_last_moment_is_postponed_without_a_new_beginning(
    operator: Client, approver: Client, signing_per_partner: Company
) -> None:
    create(operator, signing_per_partner, **PHASED | {"window_last_date": "2026-12-09"})
    post_form(approver, "rotation-approve", only().uid, seen=rotation_version(only()))
    assert only().state == "exchanging"
    moved = {name: PHASED[name] for name in (*WINDOW, "window_last_date", "window_known")}
    page = post_form(
        operator, "rotation-postpone", only().uid, **moved, reason="Two are silent.", seen=rotation_version(only())
    )
    assert page.status_code == 302, page.context["form"].errors
    asked = page_text(get_page(operator, "rotation-postpone", only().uid))
    assert "Change the last moment of ACME" in asked
    assert "Set this last moment" in asked
    assert "Windows that suit" not in asked
    assert only().window_end == datetime(2026, 12, 12, 0, tzinfo=UTC)
    assert "until Fri 11 Dec" in page_text(operator.get(only().get_absolute_url()))
    assert 'until <time datetime="2026-12-12T00:00:00+00:00"' in page_text(get_page(operator, "rotation-list"))
