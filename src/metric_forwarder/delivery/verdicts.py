"""Verdicts on answers, and what the forwarder does about each code and status of the receiver, in one table each.

Remote write has a table of its own, ``destinations.remote_write``.

A verdict is closed: the sender in ``delivery`` matches every ``Action``, and only ``ACCEPT`` makes a point delivered.
Meanings come from the receiver's document; the actions are ours, and docs/troubleshooting.md is tested against them.
"""

from collections.abc import Mapping
from enum import Enum
from typing import NamedTuple

from metric_forwarder.put_monitor_data.return_codes import ReturnCode


class Action(Enum):
    """What to do with a batch, seen from the batch."""

    ACCEPT = "delivered"
    RETRY = "try again with backoff"
    SLOW_DOWN = "slow down, then try again"
    HOLD_OFF = "try again with backoff; if it lasts, leave the destination alone for the rest of the event"
    RECONNECT = "send again at once, once, on a new connection"
    RESEND = "sent, but no answer: send again, or hold (`MF_UNCERTAIN`)"
    SPLIT = "halve the batch down to the points at fault, which are rejected"
    SHRINK = "halve the batch and remember the size that worked; a single point is rejected"
    THIN_OUT = "slow down and halve the batch, remember the size that worked"
    REJECT_GROUP = "reject every point of this namespace, go on with the others"
    REAUTHENTICATE = "read the secret again and sign once more; then stop"
    SET_CLOCK = "take the time from the answer and sign once more; then stop"
    BLOCKED = "stop at once for the rest of the event"
    STOP = "stop: nothing can be delivered until a person changes something"


class Rule(NamedTuple):
    """What to do, and what the user should do."""

    action: Action
    remedy: str


CODES: Mapping[ReturnCode, Rule] = {
    ReturnCode.OK: Rule(Action.ACCEPT, "nothing"),
    ReturnCode.METHOD_NOT_SUPPORTED: Rule(Action.STOP, "set MF_RECEIVER_METHOD to POST or GET"),
    ReturnCode.WRONG_CGI: Rule(
        Action.STOP, "set the path of MF_RECEIVER_URL to /v2/index.php or /report.cgi"
    ),
    ReturnCode.NOT_READY: Rule(Action.HOLD_OFF, "wait; the points come again with the event"),
    ReturnCode.INTERNAL_FAILURE: Rule(Action.RETRY, "wait; if it lasts, ask Tencent Cloud's support"),
    ReturnCode.CONTENT_MISSING: Rule(Action.STOP, "look for a proxy that drops request bodies"),
    ReturnCode.NOT_JSON: Rule(
        Action.SPLIT, "look at the named points; if all are named, for a proxy that changes bodies"
    ),
    ReturnCode.TOO_MANY_REQUESTS: Rule(
        Action.SLOW_DOWN, "raise MF_BATCH_MAX_POINTS, or lower MF_CONCURRENCY"
    ),
    ReturnCode.RATE_LIMITER_FAILED: Rule(Action.RETRY, "wait; if it lasts, ask Tencent Cloud's support"),
    ReturnCode.CLIENT_BLOCKED: Rule(
        Action.BLOCKED, "send less, and ask Tencent Cloud's support to lift the block"
    ),
    ReturnCode.PARAMETER_MISSING: Rule(
        Action.SPLIT, "correct the named points; if all are named, look for a proxy that changes requests"
    ),
    ReturnCode.PARAMETER_TYPE: Rule(
        Action.SPLIT, "correct the named points; if all are named, look for a proxy that changes requests"
    ),
    ReturnCode.AUTHENTICATION_FAILED: Rule(
        Action.REAUTHENTICATE, "use the main account's SecretId and SecretKey: no sub-account, no role"
    ),
    ReturnCode.API_RULES_BROKEN: Rule(Action.STOP, "check MF_RECEIVER_URL and MF_RECEIVER_METHOD"),
    ReturnCode.PARAMETER_INVALID: Rule(
        Action.SPLIT, "correct the named points; if all are named, check MF_REGION"
    ),
    ReturnCode.ROUTING_MISSING: Rule(Action.RETRY, "wait; if it lasts, check MF_REGION and the namespace"),
    ReturnCode.DATA_TOO_LONG: Rule(Action.SHRINK, "shorten the named points; lower MF_BATCH_MAX_BYTES"),
    ReturnCode.NAMESPACE_ILLEGAL: Rule(Action.REJECT_GROUP, "create the namespace, or correct its name"),
    ReturnCode.DIMENSION_CHECK_FAILED: Rule(
        Action.SPLIT, "declare the dimensions with the metric, or correct them"
    ),
    ReturnCode.TOO_MANY_METRICS: Rule(Action.THIN_OUT, "send less often, or lower MF_BATCH_MAX_POINTS"),
    ReturnCode.NO_VALID_DATA: Rule(Action.SPLIT, "create the metric, or correct its name"),
    ReturnCode.NAME_TOO_LONG: Rule(Action.SPLIT, "shorten the metric's or the dimension's name"),
    ReturnCode.TIMESTAMP_ILLEGAL: Rule(
        Action.SET_CLOCK, "nothing; if it lasts, report it: the clock was corrected"
    ),
}

_SERVER = "look at the destination's health; the points come again with the event"
_URL = "check the destination's URL: what answers there is not the receiver"

# HTTP statuses that say more than their class does; the classes are in ``status_rule``.
STATUSES: Mapping[int, Rule] = {
    408: Rule(Action.RETRY, _SERVER),
    413: Rule(Action.SHRINK, "lower MF_BATCH_MAX_BYTES"),
    414: Rule(Action.SHRINK, "set MF_RECEIVER_METHOD to POST, or lower MF_BATCH_MAX_BYTES"),
    425: Rule(Action.RETRY, _SERVER),
    429: Rule(Action.SLOW_DOWN, "lower MF_CONCURRENCY"),
    431: Rule(Action.SHRINK, "set MF_RECEIVER_METHOD to POST"),
    502: Rule(Action.RESEND, _SERVER),
    503: Rule(Action.HOLD_OFF, _SERVER),
    504: Rule(Action.RESEND, _SERVER),
}


def status_rule(status: int) -> Rule:
    """The rule for an HTTP status other than 200: the table's, else that of its class.

    502 and 504 come from a gateway that may have passed the request on, so they answer nothing about it.
    """
    if status in STATUSES:
        return STATUSES[status]
    if status >= 500:  # noqa: PLR2004 - the class of server errors
        return Rule(Action.RETRY, _SERVER)
    return Rule(Action.STOP, _URL)


class Verdict(NamedTuple):
    """A judged answer.

    Attributes:
        label: how the report counts it: a return code, ``http 503``, ``no answer``, …
        code: the destination's own code, or its HTTP status, when it gave one.
        reason: what the answer says and what the user should do; holds nothing the answer's body said.
        retry_after_s: how long the destination asked to be left alone.
        server_time: its clock, Unix seconds, when it told.
    """

    action: Action
    label: str
    reason: str
    code: int | None = None
    retry_after_s: float | None = None
    server_time: float | None = None


def for_code(code: ReturnCode) -> Verdict:
    """The verdict for a return code of the receiver."""
    rule = CODES[code]
    return Verdict(rule.action, str(int(code)), f"{code.meaning}: {rule.remedy}", int(code))


def for_status(status: int) -> Verdict:
    """The verdict for an HTTP status other than 200."""
    rule = status_rule(status)
    return Verdict(
        rule.action, f"http {status}", f"the destination answered HTTP {status}: {rule.remedy}", status
    )


def left_alone(seconds: float) -> Verdict:
    """The verdict on what is not sent at all, since the destination has asked for so long a pause."""
    return Verdict(
        Action.HOLD_OFF,
        "left alone",
        f"the destination asked to be left alone for another {seconds:.0f} s (Retry-After), longer than this event "
        "could wait: look at its health and at its limits; the points come again with the event, and once a minute a "
        "request tests whether it still wants that",
    )


OUT_OF_TIME = Verdict(
    Action.RETRY,
    "out of time",
    "the function's time was up: raise its timeout, or let the trigger bring fewer messages at once",
)
NO_THREAD = Verdict(
    Action.RETRY,
    "no thread",
    "the instance could not start a thread to send with: give the function more memory; the points come again with the "
    "event",
)
