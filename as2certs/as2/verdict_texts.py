"""What to tell operators about the answers of AS2 servers, and what they should do: tables of wordings that were seen.

`{partner}` is the partner's name, `{signature}` our signature and `{certificate}` the certificate that was encrypted
to, such as "our new signature" and "its new certificate".
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from as2certs.as2.sending import Obstacle


class VerdictKind(StrEnum):
    """What a test message showed."""

    ACCEPTED = "accepted"
    ACCEPTED_WITH_WARNING = "accepted-with-warning"
    CONTENT_DIFFERS = "content-differs"
    SIGNATURE_NOT_ACCEPTED = "signature-not-accepted"
    NOT_DECRYPTED = "not-decrypted"
    PROTECTION_MISSING = "protection-missing"
    UNKNOWN_PARTNER = "unknown-partner"
    PARTNER_ERROR = "partner-error"
    DELIVERED_NOT_CONFIRMED = "delivered-not-confirmed"
    REFUSED = "refused"
    UNREACHABLE = "unreachable"


class Text(NamedTuple):
    """A kind of verdict, the sentence for the operator, and what to do next."""

    kind: VerdictKind
    sentence: str
    next_step: str


DO_NOT_REPEAT = "Do not send it again before you have asked {partner} whether it arrived."

ACCEPTED = Text(
    VerdictKind.ACCEPTED,
    "{partner} {deeds}.",
    "Nothing is left to do for these certificates. A server that does not check signatures would have answered the"
    " same, and whether {partner} encrypts to our new certificate is shown only by a message from it.",
)
WARNING = Text(
    VerdictKind.ACCEPTED_WITH_WARNING,
    "{partner} accepted the message with a warning ({modifier}).",
    "Ask {partner} what the warning means, if you do not know it.",
)
CONTENT_DIFFERS = Text(
    VerdictKind.CONTENT_DIFFERS,
    "{partner} confirmed the message, but with the digest (MIC) of other content than we sent.",
    "Ask {partner} over which bytes it computes the MIC; the certificates are not the cause.",
)
UNSIGNED = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} answered that it processed the message, but with an MDN that is not signed, although we asked for a"
    " signed one, so the answer proves nothing.",
    DO_NOT_REPEAT + " Ask it also to sign its MDNs.",
)
OTHER_SIGNER = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} signed its MDN with a certificate that is not one of those recorded for it ({signer}): most likely it"
    " has changed its signing certificate.",
    DO_NOT_REPEAT + " Get its new certificate, compare the fingerprint with it over another channel, and enter it.",
)
SIGNATURE_BROKEN = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} sent an MDN whose signature does not hold: {detail}",
    DO_NOT_REPEAT + " If it has changed its signing certificate, enter the new one.",
)
OTHER_MESSAGE = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} answered with an MDN about another message ({detail}), so ours is not confirmed.",
    DO_NOT_REPEAT,
)
NOT_AN_MDN = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} answered with HTTP {status}, but without an MDN that can be read: {detail}",
    DO_NOT_REPEAT + " Check that the address is that of its AS2 server.",
)
SERVER_ERROR = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "{partner} answered with HTTP {status}{reason} after it had received the whole message. It may have kept it.",
    DO_NOT_REPEAT,
)
REDIRECT = Text(
    VerdictKind.REFUSED,
    "The server of {partner} answered with HTTP {status}{reason} and referred to another address, which was not used.",
    "Ask {partner} for its present AS2 address and enter it.",
)
STOPPED = Text(
    VerdictKind.REFUSED,
    "The server of {partner} answered with HTTP {status}{reason} before it had received the whole message.",
    "Ask {partner} why its server refuses us; the message did not arrive.",
)
LOST = Text(
    VerdictKind.DELIVERED_NOT_CONFIRMED,
    "The whole message was sent to {partner}, and no usable answer came ({detail}).",
    DO_NOT_REPEAT,
)

UNKNOWN_STATION = Text(
    VerdictKind.UNKNOWN_PARTNER,
    "{partner} does not know our AS2 name, or not together with the name that we wrote to ({modifier}).",
    "Compare both AS2 names with {partner}, letter by letter; they are case-sensitive.",
)
MODIFIERS = {
    "authentication-failed": Text(
        VerdictKind.SIGNATURE_NOT_ACCEPTED,
        "{partner} does not accept {signature} ({modifier}): it does not trust the certificate, most often because it"
        " does not know it yet.",
        "Ask {partner} to enter our certificate, then test again. Keep signing with one that it accepts until then.",
    ),
    "integrity-check-failed": Text(
        VerdictKind.SIGNATURE_NOT_ACCEPTED,
        "{partner} does not accept {signature} ({modifier}): most often it does not know the certificate yet. Some"
        " servers report it this way although the content arrived unchanged.",
        "Ask {partner} to enter our certificate, then test again. Keep signing with one that it accepts until then.",
    ),
    "decryption-failed": Text(
        VerdictKind.NOT_DECRYPTED,
        "{partner} could not decrypt the message ({modifier}): most often it does not use the key of {certificate}.",
        "Ask {partner} which certificate we should encrypt to, and encrypt to one that works until then.",
    ),
    "insufficient-message-security": Text(
        VerdictKind.PROTECTION_MISSING,
        "{partner} wants messages to be signed or encrypted, or with other algorithms ({modifier}).",
        "Ask {partner} what it requires, and set signing and encryption for it accordingly.",
    ),
    "unknown-trading-partner": UNKNOWN_STATION,
    "unknown-trading-relationship": UNKNOWN_STATION,
    "sender-equals-receiver": UNKNOWN_STATION,
}
"""What each modifier of a failed disposition says (RFC 4130, 7.4.3, and what servers were seen to send)."""
OTHER_MODIFIER = Text(
    VerdictKind.PARTNER_ERROR,
    "{partner} could not process the message ({modifier}), which does not say whether a certificate is the cause.",
    "Ask {partner} what its server logged about the message.",
)

STATUS_HINTS = {
    401: "It wants a user name and a password, which test messages do not send.",
    403: "It does not let us in: {partner} may have to allow our IP address.",
    404: "Nothing may be at this path: compare the address with {partner}.",
    405: "The address may be that of a web page: compare it with {partner}.",
    413: "The server does not take messages of this size.",
    500: "Some servers answer like this, with nothing in it, when they do not know our AS2 name: compare both names.",
    502: "The AS2 server may be down behind the address.",
    503: "The AS2 server may be down or busy.",
}
"""What a status most often means, beside the general sentence."""

OBSTACLES = {
    Obstacle.NAME_NOT_FOUND: Text(
        VerdictKind.UNREACHABLE,
        "The host name of {partner}’s address was not found ({detail}).",
        "Check the address of {partner}.",
    ),
    Obstacle.NOT_CONNECTED: Text(
        VerdictKind.UNREACHABLE,
        "The server of {partner} could not be reached ({detail}).",
        "Check the address and the port; ask {partner} whether its server is up and lets our IP address in.",
    ),
    Obstacle.PROXY_REFUSED: Text(
        VerdictKind.UNREACHABLE,
        "Our proxy did not connect us to {partner} ({detail}).",
        "Ask the administrator of the proxy to allow this address.",
    ),
    Obstacle.CERTIFICATE_NOT_TRUSTED: Text(
        VerdictKind.UNREACHABLE,
        "The TLS certificate of {partner}’s server is not accepted ({detail}), so nothing was sent.",
        "If it is {partner}’s own or of a private CA, let the administrator add that CA; otherwise ask {partner} to"
        " renew it.",
    ),
    Obstacle.TLS_FAILED: Text(
        VerdictKind.UNREACHABLE,
        "The encrypted connection to {partner} failed ({detail}), so nothing was sent.",
        "Check that the port speaks HTTPS; ask {partner} whether its server supports TLS 1.2 or 1.3.",
    ),
}
"""What it means when nothing was sent; a connection that is lost later is judged by whether all was sent."""
INTERRUPTED = Text(
    VerdictKind.UNREACHABLE,
    "The connection to {partner} ended before the whole message was sent ({detail}).",
    "Test again; the message did not arrive completely.",
)
