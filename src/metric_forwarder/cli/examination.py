"""Whether the function could deliver from here, with these settings: one small check for each reason why not."""

import json
import socket
from collections.abc import Callable, Iterator
from email.utils import parsedate_to_datetime
from typing import NamedTuple
from urllib.parse import urlsplit

from metric_forwarder.clock import Clock
from metric_forwarder.core.regions import REGION_NAMES
from metric_forwarder.core.transport import Failure, HttpReply, HttpRequest, Transport
from metric_forwarder.settings import Settings

_TIMEOUT_S = 3.0
# The receiver's tolerance is not published; a clock kept by NTP is within far less.
_MAX_SKEW_S = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Patient(NamedTuple):
    """What is examined, and with what."""

    settings: Settings
    transport: Transport
    clock: Clock

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.settings.receiver_url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    def ask(self) -> HttpReply | Failure:
        """Ask the receiver for nothing: a request without content is answered with a return code, and a Date."""
        request = HttpRequest("GET", self.settings.receiver_url, {"Accept-Encoding": "identity"}, None)
        return self.transport.send(request, _TIMEOUT_S)


class Finding(NamedTuple):
    """What a check found: ``detail`` says what is fine, or else what to do."""

    is_ok: bool
    detail: str


class Check(NamedTuple):
    """One line of the examination; it is left out where the check it ``needs`` has found something."""

    name: str
    examine: Callable[[Patient], Finding]
    needs: str | None = None


def credentials(patient: Patient) -> Finding:
    secret_id = patient.settings.secret_id
    if secret_id and secret_id == patient.settings.secret_key.reveal():
        return Finding(False, "MF_SECRET_ID and MF_SECRET_KEY are the same: one of them was pasted twice")
    return Finding(True, "SecretId and SecretKey are set (the receiver takes the main account's alone)")


def region(patient: Patient) -> Finding:
    short = patient.settings.region
    return Finding(True, f"{short} ({REGION_NAMES[short]})")


def name_resolution(patient: Patient) -> Finding:
    host, port = patient.address
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return Finding(
            False,
            f"{host} has no address here: correct MF_RECEIVER_URL, or run this inside Tencent Cloud's network, where "
            "the receiver's name is known",
        )
    addresses = sorted({str(entry[4][0]) for entry in found})
    return Finding(True, f"{host} is {', '.join(addresses)}")


def connection(patient: Patient) -> Finding:
    host, port = patient.address
    try:
        socket.create_connection((host, port), timeout=_TIMEOUT_S).close()
    except OSError as error:
        return Finding(
            False,
            f"no connection to {host} port {port} ({error.strerror or 'no answer in time'}): allow it in the security "
            "group, put the function into a VPC, or correct MF_RECEIVER_URL",
        )
    return Finding(True, f"{host} port {port} accepts connections")


def answer(patient: Patient) -> Finding:
    reply = patient.ask()
    if isinstance(reply, Failure):
        return Finding(False, f"no HTTP answer ({reply.detail}): check MF_RECEIVER_URL, its port above all")
    try:
        decoded = json.loads(reply.body)
    except (ValueError, RecursionError):
        decoded = None
    if not isinstance(decoded, dict) or "code" not in decoded:
        return Finding(
            False,
            f"HTTP {reply.status}, and no return code of the receiver: something else answers at MF_RECEIVER_URL",
        )
    return Finding(
        True, f"the receiver answers (with {str(decoded['code'])[:10]}, since it was sent nothing)"
    )


def clock_skew(patient: Patient) -> Finding:
    reply = patient.ask()
    skew_s = None if isinstance(reply, Failure) else _skew_s(reply, patient.clock.time())
    if skew_s is None:
        return Finding(False, "the answer has no Date to compare with: compare this machine's clock by hand")
    if abs(skew_s) > _MAX_SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        return Finding(
            False,
            f"this clock is {abs(skew_s):.0f} s {side} the receiver's, which refuses times far from its own (1021): "
            "set it, by NTP for instance",
        )
    return Finding(True, f"within {_MAX_SKEW_S:.0f} s of the receiver's")


def _skew_s(reply: HttpReply, now: float) -> float | None:
    try:
        return parsedate_to_datetime(reply.headers.get("Date", "")).timestamp() - now
    except (TypeError, ValueError, OverflowError):
        return None


# In the order of the way there. To examine something more, write its function and add its line.
CHECKS: tuple[Check, ...] = (
    Check("credentials", credentials),
    Check("region", region),
    Check("name", name_resolution),
    Check("connection", connection, needs="name"),
    Check("answer", answer, needs="connection"),
    Check("clock", clock_skew, needs="answer"),
)


def examine(patient: Patient) -> Iterator[tuple[str, Finding]]:
    """Make every check that can be made."""
    passed = set()
    for check in CHECKS:
        if check.needs in passed or check.needs is None:
            finding = check.examine(patient)
        else:
            finding = Finding(False, f"not tried: first see to {check.needs}")
        if finding.is_ok:
            passed.add(check.name)
        yield check.name, finding
