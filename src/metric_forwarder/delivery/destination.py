"""What the pipeline and the sender ask of a destination."""

from collections.abc import Hashable
from typing import Protocol

from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.formats.payload import Violation
from metric_forwarder.model import Batch, Series


class Destination(Protocol):
    """Encodes batches and judges answers; sends nothing itself."""

    @property
    def scope(self) -> str:
        """What tells this place from another when a point is recognised as delivered."""

    @property
    def carries_timestamps(self) -> bool:
        """Whether a point arrives with its own time, or is stamped on arrival."""

    @property
    def ordered(self) -> bool:
        """Whether it takes the points of a series only in the order of their times.

        Then a request holds at most one point of a series, and no point passes an earlier one of its series that is
        undelivered. So whatever became of a request, each of its points is the newest of its series when it is sent
        again, and an answer to it is true of it.
        """

    def admit(self, series: Series) -> Violation | None:
        """What is wrong with a series however valid its point is: the pointer, in the point, the rule and the remedy.

        Asked before any point of the series is encoded; writes into ``series.wire`` what its points have in common.
        """

    def group(self, series: Series) -> Hashable:
        """Points of different groups never share a request."""

    def encode(self, series: Series, value: float, time_ms: int) -> bytes:
        """A point as a request holds it: what it adds to the request's size."""

    def prepare(self, timeout_s: float) -> Verdict | None:
        """Get what requests need, such as a key that is kept elsewhere; a verdict if nothing can be sent, and why.

        Asked once for each event, before its first request.
        """

    def request(self, batch: Batch) -> HttpRequest:
        """Join the points, stamp and sign; asked again for every attempt."""

    def judge(self, reply: HttpReply | Failure) -> Verdict:
        """What an answer, or none, means."""

    def set_clock(self, server_time: float) -> None:
        """Take the destination's clock, Unix seconds, for all later requests."""

    def reauthenticate(self, timeout_s: float) -> bool:
        """Read the secret again, within about ``timeout_s``; False if there is nowhere to read it from or nothing new."""
