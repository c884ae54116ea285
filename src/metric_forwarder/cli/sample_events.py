"""Payloads → a sample trigger event: the reverse of ``triggers``, with one function for each kind and one table.

The shapes come from Tencent Cloud's documents, as in the module of ``triggers`` that reads them. Offsets, ids and times
are derived from the time of the event, so that an event made later does not look like a redelivery.
"""

import base64
import gzip
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

# The bodies of messages, as JSON texts; a kind of event with one message takes the first.
Bodies = Sequence[str]


class EventTemplate(NamedTuple):
    """Makes one kind of event.

    Attributes:
        wrap: makes the event from the bodies of its messages, which are JSON texts, and the time of the event.
        many: whether an event can have several messages.
        is_payload: whether the event is the payload itself, which therefore must be JSON.
        is_http: whether it is an HTTP request.
    """

    wrap: Callable[[Bodies, datetime], Any]
    many: bool = False
    is_payload: bool = False
    is_http: bool = False


def _milliseconds(at: datetime) -> int:
    return round(at.timestamp() * 1000)


def _timer(bodies: Bodies, at: datetime) -> dict[str, Any]:
    return {
        "Type": "Timer",
        "TriggerName": "sample",
        "Time": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "Message": bodies[0],
    }


def _ckafka(bodies: Bodies, at: datetime) -> dict[str, Any]:
    first_offset = _milliseconds(at)
    return {
        "Records": [
            {
                "Ckafka": {
                    "topic": "sample",
                    "partition": 0,
                    "offset": offset,
                    "msgKey": "None",
                    "msgBody": body,
                }
            }
            for offset, body in enumerate(bodies, first_offset)
        ]
    }


def _cmq(bodies: Bodies, at: datetime) -> dict[str, Any]:
    first_id = _milliseconds(at)
    return {
        "Records": [
            {
                "CMQ": {
                    "type": "topic",
                    "topicOwner": 1250000000,
                    "topicName": "sample",
                    "subscriptionName": "to-monitor",
                    "publishTime": at.strftime("%Y-%m-%dT%H:%M:%S.000Z"),
                    "msgId": str(number),
                    "requestId": str(number),
                    "msgTag": "",
                    "msgBody": body,
                }
            }
            for number, body in enumerate(bodies, first_id)
        ]
    }


def _cls(bodies: Bodies, at: datetime) -> dict[str, Any]:
    records = [{"timestamp": str(_milliseconds(at) * 1000), "content": body} for body in bodies]
    logs = {"topic_id": "00000000-0000-4000-8000-000000000000", "topic_name": "sample", "records": records}
    packed = gzip.compress(json.dumps(logs).encode(), mtime=0)
    return {"clslogs": {"data": base64.b64encode(packed).decode("ascii")}}


def _eventbridge(bodies: Bodies, at: datetime) -> dict[str, Any]:
    events = [_cloud_event(body, _milliseconds(at), number) for number, body in enumerate(bodies)]
    return events[0] if len(events) == 1 else {"EventList": events}


def _cloud_event(body: str, time_ms: int, number: int) -> dict[str, Any]:
    return {
        "specversion": "1.0",
        "id": f"{time_ms}-{number}",
        "type": "connector:tdmq",
        "source": "tdmq.cloud.tencent",
        "subject": "qcs::tdmq:ap-guangzhou:uin/100000000001:sample",
        "time": str(time_ms),
        "region": "ap-guangzhou",
        "datacontenttype": "application/json;charset=utf-8",
        "data": {
            "topic": "persistent://1250000000/default/sample",
            "tags": "",
            "subscriptionName": "to-monitor",
            "toTimestamp": str(time_ms),
            "partitions": "0",
            "msgId": f"{time_ms}:{number}:0",
            "msgBody": body,
        },
    }


def _http(bodies: Bodies, at: datetime) -> dict[str, Any]:
    return {
        "httpMethod": "POST",
        "path": "/",
        "queryString": {},
        "headers": {"content-type": "application/json", "idempotency-key": str(_milliseconds(at))},
        "body": bodies[0],
    }


def _apigw(bodies: Bodies, at: datetime) -> dict[str, Any]:
    return {
        **_http(bodies, at),
        "requestContext": {"httpMethod": "POST", "path": "/", "stage": "release", "identity": {}},
        "pathParameters": {},
        "queryStringParameters": {},
        "headerParameters": {},
        "stageVariables": {"stage": "release"},
        "isBase64Encoded": False,
    }


def _dead_letter(bodies: Bodies, at: datetime) -> dict[str, Any]:
    """The dead letter of a CKafka event."""
    return {
        "RequestId": "00000000-0000-4000-8000-000000000000",
        "ErrorCode": -1,
        "ErrorMessage": "the receiver could not be reached",
        "Body": {
            "FunctionName": "metric-forwarder",
            "Namespace": "default",
            "InvocationType": "Event",
            "ClientContext": json.dumps(_ckafka(bodies, at)),
            "RetryNum": 2,
        },
    }


def _direct(bodies: Bodies, _at: datetime) -> Any:
    return json.loads(bodies[0])


TEMPLATES: Mapping[str, EventTemplate] = {
    "timer": EventTemplate(_timer),
    "ckafka": EventTemplate(_ckafka, many=True),
    "cmq": EventTemplate(_cmq, many=True),
    "cls": EventTemplate(_cls, many=True),
    "eventbridge": EventTemplate(_eventbridge, many=True),
    "http": EventTemplate(_http, is_http=True),
    "apigw": EventTemplate(_apigw, is_http=True),
    "dead-letter": EventTemplate(_dead_letter, many=True),
    "direct": EventTemplate(_direct, is_payload=True),
}


def split(points: Sequence[Any], messages: int) -> list[list[Any]]:
    """Spread points over messages, in their order and as evenly as possible; there are no more messages than points."""
    messages = min(messages, len(points) or 1)
    size, larger = divmod(len(points), messages)
    ends = [size * (number + 1) + min(number + 1, larger) for number in range(messages)]
    return [list(points[start:end]) for start, end in zip([0, *ends[:-1]], ends, strict=True)]
