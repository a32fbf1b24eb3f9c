"""Put together what a connector needs to carry out a step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from as2certs import pki
from as2certs.audit.recording import Actor
from identities.certificates import private_keys
from identities.connectors.base import ConnectorChange, InstallableCertificate
from identities.models import IdentityCertificate
from partners.models import PartnerCertificate
from rotations.execution import stored_plan
from rotations.execution.stored_plan import ROLL_BACK
from rotations.models import Step
from rotations.planning.change import Act, Move


def build_connector_change(step: Step, *, by: Actor, now: datetime) -> ConnectorChange:
    """Return a step as a change that a connector can apply; keys are opened only when the connector asks for them.

    The way back is the same change the other way round: the old certificate takes over from the new one.
    """
    rotation = step.rotation
    old, new = (rotation.new, rotation.old) if step.act == ROLL_BACK else (rotation.old, rotation.new)
    assert new is not None  # a plan has a successor, and the way back an old certificate
    return ConnectorChange(
        operation=str(step.uid),
        side=rotation.side,
        as2_id=rotation.holder.as2_id,
        moves=_connector_moves(step),
        old=_connector_item(old, step, by=by, now=now) if old else None,
        new=_connector_item(new, step, by=by, now=now),
        partner=step.participant.partner.as2_id if step.participant else "",
    )


def _connector_moves(step: Step) -> dict[str, str]:
    """Return role → move; retiring lets go of the old certificate in all roles, in writers' too."""
    if step.act == Act.RETIRE:
        return dict.fromkeys(step.rotation.roles, Move.DROP.value)
    return stored_plan.own_moves(step)


def _connector_item(
    certificate: IdentityCertificate | PartnerCertificate, step: Step, *, by: Actor, now: datetime
) -> InstallableCertificate:
    return InstallableCertificate(
        certificate_pem=pki.to_pem(certificate.certificate),
        chain_pem=certificate.chain_pem.encode("ascii"),
        sha256=certificate.sha256,
        serial=int(certificate.serial),
        not_before=certificate.not_before,
        not_after=certificate.not_after,
        key=_key_loader(certificate, step, by=by, now=now),
    )


def _key_loader(
    certificate: IdentityCertificate | PartnerCertificate, step: Step, *, by: Actor, now: datetime
) -> Callable[[], pki.PrivateKey] | None:
    if not isinstance(certificate, IdentityCertificate) or certificate.private_key_id is None:
        return None

    def opened() -> pki.PrivateKey:
        row = certificate.private_key
        assert row is not None  # looked at above
        if step.rotation.identity is not None and step.rotation.identity_id == row.identity_id:
            row.identity = step.rotation.identity  # at hand already
        return private_keys.unseal(row, by=by, now=now, purpose=step.title, also=(step.rotation,))

    return opened
