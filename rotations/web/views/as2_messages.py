"""What AS2 stations send here: test messages of partners, and the asynchronous MDNs of ours.

There is no session and no login. Signatures prove who sent it; sizes, times and counts are limited before.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, UnreadablePostError
from django.views.decorators.csrf import csrf_exempt

from as2certs import as2
from as2certs.audit.models import Entry
from as2certs.audit.recording import Actor, client_address
from as2certs.clock import database_now
from as2certs.uploads import read_body
from partners.errors import MdnRefused
from partners.probes import async_mdns, receiving
from rotations.lifecycle.evidence import probes, received
from rotations.web.portal import rate_limit

#: Limit on the size of a message or an MDN: test messages have a few kilobytes.
MAX_BODY_BYTES = 1024 * 1024
#: How long a body may take.
MAX_SECONDS = 10.0
#: Requests per address and minute.
MAX_REQUESTS_PER_ADDRESS = 60

#: Test messages per connection and minute, since each makes us use a private key; of one address fewer, so that a
#: stranger that knows the AS2 IDs does not use up what the partner may send.
MAX_MESSAGES_PER_CONNECTION = 60
MAX_MESSAGES_PER_CONNECTION_AND_ADDRESS = 10

#: Headers that are nobody's business here.
_NOT_KEPT = ("Authorization", "Cookie")

AS2View = Callable[..., HttpResponse]

_TOO_MANY = "Too many requests: nothing was processed. Try again in a minute."


def _for_stations(view: AS2View) -> AS2View:
    """Decorate a view that takes the POST requests of AS2 stations, with their headers and their body."""

    @csrf_exempt  # AS2 stations have no CSRF token, and no session
    @wraps(view)
    def limited(request: HttpRequest, **kwargs: Any) -> HttpResponse:
        if request.method != "POST":
            return _text("This address takes AS2 messages by POST. There is no page here.", 405, Allow="POST")
        address = client_address(request)
        if rate_limit.count_attempt(f"as2 {address}", now=database_now()) > MAX_REQUESTS_PER_ADDRESS:
            return _text(_TOO_MANY, 429, **{"Retry-After": "60"})
        try:
            body = read_body(request, limit=MAX_BODY_BYTES, seconds=MAX_SECONDS)
        except RequestDataTooBig:
            return _text(f"This address takes at most {MAX_BODY_BYTES} bytes. Nothing was read.", 413)
        except UnreadablePostError:
            return _text("The request was not complete in time. Nothing was processed.", 408)
        fields = ((name, value) for name, value in request.headers.items() if name not in _NOT_KEPT)
        return view(request, as2.Headers(tuple(fields)), body, **kwargs)

    return limited


@_for_stations
def as2_receive(request: HttpRequest, headers: as2.Headers, body: bytes) -> HttpResponse:
    """Take a test message from a partner, and answer it by an MDN."""
    now = database_now()
    try:
        inbound = as2.read_request(headers)
    except as2.As2Error as error:
        return _text(str(error), 400)
    partnership = receiving.find_partnership(inbound)
    if partnership is None:
        return _answer(receiving.refuse_unknown(inbound, now=now))
    address = client_address(request)
    of_address = rate_limit.count_attempt(f"as2 {partnership.uid} {address}", now=now)
    if (
        of_address > MAX_MESSAGES_PER_CONNECTION_AND_ADDRESS
        or rate_limit.count_attempt(f"as2 {partnership.uid}", now=now) > MAX_MESSAGES_PER_CONNECTION
    ):
        return _text(_TOO_MANY, 429, **{"Retry-After": "60"})
    by = Actor(name="An AS2 message", source=Entry.Source.TASK, address=address)
    return _answer(receiving.receive(partnership, headers, body, on_received=received.apply_received, by=by, now=now))


@_for_stations
def as2_mdn(request: HttpRequest, headers: as2.Headers, body: bytes, uid: UUID, secret: str) -> HttpResponse:
    """Take the asynchronous MDN of one of our test messages."""
    probe = async_mdns.find_probe(uid, secret)
    if probe is None:
        return _text("No MDN is awaited at this address.", 404)
    try:
        done = async_mdns.take_mdn(probe, headers, body, on_judged=probes.apply_verdict, now=database_now())
    except MdnRefused as error:
        return _text(str(error), 400)
    return _text(done, 200)


def _answer(reply: receiving.Reply) -> HttpResponse:
    response = HttpResponse(reply.body, status=reply.status)
    del response.headers["Content-Type"]
    for name, value in reply.headers:
        if name != "Date":  # the server adds its own
            response.headers[name] = value
    return response


def _text(text: str, status: int, **headers: str) -> HttpResponse:
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8", headers=headers)
