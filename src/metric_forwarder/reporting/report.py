"""Ledger → report: the aggregated status of one trigger event, as a JSON-serialisable dict."""

import json
from collections.abc import Mapping
from typing import Any

from metric_forwarder.delivery.settling import RequestCounts
from metric_forwarder.model import BAD, SAFE, Outcome, Problem
from metric_forwarder.reporting.ledger import Filtered, Ledger

Report = dict[str, Any]

# SCF keeps 8 KB of a line of the log (583/39778); a line that is cut off is not JSON, so no statement could read it.
MAX_LINE_BYTES = 8_000

ARRIVED = (Outcome.DELIVERED, Outcome.DUPLICATE)


def make_report(
    *,
    trigger: str,
    request_id: str,
    ledger: Ledger,
    requests: RequestCounts,
    dedupe: str,
    duration_ms: int,
) -> Report:
    """Collect the figures; each is derived from the ledger or counted by the sender."""
    outcomes = ledger.outcomes()
    return {
        "status": status(outcomes, has_problems=bool(ledger.problems)),
        "trigger": trigger,
        "requestId": request_id,
        "received": ledger.received,
        "outcomes": {outcome.value: count for outcome, count in outcomes.items()},
        "requests": {
            "sent": requests.sent,
            "retried": requests.retried,
            "returnCodes": dict(sorted(requests.answers.items())),
        },
        "dedupe": dedupe,
        "durationMs": duration_ms,
        "errors": [_error(problem) for problem in ledger.problems],
        "errorsOmitted": ledger.problems_omitted,
        "filtered": [_filtered(filtered) for filtered in ledger.filtered],
    }


def bounded(report: Report, max_bytes: int) -> Report:
    """Return the report with as many of its errors as fit into so many bytes of JSON; it counts those left out."""
    while report["errors"] and len(json.dumps(report)) > max_bytes:
        kept = report["errors"][:-1]
        report = {**report, "errors": kept, "errorsOmitted": report["errorsOmitted"] + 1}
    return report


def status(outcomes: Mapping[Outcome, int], *, has_problems: bool) -> str:
    """``empty``, ``ok``, ``failed`` or ``partial``.

    Filtered points count neither as success nor as failure, so an event with only filtered points is ``ok``. An event
    without points is ``empty`` only if it had no problem either.
    """
    received = sum(outcomes.values())
    if received == 0:
        return "failed" if has_problems else "empty"
    arrived = sum(outcomes[outcome] for outcome in ARRIVED)
    if arrived == received - outcomes[Outcome.FILTERED]:
        return "ok"
    return "partial" if arrived else "failed"


def loss_level(report: Report, *, is_spooling: bool, is_redelivered: bool) -> str:
    """The level at which a report is logged: WARN while nothing is lost, ERROR when something is or may be.

    With a spool, bad points are kept as dead letters, so they are not lost. Undelivered points may be lost unless their
    event is redelivered until it is handled. A spool that could not be read may hold points that no report shows.
    """
    outcomes = report["outcomes"]
    lost = [Outcome.UNCERTAIN, *(() if is_spooling else BAD)]
    if not is_redelivered:
        lost.append(Outcome.UNDELIVERED)
    is_unread = report["status"] == "failed" and not report["received"]
    if is_unread or any(outcomes[outcome.value] for outcome in lost):
        return "ERROR"
    # Delivered points have no errors, so this error is the spool's.
    well = report["status"] in {"ok", "empty"} and report["dedupe"] != "degraded" and not report["errors"]
    return "INFO" if well else "WARN"


def not_delivered(report: Report) -> str:
    """How many points were not delivered, in words, for a client."""
    received = report["received"]
    count = received - sum(report["outcomes"][outcome.value] for outcome in SAFE)
    return f"{count} of {received} {'point was' if received == 1 else 'points were'} not delivered"


def _error(problem: Problem) -> dict[str, Any]:
    return {
        "outcome": problem.outcome.value,
        "source": _encodable(problem.source),
        "pointer": _encodable(problem.pointer),
        "rule": problem.rule,
        "code": problem.code,
        "message": _encodable(problem.message),
    }


def _filtered(filtered: Filtered) -> dict[str, Any]:
    return {
        "source": _encodable(filtered.source),
        "pointer": _encodable(filtered.pointer),
        "rule": filtered.rule,
        "message": _encodable(filtered.message),
        "count": filtered.times,
    }


def _encodable(text: str) -> str:
    """Replace half a surrogate pair, which a producer may have sent, and which cannot be written in UTF-8."""
    return text.encode("utf-8", "backslashreplace").decode()
