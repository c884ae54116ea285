"""Shared by the formats with a sample on each line: decodes bytes, and splits text into lines, within limits."""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.json_text import WIDE, is_wide
from metric_forwarder.formats.samples import InvalidSample

# Twice the limit of an object or a message.
MAX_CHARACTERS = 16 * 2**20
MAX_LINES = 1_000_000


def text_of(body: Any) -> str | InvalidSample:
    """The text of a message; a byte that is not UTF-8 becomes a lone surrogate, which makes only its own line invalid."""
    if isinstance(body, (str, bytes)) and is_wide(body):
        return InvalidSample("", "encoding", WIDE, body)
    if isinstance(body, bytes):
        body = body[: MAX_CHARACTERS + 1].decode("utf-8", "surrogateescape")
    if not isinstance(body, str):
        return InvalidSample(
            "", "type", "is decoded JSON: send it as text, or set MF_FORMAT to its format", body
        )
    if len(body) > MAX_CHARACTERS or body.count("\n") > MAX_LINES:
        limits = f"{MAX_CHARACTERS // 2**20} MB or {MAX_LINES} lines"
        return InvalidSample("", "size", f"holds more than {limits}: split it", None)
    return body.removeprefix("\ufeff")


def numbered_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines with their numbers, from 1 on; a list would take many times the memory of the text."""
    begin, number = 0, 1
    while (end := text.find("\n", begin)) >= 0:
        yield number, text[begin:end].removesuffix("\r")
        begin, number = end + 1, number + 1
    if begin < len(text):
        yield number, text[begin:].removesuffix("\r")


def is_utf8(line: str) -> bool:
    """Whether the text holds no byte that was not UTF-8."""
    if line.isascii():
        return True
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
