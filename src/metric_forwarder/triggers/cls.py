"""CLS: ``{"clslogs":{"data":"<base64 of gzip of JSON>"}}``, one message for each log.

Inside: ``{"topic_id":"…","topic_name":"…","records":[{"timestamp":"1605578090000000","content":"…"}]}``. ``timestamp``
is text, in microseconds by the document, and also seen in other units, which are recognised by its size.
``content`` is the text of a log, or its fields, a map of text to text: ``__CONTENT__`` holds the text of a raw log, and
``SCF_Message`` a line that a function wrote, next to ``SCF_Type``, which is ``Platform`` or ``Custom``. A line of JSON may
come as the members of its first level instead, nested ones as JSON text. Sources: Tencent Cloud, SCF CLS trigger; structure
of SCF's logs in CLS (583/60336); SCF, log of Python functions, own fields.
"""

import base64
import hashlib
import json
import re
from collections.abc import Container, Iterator, Mapping
from typing import Any

from metric_forwarder.formats.json_text import MAX_VALUES, holds_too_much
from metric_forwarder.formats.payload import MAX_POINTS
from metric_forwarder.model import Message
from metric_forwarder.reporting.log import LEVELS
from metric_forwarder.times import milliseconds_of
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, Unreadable
from metric_forwarder.triggers.inflate import inflate
from metric_forwarder.triggers.traits import CLS

# The fields that hold the text of a raw log, and a line that a function of SCF wrote.
_CONTENT_FIELDS = ("__CONTENT__", "SCF_Message")
# How the names of the fields begin that CLS and SCF add.
_ADDED = ("__", "SCF_")
# A point's members that are not text.
_JSON_FIELDS = ("dimensions", "value", "timestamp")
# Only a text that may be such a map is decoded here; any other text is decoded once, later. A point's own value has no quotes.
_is_marked = re.compile(r'"(?:__CONTENT__|SCF_Message|SCF_Type|value)"[ \t\r\n]*:[ \t\r\n]*"').search
_MAX_FIELDS_TEXT = 65_536
_PLATFORM_LINE = "is a line that the platform logs for each invocation: let the trigger read another topic"
_OWN = "is a log line of the forwarder itself: let the trigger read another topic"
# The members that follow an event and its requestId: other programs log "level" and "event", too, and a mapping may make
# points of their lines.
_OWN_LINES: Mapping[str, tuple[str, ...]] = {
    "report": ("status",),
    "refused": ("error", "statusCode"),
    **dict.fromkeys(("uncertain", "spool", "dedupe", "self-metrics", "defect"), ("message",)),
    "doctor": ("failed",),
    "access": ("client",),
    "request": ("points",),
    "prepare": ("reply",),
}
# Only the beginning is read, so that a line that was cut off is known, too.
_own_start = re.compile(r'\{"level":"([A-Z]+)","event":"([a-z-]+)",(?:"requestId":"[^"]*",)?"(\w+)":').match
_PLATFORM = re.compile(r"(?:START|END|Report|Init Report|Event|Response|ERROR) RequestId: ?[0-9a-f-]{36}\b")


def matches(event: Any) -> bool:
    return isinstance(event, dict) and "clslogs" in event


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded:
    return Decoded(CLS, _messages(event["clslogs"], context.max_inflated_bytes))


def _messages(logs: Any, max_inflated_bytes: int) -> Iterator[Message]:
    try:
        text = _inflated(logs, max_inflated_bytes)
        batch = _batch(text)
    except Unreadable as unreadable:
        yield Message("clslogs", logs, broken=unreadable.reason)
        return
    topic = batch.get("topic_name") or batch.get("topic_id")
    topic = topic[:100] if isinstance(topic, str) else "cls"
    # A topic and a microsecond do not identify a log, but the whole batch does: when it is redelivered, it has the
    # same text, and a second batch with the same text to the last timestamp cannot be distinguished from a redelivery.
    digest = hashlib.sha256(text).hexdigest()
    for index, record in enumerate(batch["records"]):
        yield _message(record, f"{topic} log {index}", f"cls/{digest}#{index}")


def _inflated(logs: Any, limit: int) -> bytes:
    data = logs.get("data") if isinstance(logs, dict) else None
    if not isinstance(data, str):
        raise Unreadable('has no "data" text')
    try:
        packed = base64.b64decode(data, validate=True)
    except ValueError:
        raise Unreadable('has a "data" that is not base64') from None
    return b"".join(inflate([packed], limit))


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
        return Message(place, record, coordinates, broken='has no "content"')
    content = record["content"]
    fields = _fields(content)
    if fields is not None:
        if fields.get("SCF_Type") == "Platform":
            return Message(place, None, coordinates, left_out=_PLATFORM_LINE)
        if "SCF_Type" in fields and _is_own(fields.get("level"), fields.get("event"), fields):
            return Message(place, None, coordinates, left_out=_OWN)
        content = _payload(fields, content)
    if isinstance(content, str) and (reason := _logged_by_us(content)) is not None:
        return Message(place, None, coordinates, left_out=reason)
    return Message(place, content, coordinates, milliseconds_of(record.get("timestamp")))


def _fields(content: Any) -> dict[str, Any] | None:
    """Return the fields of a log that CLS keeps as a map, also as JSON text; None for any other log."""
    if isinstance(content, str) and len(content) <= _MAX_FIELDS_TEXT and _is_marked(content):
        try:
            content = json.loads(content)
        except (ValueError, RecursionError):
            return None
    return content if isinstance(content, dict) else None


def _payload(fields: dict[str, Any], content: Any) -> Any:
    """Return the payload that a log holds in one of its fields, or as its fields."""
    members = {name: value for name, value in fields.items() if not name.startswith(_ADDED)}
    for name in _CONTENT_FIELDS:
        text = fields.get(name)
        # The field may be empty if the line came as its members.
        if isinstance(text, str) and (text or not members):
            return text
    if "metricName" not in members:
        return content
    if not all(isinstance(value, str) for value in members.values()):
        return content if members == fields else members
    # CLS keeps every field as text.
    return {name: _decoded(text) if name in _JSON_FIELDS else text for name, text in members.items()}


def _decoded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _is_own(level: Any, event: Any, members: Container[str]) -> bool:
    """Return whether these are members of a line that the forwarder has logged."""
    return level in LEVELS and any(name in members for name in _OWN_LINES.get(str(event), ()))


def _logged_by_us(line: str) -> str | None:
    """Return why a line is left out: this function or the platform has logged it.

    If the trigger reads the topic that the function logs to, each such line would otherwise be an invalid point, which
    would be reported in another line.
    """
    start = _own_start(line)
    if start is not None and _is_own(start[1], start[2], (start[3],)):
        return _OWN
    return _PLATFORM_LINE if _PLATFORM.match(line) else None
