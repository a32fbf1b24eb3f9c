"""Digests, by the names that CMS, `micalg` and the MIC of an MDN have for them."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes

from as2certs.as2.errors import AlgorithmNotSupported

DIGESTS: dict[str, type[hashes.HashAlgorithm]] = {
    "sha-1": hashes.SHA1,
    "sha-224": hashes.SHA224,
    "sha-256": hashes.SHA256,
    "sha-384": hashes.SHA384,
    "sha-512": hashes.SHA512,
}
"""The digests that are read, by their names in `micalg` (RFC 5751, 3.4.3.2). SHA-1 is read, and reported as weak."""
WEAK_DIGESTS = frozenset({"sha-1"})
DIGEST_OIDS = {
    "1.3.14.3.2.26": "sha-1",
    "2.16.840.1.101.3.4.2.4": "sha-224",
    "2.16.840.1.101.3.4.2.1": "sha-256",
    "2.16.840.1.101.3.4.2.2": "sha-384",
    "2.16.840.1.101.3.4.2.3": "sha-512",
}

_NAME = re.compile(r"(?:rsa-|id-)?sha-?_?(1|224|256|384|512)")


@dataclass(frozen=True)
class Mic:
    """A message integrity check: a digest and its algorithm, "sha-256" as in `DIGESTS`, or as it came if unknown."""

    digest: bytes
    algorithm: str

    def __str__(self) -> str:
        return f"{base64.b64encode(self.digest).decode()}, {self.algorithm}"

    def matches(self, other: Mic) -> bool:
        """Return whether both are the same digest by the same algorithm."""
        return self.algorithm == other.algorithm and hmac.compare_digest(self.digest, other.digest)


def normalise_digest(name: str) -> str:
    """Return the name of a digest as in `DIGESTS`: "sha-256" for SHA256, rsa-sha256 or "sha-256"; others in lower case.

    RFC 3851 had "sha256" and "sha1", RFC 5751 has the dashes.
    """
    plain = name.strip().strip("\"'").strip().lower()[:40]
    found = _NAME.fullmatch(plain)
    return f"sha-{found[1]}" if found else plain


def digest_label(name: str) -> str:
    """Return a digest as people write it: "SHA-256"."""
    return normalise_digest(name).upper()


def new_digest(name: str) -> hashes.HashAlgorithm:
    """Return the algorithm with a name of `DIGESTS`. Raises AlgorithmNotSupported."""
    kind = DIGESTS.get(name)
    if kind is None:
        raise AlgorithmNotSupported(
            f"The digest {name or 'without a name'} is not supported: use SHA-256, SHA-384 or SHA-512."
        )
    return kind()


def compute_digest(content: bytes, name: str) -> bytes:
    """Return the digest of bytes. Raises AlgorithmNotSupported."""
    digest = hashes.Hash(new_digest(name))
    digest.update(content)
    return digest.finalize()


def compute_mic(content: bytes, name: str) -> Mic:
    """Return the MIC of bytes as they are sent (RFC 4130, 7.3.1). Raises AlgorithmNotSupported."""
    return Mic(compute_digest(content, name), name)


def read_mic(text: str) -> Mic | None:
    """Return the MIC in the value of a Received-Content-MIC field, such as "w7AguNJEmh…=, sha-256"; None for others."""
    value, _, algorithm = text.partition(",")
    try:
        digest = base64.b64decode("".join(value.split()).encode("ascii"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return Mic(digest, normalise_digest(algorithm)) if digest else None
