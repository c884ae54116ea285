"""CKafka record: ``{"Ckafka":{"topic":"t","partition":1,"offset":36,"msgKey":"None","msgBody":"…"}}``.

``partition`` is also seen as ``Partition`` and as an empty text; ``msgKey`` is the text ``None`` when absent. There is
no timestamp. Sources: Tencent Cloud, SCF CKafka trigger; public logs of its events.
"""

from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.triggers.decoding import DecodeContext, checksum, nth
from metric_forwarder.uint64 import parse_uint64

_MAX_SOURCE = 200
_new_tuple = tuple.__new__
_DEFAULTS = Message("", None, None)[3:]


def messages(record: dict[str, Any], index: int, _context: DecodeContext) -> tuple[Message]:
    """Read one record; ``index`` names it in a report if its coordinates cannot."""
    content = record["Ckafka"]
    topic, offset = content.get("topic"), parse_uint64(content.get("offset"))
    partition = parse_uint64(content["partition"] if "partition" in content else content.get("Partition"))
    body = content.get("msgBody")
    # An offset alone does not identify a record: each partition has its own count.
    if isinstance(topic, str) and partition is not None and offset is not None:
        place = f"{topic}/{partition}@{offset}"
        # Two clusters may have topics of the same name, and a topic that is created again counts from 0.
        coordinates = f"ckafka/{place}~{checksum(body)}"
        if len(place) > _MAX_SOURCE:
            place = f"{topic[:150]}/{partition}@{offset}"
    else:
        place, coordinates = nth(index), None
    if body is None:
        return (Message(place, None, coordinates, broken='has no "msgBody"'),)
    # Takes half the time of ``Message(…)``, and is done for each record.
    return (_new_tuple(Message, (place, body, coordinates) + _DEFAULTS),)  # noqa: RUF005 - and adds a third
