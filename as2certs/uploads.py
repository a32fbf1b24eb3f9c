"""Uploads, kept in memory and limited in size."""

from __future__ import annotations

import socket
from io import BytesIO
from threading import Timer
from typing import Any

from django.core.exceptions import RequestDataTooBig
from django.core.files.uploadedfile import InMemoryUploadedFile, UploadedFile
from django.core.files.uploadhandler import FileUploadHandler, StopFutureHandlers
from django.http import HttpRequest, UnreadablePostError

from as2certs import pki

#: Larger requests are refused before they are read.
MAX_REQUEST_BYTES = 32 * 1024 * 1024


class MemoryOnlyUploadHandler(FileUploadHandler):
    """Keep each file in memory, up to one byte more than is allowed, and discard the rest.

    Nothing is written to disk: a file may contain a private key, and a process that is killed would leave it in a
    temporary folder.
    """

    def handle_raw_input(
        self,
        input_data: Any,
        META: dict[str, str],
        content_length: int,
        boundary: str,
        encoding: Any = None,
    ) -> None:
        """Refuse a request that is larger than any form. Raises RequestDataTooBig."""
        if content_length > MAX_REQUEST_BYTES:
            raise RequestDataTooBig(f"A request of {content_length} bytes: at most {MAX_REQUEST_BYTES} are read.")

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self.kept = BytesIO()
        raise StopFutureHandlers

    def receive_data_chunk(self, raw_data: bytes, start: int) -> None:
        self.kept.write(raw_data[: max(0, pki.MAX_FILE_BYTES + 1 - self.kept.tell())])

    def file_complete(self, file_size: int) -> UploadedFile[bytes]:
        size = self.kept.tell()
        self.kept.seek(0)
        return InMemoryUploadedFile(
            self.kept,
            self.field_name,
            self.file_name or "",
            self.content_type or "",
            size,
            self.charset,
            self.content_type_extra,
        )


def read_body(request: HttpRequest, *, limit: int, seconds: float) -> bytes:
    """Return the body of a request from another program, also a chunked one, which Django does not read.

    Raises RequestDataTooBig for one of more than ``limit`` bytes, mostly before it is read, and UnreadablePostError for
    one that is not complete after so many seconds.
    """
    length = request.META.get("CONTENT_LENGTH") or ""
    if length.isdecimal() and int(length) > limit:
        raise RequestDataTooBig(f"A body of {length} bytes: at most {limit} are read.")
    is_chunked = not length and request.META.get("wsgi.input_terminated")
    stream = request.META["wsgi.input"] if is_chunked else request
    connection: socket.socket | None = request.META.get("gunicorn.socket")
    timer = Timer(seconds, connection.shutdown, [socket.SHUT_RD]) if connection else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        body: bytes = stream.read(limit + 1)
    except Exception as error:  # OSError, and what the server's parser raises for chunks that are none
        raise UnreadablePostError("The body could not be read.") from error
    finally:
        if timer:
            timer.cancel()
    if len(body) > limit:
        raise RequestDataTooBig(f"A body of more than {limit} bytes.")
    if length.isdecimal() and len(body) < int(length):
        raise UnreadablePostError("The body is cut off.")
    return body
