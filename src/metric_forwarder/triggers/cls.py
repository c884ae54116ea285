"""CLS: ``{"clslogs":{"data":"<base64 of gzip of JSON>"}}``, one message for each log.

Inside: ``{"topic_id":"…","topic_name":"…","records":[{"timestamp":"1605578090000000","content":"…"}]}``; the time is
that of the log, in microseconds, as text. Source: Tencent Cloud, SCF CLS trigger.
"""

import base64
import hashlib
import json
from collections.abc import Iterator
from typing import Any

from metric_forwarder.formats.payload import MAX_POINTS, MAX_VALUES, holds_too_much
from metric_forwarder.model import Message
from metric_forwarder.numerals import whole
from metric_forwarder.times import NUMBERS_BELOW
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, Unreadable
from metric_forwarder.triggers.inflate import inflate
from metric_forwarder.triggers.traits import CLS

# An asynchronous event has at most 128 KB, which gzip can make a hundred MB of; see ``cos.MAX_OBJECT_BYTES``.
MAX_INFLATED_BYTES = 8 * 2**20


def matches(event: Any) -> bool:
    return isinstance(event, dict) and "clslogs" in event


def decode(event: dict[str, Any], _context: DecodeContext) -> Decoded:
    return Decoded(CLS, _messages(event["clslogs"]))


def _messages(logs: Any) -> Iterator[Message]:
    try:
        text = _inflated(logs)
        batch = _batch(text)
    except Unreadable as unreadable:
        yield Message("clslogs", None, broken=unreadable.reason)
        return
    topic = batch.get("topic_name") or batch.get("topic_id")
    topic = topic[:100] if isinstance(topic, str) else "cls"
    # A topic and a microsecond do not tell two logs apart. The batch as a whole does: redelivered, it is the same
    # text, and two batches that are the same to the last timestamp could not be told from a redelivery by anyone.
    digest = hashlib.sha256(text).hexdigest()
    for index, record in enumerate(batch["records"]):
        yield _message(record, f"{topic} log {index}", f"cls/{digest}#{index}")


def _inflated(logs: Any) -> bytes:
    data = logs.get("data") if isinstance(logs, dict) else None
    if not isinstance(data, str):
        raise Unreadable('has no "data" text')
    try:
        packed = base64.b64decode(data, validate=True)
    except ValueError:
        raise Unreadable('has a "data" that is not base64') from None
    return b"".join(inflate([packed], MAX_INFLATED_BYTES))


def _batch(text: bytes) -> dict[str, Any]:
    if holds_too_much(text):
        raise Unreadable(f"holds more than {MAX_VALUES} values: let CLS deliver fewer logs at once")
    try:
        batch = json.loads(text)
    except (ValueError, RecursionError):
        raise Unreadable('holds a "data" that is not JSON once inflated') from None
    if not isinstance(batch, dict) or not isinstance(batch.get("records"), list):
        raise Unreadable('holds a "data" without a list of "records"')
    if len(batch["records"]) > MAX_POINTS:
        raise Unreadable(f"holds more than {MAX_POINTS} logs: let CLS deliver fewer at once")
    return batch


def _message(record: Any, place: str, coordinates: str) -> Message:
    if not isinstance(record, dict) or record.get("content") is None:
        return Message(place, None, coordinates, broken='has no "content"')
    return Message(place, record["content"], coordinates, _time_ms(record.get("timestamp")))


def _time_ms(microseconds: Any) -> int | None:
    number = whole(microseconds)
    return number // 1000 if number is not None and number < 1000 * NUMBERS_BELOW else None
