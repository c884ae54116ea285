"""CMQ topic record: ``{"type":"topic","topicOwner":120,"topicName":"…","msgId":"…","msgBody":"…","msgTag":"…"}``.

``publishTime`` is no data time: the one published log shows Beijing time labelled ``Z``. Source: Tencent Cloud, SCF
CMQ trigger.
"""

from typing import Any

from metric_forwarder.model import Message


def message(record: dict[str, Any], place: str) -> Message:
    """Read one record; ``place`` names it in a report if its id cannot."""
    message_id, topic = record.get("msgId"), record.get("topicName")
    coordinates = None
    if isinstance(message_id, str) and message_id:
        place = f"{topic if isinstance(topic, str) else 'cmq'}#{message_id}"[:200]
        coordinates = f"cmq/{record.get('topicOwner')}/{topic}#{message_id}"
    if record.get("msgBody") is None:
        return Message(place, None, coordinates, broken='has no "msgBody"')
    return Message(place, record["msgBody"], coordinates)
