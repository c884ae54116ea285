"""Events that are a list of ``Records``: each record says what it is, so a mixed list is read record by record."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from metric_forwarder.model import Message
from metric_forwarder.triggers import ckafka, cmq

# A record is recognised by the one member that holds it.
RECORDS: Mapping[str, tuple[str, Callable[[dict[str, Any], str], Message]]] = {
    "Ckafka": ("ckafka", ckafka.message),
    "CMQ": ("cmq", cmq.message),
}


def matches(event: Any) -> bool:
    return isinstance(event, dict) and isinstance(event.get("Records"), list)


def name(event: dict[str, Any]) -> str:
    """The kind of its records, several joined by ``+``; ``records`` if none is known."""
    members = {
        key for record in event["Records"] if isinstance(record, dict) for key in record if key in RECORDS
    }
    return "+".join(sorted(RECORDS[member][0] for member in members)) or "records"


def messages(event: dict[str, Any]) -> Iterable[Message]:
    for index, record in enumerate(event["Records"]):
        yield _message(record, f"record {index}")


def _message(record: Any, place: str) -> Message:
    if isinstance(record, dict):
        for member, (_, read) in RECORDS.items():
            if member in record:
                content = record[member]
                if isinstance(content, dict):
                    return read(content, place)
                return Message(place, None, broken=f'has a "{member}" that is not an object')
    known = ", ".join(RECORDS)
    return Message(place, None, broken=f"is a record of no known kind: it must have one of {known}")
