"""The port of a destination: what the pipeline and the sender ask of the place where points go.

It says nothing of HTTP: a destination delivers a batch itself. Those over HTTP share ``destinations.http``.
"""

from collections.abc import Hashable, Iterable, Mapping
from typing import Protocol

from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.model import Batch, Series


class Destination(Protocol):
    """Encodes points, delivers batches of them, and returns a verdict; expected failures do not raise.

    A destination extends this class. It leaves out ``group``, ``prepare``, ``ask_time`` or ``fix`` where it has nothing to do.

    Attributes:
        scope: identifies this destination: a point delivered to another one is not a duplicate here.
        carries_timestamps: whether a point arrives with its own time, or is stamped on arrival.
        carries_non_finite: whether NaN and the infinities can be sent.
        ordered: whether it takes the points of a series only in the order of their times. Then a request holds at most one
            point of a series, and no point passes an earlier one of its series that is undelivered. So when a request is
            sent again, each of its points is still the newest of its series, and the reply is true for it.
    """

    scope: str
    carries_timestamps: bool
    carries_non_finite: bool
    ordered: bool

    @property
    def clock_offset_s(self) -> float | None:
        """Seconds by which the destination's clock is ahead of ours, by its replies; None while that is unknown."""

    def prepare_series(self, series: Series, dimensions: Mapping[str, str]) -> Violation | None:
        """Prepare a series; return why the destination takes none of its points, even if they are valid, or None.

        ``dimensions`` are those of the series: to read them from it would take time.

        Called before any point of the series is encoded; writes the bytes that its points share into ``series.encoded_prefix``.
        The pointer of the violation is relative to the point.
        """

    def group(self, series: Series) -> Hashable:  # noqa: ARG002 - all may share a request
        """Points of different groups never share a request."""
        return None

    def encode(
        self, series: Iterable[Series], values: Iterable[float], times_ms: Iterable[int]
    ) -> list[bytes]:
        """Encode points for a batch; the length of each counts towards the limit of bytes in a batch."""

    def prepare(self, timeout_s: float) -> Verdict | None:  # noqa: ARG002 - nothing is needed
        """Get what sending needs, such as a key from Secrets Manager; return a verdict if nothing can be sent.

        Called once for each event, before its first batch.
        """
        return None

    def ask_time(self, timeout_s: float) -> Verdict:  # noqa: ARG002 - nothing is asked
        """Send one request without points, whose reply may tell ``clock_offset_s``; the verdict says what came of it.

        Called only while ``clock_offset_s`` is None.
        """
        raise RuntimeError(f"{self.scope} has no clock of its own")

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        """Deliver a batch within ``timeout_s``, at one attempt, and judge the reply.

        Called from several threads at once. Every attempt is one call, so that each is signed again.
        """

    def fix(self, verdict: Verdict, timeout_s: float) -> bool:  # noqa: ARG002 - nothing can be corrected
        """Correct the cause of a verdict whose action is REAUTHENTICATE or SET_CLOCK: the key, or the clock.

        Called once for each such action in an event. Returns True if the batch should be sent again.
        """
        return False
