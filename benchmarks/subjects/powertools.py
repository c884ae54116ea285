"""A pipeline as users of AWS Powertools and ``requests`` would build it.

Powertools' batch processor calls a handler for each record, its idempotency keeps records in memory, its validation checks
the point; a ``requests`` session posts valid points in batches.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fastjsonschema
import requests
from aws_lambda_powertools.utilities.batch import BatchProcessor, EventType, process_partial_response
from aws_lambda_powertools.utilities.idempotency import IdempotencyConfig, idempotent_function
from aws_lambda_powertools.utilities.idempotency.exceptions import (
    IdempotencyItemAlreadyExistsError,
    IdempotencyItemNotFoundError,
)
from aws_lambda_powertools.utilities.idempotency.persistence.base import BasePersistenceLayer, DataRecord
from aws_lambda_powertools.utilities.validation import validate

from benchmarks.subjects import Handle, serve
from benchmarks.subjects.floor import request_body

_SCHEMA = Path(__file__).parents[2] / "src" / "metric_forwarder" / "schemas" / "receiver.json"


class InMemory(BasePersistenceLayer):  # type: ignore[misc]  # untyped here: in the peers' environment alone
    """Keeps idempotency records in a dictionary, which costs less than any of the layers that Powertools has."""

    def __init__(self) -> None:
        super().__init__()
        self._records: dict[str, DataRecord] = {}

    def _get_record(self, idempotency_key: str) -> DataRecord:
        try:
            return self._records[idempotency_key]
        except KeyError:
            raise IdempotencyItemNotFoundError from None

    def _put_record(self, data_record: DataRecord) -> None:
        held = self._records.get(data_record.idempotency_key)
        if held is not None and not held.is_expired:
            raise IdempotencyItemAlreadyExistsError
        self._records[data_record.idempotency_key] = data_record

    def _update_record(self, data_record: DataRecord) -> None:
        self._records[data_record.idempotency_key] = data_record

    def _delete_record(self, data_record: DataRecord) -> None:
        self._records.pop(data_record.idempotency_key, None)


class Context:
    """The part of Lambda's context that the idempotency utility uses."""

    function_name = "benchmark"

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 120_000


def make(url: str, batch: int, validation: str) -> Handle:
    check = _validation(validation)
    session = requests.Session()
    processor = BatchProcessor(event_type=EventType.SQS)
    pending: list[Any] = []

    config = IdempotencyConfig(event_key_jmespath="messageId")
    config.register_lambda_context(Context())

    @idempotent_function(  # type: ignore[untyped-decorator]  # likewise
        data_keyword_argument="record",
        config=config,
        persistence_store=InMemory(),
    )
    def deliver(record: dict[str, Any]) -> None:
        point = json.loads(record["body"])
        check(point)
        pending.append(point)
        if len(pending) >= batch:
            flush()

    def flush() -> None:
        if pending and session.post(url, data=request_body(pending)).json()["code"] != 0:
            raise RuntimeError("the receiver refused a request")
        pending.clear()

    def handle(event: dict[str, Any]) -> None:
        answer = process_partial_response(
            event={"Records": [_as_sqs(record["Ckafka"]) for record in event["Records"]]},
            record_handler=lambda record: deliver(record=record.raw_event),
            processor=processor,
            context=Context(),
        )
        flush()
        if answer["batchItemFailures"]:
            raise RuntimeError("a valid point was taken for an invalid one")

    return handle


def _validation(name: str) -> Callable[[Any], object]:
    schema = json.loads(_SCHEMA.read_text("utf-8"))
    if name == "compiled":
        compiled: Callable[[Any], object] = fastjsonschema.compile(schema)
        return compiled
    return lambda point: validate(event=point, schema=schema)


def _as_sqs(message: dict[str, Any]) -> dict[str, Any]:
    place = f"{message['topic']}/{message['partition']}@{message['offset']}"
    return {"messageId": place, "body": message["msgBody"], "eventSource": "aws:sqs"}


if __name__ == "__main__":
    serve(make)
