"""Find what a request says about its sender, without parsing it.

The signature is inside the content, and the server must not parse a large request before it knows the sender. So the
content is first searched for the five members that authentication needs. The search is linear and uses almost no memory. It may find
members that are not at the top level, so the claims must be checked again once the request has been parsed.
"""

import json
import re
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

from metric_forwarder.put_monitor_data.server import PutRequest

_NAMES = ("SecretId", "Region", "Timestamp", "Nonce", "Signature")
_VALUE = re.compile(rb'[ \t\r\n]{0,64}:[ \t\r\n]{0,64}("(?:[^"\\\x00-\x1f]|\\.){0,512}"|-?[0-9]{1,19})')


def find_claims(method: str, path: str, content: bytes) -> Iterator[PutRequest]:
    """Yield the possible claims in the JSON text of a request, at most 32; none of them holds any point.

    A member at the top level comes before or after ``Data``, so it is the first or the last one of its name.
    """
    found = [_values(content, f'"{name}"'.encode()) for name in _NAMES]
    for values in product(*found):
        yield from claims_of(method, path, dict(zip(_NAMES, values, strict=True)))


def claims_of(method: str, path: str, members: Mapping[str, Any]) -> Iterator[PutRequest]:
    """Yield the claim that the members of a request make; nothing if one is missing or of the wrong type."""
    secret_id, region, timestamp, nonce, signature = (members.get(name) for name in _NAMES)
    try:
        numbers = int(timestamp), int(nonce)  # type: ignore[arg-type]  # whatever it is, it may raise
    except (TypeError, ValueError, OverflowError):
        return
    if isinstance(secret_id, str) and isinstance(region, str) and isinstance(signature, str):
        yield PutRequest(method, path, 0, secret_id, region, *numbers, signature, "", ())


def _values(content: bytes, name: bytes) -> list[Any]:
    places = dict.fromkeys((content.find(name), content.rfind(name)))
    matches = [_VALUE.match(content, place + len(name)) for place in places if place >= 0]
    return [value for match in matches if match for value in _decoded(match[1])]


def _decoded(literal: bytes) -> list[Any]:
    try:
        return [json.loads(literal)]
    except ValueError:
        return []
