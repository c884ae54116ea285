"""What a destination may be made with, besides the settings."""

from collections.abc import Callable
from typing import NamedTuple, Protocol

from metric_forwarder.clients.http import Transport
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.machine import Machine
from metric_forwarder.settings.settings import Settings


class Parts(NamedTuple):
    """What a destination takes of this as it needs.

    Attributes:
        credentials: where the main account's key comes from.
        connect: makes what carries requests over HTTP.
        machine: threads, time and chance.
    """

    credentials: CredentialSource
    connect: Callable[[], Transport]
    machine: Machine


class DestinationModule(Protocol):
    """What the module of a destination has."""

    def make(self, settings: Settings, parts: Parts) -> Destination:
        """Make the destination; raises ``ConfigError`` where the settings cannot work."""
