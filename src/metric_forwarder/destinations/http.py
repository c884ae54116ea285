"""What the destinations over HTTP share: a batch is one request, and its reply is the verdict on all of it."""

from abc import ABC, abstractmethod

from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, Transport
from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.model import Batch


class HttpDestination(ABC):
    """Sends a batch as one request; what is in it, and what its reply means, is the subclass's.

    Args:
        transport: carries the requests.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def clock_offset_s(self) -> float:
        """Not kept, except where it matters."""
        return 0.0

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        return self.judge(self._transport.send(self.request(batch), timeout_s))

    @abstractmethod
    def prepare(self, timeout_s: float) -> Verdict | None:
        """Get what sending needs: see ``Destination``."""

    @abstractmethod
    def request(self, batch: Batch) -> HttpRequest:
        """Join the points, stamp and sign; called again for every attempt."""

    @abstractmethod
    def judge(self, reply: HttpReply | Failure) -> Verdict:
        """What a reply, or none, means."""
