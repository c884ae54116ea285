"""Trigger event → messages: one small module per source, and one table that tells them apart.

Decoding is total: whatever the platform hands over either decodes (a broken record becomes a broken message) or
raises ``UnknownTrigger``. Unknown *members* are ignored, unknown *events* are refused.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.model import Message
from metric_forwarder.triggers import direct, records, timer


class Decoded(NamedTuple):
    """What a trigger event holds: the name of its kind, as in a report, and its messages."""

    trigger: str
    messages: Iterable[Message]


class Kind(NamedTuple):
    """One row of the table: a kind of event, the test that recognises it, and its reading."""

    matches: Callable[[Any], bool]
    name: Callable[[Any], str]
    messages: Callable[[Any], Iterable[Message]]


# Asked from top to bottom; the most general last.
KINDS: tuple[Kind, ...] = (
    Kind(timer.matches, timer.name, timer.messages),
    Kind(records.matches, records.name, records.messages),
    Kind(direct.matches, direct.name, direct.messages),
)


def decode(event: Any) -> Decoded:
    """Read a trigger event.

    Raises:
        UnknownTrigger: it is of no known kind.
    """
    for kind in KINDS:
        if kind.matches(event):
            return Decoded(kind.name(event), kind.messages(event))
    raise UnknownTrigger(type(event).__name__, event if isinstance(event, dict) else ())
