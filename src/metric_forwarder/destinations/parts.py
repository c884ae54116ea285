"""The collaborators from which a destination is made, besides the settings."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from metric_forwarder.clients.http import Transport
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.machine import Machine
from metric_forwarder.settings.settings import Settings


class Parts(NamedTuple):
    """A destination uses those that it needs.

    Attributes:
        credentials: where the main account's key comes from.
        connect: makes a transport for HTTP requests.
        machine: threads, time and chance.
    """

    credentials: CredentialSource
    connect: Callable[[], Transport]
    machine: Machine


class DestinationModule(Protocol):
    """The interface of a destination's module."""

    def make(self, settings: Settings, parts: Parts) -> Destination:
        """Make the destination; raise ``ConfigError`` if the settings cannot work."""
