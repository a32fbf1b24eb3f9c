"""The forms to accept or refuse a certificate that a partner submitted."""

from __future__ import annotations

from django import forms

from as2certs.forms import SafeForm
from rotations.web.forms.actions import RotationReasonForm


class RefuseSubmissionForm(RotationReasonForm):
    """The reason of the refusal, and whether to revoke the link that the certificate came by."""

    withdraw = forms.BooleanField(
        required=False,
        label="Withdraw the link by which it came",
        help_text="It opens nothing any more. Whoever it was meant for needs a new one.",
    )


class FingerprintComparisonForm(SafeForm):
    """The fingerprint as the partner read it out, to whom and over which channel."""

    CHANNELS = (
        "telephone",
        "video call",
        "in person",
        "mail to an address we had before",
        "letter or fax",
        "their own website or portal",
        "another channel",
    )

    fingerprint = forms.CharField(
        max_length=1000,
        label="SHA-256 as they read it out",
        widget=forms.Textarea(
            attrs={
                "rows": 2,
                "class": "font-monospace",
                "autocomplete": "off",
                "spellcheck": "false",
                "autocapitalize": "off",
            }
        ),
        help_text="Let them read out what their own system shows, or paste what they wrote. Capitals, colons and "
        "spaces don't matter.",
        error_messages={"required": "Type in what they read out: that is the comparison."},
    )
    spoke_with = forms.CharField(
        max_length=200,
        label="With whom",
        error_messages={"required": "Say with whom: it is kept in the trail."},
    )
    channel = forms.ChoiceField(
        label="Over which channel",
        choices=[("", "choose one"), *((channel, channel) for channel in CHANNELS)],
        help_text="Not the link or the mail by which the certificate came.",
        error_messages={"required": "Say over which channel: it is kept in the trail."},
    )
    note = forms.CharField(
        required=False,
        max_length=1000,
        widget=forms.Textarea(attrs={"rows": 2}),
        help_text="Such as the number that you called. It is kept in the trail.",
    )
