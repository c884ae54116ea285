"""Report → what the handler returns or raises: one function for each ``ReplyTo``.

The platform calls any returned value a success and redelivers only after a raise; bad data never raises, since it would
come back for ever.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from metric_forwarder.errors import DeliveryIncomplete
from metric_forwarder.model import Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import Rejection, encode_reply
from metric_forwarder.put_monitor_data.server import reject as reject_with
from metric_forwarder.reporting.report import Report
from metric_forwarder.triggers.decoding import HttpRejection
from metric_forwarder.triggers.traits import ReplyTo

RETRY_AFTER_S = 10
# A report has some 20 problems of a few hundred characters each; what is more tells nobody more.
MAX_HTTP_BODY_BYTES = 32_768

# What is wrong with these the client alone can mend.
_CLIENTS_FAULT = (Outcome.INVALID, Outcome.STALE, Outcome.REJECTED)
# Delivered, kept, or left out as it is meant to be.
_SAFE = (Outcome.DELIVERED, Outcome.DUPLICATE, Outcome.SPOOLED, Outcome.FILTERED)
_MAX_MESSAGE = 500


def reply(reply_to: ReplyTo, report: Report) -> Any:
    """Tell whoever is to be told.

    Raises:
        DeliveryIncomplete: points are undelivered, and the platform is to redeliver them.
    """
    make = _REPLIES.get(reply_to)
    if make is not None:
        return make(report)
    # Not needed before the first client of such a protocol.
    from metric_forwarder.reporting.protocol_replies import protocol_reply  # noqa: PLC0415

    return protocol_reply(reply_to, report, RETRY_AFTER_S)


def reject(rejection: HttpRejection) -> dict[str, Any]:
    """The HTTP reply to a request that is not let in."""
    if rejection.code is not None:
        return _receivers_reply(rejection.code, rejection.reason)
    body = {"status": "refused", "message": rejection.reason}
    return _http_reply(rejection.status, rejection.headers, json.dumps(body))


def http_status(report: Report) -> int:
    """200 ok, 207 partial, 400 nothing valid, 503 something to send again."""
    outcomes = report["outcomes"]
    if outcomes[Outcome.UNDELIVERED.value]:
        return 503
    if report["status"] in ("ok", "empty"):
        return 200
    bad = sum(outcomes[outcome.value] for outcome in _CLIENTS_FAULT)
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
    return _http_reply(status, headers, _bounded_text(report))


def return_code(report: Report) -> ReturnCode:
    """What a client of the receiver is told: docs/migrate.md has the table.

    ``OK`` only if every point that is not filtered was delivered, now or before, or is safe in the spool.
    """
    outcomes = report["outcomes"]
    if outcomes[Outcome.UNDELIVERED.value]:
        return ReturnCode.NOT_READY
    if outcomes[Outcome.UNCERTAIN.value]:
        return ReturnCode.INTERNAL_FAILURE
    if any(outcomes[outcome.value] for outcome in _CLIENTS_FAULT):
        bad = _bad_points(report)
        return _code_of(bad[0]) if bad else ReturnCode.NO_VALID_DATA
    return ReturnCode.OK if report["received"] else ReturnCode.NO_VALID_DATA


def _bad_points(report: Report) -> list[dict[str, Any]]:
    return [error for error in report["errors"] if error["outcome"] in _CLIENTS_FAULT]


def _code_of(error: Mapping[str, Any]) -> ReturnCode:
    """The code for a bad point: the destination's own, else the one that the receiver has for such a mistake."""
    if error["code"] in ReturnCode.__members__.values():
        return ReturnCode(error["code"])
    if error["rule"] == "maxBytes":
        return ReturnCode.DATA_TOO_LONG
    member = _MEMBER_CODES.get(_member(error["pointer"]), ReturnCode.PARAMETER_INVALID)
    named = member in (ReturnCode.NO_VALID_DATA, ReturnCode.DIMENSION_CHECK_FAILED)
    return ReturnCode.NAME_TOO_LONG if named and error["rule"] == "maxLength" else member


def _member(pointer: str) -> str:
    """``metricName`` of ``/Data/0/metricName``, ``Namespace`` of ``/Namespace``."""
    steps = pointer.split("/")[1:]
    return steps[2] if len(steps) > 2 else "".join(steps[:1])  # noqa: PLR2004 - the list and the index come first


_MEMBER_CODES: Mapping[str, ReturnCode] = {
    "Namespace": ReturnCode.NAMESPACE_ILLEGAL,
    "namespace": ReturnCode.NAMESPACE_ILLEGAL,
    "metricName": ReturnCode.NO_VALID_DATA,
    "dimensions": ReturnCode.DIMENSION_CHECK_FAILED,
}


def _to_receivers_client(report: Report) -> dict[str, Any]:
    code = return_code(report)
    if code is ReturnCode.OK:
        return _receivers_reply(code, "OK")
    outcomes, received = report["outcomes"], report["received"]
    safe = sum(outcomes[outcome.value] for outcome in _SAFE)
    where = f"{received - safe} of {received} {'point was' if received == 1 else 'points were'} not delivered"
    errors = (
        report["errors"]
        if code in (ReturnCode.NOT_READY, ReturnCode.INTERNAL_FAILURE)
        else _bad_points(report)
    )
    if errors:
        where += f", the first for this: {errors[0]['pointer']} {errors[0]['message']}".replace("  ", " ")
    return _receivers_reply(code, reject_with(code, where[:_MAX_MESSAGE]).message)


def _receivers_reply(code: ReturnCode, message: str) -> dict[str, Any]:
    """HTTP 200, whatever the code: that is how the receiver answers."""
    return _http_reply(200, {}, encode_reply(Rejection(code, message)).decode())


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


_REPLIES: Mapping[ReplyTo, Callable[[Report], Any]] = {
    ReplyTo.PLATFORM: _to_platform,
    ReplyTo.CALLER: _to_caller,
    ReplyTo.HTTP_CLIENT: _to_http_client,
    ReplyTo.PUT_MONITOR_DATA: _to_receivers_client,
}
