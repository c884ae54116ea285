"""Where points can go: one row for each destination, which settings, bootstrap, ``doctor`` and the documents read.

A row names its module, which is imported when the destination is made. CONTRIBUTING says how to add one.
"""

from collections.abc import Mapping
from typing import NamedTuple


class DestinationKind(NamedTuple):
    """One destination.

    Attributes:
        module: has ``make(settings, parts)``, which returns a ``delivery.destination.Destination``.
        schema: the file in ``schemas/`` that says which points it takes, without its ending.
        meaning: its explanation in the settings table; empty: the name says enough.
        needs: settings that must not be empty for sending, and what each must be set to.
        defaults: the defaults of settings where they differ from the usual ones.
        url: the setting that holds its URL, for a destination over HTTP; empty: ``doctor`` looks at no network.
        extra: the optional package that its module needs, by its name in ``settings.extras``.
        prints: whether points go to standard output, so that commands print their reports on standard error.
        uses_account: whether requests are signed with the main account's key and name a region of the receiver.
    """

    module: str
    schema: str
    meaning: str = ""
    needs: Mapping[str, str] = {}
    defaults: Mapping[str, str] = {}
    url: str = ""
    extra: str = ""
    prints: bool = False
    uses_account: bool = False


DESTINATIONS: dict[str, DestinationKind] = {
    "receiver": DestinationKind(
        "metric_forwarder.destinations.receiver", "receiver", url="MF_RECEIVER_URL", uses_account=True
    ),
    "remote-write": DestinationKind(
        "metric_forwarder.destinations.remote_write",
        "remote-write",
        "Prometheus",
        needs={
            "MF_REMOTE_WRITE_URL": "the endpoint that takes Prometheus remote write, such as "
            "http://10.0.0.5:9090/api/v1/prom/write"
        },
        defaults={
            "MF_BATCH_MAX_POINTS": "500",
            "MF_BATCH_MAX_BYTES": "1000000",
            "MF_OTLP_RESOURCE": "target_info",
        },
        url="MF_REMOTE_WRITE_URL",
        extra="remote-write",
    ),
    "stdout": DestinationKind(
        "metric_forwarder.destinations.stdout", "stdout", "JSON Lines, for debugging and pipes", prints=True
    ),
}
"""What ``MF_DESTINATION`` may say; the first is the default."""
