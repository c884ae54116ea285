"""The key that signs requests, and its sources."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple, Protocol
from urllib.parse import urlsplit

from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.machine import Machine
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.secret import Secret
from metric_forwarder.settings.settings import Settings

if TYPE_CHECKING:
    from metric_forwarder.clients.secrets_manager import ReadSecret


class Credentials(NamedTuple):
    """The main account's key."""

    secret_id: str
    secret_key: Secret


class CredentialSource(Protocol):
    """Holds the key while an instance is warm."""

    def ensure_loaded(self, timeout_s: float) -> Verdict | None:
        """Get the key unless it is already there, within about ``timeout_s``; return a verdict if that failed."""

    def current(self) -> Credentials:
        """Return the present key; call ``ensure_loaded`` first."""

    def reload(self, timeout_s: float) -> bool:
        """Read the key again after it was refused; return True if it has changed."""

    def read(self, timeout_s: float) -> Credentials | Verdict:
        """Read the key again, and keep the one that is there; return a verdict if that failed."""


class FixedCredentials:
    """A key that the settings hold."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def ensure_loaded(self, timeout_s: float) -> Verdict | None:  # noqa: ARG002 - it is there already
        return None

    def current(self) -> Credentials:
        return self._credentials

    def reload(self, timeout_s: float) -> bool:  # noqa: ARG002 - there is nowhere to get another
        return False

    def read(self, timeout_s: float) -> Credentials | Verdict:  # noqa: ARG002 - it is there already
        return self._credentials


def make_credentials(
    settings: Settings, environ: Mapping[str, str], machine: Machine, read: "ReadSecret | None" = None
) -> CredentialSource:
    if not settings.secret_name:
        return FixedCredentials(Credentials(settings.secret_id, settings.secret_key))
    # Only where a setting asks for it.
    from metric_forwarder.clients.secrets_manager import SecretReference, SecretsManager  # noqa: PLC0415

    # Empty only where nothing needs the secret: see ``Settings.read``.
    region = REGION_NAMES.get(settings.region, settings.region)
    endpoint = settings.secret_endpoint
    is_public = (urlsplit(endpoint).hostname or "").endswith(".tencentcloudapi.com")
    ca_file = None if is_public else settings.ca_file or None
    reference = SecretReference(settings.secret_name, settings.secret_version, region, endpoint, ca_file)
    return SecretsManager(reference, environ, machine, read)
