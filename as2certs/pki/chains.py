"""Find the leaf among several certificates, and order the others as its chain."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from as2certs.pki.describing import common_name, is_ca, key_identifiers, shorten, subject_and_issuer
from as2certs.pki.errors import UnreadableFile
from as2certs.pki.fingerprints import short_fingerprint
from as2certs.pki.keys import public_key_sha256

MAX_CERTIFICATES = 50


@dataclass(frozen=True)
class FoundLeaf:
    """The leaf of several certificates with its chain, nearest issuer first, and the certificates that were left out.

    `older` are those of the same name that the leaf follows, `others` those of other owners.
    """

    leaf: x509.Certificate
    chain: tuple[x509.Certificate, ...]
    older: tuple[x509.Certificate, ...] = ()
    others: tuple[x509.Certificate, ...] = ()


def find_leaf(certificates: Sequence[x509.Certificate], keys: Collection[str] = ()) -> FoundLeaf:
    """Return the leaf among certificates in any order, with the rest as its chain.

    The leaf is the certificate of one of the `keys` (SHA-256 of public keys). Without such a one, it is the certificate
    that issued none of the others; if there are several, the only one that is no CA; of several with one name, the one
    that begins and ends last. Other certificates outside of the chain come last in it, unless a choice was made.
    Raises UnreadableFile for several leaves, and for none.
    """
    pool = list(dict.fromkeys(certificates))
    if len(pool) > MAX_CERTIFICATES:
        raise UnreadableFile(
            f"The file holds {len(pool)} certificates, as a list of trusted CAs does: choose a file with only the one"
            " that is needed."
        )
    of_keys = [one for one in pool if public_key_sha256(one) in keys]
    candidates = of_keys or _find_leaves(pool)
    leaf = newest(candidates)
    if leaf is None:
        raise UnreadableFile(_several_message(candidates))
    chain = _chain_of(leaf, pool)
    rest = [one for one in pool if one != leaf and one not in chain]
    if len(candidates) == 1 and not of_keys:
        return FoundLeaf(leaf, (*chain, *rest))
    older = tuple(one for one in rest if one in candidates)
    own = [issuer for one in older for issuer in _chain_of(one, pool)]
    return FoundLeaf(leaf, chain, older, tuple(one for one in rest if one not in older and one not in own))


def newest(certificates: Sequence[x509.Certificate]) -> x509.Certificate | None:
    """Return the certificate of one subject that begins and ends last; None for several subjects, or if none does."""
    if len({one.subject for one in certificates}) != 1:
        return None
    begins = max(one.not_valid_before_utc for one in certificates)
    ends = max(one.not_valid_after_utc for one in certificates)
    latest = [one for one in certificates if (one.not_valid_before_utc, one.not_valid_after_utc) == (begins, ends)]
    return latest[0] if len(latest) == 1 else None


def _chain_of(leaf: x509.Certificate, pool: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    """Return the issuers of a certificate in a pool: first one after the other, then those of a cross-signed CA."""
    chain: list[x509.Certificate] = []
    for current in (leaf, *pool):
        following: x509.Certificate | None = current if current == leaf or current in chain else None
        while following is not None:
            left = [one for one in pool if one != leaf and one not in chain]
            following = next((one for one in left if is_issuer_of(one, following)), None)
            if following is not None:
                chain.append(following)
    return tuple(chain)


def _find_leaves(pool: Sequence[x509.Certificate]) -> list[x509.Certificate]:
    if not pool:
        raise UnreadableFile("The file holds no certificate: export it again, with the certificate.")
    childless = [one for one in pool if not any(is_issuer_of(one, other) for other in pool if other is not one)]
    if not childless:
        raise UnreadableFile(
            f"The file holds {len(pool)} certificates that issued each other, so none of them is the station's: choose"
            " a file with only that one."
        )
    leaves = [one for one in childless if not is_ca(one)] if len(childless) > 1 else childless
    return leaves or childless


def _several_message(several: Sequence[x509.Certificate]) -> str:
    """Return the message for certificates that do not belong together; equal names are told apart by their dates."""
    names = [f"“{_display_name(one)}”" for one in several[:3]]
    if len(set(names)) == 1:
        listed = " and ".join(describe_dates(one) for one in several[:3])
        return (
            f"The file holds {len(several)} certificates of {names[0]} that do not belong together,"
            " perhaps an old one and its successor, and their dates do not tell which one is the successor"
            f" ({listed}): choose a file with only the one that"
            " is needed."
        )
    if len(set(names)) < len(names):
        names = [f"{name} until {one.not_valid_after_utc:%Y-%m-%d}" for name, one in zip(names, several, strict=False)]
    return (
        f"The file holds {len(several)} certificates that do not belong together ({' and '.join(names)}): choose a file"
        " with only the one that is needed, and its chain."
    )


def describe_dates(cert: x509.Certificate) -> str:
    """Return the short fingerprint and the dates by which certificates of one name are told apart."""
    dates = f"from {cert.not_valid_before_utc:%Y-%m-%d} until {cert.not_valid_after_utc:%Y-%m-%d}"
    return f"{short_fingerprint(cert.fingerprint(hashes.SHA256()).hex())} {dates}"


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
