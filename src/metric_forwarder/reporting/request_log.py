"""At ``MF_LOG_LEVEL=DEBUG``: a line of the log for each request to the destination."""

from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.reporting.log import JsonLog


class RequestLog:
    """A ``RequestTrace`` that writes lines: counts, codes and times, nothing of what was sent or replied."""

    def __init__(self, log: JsonLog, request_id: str) -> None:
        self._log = log
        self._request_id = request_id

    def prepared(self, verdict: Verdict | None, took_ms: int) -> None:
        reply = verdict.label if verdict else "ready"
        self._log.write(
            "DEBUG",
            "prepare",
            requestId=self._request_id,
            reply=reply,
            code=_code(verdict),
            durationMs=took_ms,
        )

    def sent(self, *, points: int, attempt: int, waited_ms: int, verdict: Verdict, took_ms: int) -> None:
        self._log.write(
            "DEBUG",
            "request",
            requestId=self._request_id,
            points=points,
            attempt=attempt,
            waitedMs=waited_ms,
            reply=verdict.label,
            code=_code(verdict),
            durationMs=took_ms,
        )


def _code(verdict: Verdict | None) -> int | None:
    return verdict.code if verdict else None
