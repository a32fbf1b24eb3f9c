"""Error pages: unknown URLs, malformed or too large requests, errors of the application.

On the partner portal, they don't link to other pages.
"""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader
from django.views import csrf, defaults
from django.views.decorators.csrf import requires_csrf_token

#: A request body that is too large is read up to this size, and discarded, before the answer.
MAX_DISCARDED_BYTES = 512 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


def is_portal_page(request: HttpRequest) -> bool:
    """Return whether a request is one of the partner portal."""
    return request.path_info.startswith("/p/")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the page for an unknown URL (404)."""
    if is_portal_page(request):
        return _portal_error(request, "nowhere", 404)
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Return the page for a malformed request (400) or one that is too large (413)."""
    if not isinstance(exception, RequestDataTooBig):
        if is_portal_page(request):
            return _portal_error(request, "unreadable", 400)
        return defaults.bad_request(request, exception)
    discard_body(request)
    if is_portal_page(request):
        return _portal_error(request, "too_large", 413)
    return HttpResponse(loader.render_to_string("413.html"), status=413)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Return the page for a form without a valid CSRF token (403)."""
    if is_portal_page(request):
        return _portal_error(request, "too_old", 403)
    return csrf.csrf_failure(request, reason)


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    """Return the page for an exception (500), without a query: the database may be the cause."""
    if is_portal_page(request):
        return HttpResponse(loader.render_to_string("portal/fault.html"), status=500)
    return defaults.server_error(request)


def discard_body(request: HttpRequest) -> None:
    """Read and discard the rest of a request's body.

    A browser that is still sending would show a connection error instead of the answer.
    """
    left = MAX_DISCARDED_BYTES
    try:
        while left > 0 and (chunk := request.read(CHUNK_BYTES)):
            left -= len(chunk)
    except OSError:
        return  # the client has disconnected


def _portal_error(request: HttpRequest, why: str, status: int) -> HttpResponse:
    response = render(request, "portal/refused.html", {"why": why}, status=status)
    response.headers["Cache-Control"] = "no-store, private"
    return response
