"""Test messages: compose, send, receive and judge AS2 messages that carry nothing but a test (RFC 4130).

Pure Python without Django, models or dates of its own. It is no gateway: what it receives is read to learn which
certificates were used, and discarded. Callers import from here; every error is an `As2Error` whose message is one
sentence for the operator.
"""

from as2certs.as2.addresses import IpNetwork, read_url
from as2certs.as2.cms import CertificateId
from as2certs.as2.cms.digests import read_mic
from as2certs.as2.errors import AddressRefused, AlgorithmNotSupported, As2Error
from as2certs.as2.judging import CertificateFacts, MicResult, Partner, Verdict, is_mdn_awaited, judge, judge_mdn
from as2certs.as2.mdn import Disposition, Mdn, MdnDraft, build_mdn, read_mdn
from as2certs.as2.messages import (
    TEST_MARKER,
    ComposedMessage,
    Draft,
    Encryption,
    ReceiptRequest,
    Signing,
    compose,
    new_message_id,
)
from as2certs.as2.mime import Headers, read_entity
from as2certs.as2.receiving import Inbound, read_request, receive, reply
from as2certs.as2.sending import (
    Answer,
    Network,
    NoAnswer,
    Obstacle,
    Outcome,
    ShownCertificate,
    TlsFacts,
    fetch,
    send,
    show_certificate,
)
from as2certs.as2.verdict_texts import VerdictKind

__all__ = [
    "TEST_MARKER",
    "AddressRefused",
    "AlgorithmNotSupported",
    "Answer",
    "As2Error",
    "CertificateFacts",
    "CertificateId",
    "ComposedMessage",
    "Disposition",
    "Draft",
    "Encryption",
    "Headers",
    "Inbound",
    "IpNetwork",
    "Mdn",
    "MdnDraft",
    "MicResult",
    "Network",
    "NoAnswer",
    "Obstacle",
    "Outcome",
    "Partner",
    "ReceiptRequest",
    "ShownCertificate",
    "Signing",
    "TlsFacts",
    "Verdict",
    "VerdictKind",
    "build_mdn",
    "compose",
    "fetch",
    "is_mdn_awaited",
    "judge",
    "judge_mdn",
    "new_message_id",
    "read_entity",
    "read_mdn",
    "read_mic",
    "read_request",
    "read_url",
    "receive",
    "reply",
    "send",
    "show_certificate",
]
