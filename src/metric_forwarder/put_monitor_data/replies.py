"""Reads the code in a reply of the receiver, even if the rest of the reply is not valid JSON.

A reply is ``{"code":0,"message":"OK"}``. The message may be in GBK and may hold raw tabs and line breaks; NUL or more text
may follow the object, and all of it may be gzip. None of that changes the code. A reply that is cut off has no code, and an
HTML page has none.
"""

import json
import re
import zlib
from typing import Any

from metric_forwarder.uint64 import parse_uint64

# Codes from here on are far beyond the documented ones, so the reply is not the receiver's.
_CODE_LIMIT = 10**6
_GZIP = b"\x1f\x8b"
_MOST_BYTES = 65_536
# JSON forbids control characters in a text, but the code can still be trusted.
_LENIENT = json.JSONDecoder(strict=False)
_PADDING = "\ufeff\0 \t\r\n"
# The message may not be JSON, for example if it contains quotes; then the code must come first and the object be closed.
_begins_with_code = re.compile(r'\{\s*"code"\s*:\s*("?)(-?[0-9]{1,7})\1\s*,\s*"').match


def read_code(body: bytes) -> int | None:
    """The code of a complete reply; None if there is none. Takes linear time and never raises."""
    body = _plain(body)
    try:
        decoded = json.loads(body)
    except (ValueError, RecursionError):
        decoded = _read_leniently(body)
    code = decoded.get("code") if isinstance(decoded, dict) else None
    if isinstance(code, str):
        code = parse_uint64(code)
    return code if type(code) is int and abs(code) < _CODE_LIMIT else None


def is_cut_off(body: bytes) -> bool:
    """Whether the body is empty, or may be the beginning of a reply."""
    body = _plain(body)
    return not (stripped := body.strip(b"\0 \t\r\n")) or (
        stripped.startswith(b"{") and _read_leniently(body) is None
    )


def _plain(body: bytes) -> bytes:
    """The body without gzip, in which some proxies send it although that was not asked for; empty if it is damaged."""
    if not body.startswith(_GZIP):
        return body
    try:
        return zlib.decompressobj(31).decompress(body, _MOST_BYTES)
    except zlib.error:
        return b""


def _read_leniently(body: bytes) -> Any:
    """The object that a body begins with; None if it does not begin with a complete one."""
    for encoding in ("utf-8", "gb18030"):
        text = body.decode(encoding, "replace").strip(_PADDING)
        if not text.startswith("{"):
            return None
        try:
            return _LENIENT.raw_decode(text)[0]
        except (ValueError, RecursionError):
            continue
    first = _begins_with_code(text)
    return {"code": first[2]} if first and text.endswith("}") else None
