"""Events that are a list of ``Records``: each record says what it is, so a mixed list is read record by record."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.model import Message
from metric_forwarder.triggers import ckafka, cmq, cos
from metric_forwarder.triggers.decoding import Access, Answer, Decoded, nth


class Record(NamedTuple):
    """One row of the table: a kind of record, and how one is read, which stands at an index; its member holds an object."""

    name: str
    messages: Callable[[dict[str, Any], int, Access], Iterable[Message]]


# A record is recognised by the one member that holds it.
RECORDS: Mapping[str, Record] = {
    "Ckafka": Record("ckafka", ckafka.messages),
    "CMQ": Record("cmq", cmq.messages),
    "cos": Record("cos", cos.messages),
}


def matches(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("Records"), list)


def decode(event: dict[str, Any], access: Access) -> Decoded:
    return Decoded(_name(event["Records"]), _messages(event["Records"], access), Answer.PLATFORM)


def _name(records: list[Any]) -> str:
    """The kind of the records, several joined by ``+``; ``records`` if none is known."""
    members = {key for record in records if isinstance(record, dict) for key in record if key in RECORDS}
    return "+".join(sorted(RECORDS[member].name for member in members)) or "records"


def _messages(records: list[Any], access: Access) -> Iterator[Message]:
    for index, record in enumerate(records):
        yield from _read(record, index, access)


def _read(record: Any, index: int, access: Access) -> Iterable[Message]:
    for member, kind in RECORDS.items() if isinstance(record, dict) else ():
        if member in record:
            if isinstance(record[member], dict):
                return kind.messages(record, index, access)
            return (Message(nth(index), None, broken=f'has a "{member}" that is not an object'),)
    known = ", ".join(RECORDS)
    return (Message(nth(index), None, broken=f"is a record of no known kind: it must have one of {known}"),)
