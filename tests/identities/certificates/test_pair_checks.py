"""Whether a certificate and its private key work together."""

from __future__ import annotations

import pytest

from as2certs import pki
from as2certs.audit.models import Entry
from as2certs.vault import vault
from identities.certificates.pair_checks import check_pair, pair_findings
from identities.models import IdentityCertificate, PairCheck, PrivateKey
from tests.certificates import rsa_key
from tests.inventory import BY, NOW, add_certificate, make_identity

pytestmark = pytest.mark.django_db


@pytest.fixture
def certificate() -> IdentityCertificate:
    made: IdentityCertificate = add_certificate(make_identity())
    return made


def test_a_pair_that_works_is_stored_and_the_unsealing_recorded(certificate: IdentityCertificate) -> None:
    check = check_pair(certificate, by=BY, now=NOW)
    assert check is not None
    assert (check.problem, check.checked_at) == ("", NOW)
    assert pair_findings(certificate) == []
    assert Entry.objects.get(verb="key.opened").reason.startswith("Check that the certificate")


def test_a_key_of_another_certificate_is_an_error(certificate: IdentityCertificate) -> None:
    other = vault().seal(pki.key_to_der(rsa_key("of another certificate")))
    PrivateKey.objects.update(sealed=other)
    check_pair(certificate, by=BY, now=NOW)
    (finding,) = pair_findings(certificate)
    assert finding.level == "error"
    assert "does not belong" in finding.reason


def test_a_key_that_the_vault_can_not_open_is_an_error_until_it_can(certificate: IdentityCertificate) -> None:
    sealed = PrivateKey.objects.get().sealed
    PrivateKey.objects.update(sealed=b"damaged")
    check_pair(certificate, by=BY, now=NOW)
    assert pair_findings(certificate)
    PrivateKey.objects.update(sealed=sealed)
    check_pair(certificate, by=BY, now=NOW)
    assert pair_findings(certificate) == []
    assert PairCheck.objects.count() == 1


def test_a_certificate_without_its_key_has_nothing_to_check() -> None:
    bare = add_certificate(make_identity(), with_key=False)
    assert check_pair(bare, by=BY, now=NOW) is None
    assert not PairCheck.objects.exists()
