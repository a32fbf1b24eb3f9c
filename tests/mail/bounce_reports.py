"""Delivery status notifications (RFC 3464) as Postfix writes them."""

from __future__ import annotations

REPORT_TEMPLATE = """\
Return-Path: <>
From: MAILER-DAEMON@mail.example.com (Mail Delivery System)
To: as2certs@example.com
Subject: Undelivered Mail Returned to Sender
Auto-Submitted: auto-replied
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status;
 boundary="B0UND"
Message-Id: <20261124120000.ABC@mail.example.com>

This is a MIME-encapsulated message.

--B0UND
Content-Description: Notification
Content-Type: text/plain; charset=us-ascii

I'm sorry to have to inform you that your message could not be delivered.

--B0UND
Content-Description: Delivery report
Content-Type: message/delivery-status

Reporting-MTA: dns; mail.example.com
Arrival-Date: Tue, 24 Nov 2026 12:00:00 +0000 (UTC)

Final-Recipient: rfc822; {recipient}
Original-Recipient: rfc822; {original}
Action: {action}
Status: {status}
Remote-MTA: dns; mx.northwind.example
Diagnostic-Code: smtp; {said}

--B0UND
Content-Description: Undelivered Message
Content-Type: {quoted_as}

Return-Path: <as2certs@example.com>
Message-ID: {message_id}
To: {original}
Subject: a new certificate

--B0UND--
"""


def build_report(
    message_id: str,
    recipient: str,
    *,
    original: str = "",
    action: str = "failed",
    status: str = "5.1.1",
    said: str = "550 5.1.1 no such user",
    quoted_as: str = "text/rfc822-headers",
) -> bytes:
    """Return the report that a mail was not delivered, with CRLF line ends."""
    filled = REPORT_TEMPLATE.format(
        message_id=message_id,
        recipient=recipient,
        original=original or recipient,
        action=action,
        status=status,
        said=said,
        quoted_as=quoted_as,
    )
    return filled.replace("\n", "\r\n").encode()
