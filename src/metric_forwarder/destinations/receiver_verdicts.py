"""What the forwarder does about each return code and HTTP status of the receiver, in one table each.

Meanings come from the receiver's document; the actions are ours, and docs/troubleshooting.md is tested against them.
"""

from collections.abc import Mapping

from metric_forwarder.delivery.verdicts import Action, Concern, Rule, Verdict
from metric_forwarder.put_monitor_data.return_codes import ReturnCode

_REQUESTS = "correct the named points; if all are named, look for a proxy that changes requests"
_WAIT_OR_ASK = "wait; if it lasts, ask Tencent Cloud's support"

CODES: Mapping[ReturnCode, Rule] = {
    ReturnCode.OK: Rule(Action.ACCEPT, "nothing"),
    ReturnCode.METHOD_NOT_SUPPORTED: Rule(Action.STOP, "set MF_RECEIVER_METHOD to POST or GET"),
    ReturnCode.WRONG_CGI: Rule(
        Action.STOP, "set the path of MF_RECEIVER_URL to /v2/index.php or /report.cgi"
    ),
    ReturnCode.NOT_READY: Rule(Action.HOLD_OFF, "wait; the points can still be delivered"),
    ReturnCode.INTERNAL_FAILURE: Rule(Action.RETRY, _WAIT_OR_ASK),
    ReturnCode.CONTENT_MISSING: Rule(Action.STOP, "look for a proxy that drops request bodies"),
    ReturnCode.NOT_JSON: Rule(
        Action.SPLIT, "correct the named points; if all are named, look for a proxy that changes bodies"
    ),
    ReturnCode.TOO_MANY_REQUESTS: Rule(
        Action.SLOW_DOWN, "raise MF_BATCH_MAX_POINTS, or lower MF_CONCURRENCY"
    ),
    ReturnCode.RATE_LIMITER_FAILED: Rule(Action.RETRY, _WAIT_OR_ASK),
    ReturnCode.CLIENT_BLOCKED: Rule(
        Action.STOP, "send less, and ask Tencent Cloud's support to lift the block"
    ),
    ReturnCode.PARAMETER_MISSING: Rule(Action.SPLIT, _REQUESTS),
    ReturnCode.PARAMETER_TYPE: Rule(Action.SPLIT, _REQUESTS),
    ReturnCode.AUTHENTICATION_FAILED: Rule(
        Action.REAUTHENTICATE,
        "use the main account's SecretId and SecretKey, not those of a sub-account or a role",
    ),
    ReturnCode.API_RULES_BROKEN: Rule(Action.STOP, "check MF_RECEIVER_URL and MF_RECEIVER_METHOD"),
    ReturnCode.PARAMETER_INVALID: Rule(
        Action.SPLIT, "correct the named points; if all are named, check MF_REGION"
    ),
    ReturnCode.ROUTING_MISSING: Rule(Action.RETRY, "wait; if it lasts, check MF_REGION and the namespace"),
    ReturnCode.DATA_TOO_LONG: Rule(Action.SHRINK, "shorten the named points; lower MF_BATCH_MAX_BYTES"),
    ReturnCode.NAMESPACE_ILLEGAL: Rule(Action.REJECT_GROUP, "create the namespace, or correct its name"),
    ReturnCode.DIMENSION_CHECK_FAILED: Rule(
        Action.SPLIT, "declare the dimensions with the metric, or correct them", Concern.NAMES
    ),
    ReturnCode.TOO_MANY_METRICS: Rule(Action.THIN_OUT, "send less often, or lower MF_BATCH_MAX_POINTS"),
    ReturnCode.NO_VALID_DATA: Rule(Action.SPLIT, "create the metric, or correct its name", Concern.NAMES),
    ReturnCode.NAME_TOO_LONG: Rule(
        Action.SPLIT, "shorten the metric's or the dimension's name", Concern.NAMES
    ),
    ReturnCode.TIMESTAMP_ILLEGAL: Rule(
        Action.SET_CLOCK,
        "nothing, if it happens once; if it lasts, look for a proxy that removes or changes the Date of its "
        "replies, by which the clock is corrected",
    ),
}

_HEALTH = "check the destination's health"
_SERVER = f"{_HEALTH}; the points can still be delivered"
_URL = "check the destination's URL: what answers there is not the receiver"

# HTTP statuses that are judged differently from the rest of their class; the classes are in ``status_rule``.
STATUSES: Mapping[int, Rule] = {
    408: Rule(Action.RETRY, _SERVER),
    413: Rule(Action.SHRINK, "lower MF_BATCH_MAX_BYTES"),
    414: Rule(Action.SHRINK, "set MF_RECEIVER_METHOD to POST, or lower MF_BATCH_MAX_BYTES"),
    425: Rule(Action.RETRY, _SERVER),
    429: Rule(Action.SLOW_DOWN, "lower MF_CONCURRENCY"),
    431: Rule(Action.SHRINK, "set MF_RECEIVER_METHOD to POST"),
    502: Rule(Action.RESEND, _HEALTH),
    503: Rule(Action.HOLD_OFF, _SERVER),
    504: Rule(Action.RESEND, _HEALTH),
}


def status_rule(status: int) -> Rule:
    """The rule for an HTTP status other than 200: the table's, otherwise that of its class.

    502 and 504 come from a gateway that may have passed the request on, so they say nothing about it.
    """
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:  # noqa: PLR2004 - the class of server errors
        return Rule(Action.RETRY, _SERVER)
    return Rule(Action.STOP, _URL)


def for_code(code: ReturnCode) -> Verdict:
    """The verdict for a return code of the receiver."""
    rule = CODES[code]
    reason = f"{code.meaning}: {rule.remedy}"
    return Verdict(rule.action, str(int(code)), reason, int(code), concern=rule.concern)


def for_status(status: int) -> Verdict:
    """The verdict for an HTTP status other than 200."""
    rule = status_rule(status)
    reason = f"the destination answered HTTP {status}: {rule.remedy}"
    return Verdict(rule.action, f"http {status}", reason, status)
