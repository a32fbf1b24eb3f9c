"""Find the leaf among several certificates, and order the others as its chain."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from as2certs.pki.describing import common_name, is_ca, key_identifiers, shorten, subject_and_issuer
from as2certs.pki.errors import UnreadableFile
from as2certs.pki.fingerprints import short_fingerprint

MAX_CERTIFICATES = 50


def find_leaf_and_chain(
    certificates: Sequence[x509.Certificate],
) -> tuple[x509.Certificate, tuple[x509.Certificate, ...]]:
    """Return the leaf among certificates in any order, and the rest as its chain, nearest issuer first.

    The leaf is the certificate that issued none of the others; if there are several, the only one that is no CA.
    Certificates outside of the chain come last. Raises UnreadableFile for several leaves, and for none.
    """
    pool = list(dict.fromkeys(certificates))
    if len(pool) > MAX_CERTIFICATES:
        raise UnreadableFile(
            f"The file holds {len(pool)} certificates, as a list of trusted CAs does: choose a file with only the one"
            " that is needed."
        )
    leaf = _find_leaf(pool)
    pool.remove(leaf)
    chain: list[x509.Certificate] = []
    current = leaf
    while issuer := next((one for one in pool if is_issuer_of(one, current)), None):
        chain.append(issuer)
        pool.remove(issuer)
        current = issuer
    return leaf, (*chain, *pool)


def _find_leaf(pool: Sequence[x509.Certificate]) -> x509.Certificate:
    if not pool:
        raise UnreadableFile("The file holds no certificate: export it again, with the certificate.")
    childless = [one for one in pool if not any(is_issuer_of(one, other) for other in pool if other is not one)]
    if not childless:
        raise UnreadableFile(
            f"The file holds {len(pool)} certificates that issued each other, so none of them is the station's: choose"
            " a file with only that one."
        )
    leaves = [one for one in childless if not is_ca(one)] if len(childless) > 1 else childless
    if len(leaves) == 1:
        return leaves[0]
    several = leaves or childless
    if len({subject_and_issuer(one)[0] for one in several}) == 1:
        listed = " and ".join(
            f"{short_fingerprint(one.fingerprint(hashes.SHA256()).hex())} until {one.not_valid_after_utc:%Y-%m-%d}"
            for one in several[:3]
        )
        raise UnreadableFile(
            f"The file holds {len(several)} certificates of “{_display_name(several[0])}” that do not belong together,"
            f" perhaps an old one and its successor ({listed}): choose a file with only the one that is needed."
        )
    names = " and ".join(f"“{_display_name(one)}”" for one in several[:3])
    raise UnreadableFile(
        f"The file holds {len(several)} certificates that do not belong together ({names}): choose a file"
        " with only the one that is needed, and its chain."
    )


def is_issuer_of(issuer: x509.Certificate, cert: x509.Certificate) -> bool:
    """Return whether one certificate issued the other, by names and key identifiers (RFC 5280, 6.1.3).

    A certificate with equal subject and issuer counts as self-signed, so that an old and a new one of the same holder
    are two leaves.
    """
    if issuer.subject != cert.issuer or cert.subject == cert.issuer:
        return False
    subject_id, _ = key_identifiers(issuer)
    _, authority_id = key_identifiers(cert)
    return subject_id is None or authority_id is None or subject_id == authority_id


def _display_name(cert: x509.Certificate) -> str:
    return shorten(common_name(cert) or subject_and_issuer(cert)[0] or "no name")
