"""Report → reply to a client of the receiver: a return code and a message, as the receiver would give them.

docs/migrate.md has the table of what becomes which code.
"""

from collections.abc import Mapping
from typing import Any

from metric_forwarder.model import BAD, Outcome
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import Refusal, encode_reply, refuse
from metric_forwarder.reporting.report import Report, not_delivered

_MAX_MESSAGE = 500


def refusal_text(code: ReturnCode, message: str) -> str:
    """Write the reply to a refused request."""
    return encode_reply(Refusal(code, message)).decode()


def reply_text(report: Report) -> str:
    """Write the reply to a request whose points have been settled."""
    code = return_code(report)
    if code is ReturnCode.OK:
        return encode_reply(None).decode()
    where = not_delivered(report)
    if errors := _deciding_errors(report):
        where += f", the first for this: {errors[0]['pointer']} {errors[0]['message']}".replace("  ", " ")
    return refusal_text(code, refuse(code, where[:_MAX_MESSAGE]).message)


def return_code(report: Report) -> ReturnCode:
    """Return the code for a client of the receiver.

    ``OK`` only if every point that is not filtered was delivered, now or before, or is safe in the spool.
    """
    outcomes = report["outcomes"]
    if outcomes[Outcome.UNDELIVERED.value]:
        return ReturnCode.NOT_READY
    if outcomes[Outcome.UNCERTAIN.value]:
        return ReturnCode.INTERNAL_FAILURE
    if any(outcomes[outcome.value] for outcome in BAD):
        bad = _deciding_errors(report)
        return _code_of(bad[0]) if bad else ReturnCode.NO_VALID_DATA
    return ReturnCode.OK if report["received"] else ReturnCode.NO_VALID_DATA


def _deciding_errors(report: Report) -> list[dict[str, Any]]:
    """Return the errors that decide the code; other points of the request may have errors, too."""
    deciding: tuple[Outcome, ...] = BAD
    for outcome in (Outcome.UNCERTAIN, Outcome.UNDELIVERED):
        if report["outcomes"][outcome.value]:
            deciding = (outcome,)
    return [error for error in report["errors"] if error["outcome"] in deciding]


def _code_of(error: Mapping[str, Any]) -> ReturnCode:
    """Return the code for a bad point: the destination's own, or the one that the receiver has for such a mistake."""
    if error["code"] in ReturnCode.__members__.values():
        return ReturnCode(error["code"])
    if error["rule"] == "maxBytes":
        return ReturnCode.DATA_TOO_LONG
    member = _MEMBER_CODES.get(_member(error["pointer"]), ReturnCode.PARAMETER_INVALID)
    named = member in (ReturnCode.NO_VALID_DATA, ReturnCode.DIMENSION_CHECK_FAILED)
    return ReturnCode.NAME_TOO_LONG if named and error["rule"] == "maxLength" else member


def _member(pointer: str) -> str:
    """Return ``metricName`` for ``/Data/0/metricName``, ``Namespace`` for ``/Namespace``."""
    steps = pointer.split("/")[1:]
    return steps[2] if len(steps) > 2 else "".join(steps[:1])  # noqa: PLR2004 - the list and the index come first


_MEMBER_CODES: Mapping[str, ReturnCode] = {
    "Namespace": ReturnCode.NAMESPACE_ILLEGAL,
    "namespace": ReturnCode.NAMESPACE_ILLEGAL,
    "metricName": ReturnCode.NO_VALID_DATA,
    "dimensions": ReturnCode.DIMENSION_CHECK_FAILED,
}
