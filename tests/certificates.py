"""Certificates and keys for tests, with fixed dates; RSA keys are generated once per process."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    RSAPrivateNumbers,
    RSAPublicNumbers,
    generate_private_key,
    rsa_crt_dmp1,
    rsa_crt_dmq1,
    rsa_crt_iqmp,
    rsa_recover_private_exponent,
)
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

Pair = tuple[x509.Certificate, RSAPrivateKey]

NOT_BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
NOT_AFTER = datetime(2027, 12, 13, 12, 0, tzinfo=UTC)

USAGES = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)
BOTH = ("digital_signature", "key_encipherment")
EXPONENT = 65537


@cache
def rsa_key(name: str = "", bits: int = 2048) -> RSAPrivateKey:
    """Return the RSA key with this name in this process; another name is another key."""
    return next(_keys(bits))


@cache
def _keys(bits: int) -> Iterator[RSAPrivateKey]:
    """Yield different keys of this size: n generated ones and n · (2n − 2) that combine their primes.

    To look for primes takes 40 ms for each key, and a run of the tests needs hundreds of keys.
    """

    def keys() -> Iterator[RSAPrivateKey]:
        primes: list[int] = []
        while True:
            key = generate_private_key(public_exponent=EXPONENT, key_size=bits)
            yield key
            pair = key.private_numbers().p, key.private_numbers().q
            yield from (_key_of(p, q) for p in pair for q in primes)
            primes += pair

    return keys()


def _key_of(p: int, q: int) -> RSAPrivateKey:
    d = rsa_recover_private_exponent(EXPONENT, p, q)
    return RSAPrivateNumbers(
        p=p,
        q=q,
        d=d,
        dmp1=rsa_crt_dmp1(d, p),
        dmq1=rsa_crt_dmq1(d, q),
        iqmp=rsa_crt_iqmp(p, q),
        public_numbers=RSAPublicNumbers(EXPONENT, p * q),
    ).private_key(unsafe_skip_rsa_key_validation=True)


def serial_for(common_name: str, not_before: datetime, not_after: datetime) -> int:
    """Return a serial number that depends on name and dates only."""
    digest = hashes.Hash(hashes.SHA256())
    digest.update(f"{common_name}|{not_before.isoformat()}|{not_after.isoformat()}".encode())
    return int.from_bytes(digest.finalize()[:16], "big") | 1 << 127


def make_pair(
    common_name: str = "ACME-PROD",
    *,
    not_before: datetime = NOT_BEFORE,
    not_after: datetime = NOT_AFTER,
    bits: int = 2048,
    serial: int | None = None,
    usages: Collection[str] | None = BOTH,
    issuer: Pair | None = None,
    ca: bool = False,
    key: RSAPrivateKey | None = None,
    organization: str = "",
) -> Pair:
    """Return a certificate and its key: self-signed, or issued by the pair `issuer`.

    The same arguments give the same key and serial number within a process, other names or dates give others.
    `usages` are field names of `x509.KeyUsage`; None leaves the extension out.
    """
    key = key or rsa_key(f"{common_name}|{not_before.isoformat()}|{not_after.isoformat()}", bits)
    names = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization)] if organization else []
    subject = x509.Name([*names, x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signing_key = issuer[1] if issuer else key
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer[0].subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(serial_for(common_name, not_before, not_after) if serial is None else serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signing_key.public_key()), critical=False)
    )
    if usages is not None:
        bits_set = {name: name in usages for name in USAGES}
        builder = builder.add_extension(x509.KeyUsage(**bits_set), critical=True)
    return builder.sign(signing_key, hashes.SHA256()), key


def make_ca(common_name: str = "Example Root CA", *, issuer: Pair | None = None) -> Pair:
    """Return a CA's certificate and key: a root, or an intermediate of `issuer`."""
    return make_pair(common_name, usages=("key_cert_sign", "crl_sign"), issuer=issuer, ca=True)


def cert_pem(*certificates: x509.Certificate) -> bytes:
    """Return certificates as PEM, in the order given."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def cert_der(certificate: x509.Certificate) -> bytes:
    """Return a certificate as DER."""
    return certificate.public_bytes(Encoding.DER)


def key_pem(key: RSAPrivateKey, password: str | None = None, *, traditional: bool = False) -> bytes:
    """Return a key as PEM: PKCS#8 or traditional, encrypted where there is a password."""
    return key.private_bytes(
        Encoding.PEM,
        PrivateFormat.TraditionalOpenSSL if traditional else PrivateFormat.PKCS8,
        BestAvailableEncryption(password.encode()) if password else NoEncryption(),
    )


def p12(pair: Pair, password: str | None = "secret", chain: Collection[x509.Certificate] = ()) -> bytes:
    """Return a pair and its chain as PKCS#12."""
    protection = BestAvailableEncryption(password.encode()) if password else NoEncryption()
    return pkcs12.serialize_key_and_certificates(b"test", pair[1], pair[0], list(chain), protection)


def sha256(certificate: x509.Certificate) -> str:
    """Return a certificate's SHA-256 fingerprint as 64 lowercase hex digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()
