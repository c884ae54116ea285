"""CMQ topic record: ``{"CMQ":{"type":"topic","topicOwner":120,"topicName":"…","msgId":"…","msgBody":"…","msgTag":"…"}}``.

``topicOwner`` is a number or a text, ``msgTag`` a text or a list. ``publishTime`` is not used as a
time: the only published log shows Beijing time labelled ``Z``. The platform delivers its dead letters this way too. Sources: Tencent Cloud, SCF
CMQ trigger and dead letter queue.
"""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.triggers import dead_letter
from metric_forwarder.triggers.decoding import DecodeContext, coordinates_of, nth


def messages(record: dict[str, Any], index: int, context: DecodeContext) -> Iterator[Message]:
    """Read one record; ``index`` names it in a report if its id cannot."""
    content = record["CMQ"]
    message_id, topic, owner = (_text(content.get(name)) for name in ("msgId", "topicName", "topicOwner"))
    place, coordinates = nth(index), None
    if message_id:
        place = f"{topic or 'cmq'}#{message_id}"[:200]
        coordinates = coordinates_of("cmq", owner, topic, message_id)
    body = content.get("msgBody")
    if body is None:
        yield Message(place, record, coordinates, broken='has no "msgBody"')
        return
    letter = dead_letter.open_letter(body, context)
    if letter is None:
        yield Message(place, body, coordinates)
    else:
        yield from letter


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if type(value) is int and abs(value) < 2**64 else ""
