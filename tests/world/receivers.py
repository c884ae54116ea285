"""What instances send to: the receiver, by the emulator's own protocol code, behind a network that fails."""

from collections.abc import Mapping, Sequence
from email.utils import formatdate
from typing import Protocol
from urllib.parse import urlsplit

from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest
from metric_forwarder.destinations.remote_write_proof import EMPTY_BODY, UNREADABLE_BODY
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    PutRequest,
    Refusal,
    RequestLimits,
    authenticate,
    check_points,
    encode_reply,
    parse_request,
    refuse,
)
from support.remote_write_decoder import DecodedSeries, decode
from world.book import Attempt, Book, Request, points_of
from world.faults import Faults
from world.scheduler import START, Process, World

_LATENCIES_S = (0.004, 0.03, 0.3)
_LONG_S = (1.0, 2.5, 4.0, 9.0)
# How long before the end of a request's timeout its answer comes.
_LAST_MOMENTS_S = (0.0005, 0.01, 0.1, 0.0)
_STUCK_S = 400.0
_HOW_WRITTEN = (
    (b"", 12),
    (b'{"code":%d,"message":"\xb3\xc9\xb9\xa6"}', 1),
    (b'{"code":%d,"message":"a\tb"}\0', 1),
    (b'{"code":"%d","message":"OK"}', 1),
)
# Of the receiver's codes, each but "OK".
_CODES = tuple(code for code in ReturnCode if code is not ReturnCode.OK)
_STATUSES = (500, 502, 503, 504, 429, 408, 400, 401, 403, 404, 413, 301, 425, 431, 207)
_ASKED_S = ("1", "5", "40", "90", "nonsense", "-1", "7200")
_GARBAGE = (b"<html>no</html>", b"", b"{}", b'{"code":7777,"message":"?"}', b"\xff\xfe", b"[]", b"0")


class Server(Protocol):
    """What a request arrives at; it does not wait."""

    @property
    def garbage(self) -> Sequence[bytes]:
        """Bodies that are no answer of such a server."""

    def answer(self, request: HttpRequest, record: Request) -> HttpReply:
        """Judge the request and act on it."""

    def date(self) -> dict[str, str]:
        """The header that says what time the server has."""


class Receiver:
    """The receiver.

    Attributes:
        accounts: SecretId → SecretKey.
        limits: of requests.
        quota: requests a second; None: as many as come.
        is_down: whether it answers nothing but that it is not ready.
        skew_s: how far its clock is ahead.
    """

    garbage = _GARBAGE

    def __init__(self, world: World, book: Book, faults: Faults, accounts: Mapping[str, str]) -> None:
        self._world = world
        self._book = book
        self._faults = faults
        self.accounts = dict(accounts)
        self.limits = RequestLimits()
        self.quota: float | None = None
        self._tokens = 1.0
        self._filled_at = 0.0
        self.is_down = False
        self.skew_s = 0.0
        self._row: tuple[ReturnCode, float] | None = None

    def date(self) -> dict[str, str]:
        return {"Date": formatdate(self._now(), usegmt=True)}

    def answer(self, request: HttpRequest, record: Request) -> HttpReply:
        rejection = self._poisoned(request) or self._judge(request, record)
        if rejection is not None:
            record.refused = str(int(rejection.code))
            self._world.met(f"code {record.refused}")
            for number in record.points:
                self._book.refusals[number].add(record.refused)
        return HttpReply(200, self.date(), self._written(rejection))

    def _written(self, rejection: Refusal | None) -> bytes:
        """The reply, now and then with something beside its code that does not change it."""
        how = self._world.weighted(_HOW_WRITTEN)
        return how % int(rejection.code if rejection else ReturnCode.OK) if how else encode_reply(rejection)

    def _poisoned(self, request: HttpRequest) -> Refusal | None:
        is_poison = self._book.poison and not self._book.poison.isdisjoint(points_of(request))
        return refuse(ReturnCode.INTERNAL_FAILURE, "a point at which it always fails") if is_poison else None

    def _judge(self, request: HttpRequest, record: Request) -> Refusal | None:
        parts = urlsplit(request.url)
        parsed = parse_request(request.method, parts.path, parts.query, request.body or b"")
        if isinstance(parsed, Refusal):
            return parsed
        record.points = tuple(int(point["value"]) for point in parsed.data)
        rejection = self._fault() or authenticate(parsed, self.accounts, self._now())
        rejection = rejection or self._pace() or check_points(parsed, self.limits) or _check_known(parsed)
        if rejection is None:
            record.acted = True
            for number in record.points:
                self._book.arrive(number, record, self._world.now)
        return rejection

    def _fault(self) -> Refusal | None:
        if self.is_down:
            return refuse(ReturnCode.NOT_READY, "an outage")
        if self._row is not None and self._world.now < self._row[1] and not self._faults.healed:
            return refuse(self._row[0], "again")
        if self._faults.strikes("code"):
            return refuse(self._world.pick(_CODES), "a fault")
        if self._faults.strikes("code in a row"):
            self._row = (self._world.pick(_CODES), self._world.now + self._world.pick((1.0, 10.0, 70.0)))
            return refuse(self._row[0], "a fault")
        return None

    def _pace(self) -> Refusal | None:
        """A token bucket of one second."""
        if self.quota is None:
            return None
        now = self._world.now
        self._tokens = min(max(self.quota, 1.0), self._tokens + (now - self._filled_at) * self.quota)
        self._filled_at = now
        if self._tokens < 1:
            return refuse(ReturnCode.TOO_MANY_REQUESTS, "the quota")
        self._tokens -= 1
        return None

    def _now(self) -> float:
        return START + self._world.now + self.skew_s


def _check_known(request: PutRequest) -> Refusal | None:
    for index, point in enumerate(request.data):
        if point["metricName"].startswith("unknown"):
            return refuse(ReturnCode.NO_VALID_DATA, f"/Data/{index}/metricName does not exist")
    return None


# What may answer at a wrong URL: status and body, whatever is sent.
_IMPOSTORS = {
    "takes anything": (204, b""),
    "refuses anything": (400, b"no"),
    "wrong path": (
        400,
        b'remoteAddr: "10.0.0.1:1"; requestURI: /a; unsupported path requested: "/a"',
    ),
}


_TOO_OLD = "too old sample"
# A sample that is further behind the newest of all is not appended to any series.
_APPENDED_MS = 3_600_000


class Prometheus:
    """A Prometheus that takes remote write.

    A sample older than the newest one of its series is refused, unless it is within the out-of-order window, which is counted
    back from the newest sample of all; so is another value at the newest time. ``test_prometheus_model.py`` holds this.

    Attributes:
        window_ms: the out-of-order window.
        is_partial: whether the good samples of a refused request are stored, as newer versions do.
        samples: labels → Unix milliseconds → value.
        impostor: what answers in its place, a name of ``_IMPOSTORS``; empty: nothing does.
    """

    garbage = (b"<html>no</html>", b'{"error":"no"}', b'{"code":401}')

    def __init__(self, world: World, book: Book, faults: Faults) -> None:
        self._world = world
        self._book = book
        self._faults = faults
        self.window_ms = 0
        self.is_partial = False
        self.is_down = False
        self.impostor = ""
        self.skew_s = 0.0
        self.samples: dict[tuple[tuple[str, str], ...], dict[int, float]] = {}
        self._newest_ms = 0

    def date(self) -> dict[str, str]:
        return {"Date": formatdate(START + self._world.now + self.skew_s, usegmt=True)}

    def answer(self, request: HttpRequest, record: Request) -> HttpReply:
        if self.is_down:
            return HttpReply(503, self.date(), b"down")
        if self.impostor:
            return HttpReply(*_IMPOSTORS[self.impostor][:1], self.date(), _IMPOSTORS[self.impostor][1])
        if self._book.poison and not self._book.poison.isdisjoint(points_of(request)):
            return HttpReply(500, self.date(), b"a point at which it always fails")
        if request.body == UNREADABLE_BODY:
            return HttpReply(400, self.date(), b"snappy: corrupt input")
        if request.body == EMPTY_BODY:
            return HttpReply(204, self.date(), b"")
        series = decode(request.body or b"")
        record.points = tuple(int(value) for each in series for _, value in each.samples)
        refusal = self.store(series, record)
        if not refusal:
            return HttpReply(204, self.date(), b"")
        record.refused = refusal
        self._world.met(f"remote write: {refusal}")
        # Versions before 2.50 answer 500 to the one reason that only a window brings.
        is_odd = refusal == _TOO_OLD and not self.is_partial
        return HttpReply(500 if is_odd else 400, self.date(), f"{refusal}\n".encode())

    def store(self, series: Sequence[DecodedSeries], record: Request) -> str:
        """Keep the samples; return why some are refused, empty if none is."""
        good: list[tuple[DecodedSeries, int, float]] = []
        refusal = ""
        for each in series:
            for time_ms, value in each.samples:
                told = self._refusal(each, time_ms, value)
                refusal = refusal or told
                if told:
                    self._book.refusals[int(value)].add(told)
                else:
                    good.append((each, time_ms, value))
        if not refusal or self.is_partial:
            for each, time_ms, value in good:
                # Which of two values at one past time it shows is its own affair.
                self.samples.setdefault(each.labels, {}).setdefault(time_ms, value)
                self._newest_ms = max(self._newest_ms, time_ms)
                self._book.arrive(int(value), record, self._world.now)
                record.acted = True
        return refusal

    def _refusal(self, series: DecodedSeries, time_ms: int, value: float) -> str:
        if any(name == "__name__" and "unknown" in text for name, text in series.labels):
            return "invalid series"
        held = self.samples.get(series.labels)
        if time_ms >= self._newest_ms - _APPENDED_MS:
            if not held or time_ms > max(held):
                return ""
            if time_ms == max(held):
                return "" if held[time_ms] == value else "duplicate sample for timestamp"
            late = "out of order sample"
        else:
            late = "out of bounds"
        if not self.window_ms:
            return late
        return "" if time_ms >= self._newest_ms - self.window_ms else _TOO_OLD


class Network:
    """A ``Transport`` of one instance: between it and a server, requests and answers are late, lost and changed."""

    def __init__(
        self,
        world: World,
        faults: Faults,
        book: Book,
        server: Server,
        process: Process,
    ) -> None:
        self._world = world
        self._faults = faults
        self._book = book
        self._server = server
        self._process = process

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply | Failure:
        world = self._world
        world.point()
        task = world.current
        assert task is not None
        attempt: Attempt | None = task.owner
        self._perhaps_run_out_of_memory()
        record = self._book.open_request(attempt, self._process.name, world.now)
        record.sent = request
        fault = self._faults.of_request()
        if fault and attempt is not None:
            attempt.faults += 1
        world.note(f"{self._process.name} sends {record.number}")
        reply = self._carry(request, timeout_s, record, fault)
        record.over_at = world.now
        return reply

    def _carry(
        self, request: HttpRequest, timeout_s: float, record: Request, fault: str
    ) -> HttpReply | Failure:
        world = self._world
        if fault == "unreachable":
            world.sleep(min(timeout_s, world.pick(_LATENCIES_S)))
            return self._not_sent(record, "refused")
        if fault == "name server hangs":
            world.hang(_STUCK_S)
            return self._not_sent(record, "no name")
        return self._exchange(request, timeout_s, record, fault)

    def _perhaps_run_out_of_memory(self) -> None:
        """Let the instance be killed where it holds most: with a request that is about to leave, or a reply that came."""
        if self._faults.strikes("out of memory"):
            self._world.met("an instance ran out of memory")
            self._world.die_here()

    def _not_sent(self, record: Request, reason: str) -> Failure:
        record.answer = "failed"
        record.left = False
        return Failure(Fault.UNREACHABLE, reason)

    def _exchange(
        self, request: HttpRequest, timeout_s: float, record: Request, fault: str
    ) -> HttpReply | Failure:
        world = self._world
        # What stands in the place of an endpoint replies at once: whoever does not reply is believed in the end.
        is_quick = self._faults.healed or (isinstance(self._server, Prometheus) and self._server.impostor)
        usual = _LATENCIES_S[:1] if is_quick else _LATENCIES_S
        there = world.pick(_LONG_S if fault in ("slow", "late") else usual)
        back = world.pick(_LONG_S if fault == "slow" else usual)
        if fault == "last moment":
            back = max(0.0, timeout_s - there - world.pick(_LAST_MOMENTS_S))
        task = world.current
        assert task is not None
        answers: list[HttpReply | Failure] = []
        is_awaited = [True]

        def arrive() -> None:
            answer = self._meet(request, record, fault)
            if answer is not None:
                world.after(back, lambda: finish(answer))

        def finish(answer: HttpReply | Failure) -> None:
            if is_awaited[0] and not self._process.dead:
                answers.append(answer)
                world.wake(task)

        world.after(there, arrive)
        try:
            world.park(timeout_s)
        finally:
            is_awaited[0] = False
        if not answers:
            world.met("a request timed out")
            return Failure(Fault.UNANSWERED, "timed out")
        self._perhaps_run_out_of_memory()
        answer = answers[0]
        record.answered_at = world.now
        record.status = answer.status if isinstance(answer, HttpReply) else 0
        record.was_awaited = record.attempt is not None and record.attempt.end == "running"
        is_true = not isinstance(answer, Failure) and fault in ("", "slow", "late", "last moment")
        record.answer = "failed" if not is_true else "refused" if record.refused else "taken"
        world.note(f"{self._process.name} got the answer to {record.number}: {record.answer}")
        return answer

    def _meet(self, request: HttpRequest, record: Request, fault: str) -> HttpReply | Failure | None:
        """Let the request arrive; return what comes back, None: nothing."""
        world, date = self._world, self._server.date()
        if fault in ("reset before", "hang before"):
            return Failure(Fault.UNANSWERED, "reset") if fault == "reset before" else None
        if fault == "stale connection":
            return Failure(Fault.STALE, "closed")
        if fault == "garbage before":
            return HttpReply(200, date, world.pick(self._server.garbage))
        if fault == "status before":
            record.refused = "status"
            return HttpReply(world.pick(_STATUSES), date, b"a page")
        if fault == "retry-after":
            world.met("Retry-After was asked for")
            asked = world.pick(_ASKED_S)
            record.asked_s = float(asked) if asked.isdigit() else 0.0
            return HttpReply(world.pick((503, 429)), {**date, "Retry-After": asked}, b"")
        reply = self._server.answer(request, record)
        world.note(
            f"{record.number} arrives with {record.points}: {'stored' if record.acted else record.refused}"
        )
        if fault == "reset after":
            return Failure(world.pick((Fault.UNANSWERED, Fault.STALE)), "reset")
        if fault == "hang after":
            return None
        if fault == "garbage after":
            return HttpReply(200, date, world.pick(self._server.garbage))
        if fault == "status after":
            return HttpReply(world.pick((502, 504, 500, 503)), date, b"a page")
        return reply
