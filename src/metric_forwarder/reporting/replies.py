"""Report → what the handler returns or raises: one function for each ``ReplyTo``.

The platform takes any returned value as success and redelivers an event only if the function raised. Bad data never
raises; otherwise the platform would redeliver it again and again.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.model import BAD, Outcome
from metric_forwarder.reporting.report import Report, bounded
from metric_forwarder.triggers.decoding import HttpRefusal
from metric_forwarder.triggers.traits import ReplyTo

RETRY_AFTER_S = 10
# About 20 problems of a few hundred characters each; a longer text does not help a reader.
MAX_HTTP_BODY_BYTES = 32_768


def reply(reply_to: ReplyTo, report: Report) -> Any:
    """Give the outcome to the one who waits for it.

    Raises:
        DeliveryIncomplete: points are undelivered, and the platform must redeliver them.
    """
    make = _REPLIES.get(reply_to)
    if make is not None:
        return make(report)
    # Imported for the first client of such a protocol.
    from metric_forwarder.reporting.protocol_replies import protocol_reply  # noqa: PLC0415

    return protocol_reply(reply_to, report, RETRY_AFTER_S)


def refuse(refusal: HttpRefusal) -> dict[str, Any]:
    """The HTTP reply to a refused request."""
    if refusal.code is not None:
        from metric_forwarder.bridge.replies import refusal_text  # noqa: PLC0415 - as below

        return _receivers_reply(refusal_text(refusal.code, refusal.reason))
    body = {"status": "refused", "message": refusal.reason}
    return _http_reply(refusal.status, refusal.headers, json.dumps(body))


def http_status(report: Report) -> int:
    """200 ok, 207 partial, 400 nothing valid, 503 something to send again."""
    outcomes = report["outcomes"]
    if outcomes[Outcome.UNDELIVERED.value]:
        return 503
    if report["status"] in ("ok", "empty"):
        return 200
    bad = sum(outcomes[outcome.value] for outcome in BAD)
    return 400 if bad == report["received"] - outcomes[Outcome.FILTERED.value] else 207


def _to_platform(report: Report) -> Report:
    if report["outcomes"][Outcome.UNDELIVERED.value]:
        raise DeliveryIncomplete(report)
    return report


def _to_caller(report: Report) -> Report:
    return report


def _to_http_client(report: Report) -> dict[str, Any]:
    status = http_status(report)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}  # noqa: PLR2004 - as in http_status
    return _http_reply(status, headers, json.dumps(bounded(report, MAX_HTTP_BODY_BYTES)))


def _to_receivers_client(report: Report) -> dict[str, Any]:
    # An instance without a bridge does not need it.
    from metric_forwarder.bridge.replies import reply_text  # noqa: PLC0415

    return _receivers_reply(reply_text(report))


def _receivers_reply(text: str) -> dict[str, Any]:
    """Reply with HTTP 200 for every return code, as the receiver does."""
    return _http_reply(200, {}, text)


def _http_reply(status: int, headers: Mapping[str, str], body: str) -> dict[str, Any]:
    """The reply in the shape that API Gateway requires and a Function URL understands."""
    return {
        "isBase64Encoded": False,
        "statusCode": status,
        "headers": {"Content-Type": "application/json; charset=utf-8", **headers},
        "body": body,
    }


_REPLIES: Mapping[ReplyTo, Callable[[Report], Any]] = {
    ReplyTo.PLATFORM: _to_platform,
    ReplyTo.CALLER: _to_caller,
    ReplyTo.HTTP_CLIENT: _to_http_client,
    ReplyTo.PUT_MONITOR_DATA: _to_receivers_client,
}
