"""Trigger event → messages: one small module for each source, and one table that recognises the sources.

Decoding is total: an event either decodes (a broken record becomes a broken message), is refused (an HTTP request
without a valid token) or raises ``UnknownTrigger``. Unknown *members* are ignored, unknown *events* are not. Messages are
produced one by one, on demand: an object in COS is fetched while it is read. ``traits`` says for each trigger whether its
events are redelivered and who gets the outcome. docs/triggers.md shows both tables, with the traps of each source.
"""

from importlib import import_module
from typing import Any, Protocol, cast

from metric_forwarder.errors import UnknownTrigger
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
    "load_kind",
]


class TriggerKind(Protocol):
    """The module of a trigger: a predicate that recognises the event, and its decoder."""

    def matches(self, event: Any, /) -> bool: ...

    def decode(self, event: Any, context: DecodeContext, /) -> Decoded | HttpRefusal: ...


# The names of the modules, tried from top to bottom; the most general one is last. Those behind the one that recognises an
# event are not loaded for it.
KINDS = ("timer", "records", "cls", "dead_letter", "http", "eventbridge", "direct")


def load_kind(name: str) -> TriggerKind:
    return cast("TriggerKind", import_module(f"{__name__}.{name}"))


def decode(event: Any, context: DecodeContext = CLOSED) -> Decoded | HttpRefusal:
    """Read a trigger event.

    Args:
        event: as the platform hands it over.
        context: what decoding may use besides the event; without it HTTP is closed and no object is fetched.

    Raises:
        UnknownTrigger: no row of the table recognises it.
    """
    for kind in map(load_kind, KINDS):
        if kind.matches(event):
            return kind.decode(event, context)
    raise UnknownTrigger(type(event).__name__, event if isinstance(event, dict) else ())
