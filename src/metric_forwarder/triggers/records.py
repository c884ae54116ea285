"""Events that are a list of ``Records``: each record names its kind, so a mixed list is read record by record."""

from collections.abc import Callable, Iterable, Mapping
from itertools import chain, count, repeat
from typing import Any, NamedTuple

from metric_forwarder.model import Message
from metric_forwarder.triggers import ckafka, cmq, cos
from metric_forwarder.triggers.decoding import DecodeContext, Decoded, nth
from metric_forwarder.triggers.traits import CKAFKA, CMQ, COS, TriggerTraits, of_mixed_records


class RecordKind(NamedTuple):
    """One row of the table: the traits of a kind of record, and its reader, which gets the record and its index."""

    traits: TriggerTraits
    messages: Callable[[dict[str, Any], int, DecodeContext], Iterable[Message]]


# A record is recognised by its only member.
RECORDS: Mapping[str, RecordKind] = {
    "Ckafka": RecordKind(CKAFKA, ckafka.messages),
    "CMQ": RecordKind(CMQ, cmq.messages),
    "cos": RecordKind(COS, cos.messages),
}


def matches(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("Records"), list)


def decode(event: dict[str, Any], context: DecodeContext) -> Decoded:
    records = event["Records"]
    messages = chain.from_iterable(map(_read, records, count(), repeat(context)))
    return Decoded(_traits(records), messages)


def _traits(records: list[Any]) -> TriggerTraits:
    members = {key for record in records if isinstance(record, dict) for key in record if key in RECORDS}
    return of_mixed_records(RECORDS[member].traits for member in members)


def _read(record: Any, index: int, context: DecodeContext) -> Iterable[Message]:
    for member, kind in RECORDS.items() if isinstance(record, dict) else ():
        if member in record:
            if isinstance(record[member], dict):
                return kind.messages(record, index, context)
            return (Message(nth(index), None, broken=f'has a "{member}" that is not an object'),)
    known = ", ".join(RECORDS)
    return (Message(nth(index), None, broken=f"is a record of an unknown kind: it must have one of {known}"),)
