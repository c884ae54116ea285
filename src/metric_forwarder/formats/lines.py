"""What the formats of one sample a line share: text out of bytes, and its lines, within bounds."""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.payload import WIDE, is_wide
from metric_forwarder.formats.samples import InvalidSample

# Twice what an object or a message may hold.
MAX_CHARACTERS = 16 * 2**20
MAX_LINES = 1_000_000


def text_of(body: Any) -> str | InvalidSample:
    """The text of a message; a byte that is no UTF-8 spoils its own line alone, where it becomes a lone surrogate."""
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
    """Lines without their ends, from 1 on; one after the other, since a list takes many times the memory of the text."""
    begin, number = 0, 1
    while (end := text.find("\n", begin)) >= 0:
        yield number, text[begin:end].removesuffix("\r")
        begin, number = end + 1, number + 1
    if begin < len(text):
        yield number, text[begin:].removesuffix("\r")


def is_utf8(line: str) -> bool:
    """Whether all of it came out of UTF-8."""
    if line.isascii():
        return True
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True
