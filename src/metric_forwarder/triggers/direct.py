"""Direct invocation: the event is itself a payload, or a job such as ``{"replay": true}``."""

from typing import Any

from metric_forwarder import jobs
from metric_forwarder.model import Message
from metric_forwarder.triggers.decoding import DecodeContext, Decoded
from metric_forwarder.triggers.traits import DIRECT

# One of these is enough for a payload, so that a misspelt point is reported as invalid and not as an unknown event.
_MEMBERS = (
    frozenset({"metricName", "dimensions", "value", "namespace", "points", "Namespace", "Data"})
    | jobs.MEMBERS
)


def matches(event: Any) -> bool:
    if isinstance(event, dict):
        return not _MEMBERS.isdisjoint(event)
    return isinstance(event, (list, str))


def decode(event: Any, _context: DecodeContext) -> Decoded:
    return Decoded(DIRECT, (Message("payload", event),))
