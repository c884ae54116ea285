"""Timer: ``{"Type":"Timer","TriggerName":"EveryDay","Time":"2019-02-21T11:49:00Z","Message":"…"}``.

``Message`` is a text of at most 4 KB, empty when unset. Source: Tencent Cloud, SCF timer trigger.
"""

from collections.abc import Iterator
from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.times import milliseconds
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, coordinates_of
from metric_forwarder.triggers.traits import TIMER


def matches(event: Any) -> bool:
    return isinstance(event, dict) and event.get("Type") == "Timer"


def decode(event: dict[str, Any], _context: DecodeContext) -> Decoded:
    return Decoded(TIMER, _messages(event))


def _messages(event: dict[str, Any]) -> Iterator[Message]:
    """Yield the message, if the timer has one."""
    body = event.get("Message")
    if body is None or (isinstance(body, str) and not body.strip()):
        return
    trigger_name, time = event.get("TriggerName"), event.get("Time")
    source, coordinates, time_ms = "timer", None, None
    if isinstance(trigger_name, str) and isinstance(time, str) and trigger_name and time:
        source = f"{trigger_name}@{time}"
        coordinates = coordinates_of("timer", trigger_name, time)
        time_ms = milliseconds(time)
    yield Message(source[:200], body, coordinates, time_ms)
