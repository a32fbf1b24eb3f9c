"""Saves the draft form: the successor and the draft, in one transaction."""

from __future__ import annotations

from datetime import datetime

from django.db import transaction

from as2certs.audit.recording import Actor
from identities.certificates import generation
from identities.certificates.single_import import stage_certificate
from identities.models import Identity
from rotations.execution import transitions
from rotations.execution.version_token import require_rotation_version
from rotations.lifecycle import approval, drafts
from rotations.models import Rotation
from rotations.web.forms.drafts import DraftForm


@transaction.atomic
def save_draft(form: DraftForm, *, by: Actor, now: datetime, rehearses: Rotation | None = None) -> Rotation:
    """Set up the rotation of a valid form, or change the draft that the form is for.

    A new rotation becomes the rehearsal of ``rehearses``, if given. Raises ActionRefused,
    IllegalTransition, EditConflict, CertificateRefused or PkiError; nothing is saved then.
    """
    if form.rotation is None:
        made = drafts.create_draft(form.holder, _draft_content(form, by=by, now=now), by=by, now=now)
        if rehearses is not None:
            approval.link_rehearsal(rehearses, made, by=by, now=now)
        return made
    rotation = transitions.lock_rotation(form.rotation.pk)
    require_rotation_version(rotation, form.cleaned_data["seen"])
    return drafts.change_draft(rotation, _draft_content(form, by=by, now=now), by=by, now=now)


def _draft_content(form: DraftForm, *, by: Actor, now: datetime) -> drafts.DraftSpec:
    chosen = form.cleaned_data
    new, request = form.chosen_new, form.chosen_request
    if chosen["successor"] == "generate":
        assert form.generate is not None  # it is offered to identities only
        assert isinstance(form.holder, Identity)
        key = form.generate.requested_key(chosen["roles"])
        request = generation.request_certificate(form.holder, key, by=by, now=now)
    elif chosen["successor"] == "upload":
        # The rotation puts it into service, also where no certificate is in use yet.
        new = stage_certificate(form.holder, form.upload.material, roles=chosen["roles"], by=by, now=now).certificate
        form.upload.record_warnings(new, is_staged=True, by=by)
    return drafts.DraftSpec(
        roles=tuple(chosen["roles"]),
        old=form.chosen_old,  # type: ignore[arg-type]  # a certificate of this very holder
        new=new,  # type: ignore[arg-type]
        request=request,
        window=form.window,
        freeze_reason=chosen["freeze_reason"],
        at_end=chosen["at_end"],
        grace_days=chosen["grace_days"],
        notes=chosen["notes"],
    )
