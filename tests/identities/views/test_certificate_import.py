"""Upload a certificate with its key, as a file or as pasted text."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.contrib.messages import get_messages
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from as2certs import pki
from identities.models import Identity, IdentityCertificate, PrivateKey
from tests.certificates import Pair, cert_der, cert_pem, key_pem, make_pair, p12, rsa_key
from tests.inventory import NOW, add_certificate, make_identity, make_partner, trail, verbs

pytestmark = pytest.mark.django_db

BEGAN = NOW - timedelta(days=10)


def pair(days: float = 700, **options: Any) -> Pair:
    return make_pair("ACME-NEW", not_before=BEGAN, not_after=NOW + timedelta(days=days), **options)


def file(data: bytes, name: str = "a.bin") -> SimpleUploadedFile:
    return SimpleUploadedFile(name, data)


def upload(client: Client, identity: Identity, **fields: Any) -> Any:
    typed = {"roles": ["sign", "decrypt"], **fields}
    return client.post(reverse("identity-upload", args=[identity.uid]), typed)


def errors(answer: Any) -> dict[str, str]:
    return {name: " ".join(said) for name, said in answer.context["form"].errors.items()}


# --- Upload ---------------------------------------------------------------------------------------------------


def test_the_form_starts_without_errors_and_with_both_roles(operator: Client) -> None:
    form = operator.get(reverse("identity-upload", args=[make_identity().uid])).context["form"]
    assert not form.errors
    assert form["roles"].value() == ["sign", "decrypt"]


@pytest.mark.parametrize(
    "fields",
    [
        lambda leaf, key: {"certificate_file": file(p12((leaf, key))), "password": "secret"},
        lambda leaf, key: {"certificate_file": file(cert_pem(leaf) + key_pem(key))},
        lambda leaf, key: {"certificate_file": file(cert_der(leaf)), "key_file": file(key_pem(key))},
        lambda leaf, key: {
            "certificate_file": file(cert_pem(leaf)),
            "key_file": file(key_pem(key, "opens it")),
            "password": "opens it",
        },
        lambda leaf, key: {"certificate_text": (cert_pem(leaf) + key_pem(key)).decode()},
        lambda leaf, key: {"certificate_text": cert_pem(leaf).decode(), "key_file": file(key_pem(key))},
    ],
    ids=["PKCS#12", "one PEM", "DER and key", "PEM and locked key", "pasted", "pasted and key file"],
)
def test_a_certificate_with_its_key_is_used_at_once_where_there_is_none(operator: Client, fields: Any) -> None:
    identity = make_identity()
    answer = upload(operator, identity, **fields(*pair()))
    certificate = IdentityCertificate.objects.get()
    assert answer["Location"] == certificate.get_absolute_url()
    assert sorted(row.role for row in certificate.service.all()) == ["decrypt", "sign"]
    assert certificate.private_key is not None
    assert certificate.private_key.public_key_sha256 == certificate.public_key_sha256
    assert verbs() == ["certificate.taken_in", "certificate.in_service"]


def test_a_renewed_certificate_alone_is_used_with_the_key_that_is_here(operator: Client) -> None:
    identity = make_identity()
    leaf, key = pair()
    assert "without its private key" in str(errors(upload(operator, identity, certificate_file=file(cert_pem(leaf)))))
    upload(operator, identity, certificate_file=file(p12((leaf, key))), password="secret")
    renewed = make_pair(not_after=NOW + timedelta(days=900), key=key)[0]
    partners = make_pair("PARTNER")[0]
    answer = upload(operator, identity, certificate_file=file(cert_pem(partners, renewed)))
    assert [one.code for one in answer.context["form"].warnings] == ["same-key-as-predecessor"]
    answer = upload(operator, identity, certificate_file=file(cert_pem(partners, renewed)), despite_warnings="on")
    assert answer.status_code == 302, errors(answer)
    stored = identity.certificates.latest("pk")
    assert stored.private_key == identity.private_keys.get()
    assert any(
        "(“PARTNER”) were left out" in str(one) and "has this key here" in str(one)
        for one in get_messages(answer.wsgi_request)
    )


def test_a_successor_that_ends_earlier_is_a_warning_at_the_upload(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=900)
    answer = upload(operator, identity, certificate_file=file(p12(pair())), password="secret")
    assert [one.code for one in answer.context["form"].warnings] == ["ends-before-predecessor"]
    assert list(identity.certificates.all()) == [old]


def test_a_certificate_for_one_role_serves_only_that(operator: Client) -> None:
    identity = make_identity()
    upload(operator, identity, certificate_file=file(p12(pair())), password="secret", roles=["sign"])
    assert [row.role for row in identity.service.all()] == ["sign"]


def test_with_a_certificate_in_use_it_redirects_to_a_new_rotation_and_overwrites_nothing(
    operator: Client,
) -> None:
    identity = make_identity()
    old = add_certificate(identity, days=20)
    answer = upload(operator, identity, certificate_file=file(p12(pair())), password="secret")
    new = IdentityCertificate.objects.exclude(pk=old.pk).get()
    assert answer["Location"] == (
        f"{reverse('rotation-create')}?identity={identity.uid}&old={old.uid}&new={new.uid}&roles=sign&roles=decrypt"
    )
    assert {row.certificate_id for row in identity.service.all()} == {old.pk}
    form = operator.get(answer["Location"]).context["form"]
    chosen = {name: str(form[name].value()) for name in ("old", "certificate")}
    assert chosen == {"old": str(old.uid), "certificate": str(new.uid)}
    assert form["roles"].value() == ["sign", "decrypt"]


def test_with_different_certificates_in_use_it_rotates_the_first_role(operator: Client) -> None:
    identity = make_identity()
    signing = add_certificate(identity, days=20, roles=("sign",))
    add_certificate(identity, days=30, roles=("decrypt",))
    answer = upload(operator, identity, certificate_file=file(p12(pair())), password="secret")
    assert f"old={signing.uid}" in answer["Location"]
    assert answer["Location"].endswith("&roles=sign")


def test_the_same_certificate_twice_is_stored_once(operator: Client) -> None:
    identity = make_identity()
    for _ in range(2):
        answer = upload(operator, identity, certificate_file=file(p12(pair())), password="secret")
    certificate = IdentityCertificate.objects.get()
    assert answer["Location"] == certificate.get_absolute_url()
    assert verbs().count("certificate.taken_in") == 1


def test_an_empty_form_asks_for_a_file(operator: Client) -> None:
    assert "Choose the certificate’s file" in errors(upload(operator, make_identity()))["certificate_file"]


def test_file_and_text_together_are_refused(operator: Client) -> None:
    leaf, _ = pair()
    answer = upload(operator, make_identity(), certificate_file=file(b"x"), certificate_text=cert_pem(leaf).decode())
    assert list(errors(answer)) == ["certificate_text"]


@pytest.mark.parametrize(
    ("fields", "at"),
    [
        (lambda: {"certificate_file": file(b"")}, "certificate_file"),
        (lambda: {"certificate_file": file(b"\0\1\2 noise" * 50)}, "certificate_file"),
        (lambda: {"certificate_file": file(b"x" * (pki.MAX_FILE_BYTES + 1))}, "certificate_file"),
        (lambda: {"certificate_text": "just words"}, "certificate_text"),
        (lambda: {"certificate_file": file(cert_pem(pair()[0]))}, "certificate_file"),
        (lambda: {"certificate_file": file(p12(pair())), "password": "wrong"}, "password"),
        (lambda: {"certificate_file": file(p12(pair()))}, "password"),
        (
            lambda: {"certificate_file": file(cert_pem(pair()[0])), "key_file": file(key_pem(rsa_key("x")))},
            "key_file",
        ),
        (lambda: {"certificate_file": file(cert_pem(pair()[0])), "key_file": file(b"noise")}, "key_file"),
        (
            lambda: {"certificate_file": file(p12(pair())), "password": "secret", "roles": []},
            "roles",
        ),
    ],
    ids=[
        "empty",
        "noise",
        "too large",
        "words",
        "no key",
        "wrong password",
        "no password",
        "another key",
        "no key in the key file",
        "no role",
    ],
)
def test_invalid_input_is_reported_at_its_field_and_changes_nothing(operator: Client, fields: Any, at: str) -> None:
    answer = upload(operator, make_identity(), **fields())
    assert list(errors(answer)) == [at]
    assert not IdentityCertificate.objects.exists()
    assert not PrivateKey.objects.exists()
    assert verbs() == []


@pytest.mark.parametrize(
    ("material", "words"),
    [
        (lambda: pair(usages=("key_encipherment",)), "sign"),
        (lambda: pair(bits=1024), "1024"),
    ],
    ids=["wrong usage", "small key"],
)
def test_a_certificate_with_an_error_is_refused_with_its_reason(operator: Client, material: Any, words: str) -> None:
    answer = upload(operator, make_identity(), certificate_file=file(p12(material())), password="secret")
    assert words in errors(answer)["certificate_file"]
    assert not IdentityCertificate.objects.exists()
    assert not PrivateKey.objects.exists()


def long_lived() -> Pair:
    return pair(days=3650)


def test_warnings_have_to_be_confirmed_before_anything_is_stored(operator: Client) -> None:
    identity = make_identity()
    given = {"password": "secret"}
    answer = upload(operator, identity, certificate_file=file(p12(long_lived())), **given)
    assert list(errors(answer)) == ["despite_warnings"]
    assert answer.context["form"].warnings[0].level == "warning"
    assert answer.context["form"].warnings[0].reason in answer.content.decode().replace("&#x27;", "'")
    assert not PrivateKey.objects.exists()
    ticked = upload(operator, identity, certificate_file=file(p12(long_lived())), despite_warnings="on", **given)
    assert ticked.status_code == 302
    assert IdentityCertificate.objects.exists()


def test_an_error_can_not_be_confirmed(operator: Client) -> None:
    answer = upload(
        operator,
        make_identity(),
        certificate_file=file(p12(pair(bits=1024))),
        password="secret",
        despite_warnings="on",
        expired_reason="Our system signs with it",
    )
    assert "certificate_file" in errors(answer)
    assert not IdentityCertificate.objects.exists()


# --- An expired certificate that is in use --------------------------------------------------------------------

CONFIRMED = {"despite_warnings": "on", "expired_reason": "The AS2 system signs with it today"}


def expired(**options: Any) -> Pair:
    return make_pair("OLD", not_before=BEGAN, not_after=NOW - timedelta(days=1), **options)


def upload_expired(client: Client, identity: Identity, **fields: Any) -> Any:
    return upload(client, identity, certificate_file=file(p12(expired())), password="secret", **fields)


def test_an_expired_certificate_in_use_is_recorded_with_a_reason(operator: Client) -> None:
    identity = make_identity()
    answer = upload_expired(operator, identity, **CONFIRMED)
    certificate = IdentityCertificate.objects.get()
    assert answer["Location"] == certificate.get_absolute_url()
    assert sorted(row.role for row in certificate.service.all()) == ["decrypt", "sign"]
    assert verbs() == [
        "certificate.taken_in",
        "certificate.expired_accepted",
        "certificate.in_service",
        "certificate.warnings_accepted",
    ]
    accepted = trail()[1]
    assert accepted.reason == CONFIRMED["expired_reason"]
    assert accepted.new["not_after"] == certificate.not_after.isoformat()
    assert "It is recorded as in use to sign and decrypt" in operator.get(answer["Location"]).content.decode()


@pytest.mark.parametrize("missing", ["despite_warnings", "expired_reason"])
def test_an_expired_certificate_needs_the_confirmation_and_the_reason(operator: Client, missing: str) -> None:
    given = {**CONFIRMED, missing: ""}
    answer = upload_expired(operator, make_identity(), **given)
    assert list(errors(answer)) == [missing]
    assert answer.context["form"].must_confirm
    page = answer.content.decode()
    assert "It expired on" in page
    assert given["expired_reason"] in page
    assert not IdentityCertificate.objects.exists()
    assert not PrivateKey.objects.exists()
    assert verbs() == []


def test_a_reason_of_spaces_is_none(operator: Client) -> None:
    answer = upload_expired(operator, make_identity(), **{**CONFIRMED, "expired_reason": "  "})
    assert list(errors(answer)) == ["expired_reason"]


def test_another_error_of_an_expired_certificate_is_refused_and_the_reason_stays(operator: Client) -> None:
    answer = upload(
        operator,
        make_identity(),
        certificate_file=file(p12(expired(bits=1024))),
        password="secret",
        **CONFIRMED,
    )
    assert list(errors(answer)) == ["certificate_file"]
    assert CONFIRMED["expired_reason"] in answer.content.decode()
    assert not IdentityCertificate.objects.exists()


def test_an_expired_certificate_takes_no_role_from_another_one(operator: Client) -> None:
    identity = make_identity()
    old = add_certificate(identity, roles=("sign",))
    answer = upload_expired(operator, identity, **CONFIRMED)
    assert list(errors(answer)) == ["roles"]
    assert f"uses {old.short_name} to sign" in errors(answer)["roles"]
    assert CONFIRMED["expired_reason"] in answer.content.decode()
    assert IdentityCertificate.objects.count() == 1
    assert upload_expired(operator, identity, **CONFIRMED, roles=["decrypt"]).status_code == 302
    assert identity.service.get(role="decrypt").certificate != old


def test_a_certificate_on_its_last_second_needs_no_reason(operator: Client) -> None:
    last = make_pair("LAST", not_before=BEGAN, not_after=NOW)
    answer = upload(operator, make_identity(), certificate_file=file(p12(last)), password="secret")
    assert answer.status_code == 302


def test_htmx_asks_for_the_reason_beside_the_chosen_file(operator: Client) -> None:
    address = reverse("identity-upload", args=[make_identity().uid])
    given = {"roles": ["sign"], "certificate_file": file(p12(expired())), "password": "secret"}
    answer = operator.post(address, given, headers={"HX-Request": "true"})
    assert answer["HX-Retarget"] == "#import-warnings"
    assert 'name="expired_reason"' in answer.content.decode()


def test_the_reason_is_not_asked_for_a_valid_certificate(operator: Client) -> None:
    answer = upload(operator, make_identity(), certificate_file=file(p12(long_lived())), password="secret")
    assert answer.context["form"].must_confirm
    assert 'name="expired_reason"' not in answer.content.decode()


def test_the_page_of_an_expired_certificate_in_use_warns(operator: Client) -> None:
    upload_expired(operator, make_identity(), **CONFIRMED)
    answer = operator.get(IdentityCertificate.objects.get().get_absolute_url())
    assert [(f.code, f.level) for f in answer.context["findings"]] == [("expired", "warning")]
    assert CONFIRMED["expired_reason"] in answer.content.decode()


# --- A certificate that is valid from a later day -------------------------------------------------------------

FIRST_DAY = NOW + timedelta(days=20, minutes=5)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the pages of the upload and of the draft read the fixed moment, before the first day."""
    for module in ("identities.views.certificate_import", "rotations.web.views.drafts"):
        monkeypatch.setattr(f"{module}.database_now", lambda: NOW)


def upload_later(client: Client, identity: Identity, **fields: Any) -> Any:
    later = make_pair("NEXT", not_before=FIRST_DAY, not_after=NOW + timedelta(days=700))
    given = {"certificate_file": file(p12(later)), "password": "secret", "despite_warnings": "on"}
    return upload(client, identity, **given | fields)


@pytest.mark.usefixtures("clock")
def test_a_certificate_valid_later_waits_for_a_rotation_on_that_day(operator: Client) -> None:
    identity = make_identity()
    answer = upload_later(operator, identity)
    new = IdentityCertificate.objects.get()
    assert not identity.service.exists()
    assert verbs() == ["certificate.taken_in"]
    assert answer["Location"] == (
        f"{reverse('rotation-create')}?identity={identity.uid}&new={new.uid}&roles=sign&roles=decrypt"
    )
    page = operator.get(answer["Location"])
    form = page.context["form"]
    assert (form["old"].value(), form["certificate"].value()) == ("", str(new.uid))
    values = [form[name].value() for name in ("window_date", "window_from", "window_until", "window_zone")]
    assert [str(value) for value in values] == ["2026-12-13", "13:00:00", "14:00:00", "UTC"]
    assert "is taken in and not in use: it is valid from" in page.content.decode()


@pytest.mark.usefixtures("clock")
def test_a_certificate_valid_later_is_used_at_once_if_that_is_ticked(operator: Client) -> None:
    identity = make_identity()
    answer = upload_later(operator, identity, at_once="on")
    assert answer["Location"] == IdentityCertificate.objects.get().get_absolute_url()
    assert sorted(row.role for row in identity.service.open()) == ["decrypt", "sign"]


@pytest.mark.usefixtures("clock")
def test_the_choice_is_offered_with_the_warning_where_a_role_is_free(operator: Client) -> None:
    identity = make_identity()
    add_certificate(identity, roles=("sign",))
    offered = upload_later(operator, identity, despite_warnings="", roles=["decrypt"])
    assert 'name="at_once"' in offered.content.decode()
    not_offered = upload_later(operator, identity, despite_warnings="", roles=["sign"])
    assert 'name="at_once"' not in not_offered.content.decode()


@pytest.mark.usefixtures("clock")
def test_a_free_role_is_rotated_to_it_although_another_role_is_taken(operator: Client) -> None:
    identity = make_identity()
    add_certificate(identity, roles=("sign",))
    answer = upload_later(operator, identity, roles=["decrypt"])
    form = operator.get(answer["Location"]).context["form"]
    assert (form["old"].value(), form["roles"].value()) == ("", ["decrypt"])
    assert "" in [value for value, _ in form.fields["old"].choices]


def test_htmx_gets_the_warnings_alone_so_that_the_chosen_files_stay(operator: Client) -> None:
    identity = make_identity()
    address = reverse("identity-upload", args=[identity.uid])
    given = {"roles": ["sign"], "certificate_file": file(p12(long_lived())), "password": "secret"}
    answer = operator.post(address, given, headers={"HX-Request": "true"})
    assert answer["HX-Retarget"] == "#import-warnings"
    assert "<html" not in answer.content.decode()
    assert "despite_warnings" in answer.content.decode()
    given |= {"despite_warnings": "on", "certificate_file": file(p12(long_lived()))}
    done = operator.post(address, given, headers={"HX-Request": "true"})
    assert done["HX-Redirect"] == IdentityCertificate.objects.get().get_absolute_url()


def test_a_pasted_key_and_a_password_are_never_rendered(operator: Client) -> None:
    _, key = pair()
    text = key_pem(key).decode()
    for pasted in (text, text[:300]):
        page = upload(operator, make_identity_once(), certificate_text=pasted, password="the secret").content.decode()
        assert text.splitlines()[1] not in page
        assert "PRIVATE KEY-----" not in page
        assert "the secret" not in page


def make_identity_once() -> Identity:
    return Identity.objects.first() or make_identity()


def test_a_viewer_uploads_nothing(viewer: Client) -> None:
    answer = upload(viewer, make_identity(), certificate_file=file(p12(pair())), password="secret")
    assert answer.status_code == 403
    assert not IdentityCertificate.objects.exists()


def test_an_archived_identity_accepts_no_upload(operator: Client) -> None:
    identity = make_identity(archived_at=NOW)
    assert upload(operator, identity, certificate_file=file(p12(pair()))).status_code == 404


def test_a_certificate_that_a_partner_uses_too_is_a_warning(operator: Client) -> None:
    add_certificate(make_partner(), days=700, name="SHARED")
    leaf, key = make_pair("SHARED", not_before=NOW - timedelta(days=400), not_after=NOW + timedelta(days=700))
    answer = upload(operator, make_identity(), certificate_file=file(p12((leaf, key))), password="secret")
    said = errors(answer)
    assert "Northwind" in answer.content.decode()
    assert said
