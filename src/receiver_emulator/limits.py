"""The limits that depend on earlier requests: requests in a second, points in a period, used nonces."""

from collections import defaultdict, deque

from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import PutRequest, Refusal, refuse
from receiver_emulator.options import EmulatorOptions


class Usage:
    """Counts what each SecretId has used. It keeps only authenticated SecretIds, so that others cannot fill the memory.

    Attributes:
        options: the limits in force; they may be replaced while it is used.
    """

    def __init__(self, options: EmulatorOptions) -> None:
        self.options = options
        self._admitted: defaultdict[str, deque[float]] = defaultdict(deque)
        self._points: dict[str, tuple[int, int]] = {}
        self._nonces: dict[tuple[str, int], float] = {}

    def admit(self, request: PutRequest, now: float) -> Refusal | None:
        """Count an authenticated request, or refuse it with 1021 or 1006; ``now`` is in Unix seconds."""
        return self._check_nonce(request, now) or self._check_rate(request.secret_id, now)

    def check_period(self, request: PutRequest, now: float) -> Refusal | None:
        """Refuse a request with 1018 if this period has no room for its points; ``count_points`` counts them."""
        limit = self.options.max_points_per_period
        if limit is None or self._points_in_period(request.secret_id, now) + len(request.data) <= limit:
            return None
        return refuse(ReturnCode.TOO_MANY_METRICS, f"the limit is {limit} in {self.options.period_s:g} s")

    def count_points(self, request: PutRequest, now: float) -> None:
        if self.options.max_points_per_period is not None:
            used = self._points_in_period(request.secret_id, now)
            self._points[request.secret_id] = (self._period(now), used + len(request.data))

    def _points_in_period(self, secret_id: str, now: float) -> int:
        period, used = self._points.get(secret_id, (0, 0))
        return used if period == self._period(now) else 0

    def _period(self, now: float) -> int:
        return int(now // self.options.period_s)

    def _check_rate(self, secret_id: str, now: float) -> Refusal | None:
        limit = self.options.max_requests_per_second
        if limit is None:
            return None
        admitted = self._admitted[secret_id]
        while admitted and admitted[0] <= now - 1.0:
            admitted.popleft()
        if len(admitted) >= limit:
            return refuse(ReturnCode.TOO_MANY_REQUESTS, f"the limit is {limit} in a second")
        admitted.append(now)
        return None

    def _check_nonce(self, request: PutRequest, now: float) -> Refusal | None:
        if not self.options.refuse_reused_nonce:
            return None
        oldest = now - 2 * self.options.clock_tolerance_s
        # A dict keeps the order of insertion, so the oldest nonce is the first.
        while self._nonces and next(iter(self._nonces.values())) < oldest:
            del self._nonces[next(iter(self._nonces))]
        key = (request.secret_id, request.nonce)
        if key in self._nonces:
            return refuse(ReturnCode.TIMESTAMP_ILLEGAL, "/Nonce was used before")
        self._nonces[key] = now
        return None
