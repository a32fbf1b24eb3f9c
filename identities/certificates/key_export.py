"""Export a private key: the only way in which one leaves this installation."""

from __future__ import annotations

from datetime import datetime

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from identities.certificates import private_keys
from identities.models import IdentityCertificate

PRIVATE_KEY_FORMATS = {
    "pkcs12": ("PKCS#12 (.p12), AES-256", "p12", "application/x-pkcs12"),
    "pkcs12-legacy": ("PKCS#12 (.p12), 3DES for old systems", "p12", "application/x-pkcs12"),
    "pem": ("encrypted PEM", "pem", "application/x-pem-file"),
}


def export_private_key(
    certificate: IdentityCertificate, *, form: str, password: str, reason: str, by: Actor, now: datetime
) -> bytes:
    """Return certificate, chain and private key as a file protected by ``password``.

    ``form`` is a key of PRIVATE_KEY_FORMATS. The caller has checked the permission and the reauthentication.
    Raises PkiError when there is no private key, the password is too short, or the vault can't unseal the key.
    """
    if certificate.private_key is None:
        raise pki.PkiError(f"The private key of {certificate} is not here: only its certificate was taken in.")
    if not reason.strip():
        raise pki.PkiError("Say why the private key leaves: the reason is kept in the trail.")
    key = private_keys.unseal(certificate.private_key, by=by, now=now, purpose=reason, also=(certificate,))
    also, new = (certificate.identity,), {"form": form}
    record(AuditEvent("key.exported", certificate, also=also, new=new, reason=reason), by=by, now=now)
    leaf, chain = certificate.certificate, certificate.chain
    if form == "pem":
        return pki.to_encrypted_pem(leaf, chain, key, password=password)
    encryption = pki.LEGACY_PKCS12 if form == "pkcs12-legacy" else pki.Pkcs12Encryption()
    name = str(certificate.identity)
    return pki.to_pkcs12(leaf, chain, key, password=password, name=name, encryption=encryption)
