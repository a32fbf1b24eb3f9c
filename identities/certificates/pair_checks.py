"""Prove that a certificate of ours and its private key work as they would be exported, before it is announced."""

from __future__ import annotations

import secrets
from datetime import datetime

from as2certs import as2, pki
from as2certs.audit.recording import Actor
from as2certs.errors import DomainError
from identities.certificates import private_keys
from identities.models import IdentityCertificate, PairCheck

#: Nobody has to guess a random password of a file that is never stored: more rounds would only make approving slow.
_ENCRYPTION = pki.Pkcs12Encryption(rounds=1_000)
_PAYLOAD = b"A message that stays here.\r\n"


def check_pair(certificate: IdentityCertificate, *, by: Actor, now: datetime) -> PairCheck | None:
    """Check a certificate with its private key, and store the result in place of an earlier one.

    1. Write both to a PKCS#12 file and read that, as an AS2 system would.
    2. Sign a message with them, encrypt it to the certificate, decrypt it, and verify the signature.

    Nothing leaves this machine. Returns None where there is nothing to check: without the key, or with one that AS2
    messages can't be encrypted to here.
    """
    if certificate.private_key is None:
        return None
    problem = ""
    try:
        _send_to_itself(_export(certificate, by=by, now=now), now=now)
    except as2.AlgorithmNotSupported:
        return None
    except DomainError as error:
        problem = str(error)
    check, _ = PairCheck.objects.update_or_create(
        certificate=certificate, defaults={"checked_at": now, "problem": problem}
    )
    return check


def pair_findings(certificate: IdentityCertificate) -> list[pki.CertificateFinding]:
    """Return an error if the last check of a certificate with its private key failed."""
    return [
        pki.CertificateFinding(
            "pair",
            "error",
            f"The certificate and its private key do not work together: {check.problem}",
            "Generate another certificate, or upload this one again with its key.",
        )
        for check in PairCheck.objects.filter(certificate=certificate).exclude(problem="")
    ]


def _export(certificate: IdentityCertificate, *, by: Actor, now: datetime) -> pki.Material:
    """Return what is read from an exported file with the certificate and its key."""
    assert certificate.private_key is not None
    purpose = "Check that the certificate and its private key work together"
    key = private_keys.unseal(certificate.private_key, by=by, now=now, purpose=purpose, also=(certificate,))
    password = secrets.token_urlsafe(24)
    data = pki.to_pkcs12(
        certificate.certificate,
        certificate.chain,
        key,
        password=password,
        name=str(certificate.identity),
        encryption=_ENCRYPTION,
    )
    return pki.read_with_key(data, password=password)


def _send_to_itself(material: pki.Material, *, now: datetime) -> None:
    """Raise As2Error unless a message to the certificate itself arrives with its content and signature."""
    leaf, key = material.leaf, material.key
    assert key is not None  # read_with_key raises KeyMissing
    message = as2.compose(
        as2.Draft(
            sender="PAIR-CHECK",
            recipient="PAIR-CHECK",
            message_id=as2.new_message_id("localhost"),
            date=now,
            payload=_PAYLOAD,
            signing=as2.Signing(leaf, key),
            encryption=as2.Encryption(leaf),
        )
    )
    inbound = as2.receive(message.headers, message.body, lambda one: key if one.names(leaf) else None, [leaf])
    if inbound.problem:
        raise as2.As2Error(inbound.explanation)
    if inbound.mic not in message.mics or inbound.decrypted_for is None or inbound.signature is None:
        raise as2.As2Error("The message was not read as it was written.")
