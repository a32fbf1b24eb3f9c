"""What a browser notices behind the pages: errors of scripts, answers that failed, requests to somewhere else."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response

#: What forms answer that want something put right; the browser's console repeats it.
PUT_RIGHT = 422
#: What the console says of requests that did not come to an answer. Those that failed are noticed by themselves; the
#: rest are those that a page gave up when it was left.
GIVEN_UP = ("htmx:afterRequest", "htmx:sendError", "htmx:sendAbort")


class Watch:
    """Look over a browser's shoulder, and keep what should not have been."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.origin = urlsplit(url).netloc
        self.seen: list[str] = []
        context.on("console", self._console)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)
        context.on("weberror", lambda error: self.seen.append(f"a script ended with {error.error}"))

    def _console(self, message: ConsoleMessage) -> None:
        if message.type not in ("error", "warning"):
            return
        if f"status of {PUT_RIGHT}" not in message.text and not message.text.startswith(GIVEN_UP):
            where = message.page.url if message.page else "a page"
            self.seen.append(f"{where} says in the console: {message.text}")

    def _request(self, request: Request) -> None:
        address = urlsplit(request.url)
        if address.scheme not in ("data", "blob", "about") and address.netloc != self.origin:
            self.seen.append(f"a page asks for {request.url}")

    def _failed(self, request: Request) -> None:
        # A page that is left gives up what it was asking for, and a download does not become a page.
        if request.failure != "net::ERR_ABORTED":
            self.seen.append(f"{request.method} {request.url} failed: {request.failure}")

    def _response(self, response: Response) -> None:
        if response.status >= 400 and response.status != PUT_RIGHT:
            self.seen.append(f"{response.request.method} {response.url} was answered with {response.status}")
