"""The port of a destination: what the pipeline and the sender ask of the place where points go.

It says nothing of HTTP: a destination delivers a batch itself. Those over HTTP share ``destinations.http``.
"""

from collections.abc import Hashable
from typing import Protocol

from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.formats.payload import Violation
from metric_forwarder.model import Batch, Series


class Destination(Protocol):
    """Encodes points, delivers batches of them, and says how that went; raises nothing that is expected."""

    @property
    def scope(self) -> str:
        """What tells this place from another when a point is recognised as delivered."""

    @property
    def carries_timestamps(self) -> bool:
        """Whether a point arrives with its own time, or is stamped on arrival."""

    @property
    def carries_non_finite(self) -> bool:
        """Whether NaN and the infinities can be sent."""

    @property
    def ordered(self) -> bool:
        """Whether it takes the points of a series only in the order of their times.

        Then a request holds at most one point of a series, and no point passes an earlier one of its series that is
        undelivered. So whatever became of a request, each of its points is the newest of its series when it is sent
        again, and a reply to it is true of it.
        """

    @property
    def clock_offset_s(self) -> float:
        """How far the destination's clock is ahead of ours, by its replies; 0 until one has said."""

    def prepare_series(self, series: Series) -> Violation | None:
        """What is wrong with a series however valid its point is: the pointer, in the point, the rule and the remedy.

        Asked before any point of the series is encoded; writes into ``series.encoded_prefix`` what its points have in common.
        """

    def group(self, series: Series) -> Hashable:
        """Points of different groups never share a request."""

    def encode(self, series: Series, value: float, time_ms: int) -> bytes:
        """A point as a batch holds it; its length counts towards the limit of bytes in a batch."""

    def prepare(self, timeout_s: float) -> Verdict | None:
        """Get what sending needs, such as a key that is kept elsewhere; a verdict if nothing can be sent, and why.

        Called once for each event, before its first batch.
        """

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        """Deliver a batch within ``timeout_s``, at one attempt, and judge the reply.

        Called from several threads at once. Every attempt is one call, so that each is signed again.
        """

    def fix(self, verdict: Verdict, timeout_s: float) -> bool:
        """Correct what a verdict with an action that fixes complains of, such as the key or the clock.

        Called once for each such action in an event. True if the batch deserves another attempt.
        """
