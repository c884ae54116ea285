"""What the destinations over HTTP share: a batch is one request, and one reply judges all of it."""

from abc import ABC, abstractmethod

from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, Transport
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.model import Batch


class HttpDestination(ABC):
    """Sends a batch as one request; a subclass makes the request and judges the reply.

    Args:
        transport: carries the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def clock_offset_s(self) -> float:
        """0, unless a subclass learns the destination's clock."""
        return 0.0

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        return self.judge(self._transport.send(self.request(batch), timeout_s))

    @abstractmethod
    def prepare(self, timeout_s: float) -> Verdict | None:
        """See ``Destination``."""

    @abstractmethod
    def request(self, batch: Batch) -> HttpRequest:
        """Join the points, stamp and sign them; called for every attempt."""

    @abstractmethod
    def judge(self, reply: HttpReply | Failure) -> Verdict:
        """What a reply, or its absence, means."""
