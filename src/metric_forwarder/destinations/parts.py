"""The collaborators from which a destination is made, besides the settings."""

from collections.abc import Callable
from importlib import import_module
from typing import NamedTuple

from metric_forwarder.clients.http import Transport
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.destinations.server_clock import ServerClocks
from metric_forwarder.machine import Machine
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.settings import Settings


class Parts(NamedTuple):
    """A destination uses those that it needs.

    Attributes:
        credentials: where the main account's key comes from.
        connect: makes a transport for HTTP requests.
        machine: threads, time and chance.
        clocks: what is known of the clock of each destination.
    """

    credentials: CredentialSource
    connect: Callable[[], Transport]
    machine: Machine
    clocks: ServerClocks


def make_destination(settings: Settings, parts: Parts) -> Destination:
    """Make the destination that the settings name: see ``destinations.table``.

    Raises:
        ConfigError: it needs a package that is not installed, or the settings cannot work.
    """
    kind = settings.kind
    with imports_of(kind.extra, "MF_DESTINATION"):
        module = import_module(kind.module)
    made: Destination = module.make(settings, parts)
    return made
