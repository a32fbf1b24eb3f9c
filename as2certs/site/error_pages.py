"""What is answered where no view gets to answer: unknown addresses, forms that can't be read, faults of ours.

Partners know none of the application's other pages, so theirs lead nowhere else.
"""

from __future__ import annotations

from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template import loader
from django.views import csrf, defaults
from django.views.decorators.csrf import requires_csrf_token

#: A body that is too large is read up to here, and dropped, before it is answered.
MAX_DISCARDED_BYTES = 512 * 1024 * 1024
CHUNK_BYTES = 64 * 1024


def is_portal_page(request: HttpRequest) -> bool:
    """Say whether an address is one of the partners' pages."""
    return request.path_info.startswith("/p/")


def page_not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for an address that there is not (404)."""
    if is_portal_page(request):
        return _portal_error(request, "nowhere", 404)
    return defaults.page_not_found(request, exception)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """Answer for what can't be read (400), or is too large to be (413)."""
    if not isinstance(exception, RequestDataTooBig):
        if is_portal_page(request):
            return _portal_error(request, "unreadable", 400)
        return defaults.bad_request(request, exception)
    discard_body(request)
    if is_portal_page(request):
        return _portal_error(request, "too_large", 413)
    return HttpResponse(loader.render_to_string("413.html"), status=413)


def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    """Answer for a form that did not come from a page of ours that was opened in this browser (403)."""
    if is_portal_page(request):
        return _portal_error(request, "too_old", 403)
    return csrf.csrf_failure(request, reason)


@requires_csrf_token
def server_error(request: HttpRequest) -> HttpResponse:
    """Answer for a fault of ours (500); nothing is asked of the database, which may be the fault."""
    if is_portal_page(request):
        return HttpResponse(loader.render_to_string("portal/fault.html"), status=500)
    return defaults.server_error(request)


def discard_body(request: HttpRequest) -> None:
    """Read what is left of a request's body, and drop it.

    A browser that is still sending does not listen: it would show a broken connection in place of our sentence.
    """
    left = MAX_DISCARDED_BYTES
    try:
        while left > 0 and (chunk := request.read(CHUNK_BYTES)):
            left -= len(chunk)
    except OSError:
        # Whoever sent it has gone: nobody is left to read the answer.
        return


def _portal_error(request: HttpRequest, why: str, status: int) -> HttpResponse:
    answer = render(request, "portal/access_denied.html", {"reason": why}, status=status)
    answer.headers["Cache-Control"] = "no-store, private"
    return answer
