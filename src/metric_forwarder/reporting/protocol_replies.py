"""Report → reply in the terms of the protocol that a client speaks, so that its own retry does the right thing.

Undelivered points get 503 with ``Retry-After``. An invalid or rejected point does not: the client would send it
forever. Loaded with the first request of such a client. Sources: as in ``triggers.http_routes``.
"""

import base64
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.formats.protobuf import write_field, write_varint
from metric_forwarder.model import BAD, Outcome
from metric_forwarder.reporting.report import Report, not_delivered
from metric_forwarder.triggers.traits import ReplyTo

# An OTLP exporter gives up a request after ten seconds, retries included, and does not start a longer wait.
_OTLP_RETRY_AFTER_S = 2
_TOLD = 5
_MAX_MESSAGE = 1000
_JSON = "application/json"
_PROTOBUF = "application/x-protobuf"
_data_point = re.compile(r"(.*/dataPoints/[0-9]+)(?:/.*)?", re.DOTALL).fullmatch


def protocol_reply(reply_to: ReplyTo, report: Report, retry_after_s: int) -> dict[str, Any]:
    """Make the HTTP reply of a protocol.

    Args:
        reply_to: whose protocol it is.
        report: what became of the request.
        retry_after_s: after this time, at the latest, the client should send the undelivered points again.
    """
    make, ok_status = _PROTOCOLS[reply_to]
    outcomes = report["outcomes"]
    headers = {}
    if outcomes[Outcome.UNDELIVERED.value]:
        if reply_to in (ReplyTo.OTLP_JSON, ReplyTo.OTLP_PROTOBUF):
            retry_after_s = min(retry_after_s, _OTLP_RETRY_AFTER_S)
        status, headers = 503, {"Retry-After": str(retry_after_s)}
    elif _count(report, BAD) or outcomes[Outcome.UNCERTAIN.value]:
        status = 400
    else:
        status = ok_status
    return make(status, headers, report)


def _count(report: Report, outcomes: tuple[Outcome, ...]) -> int:
    return sum(report["outcomes"][outcome.value] for outcome in outcomes)


def _message(report: Report) -> str:
    """Say what is wrong: how many points, and the first reasons, each with its place in the client's terms."""
    reasons = [f"{error['pointer']} {error['message']}".strip() for error in report["errors"][:_TOLD]]
    head = not_delivered(report)
    return ": ".join([head, "; ".join(reasons)] if reasons else [head])[:_MAX_MESSAGE]


def _reply(
    status: int, headers: Mapping[str, str], content_type: str, body: str | bytes = ""
) -> dict[str, Any]:
    is_base64 = isinstance(body, bytes)
    return {
        "isBase64Encoded": is_base64,
        "statusCode": status,
        "headers": {"Content-Type": content_type, **headers},
        "body": base64.b64encode(body).decode() if isinstance(body, bytes) else body,
    }


def _text(status: int, headers: Mapping[str, str], report: Report) -> dict[str, Any]:
    body = "" if status < 300 else f"{_message(report)}\n"  # noqa: PLR2004 - the statuses of success
    return _reply(status, headers, "text/plain; charset=utf-8", body)


def _influx_1(status: int, headers: Mapping[str, str], report: Report) -> dict[str, Any]:
    body = "" if status == 204 else json.dumps({"error": _message(report)})  # noqa: PLR2004 - no content
    return _reply(status, headers, _JSON, body)


def _influx_2(status: int, headers: Mapping[str, str], report: Report) -> dict[str, Any]:
    code = "invalid" if status == 400 else "unavailable"  # noqa: PLR2004 - a bad request
    body = "" if status == 204 else json.dumps({"code": code, "message": _message(report)})  # noqa: PLR2004 - no content
    return _reply(status, headers, _JSON, body)


def _otlp(status: int, headers: Mapping[str, str], report: Report, *, is_json: bool) -> dict[str, Any]:
    content_type = _JSON if is_json else _PROTOBUF
    refused = _refused_data_points(report)
    if status == 503 or _is_no_request(report):  # noqa: PLR2004 - something is undelivered
        message = _message(report)
        body: str | bytes = (
            json.dumps({"message": message})
            if is_json
            else write_field(2, message.encode("utf-8", "replace"))
        )
        return _reply(status, headers, content_type, body)
    if not refused:
        return _reply(200, headers, content_type, "{}" if is_json else b"")
    # A part of the request was accepted, so the client must not send it again.
    message = _message(report)
    if is_json:
        partial = {"partialSuccess": {"rejectedDataPoints": str(refused), "errorMessage": message}}
        return _reply(200, headers, content_type, json.dumps(partial))
    inside = b"\x08" + write_varint(refused) + write_field(2, message.encode("utf-8", "replace"))
    return _reply(200, headers, content_type, write_field(1, inside))


def _refused_data_points(report: Report) -> int:
    """How many data points were not accepted, of which one may be many samples; those that the report omits count singly."""
    refused = (*BAD, Outcome.UNCERTAIN)
    named = {error["pointer"] for error in report["errors"] if error["outcome"] in refused}
    data_points = {found[1] if (found := _data_point(pointer)) else pointer for pointer in named}
    return _count(report, refused) - len(named) + len(data_points)


def _is_no_request(report: Report) -> bool:
    """Return whether the event held only a body that could not be read."""
    errors = report["errors"]
    return bool(
        report["received"] == 1 == len(errors)
        and errors[0]["outcome"] == "invalid"
        and not errors[0]["pointer"]
    )


def _otlp_json(status: int, headers: Mapping[str, str], report: Report) -> dict[str, Any]:
    return _otlp(status, headers, report, is_json=True)


def _otlp_protobuf(status: int, headers: Mapping[str, str], report: Report) -> dict[str, Any]:
    return _otlp(status, headers, report, is_json=False)


_PROTOCOLS: Mapping[ReplyTo, tuple[Callable[[int, Mapping[str, str], Report], dict[str, Any]], int]] = {
    ReplyTo.OTLP_JSON: (_otlp_json, 200),
    ReplyTo.OTLP_PROTOBUF: (_otlp_protobuf, 200),
    ReplyTo.REMOTE_WRITE: (_text, 204),
    ReplyTo.INFLUX_1: (_influx_1, 204),
    ReplyTo.INFLUX_2: (_influx_2, 204),
    ReplyTo.PUSHGATEWAY: (_text, 200),
    ReplyTo.NO_CONTENT: (_text, 204),
}
