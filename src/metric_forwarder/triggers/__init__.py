"""Trigger event → messages: one small module per source, and one table that tells them apart.

Decoding is total: whatever the platform hands over either decodes (a broken record becomes a broken message), is
refused (an HTTP request that is not let in) or raises ``UnknownTrigger``. Unknown *members* are ignored, unknown
*events* are not. Messages come one by one, as they are asked for: an object in COS is fetched while it is read.
docs/triggers.md has the same table for people, with the traps of each source.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.triggers import cls, dead_letter, direct, eventbridge, http, records, timer
from metric_forwarder.triggers.decoding import CLOSED, Access, Answer, Decoded, Refused

__all__ = ["CLOSED", "KINDS", "Access", "Answer", "Decoded", "Kind", "Refused", "decode"]


class Kind(NamedTuple):
    """One row of the table: the test that recognises a kind of event, and its reading."""

    matches: Callable[[Any], bool]
    decode: Callable[[Any, Access], Decoded | Refused]


# Asked from top to bottom; the most general last.
KINDS: tuple[Kind, ...] = (
    Kind(timer.matches, timer.decode),
    Kind(records.matches, records.decode),
    Kind(cls.matches, cls.decode),
    Kind(dead_letter.matches, dead_letter.decode),
    Kind(http.matches, http.decode),
    Kind(eventbridge.matches, eventbridge.decode),
    Kind(direct.matches, direct.decode),
)


def decode(event: Any, access: Access = CLOSED) -> Decoded | Refused:
    """Read a trigger event.

    Args:
        event: as the platform hands it over.
        access: what may be used besides the event; without it HTTP is closed and no object is fetched.

    Raises:
        UnknownTrigger: it is of no known kind.
    """
    for kind in KINDS:
        if kind.matches(event):
            return kind.decode(event, access)
    raise UnknownTrigger(type(event).__name__, event if isinstance(event, dict) else ())
