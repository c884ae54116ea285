"""Direct invocation: the event is itself a payload."""

from collections.abc import Iterable
from typing import Any

from metric_forwarder.model import Message

# Any one of these tells a payload, so that a misspelt point is reported as invalid and not as an unknown event.
_MEMBERS = frozenset({"metricName", "dimensions", "value", "namespace", "points", "Namespace", "Data"})


def matches(event: Any) -> bool:
    if isinstance(event, dict):
        return not _MEMBERS.isdisjoint(event)
    return isinstance(event, (list, str))


def name(_event: Any) -> str:
    return "direct"


def messages(event: Any) -> Iterable[Message]:
    yield Message("payload", event)
