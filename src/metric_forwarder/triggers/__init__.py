"""Trigger event → messages: one small module for each source, and one table that recognises the sources.

Decoding is total: an event either decodes (a broken record becomes a broken message), is refused (an HTTP request
without a valid token) or raises ``UnknownTrigger``. Unknown *members* are ignored, unknown *events* are not. Messages are
produced one by one, on demand: an object in COS is fetched while it is read. ``traits`` says for each trigger whether its
events are redelivered and who gets the outcome. docs/triggers.md shows both tables, with the traps of each source.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.triggers import cls, dead_letter, direct, eventbridge, http, records, timer
from metric_forwarder.triggers.decoding import CLOSED, DecodeContext, Decoded, HttpRefusal
from metric_forwarder.triggers.traits import Redelivery, ReplyTo, TriggerTraits

__all__ = [
    "CLOSED",
    "KINDS",
    "DecodeContext",
    "Decoded",
    "HttpRefusal",
    "Redelivery",
    "ReplyTo",
    "TriggerKind",
    "TriggerTraits",
    "decode",
]


class TriggerKind(NamedTuple):
    """One row of the table: a predicate that recognises the event, and its decoder."""

    matches: Callable[[Any], bool]
    decode: Callable[[Any, DecodeContext], Decoded | HttpRefusal]


# Tried from top to bottom; the most general one is last.
KINDS: tuple[TriggerKind, ...] = (
    TriggerKind(timer.matches, timer.decode),
    TriggerKind(records.matches, records.decode),
    TriggerKind(cls.matches, cls.decode),
    TriggerKind(dead_letter.matches, dead_letter.decode),
    TriggerKind(http.matches, http.decode),
    TriggerKind(eventbridge.matches, eventbridge.decode),
    TriggerKind(direct.matches, direct.decode),
)


def decode(event: Any, context: DecodeContext = CLOSED) -> Decoded | HttpRefusal:
    """Read a trigger event.

    Args:
        event: as the platform hands it over.
        context: what decoding may use besides the event; without it HTTP is closed and no object is fetched.

    Raises:
        UnknownTrigger: no row of the table recognises it.
    """
    for kind in KINDS:
        if kind.matches(event):
            return kind.decode(event, context)
    raise UnknownTrigger(type(event).__name__, event if isinstance(event, dict) else ())
