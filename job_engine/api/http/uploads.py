"""Reading the field `file` of a multipart form, streamed into an upload."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from job_engine.api.errors import RequestError, TooLargeError
from job_engine.store.blob_files import Incoming

FIELD: Final = "file"
_MAX_OTHER: Final = 64 * 1024
"""Most bytes of part headers and other fields together."""


class MultipartFile:
    """A parser that writes the field `file` to an upload, and skips other fields."""

    def __init__(
        self,
        boundary: bytes,
        incoming: Incoming,
        limit: int,
        too_large: Callable[[int], TooLargeError],
    ) -> None:
        self._incoming = incoming
        self._limit = limit
        self._too_large = too_large
        self._found = False
        self._writing = False
        self._name = b""
        self._value = b""
        self._headers: dict[bytes, bytes] = {}
        self._other = 0
        self.filename: str | None = None
        self.media_type: str | None = None
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._headers_finished,
                "on_part_data": self._data,
            },
        )

    def feed(self, chunk: bytes) -> None:
        """Take the next bytes. Raises `RequestError` and `TooLargeError`."""
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise RequestError(f"the multipart form is malformed: {error}") from error

    def finish(self) -> None:
        """Raise `RequestError` unless the form was complete and had a file."""
        try:
            self._parser.finalize()
        except FormParserError as error:
            raise RequestError(f"the multipart form is malformed: {error}") from error
        if not self._found:
            raise RequestError(f"the multipart form has no field `{FIELD}`")

    def _begin(self) -> None:
        self._headers.clear()
        self._writing = False

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._name += self._small(data[start:end])

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += self._small(data[start:end])

    def _header_end(self) -> None:
        self._headers[self._name.lower()] = self._value
        self._name = self._value = b""

    def _headers_finished(self) -> None:
        options = parse_options_header(self._headers.get(b"content-disposition", b""))[1]
        if options.get(b"name") != FIELD.encode() or self._found:
            return
        self._found = self._writing = True
        self.filename = options.get(b"filename", b"").decode("utf-8", "replace") or None
        self.media_type = self._headers.get(b"content-type", b"").decode("latin-1") or None

    def _data(self, data: bytes, start: int, end: int) -> None:
        if not self._writing:
            self._small(data[start:end])
            return
        if self._incoming.size + end - start > self._limit:
            raise self._too_large(self._limit)
        self._incoming.write(data[start:end])

    def _small(self, data: bytes) -> bytes:
        self._other += len(data)
        if self._other > _MAX_OTHER:
            raise self._too_large(_MAX_OTHER)
        return data
