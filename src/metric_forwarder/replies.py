"""Report → what the handler returns or raises: one function for each ``Answer``.

The platform calls any returned value a success and redelivers only after a raise; bad data never raises, since it would
come back for ever.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.model import Outcome
from metric_forwarder.report import Report
from metric_forwarder.triggers.port import Answer, Refused

RETRY_AFTER_S = 10
# A report has some 20 problems of a few hundred characters each; what is more tells nobody more.
MAX_HTTP_BODY_BYTES = 32_768

# What is wrong with these the client alone can mend.
_CLIENTS_FAULT = (Outcome.INVALID, Outcome.STALE, Outcome.REJECTED)


def reply(answer: Answer, report: Report) -> Any:
    """Tell whoever is to be told.

    Raises:
        DeliveryIncomplete: points are undelivered, and the platform is to redeliver them.
    """
    return _REPLIES[answer](report)


def refuse(refused: Refused) -> dict[str, Any]:
    """The HTTP reply to a request that is not let in."""
    body = {"status": "refused", "message": refused.reason}
    return _http_reply(refused.status, refused.headers, json.dumps(body))


def http_status(report: Report) -> int:
    """200 ok, 207 partial, 400 nothing valid, 503 something to send again."""
    outcomes = report["outcomes"]
    if outcomes[Outcome.UNDELIVERED.value]:
        return 503
    if report["status"] in ("ok", "empty"):
        return 200
    return 400 if sum(outcomes[outcome.value] for outcome in _CLIENTS_FAULT) == report["received"] else 207


def _to_platform(report: Report) -> Report:
    if report["outcomes"][Outcome.UNDELIVERED.value]:
        raise DeliveryIncomplete(report)
    return report


def _to_caller(report: Report) -> Report:
    return report


def _to_http_client(report: Report) -> dict[str, Any]:
    status = http_status(report)
    headers = {"Retry-After": str(RETRY_AFTER_S)} if status == 503 else {}  # noqa: PLR2004 - as in http_status
    return _http_reply(status, headers, _bounded_text(report))


def _bounded_text(report: Report) -> str:
    """The report as JSON text, with as many of its errors as there is room for."""
    text = json.dumps(report)
    while len(text) > MAX_HTTP_BODY_BYTES and report["errors"]:
        kept = report["errors"][:-1]
        report = {**report, "errors": kept, "errorsOmitted": report["errorsOmitted"] + 1}
        text = json.dumps(report)
    return text


def _http_reply(status: int, headers: Mapping[str, str], body: str) -> dict[str, Any]:
    """The shape that API Gateway asks for and a Function URL understands."""
    return {
        "isBase64Encoded": False,
        "statusCode": status,
        "headers": {"Content-Type": "application/json; charset=utf-8", **headers},
        "body": body,
    }


_REPLIES: Mapping[Answer, Callable[[Report], Any]] = {
    Answer.PLATFORM: _to_platform,
    Answer.CALLER: _to_caller,
    Answer.HTTP_CLIENT: _to_http_client,
}
