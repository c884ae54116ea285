"""COS record: an object was created, and its content is the payload.

``{"cos":{"cosObject":{"key":"/appid/bucket/key","size":1024,…},"cosBucket":{"region":"gz","name":"bucket",
"appid":"125…"}},"event":{"eventName":"cos:ObjectCreated:Put","eventTime":1545205770,…}}``. Newer events name the region
in full in ``cosBucket.cosRegion`` besides. The record also holds the uploader's Authorization header: only the members
above are read. Sources: Tencent Cloud, SCF COS trigger; public logs of its events.

An object holds JSON (one message), JSON Lines (one message a line) or any other format (one message), plain or as gzip;
its name does not matter.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, NamedTuple

from metric_forwarder.formats.json_text import holds_too_much
from metric_forwarder.formats.payload import MAX_POINTS
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.times import milliseconds_of
from metric_forwarder.triggers.decoding import (
    DecodeContext,
    ObjectName,
    TooLarge,
    Unreadable,
    coordinates_of,
    nth,
)
from metric_forwarder.triggers.inflate import MAGIC, bounded, inflate
from metric_forwarder.uint64 import parse_uint64

# The limit of the stored object and of its inflated content. All points of an event are held until its report is written:
# 8 MB take a function to 116 MB, 32 MB to 315 MB (measured), and a function that runs out of memory loses them.
MAX_OBJECT_BYTES = 8 * 2**20
MAX_LINES = MAX_POINTS

_CREATED = "cos:ObjectCreated:"
# Compiled when the first object is fetched: this module is loaded for other records, too.
_REGION = r"[a-z]{2,10}(-[a-z0-9]+){1,3}"
_BUCKET = r"[a-z0-9][a-z0-9-]{0,80}"
_BEGIN = rb"\s*(?:\xef\xbb\xbf)?\s*"
_SHOWN_CHARACTERS = 150


def messages(record: dict[str, Any], index: int, context: DecodeContext) -> Iterator[Message]:
    """Yield the messages of a created object; nothing for any other event, such as a removal."""
    place, event = nth(index), record.get("event")
    event_name = event.get("eventName") if isinstance(event, dict) else None
    if not isinstance(event, dict) or not isinstance(event_name, str):
        yield Message(place, record, broken='has no "event.eventName"')
        return
    # One published template has a space in the name.
    if not "".join(event_name.split()).startswith(_CREATED):
        return
    try:
        name = _allowed_name(record["cos"], context)
        place = f"{name.bucket}/{name.key[-_SHOWN_CHARACTERS:]}"
        size = parse_uint64(record["cos"]["cosObject"].get("size"))
        if size is not None and size > MAX_OBJECT_BYTES:
            raise TooLarge(MAX_OBJECT_BYTES)
        yield from _stored_messages(name, place, milliseconds_of(event.get("eventTime")), context)
    except Unreadable as unreadable:
        yield Message(place, record, broken=unreadable.reason, retriable=unreadable.retriable)


def _stored_messages(
    name: ObjectName, place: str, time_ms: int | None, context: DecodeContext
) -> Iterator[Message]:
    stored = context.objects.open(name, context.deadline)
    try:
        for number, text in _payloads(stored.chunks):
            source = f"{place}:{number}" if number else place
            coordinates = (
                coordinates_of("cos", name.bucket, name.key, stored.version, str(number))
                if stored.version
                else None
            )
            yield Message(source, text, coordinates, time_ms)
    finally:
        stored.close()


class _Line(NamedTuple):
    """``number`` counts from 1; 0 stands for the whole object."""

    number: int
    text: bytes


def _allowed_name(cos: dict[str, Any], context: DecodeContext) -> ObjectName:
    if context.is_in_message:
        raise Unreadable(
            "names an object in COS inside of a message: objects are fetched only for the platform's own events"
        )
    name = _object_name(cos)
    if name.bucket not in context.buckets:
        raise Unreadable(
            "names an object in a bucket that is not the account's own: to read it, list the bucket in "
            "MF_COS_BUCKETS"
        )
    return name


def _object_name(cos: dict[str, Any]) -> ObjectName:
    stored, bucket = cos.get("cosObject"), cos.get("cosBucket")
    if not isinstance(stored, dict) or not isinstance(bucket, dict):
        raise Unreadable('has no "cos.cosObject" and "cos.cosBucket"')
    name, app_id, key = bucket.get("name"), bucket.get("appid"), stored.get("key")
    app_id = str(parse_uint64(app_id)) if parse_uint64(app_id) is not None else ""
    if not isinstance(name, str) or not re.fullmatch(_BUCKET, name) or not app_id:
        raise Unreadable('has no usable "name" and "appid" in "cos.cosBucket"')
    if not isinstance(key, str) or not key.strip("/") or not _is_utf8(key):
        raise Unreadable('has no usable "key" in "cos.cosObject"')
    full_name = name if name.endswith(f"-{app_id}") else f"{name}-{app_id}"
    return ObjectName(full_name, _region(bucket), key.removeprefix(f"/{app_id}/{name}/").removeprefix("/"))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _region(bucket: dict[str, Any]) -> str:
    for member in ("cosRegion", "region"):
        region = bucket.get(member)
        if isinstance(region, str):
            region = REGION_NAMES.get(region, region)
            # It becomes part of the name of the host to which the signed request is sent.
            if re.fullmatch(_REGION, region):
                return region
    raise Unreadable('has no known "region" in "cos.cosBucket"')


def _payloads(chunks: Iterator[bytes]) -> Iterator[_Line]:
    """Yield the payloads of an object: its lines, or all of it.

    Raises:
        Unreadable: it breaks off, or holds too many lines.
    """
    text = bytearray()
    try:
        for piece in _unpacked(chunks):
            text += piece
    except Unreadable:
        # The lines before the break are complete.
        lines = _lines(bytes(text[: text.rfind(b"\n") + 1]))
        first = next(lines, None) if _may_be_json(text) else None
        if first is not None and _is_json(first.text):
            yield first
            yield from lines
        raise
    yield from _split(bytes(text))


def _may_be_json(text: bytes | bytearray) -> bool:
    begin = re.match(_BEGIN, text)
    return begin is not None and text[begin.end() : begin.end() + 1] in (b"{", b"[")


def _split(text: bytes) -> Iterator[_Line]:
    if not _may_be_json(text):
        # Lines of another format may belong together, and a byte of white space may be part of a binary number.
        if text.strip():
            yield _Line(0, text)
        return
    first = next(_lines(text), None)
    if first is None:
        return
    if not _is_json(first.text):
        # It is either JSON over several lines, or JSON Lines with a broken first line.
        is_whole = not holds_too_much(text) and _is_json(text)
        if is_whole or not any(_is_object(line.text) for line in _lines(text)):
            yield _Line(0, text)
            return
    yield from _lines(text)


def _lines(text: bytes) -> Iterator[_Line]:
    """Yield the lines that are not blank, without making a list, which takes thirty times the memory if the lines are short."""
    begin, number, filled = 0, 0, 0
    while begin < len(text):
        end = text.find(b"\n", begin)
        end = len(text) if end < 0 else end
        line, number, begin = text[begin:end], number + 1, end + 1
        if not line.strip():
            continue
        filled += 1
        if filled > MAX_LINES:
            raise Unreadable(f"holds more than {MAX_LINES} lines: split it; those before were taken")
        yield _Line(number, line)


def _unpacked(chunks: Iterator[bytes]) -> Iterator[bytes]:
    head = b""
    while len(head) < len(MAGIC) and (chunk := next(chunks, b"")):
        head += chunk
    content = bounded(chain([head], chunks), MAX_OBJECT_BYTES)
    return inflate(content, MAX_OBJECT_BYTES) if head.startswith(MAGIC) else content


def _is_json(text: bytes) -> bool:
    if holds_too_much(text):
        # The decoder of the payload reports it.
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_object(text: bytes) -> bool:
    return text.lstrip().startswith(b"{") and _is_json(text)
