"""The key requests are signed with, and where it comes from."""

from typing import NamedTuple, Protocol

from metric_forwarder.delivery.verdicts import Verdict
from metric_forwarder.secret import Secret


class Credentials(NamedTuple):
    """The main account's key."""

    secret_id: str
    secret_key: Secret


class CredentialSource(Protocol):
    """Holds the key while an instance is warm."""

    def ensure_loaded(self, timeout_s: float) -> Verdict | None:
        """Get the key unless it is already there, within about ``timeout_s``; return a verdict if that failed."""

    def current(self) -> Credentials:
        """Return the key in force; call ``ensure_loaded`` first."""

    def reload(self, timeout_s: float) -> bool:
        """Read the key again after it was refused; return True if it has changed."""


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
