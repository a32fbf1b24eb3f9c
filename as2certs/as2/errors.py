"""The errors of test messages: what could not be read, verified, decrypted or sent, and what to do."""

from __future__ import annotations

from as2certs.errors import DomainError


class As2Error(DomainError):
    """A message, an answer or a request for one that can't be used; the message is one sentence for the operator."""


class MalformedMessage(As2Error):
    """The bytes are not what they claim to be, or exceed a limit."""


class AlgorithmNotSupported(As2Error):
    """The structure uses an algorithm that is neither read nor written here."""


class SignatureInvalid(As2Error):
    """The content or the signed attributes are not what the signer signed."""


class SignerUnknown(As2Error):
    """No certificate of the signer is known, and none is inside the signature."""


class DecryptionFailed(As2Error):
    """The content can't be decrypted. All decryption errors are indistinguishable: there is no padding oracle."""


class RecipientUnknown(As2Error):
    """The content is encrypted to certificates of which no key is at hand."""


class AddressRefused(As2Error):
    """The address may not be connected to, or is no address of an AS2 station."""
