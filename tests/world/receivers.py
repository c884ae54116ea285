"""What instances send to: the receiver, by the emulator's own protocol code, behind a network that fails."""

from collections.abc import Mapping
from email.utils import formatdate
from typing import Protocol
from urllib.parse import urlsplit

from metric_forwarder.clients.http import Failure, Fault, HttpReply, HttpRequest
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
from world.book import Attempt, Book, Request
from world.faults import Faults
from world.scheduler import START, Process, World

_LATENCIES_S = (0.004, 0.03, 0.3)
_LONG_S = (1.0, 2.5, 4.0, 9.0)
_STUCK_S = 400.0
# Of the receiver's codes, each but "OK".
_CODES = tuple(code for code in ReturnCode if code is not ReturnCode.OK)
_STATUSES = (500, 502, 503, 504, 429, 408, 400, 401, 403, 404, 413, 301, 425, 431)
_ASKED_S = ("1", "5", "40", "90", "nonsense", "-1")
_GARBAGE = (b"<html>no</html>", b"", b"{}", b'{"code":7777,"message":"?"}', b"\xff\xfe", b"[]", b"0")


class Server(Protocol):
    """What a request arrives at; it does not wait."""

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
        rejection = self._judge(request, record)
        if rejection is not None:
            record.refused = str(int(rejection.code))
            self._world.met(f"code {record.refused}")
            for number in record.points:
                self._book.refusals[number].add(record.refused)
        return HttpReply(200, self.date(), encode_reply(rejection))

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
        record = self._book.open_request(attempt, self._process.name, world.now)
        fault = self._faults.of_request()
        if fault and attempt is not None:
            attempt.faults += 1
        world.note(f"{self._process.name} sends {record.number}")
        if fault == "unreachable":
            world.sleep(min(timeout_s, world.pick(_LATENCIES_S)))
            record.answer = "failed"
            return Failure(Fault.UNREACHABLE, "refused")
        if fault == "name server hangs":
            self._hang()
            record.answer = "failed"
            return Failure(Fault.UNREACHABLE, "no name")
        return self._exchange(request, timeout_s, record, fault)

    def _hang(self) -> None:
        task = self._world.current
        assert task is not None
        task.is_stuck = True
        self._world.sleep(_STUCK_S)
        task.is_stuck = False

    def _exchange(
        self, request: HttpRequest, timeout_s: float, record: Request, fault: str
    ) -> HttpReply | Failure:
        world = self._world
        there = world.pick(_LONG_S) if fault in ("slow", "late") else world.pick(_LATENCIES_S)
        back = world.pick(_LONG_S) if fault == "slow" else world.pick(_LATENCIES_S)
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
        answer = answers[0]
        record.was_awaited = record.attempt is not None and record.attempt.end == "running"
        is_true = not isinstance(answer, Failure) and fault in ("", "slow", "late")
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
            return HttpReply(200, date, world.pick(_GARBAGE))
        if fault == "status before":
            record.refused = "status"
            return HttpReply(world.pick(_STATUSES), date, b"a page")
        if fault == "retry-after":
            world.met("Retry-After was asked for")
            return HttpReply(world.pick((503, 429)), {**date, "Retry-After": world.pick(_ASKED_S)}, b"")
        reply = self._server.answer(request, record)
        world.note(
            f"{record.number} arrives with {record.points}: {'stored' if record.acted else record.refused}"
        )
        if fault == "reset after":
            return Failure(world.pick((Fault.UNANSWERED, Fault.STALE)), "reset")
        if fault == "hang after":
            return None
        if fault == "garbage after":
            return HttpReply(200, date, world.pick((b"<html>no</html>", b"", reply.body[:-3])))
        if fault == "status after":
            return HttpReply(world.pick((502, 504, 500, 503)), date, b"a page")
        return reply
