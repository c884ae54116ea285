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

    def obtain(self, timeout_s: float) -> Verdict | None:
        """Get the key unless it is there already, within about ``timeout_s``; a verdict says why that failed."""

    def current(self) -> Credentials:
        """The key in force, once ``obtain`` has it."""

    def refresh(self, timeout_s: float) -> bool:
        """Get the key again, since it was refused; True if it is another one."""


class FixedCredentials:
    """A key that the settings hold."""

    def __init__(self, credentials: Credentials) -> None:
        self._credentials = credentials

    def obtain(self, timeout_s: float) -> Verdict | None:  # noqa: ARG002 - it is there already
        return None

    def current(self) -> Credentials:
        return self._credentials

    def refresh(self, timeout_s: float) -> bool:  # noqa: ARG002 - there is nowhere to get another
        return False
