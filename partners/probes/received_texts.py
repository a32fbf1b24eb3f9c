"""What to tell operators about a test message from a partner, and what the MDN tells the partner."""

from __future__ import annotations

from typing import NamedTuple


class ReceivedText(NamedTuple):
    """The modifier of the MDN, empty for success; sentence and next step for operators; the MDN's text, in ASCII.

    `{partner}` is the partner's name, `{detail}` what was found.
    """

    problem: str
    sentence: str
    next_step: str
    answer: str


_REFUSED = (
    " The message was discarded and NOT processed. This address takes test messages only: send business documents to"
    " our usual AS2 address."
)
_AGAIN = "Ask {partner} to send another test message then."

ACCEPTED = ReceivedText(
    "",
    "{partner} sent a test message that {detail}.",
    "It counts in the rotations of these certificates. Nothing is left to do here.",
    "Your test message was read and discarded. It shows which certificates you use, and asks for nothing: change over"
    " when we have agreed to. This address takes test messages only, no business documents.",
)
NO_TEST = ReceivedText(
    "unexpected-processing-error",
    "{partner} sent a message that is no test message: its content does not begin with TEST MESSAGE. It was discarded,"
    " and answered as an error.",
    "Ask {partner} whether it sends orders to this address by mistake. Business documents go to the address of your AS2"
    " system; a test message begins with the words TEST MESSAGE.",
    "The content does not begin with the words TEST MESSAGE." + _REFUSED,
)
NOT_SIGNED = ReceivedText(
    "insufficient-message-security",
    "{partner} sent a message without a signature, so nobody knows whether it is from {partner}.",
    "Ask {partner} to sign its test message.",
    "The message is not signed." + _REFUSED,
)
NOT_COMPARED = ReceivedText(
    "authentication-failed",
    "{partner} sent a test message that {detail}. Nobody has compared that certificate yet, so the message was not"
    " accepted; it is kept as evidence.",
    "Compare the fingerprint of the certificate with {partner}, and accept it. " + _AGAIN,
    "We have not confirmed the certificate of this signature yet." + _REFUSED,
)
NOT_ALLOWED = ReceivedText(
    "unknown-trading-partner",
    "A test message came in the name of {partner}, and test messages are not allowed here. It was not read.",
    "Agree on test messages with {partner}, and allow them. " + _AGAIN,
    "No test messages are expected between these AS2 IDs." + _REFUSED,
)
OTHER_ADDRESS = ReceivedText(
    "unexpected-processing-error",
    "A test message in the name of {partner} asks for its MDN at {detail}, which is not the AS2 URL of {partner}. It"
    " was not read.",
    "Ask {partner} to want the MDN in the answer (synchronous), or at its AS2 URL; correct the URL if it has changed.",
    "An MDN is sent to the AS2 URL that we have on record for you, and nowhere else: ask for it in the answer"
    " (synchronous)." + _REFUSED,
)
PROBLEMS = {
    "decryption-failed": ReceivedText(
        "decryption-failed",
        "A message in the name of {partner} could not be decrypted: {detail}",
        "Tell {partner} to which certificate it should encrypt. Only certificates whose private key is here can be"
        " tested.",
        "The message could not be decrypted with a key that we have here." + _REFUSED,
    ),
    "authentication-failed": ReceivedText(
        "authentication-failed",
        "A message in the name of {partner} was not accepted: {detail}",
        "If {partner} has a new certificate, get it, compare the fingerprint over another channel, and enter it. "
        + _AGAIN,
        "The signature is not by a certificate that we have on record for you." + _REFUSED,
    ),
    "integrity-check-failed": ReceivedText(
        "integrity-check-failed",
        "The signature of a message in the name of {partner} does not hold: {detail}",
        "Ask {partner} to send it again. If that fails too, compare its certificate with {partner}.",
        "The signature does not match the content." + _REFUSED,
    ),
}
"""By the modifier of what was received."""
NOT_READ = ReceivedText(
    "unexpected-processing-error",
    "A message in the name of {partner} could not be read: {detail}",
    "Show {partner} this reason, and ask for another test message.",
    "The message could not be read." + _REFUSED,
)
