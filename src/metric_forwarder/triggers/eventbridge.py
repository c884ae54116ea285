"""EventBridge: CloudEvents, one, a list of them, or ``{"EventList":[…]}``.

``{"specversion":"1.0","id":"…","type":"connector:tdmq","source":"tdmq.cloud.tencent","time":"1615430559146",
"data":{"topic":"…","msgId":"…","msgBody":"…"}}``; ``specversion`` is also ``"0"``, ``time`` also a number. The
connectors for TDMQ and CKafka put the message into ``data.msgBody``, that for API Gateway (``connector:apigw``) the body of
the request into ``data.body``; a custom event has its payload in ``data``.
Sources: Tencent Cloud, EventBridge's event structure, its TDMQ and CKafka connectors, its SCF target (batches);
CloudEvents 1.0 (``data_base64``; ``source`` and ``id`` together are unique).
"""

import base64
from collections.abc import Iterator
from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.times import milliseconds_of
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, coordinates_of
from metric_forwarder.triggers.traits import EVENTBRIDGE


def matches(event: Any) -> bool:
    if isinstance(event, dict):
        return "specversion" in event or isinstance(event.get("EventList"), list)
    return isinstance(event, list) and any(isinstance(e, dict) and "specversion" in e for e in event)


def decode(event: Any, _context: DecodeContext) -> Decoded:
    return Decoded(EVENTBRIDGE, _messages(event))


def _messages(event: Any) -> Iterator[Message]:
    if isinstance(event, dict):
        if isinstance(event.get("EventList"), list):
            event = event["EventList"]
        else:
            yield _message(event, "event")
            return
    for index, one in enumerate(event):
        yield _message(one, f"event {index}")


def _message(event: Any, place: str) -> Message:
    if not isinstance(event, dict):
        return Message(place, event, broken="is not a CloudEvent: it must be an object")
    identifier, source = event.get("id"), event.get("source")
    coordinates = None
    if isinstance(identifier, str) and identifier:
        place = f"{_topic(event)}event {identifier}"[:200]
        coordinates = coordinates_of("cloudevent", source if isinstance(source, str) else "", identifier)
    try:
        body = _body(event)
    except ValueError as error:
        return Message(place, event, coordinates, broken=str(error))
    return Message(place, body, coordinates, milliseconds_of(event.get("time")))


def _topic(event: dict[str, Any]) -> str:
    """The topic of a connector's message, which ``MF_FORMAT`` may name; that of TDMQ may be the last part of a path."""
    data = event.get("data")
    topic = data.get("topic") if isinstance(data, dict) and "msgBody" in data else None
    return f"{topic.rpartition('/')[2][:100]} " if isinstance(topic, str) and topic else ""


def _body(event: dict[str, Any]) -> Any:
    data = event.get("data")
    if data is None:
        encoded = event.get("data_base64")
        if not isinstance(encoded, str):
            raise ValueError('has no "data"')
        try:
            return base64.b64decode(encoded, validate=True)
        except ValueError:
            raise ValueError('has a "data_base64" that is not base64') from None
    if not isinstance(data, dict):
        return data
    if "msgBody" in data:
        if data["msgBody"] is None:
            raise ValueError('has a "data.msgBody" that is null')
        return data["msgBody"]
    if event.get("type") == "connector:apigw":
        return _apigw_body(data)
    return data


def _apigw_body(data: dict[str, Any]) -> Any:
    """Return the body of the HTTP request that the connector for API Gateway passes on."""
    body = data.get("body")
    if body is None:
        raise ValueError('has no "data.body"')
    if not isinstance(body, str) or data.get("isBase64Encoded") not in (True, "true"):
        return body
    try:
        return base64.b64decode(body, validate=True)
    except ValueError:
        raise ValueError('has a "data.body" that is not base64, though isBase64Encoded says so') from None
