"""Events that are a list of ``Records``: each record names its kind, so a mixed list is read record by record."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from metric_forwarder.model import Message
from metric_forwarder.triggers import ckafka, cmq, cos
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, nth
from metric_forwarder.triggers.traits import CKAFKA, CMQ, COS, TriggerTraits, of_mixed_records


class RecordKind(NamedTuple):
    """One row of the table: the traits of a kind of record, and its reader, which gets the record and its index."""

    traits: TriggerTraits
    messages: Callable[[dict[str, Any], int, DecodeContext], Iterable[Message]]


# So many records are read at once, if they can be: few, since all their messages are in memory.
_TOGETHER = 500

# A record is recognised by its only member.
RECORDS: Mapping[str, RecordKind] = {
    "Ckafka": RecordKind(CKAFKA, ckafka.messages),
    "CMQ": RecordKind(CMQ, cmq.messages),
    "cos": RecordKind(COS, cos.messages),
}


def matches(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("Records"), list)


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded:
    return Decoded(_traits(event["Records"]), _messages(event["Records"], context))


def _traits(records: list[Any]) -> TriggerTraits:
    members = {key for record in records if isinstance(record, dict) for key in record if key in RECORDS}
    return of_mixed_records(RECORDS[member].traits for member in members)


def _messages(records: list[Any], context: DecodeContext) -> Iterator[Message]:
    for start in range(0, len(records), _TOGETHER):
        some = records[start : start + _TOGETHER]
        together = ckafka.messages_together(some)
        if together is not None:
            yield from together
        else:
            for index, record in enumerate(some, start):
                yield from _read(record, index, context)


def _read(record: Any, index: int, context: DecodeContext) -> Iterable[Message]:
    for member, kind in RECORDS.items() if isinstance(record, dict) else ():
        if member in record:
            if isinstance(record[member], dict):
                return kind.messages(record, index, context)
            return (Message(nth(index), record, broken=f'has a "{member}" that is not an object'),)
    known = ", ".join(RECORDS)
    return (
        Message(nth(index), record, broken=f"is a record of an unknown kind: it must have one of {known}"),
    )
