"""Generate keys in the background, so that no HTTP request waits for a 4096-bit key, and import CA responses."""

from __future__ import annotations

import logging
from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta

from django.db import IntegrityError, transaction
from django.db.models import Q

from as2certs import pki
from as2certs.audit.recording import Actor, AuditEvent, record
from as2certs.background import wake_task
from as2certs.errors import DomainError
from identities.certificates import private_keys
from identities.certificates.single_import import (
    CertificateImportResult,
    import_certificate,
    stage_certificate,
)
from identities.models import CertificateRequest, Identity, IdentityCertificate

log = logging.getLogger(__name__)

#: How long a worker may take, longer than the slowest key; afterwards another worker claims the request.
LEASE_DURATION = timedelta(minutes=5)

RequestState = CertificateRequest.State


@dataclass(frozen=True)
class RequestedKey:
    """The key and certificate to generate: type of issuer, key size, hash, validity in days, subject and roles.

    The fields are columns of ``CertificateRequest``; ``subject`` has those of ``pki.CertificateSubject``.
    """

    kind: str
    bits: int
    hash_name: str
    days: int
    subject: dict[str, str]
    roles: list[str]


@transaction.atomic
def request_certificate(identity: Identity, key: RequestedKey, *, by: Actor, now: datetime) -> CertificateRequest:
    """Queue the generation of a key and its certificate or CSR by a worker."""
    request = CertificateRequest.objects.create(identity=identity, **asdict(key), created_at=now, created_by=by.user)
    new = {"kind": key.kind, "bits": key.bits}
    record(AuditEvent("key.requested", request, also=(identity,), new=new), by=by, now=now)
    wake_task("identities.tasks.generate_requested")
    return request


def generate_next(*, now: datetime) -> bool:
    """Process the request that has waited longest, and return whether there was one.

    1. Claim it for ``LEASE_DURATION``.
    2. Generate the key, outside of any transaction.
    3. Lock the request; stop if its lease expired and another worker claimed it.
    4. Store the sealed key with the CSR, or import the self-signed certificate.
    """
    request = _claim(now)
    if request is None:
        return False
    try:
        key = pki.generate_key(request.bits)
        with transaction.atomic():
            _finish(request, key, now=now)
    except DomainError as error:
        _fail(request, str(error), now=now)
    except (TypeError, ValueError, IntegrityError) as error:
        # A retry would end in the same way.
        log.exception("Certificate request %s can't be carried out", request.uid)
        _fail(request, f"It can't be made as it was asked for: {error}. Ask for another one.", now=now)
    return True


def _claim(now: datetime) -> CertificateRequest | None:
    free = Q(state=RequestState.QUEUED) | Q(state=RequestState.WORKING, lease_until__lt=now)
    for request in CertificateRequest.objects.filter(free).order_by("created_at")[:5]:
        mine = CertificateRequest.objects.filter(free, pk=request.pk)
        if mine.update(state=RequestState.WORKING, lease_until=now + LEASE_DURATION):
            request.refresh_from_db()
            return request
    return None


def _finish(request: CertificateRequest, key: pki.PrivateKey, *, now: datetime) -> None:
    subject = pki.CertificateSubject(**request.subject)
    by = _actor_for(request)
    locked = CertificateRequest.objects.select_for_update().get(pk=request.pk)
    if locked.state != RequestState.WORKING or locked.lease_until != request.lease_until:
        return  # another worker has claimed it
    if request.kind == CertificateRequest.Kind.CSR:
        request.csr_pem = pki.make_signing_request(
            key, subject=subject, roles=request.roles, hash_name=request.hash_name
        ).decode("ascii")
        request.private_key = private_keys.seal(request.identity, key, now=now)
        request.state = RequestState.AWAITING_CA
    else:
        hash_name, roles = request.hash_name, request.roles
        certificate = pki.make_self_signed(
            key, subject=subject, days=request.days, roles=roles, now=now, hash_name=hash_name
        )
        material = pki.Material(leaf=certificate, chain=(), key=key, container="generated")
        _import_for_request(request, material, source=IdentityCertificate.Source.GENERATED, by=by, now=now)
    request.lease_until = None
    request.save()
    record(
        AuditEvent("key.generated", request, also=(request.identity,), new={"state": request.state}),
        by=by,
        now=now,
    )


def _import_for_request(
    request: CertificateRequest, material: pki.Material, *, source: str, by: Actor, now: datetime
) -> CertificateImportResult:
    # A CA may issue a certificate that is valid from a later day only: a rotation puts it into service then.
    later = material.description.not_before > now
    take_in = stage_certificate if later else import_certificate
    result = take_in(request.identity, material, roles=request.roles, by=by, now=now, source=source)
    request.certificate = result.certificate
    request.private_key = result.certificate.private_key
    request.state = RequestState.DONE
    request.finished_at = now
    return result


def _fail(request: CertificateRequest, reason: str, *, now: datetime) -> None:
    log.warning("Certificate request %s failed: %s", request.uid, reason)
    with transaction.atomic():
        mine = CertificateRequest.objects.filter(
            pk=request.pk, state=RequestState.WORKING, lease_until=request.lease_until
        )
        if not mine.update(state=RequestState.FAILED, error=reason, lease_until=None, finished_at=now):
            return  # another worker has claimed it
        record(
            AuditEvent("key.failed", request, also=(request.identity,), reason=reason),
            by=_actor_for(request),
            now=now,
        )


def _actor_for(request: CertificateRequest) -> Actor:
    """Return the application as the actor, on behalf of the requester."""
    runner = Actor.runner()
    requester = f" for {request.created_by}" if request.created_by else ""
    return Actor(name=runner.name + requester, source=runner.source, user=request.created_by)


@transaction.atomic
def import_ca_response(
    request: CertificateRequest, data: bytes, *, by: Actor, now: datetime
) -> CertificateImportResult:
    """Import the certificate that a CA issued for our CSR.

    ``data`` is the content of the file (PEM, DER or PKCS#7). Raises PkiError when it can't be read, KeyMismatch when it
    is for another key, and CertificateRefused when a finding is an error.
    """
    request = CertificateRequest.objects.select_for_update().get(pk=request.pk)
    if request.state != RequestState.AWAITING_CA or request.private_key is None:
        raise pki.PkiError(f"This request does not wait for a CA's answer: it is {request.get_state_display()}.")
    key = private_keys.unseal(request.private_key, by=by, now=now, purpose="compare with the CA's answer")
    material = pki.read_ca_response(data, key=key)
    result = _import_for_request(request, material, source=IdentityCertificate.Source.ISSUED, by=by, now=now)
    request.save()
    return replace(result, findings=tuple(material.findings))
