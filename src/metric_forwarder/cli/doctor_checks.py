"""Whether the function could deliver from here, with these settings: one small check for each reason why not."""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from metric_forwarder.bootstrap import make_destination, make_spool
from metric_forwarder.cli.local_function import FUNCTION
from metric_forwarder.cli.reachability import addresses, connection_failure, unreachable
from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, Transport, server_time
from metric_forwarder.clock import Clock
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.delivery.verdicts import Action
from metric_forwarder.destinations.http import HttpDestination
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.destinations.table import DestinationKind
from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.store import SpoolError

_TIMEOUT_S = 3.0
# For all hosts that may be scraped.
_PATIENCE_S = 10.0
# The receiver's tolerance is not published, nor how far ahead a remote-write endpoint takes a point; a clock kept by NTP is within far less.
_MAX_SKEW_S = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTP_OK = 200
# What a request without any content earns at the receiver's own path.
_NOTHING_SENT = frozenset({ReturnCode.CONTENT_MISSING, ReturnCode.PARAMETER_MISSING})


class Patient(NamedTuple):
    """What is examined, and with what."""

    settings: Settings
    credentials: CredentialSource
    transport: Transport
    clock: Clock

    @property
    def url_setting(self) -> str:
        """The variable that says where points go."""
        return self.settings.kind.url

    @property
    def url(self) -> str:
        return str(self.settings.value_of(self.url_setting))

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    def destination(self) -> HttpDestination:
        """Make what the function would send with; raises ``ConfigError`` where a package is missing."""
        made = make_destination(self.settings, Parts(self.credentials, lambda: self.transport, self.clock))
        if not isinstance(made, HttpDestination):
            raise TypeError(f"{self.settings.destination} has no request to ask with")
        return made

    def ask(self) -> HttpReply | Failure:
        """Send nothing and get an answer with a Date.

        The receiver answers a request without content with a return code. Remote write has a request without any
        series; it stores nothing.
        """
        if self.settings.destination == "receiver":
            request = HttpRequest("GET", self.url, {"Accept-Encoding": "identity"}, None)
        else:
            request = self.destination().request([])
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
    applies: Callable[[DestinationKind], bool] = lambda _: True


def credentials(patient: Patient) -> Finding:
    failure = patient.credentials.obtain(_TIMEOUT_S)
    if failure is not None:
        return Finding(False, failure.reason)
    secret_id, secret_key = patient.credentials.current()
    if secret_id == secret_key.reveal():
        return Finding(False, "SecretId and SecretKey are the same: one of them was pasted twice")
    if not secret_id.startswith("AKID"):
        return Finding(False, "the SecretId does not begin with AKID, as Tencent Cloud's do: check it")
    where = f"the secret {patient.settings.secret_name}" if patient.settings.secret_name else "the settings"
    return Finding(
        True,
        f"{where} hold a SecretId of {len(secret_id)} characters and a SecretKey; whether they are the main account's, "
        "the only ones the receiver takes, shows with the first point",
    )


def region(patient: Patient) -> Finding:
    short = patient.settings.region
    return Finding(True, f"{short} ({REGION_NAMES[short]})")


def name_resolution(patient: Patient) -> Finding:
    host, port = patient.address
    found = addresses(host, port)
    if not found:
        return Finding(
            False,
            f"{host} has no address here: correct {patient.url_setting}, or run this inside Tencent Cloud's network, "
            "where the name is known",
        )
    return Finding(True, f"{host} is {', '.join(found)}")


def connection(patient: Patient) -> Finding:
    host, port = patient.address
    failure = connection_failure(host, port, _TIMEOUT_S)
    if failure is not None:
        return Finding(
            False,
            f"no connection to {host} port {port} ({failure}): allow it in the security group, put the function into a "
            f"VPC, or correct {patient.url_setting}",
        )
    return Finding(True, f"{host} port {port} accepts connections")


def answer(patient: Patient) -> Finding:
    return ANSWERS.get(patient.settings.destination, _http_answer)(patient)


def _http_answer(patient: Patient) -> Finding:
    """What a destination over HTTP replies to a request without any point, as it judges it itself."""
    try:
        verdict = patient.destination().judge(patient.ask())
    except ConfigError as error:
        return Finding(False, "; ".join(error.problems))
    return Finding(verdict.action is Action.ACCEPT, verdict.reason)


def _remote_write_answer(patient: Patient) -> Finding:
    try:
        destination = patient.destination()
        verdict = destination.judge(reply := patient.ask())
    except ConfigError as error:
        return Finding(False, "; ".join(error.problems))
    if isinstance(reply, Failure):
        return Finding(
            False,
            f"{verdict.reason}; MF_REMOTE_WRITE_URL may have the wrong port, or the wrong one of http and https",
        )
    if verdict.action is Action.SPLIT:
        return Finding(
            False,
            f"HTTP {reply.status} to a request without any point: check MF_REMOTE_WRITE_URL; if points do arrive, only "
            "the emptiness was refused",
        )
    if verdict.action is not Action.ACCEPT:
        return Finding(False, verdict.reason)
    not_remote_write = destination.prepare(_TIMEOUT_S)
    if not_remote_write is not None:
        return Finding(False, not_remote_write.reason)
    return Finding(True, f"the destination answers (with HTTP {reply.status}, since it was sent nothing)")


def _receiver_answer(patient: Patient) -> Finding:
    reply = patient.ask()
    if isinstance(reply, Failure):
        return Finding(False, f"no HTTP answer ({reply.detail}): check MF_RECEIVER_URL, its port above all")
    verdict = patient.destination().judge(reply)
    if reply.status != _HTTP_OK or not verdict.code:
        return Finding(
            False,
            f"HTTP {reply.status}, and no return code that fits an empty question: something else answers at "
            "MF_RECEIVER_URL",
        )
    if verdict.code not in _NOTHING_SENT:
        return Finding(False, f"{verdict.code} to an empty question: {verdict.reason}")
    return Finding(True, f"the receiver answers (with {verdict.code}, since it was sent nothing)")


def clock_skew(patient: Patient) -> Finding:
    reply = patient.ask()
    told = None if isinstance(reply, Failure) else server_time(reply)
    if told is None:
        return Finding(False, "the answer has no Date to compare with: compare this machine's clock by hand")
    skew_s = told - patient.clock.time()
    if abs(skew_s) > _MAX_SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        return Finding(
            False,
            f"this clock is {abs(skew_s):.0f} s {side} the destination's, which refuses times far from its own"
            ": set it, by NTP for instance",
        )
    return Finding(True, f"within {_MAX_SKEW_S:.0f} s of the destination's")


def dedupe_store(patient: Patient) -> Finding:
    dedupe = patient.settings.dedupe
    if isinstance(dedupe, RedisAddress):
        return _redis(dedupe)
    where = {"memory:": "each warm instance remembers for itself", "off": "nothing is remembered"}
    return Finding(True, f"{where[dedupe]} (MF_DEDUPE)")


def spool(patient: Patient) -> Finding:
    settings = patient.settings
    if isinstance(settings.spool, RedisAddress):
        return _redis_spool(settings, settings.spool)
    if not settings.spool:
        return Finding(True, "none: what is undelivered the platform redelivers (MF_SPOOL)")
    return _spool_folder(settings, settings.spool)


def bridge(patient: Patient) -> Finding:
    settings = patient.settings
    if not settings.bridge_accounts:
        return Finding(True, "closed: no MF_BRIDGE_ACCOUNTS")
    if settings.bridge_accounts == "own":
        return Finding(True, "open to clients that sign with the forwarder's own key")
    return Finding(
        True, f"open to clients of {len(settings.bridge_accounts)} accounts that sign with their key"
    )


def http_exposure(patient: Patient) -> Finding:
    settings = patient.settings
    if settings.http_auth == "cam":
        return Finding(True, "open to whom the platform lets in: check that the trigger asks for CAM")
    if not settings.http_token:
        return Finding(True, "closed: no MF_HTTP_TOKEN")
    return Finding(True, "open to whoever knows MF_HTTP_TOKEN")


def scrape(patient: Patient) -> Finding:
    hosts = patient.settings.scrape_hosts
    if not hosts:
        return Finding(True, "closed: no MF_SCRAPE_HOSTS")
    failures = unreachable(hosts, _TIMEOUT_S, _PATIENCE_S)
    if failures:
        told = ", ".join(f"{host} {failure}" for host, failure in failures.items())
        return Finding(
            False,
            f"{told}: correct MF_SCRAPE_HOSTS, allow the ports in the security groups, or put the function into the VPC",
        )
    return Finding(True, f"open to {', '.join(hosts)}: names are known, and where a port is given it is open")


def _spool_folder(settings: Settings, url: str) -> Finding:
    folder = Path(unquote(urlsplit(url).path))
    try:
        existing = _nearest(folder)
    except OSError as error:
        return Finding(False, f"{folder} cannot be read ({error.strerror}): mount it, or correct MF_SPOOL")
    if existing != folder and existing == existing.parent:
        return Finding(False, f"{folder} does not exist, nor does its mount: mount it, or correct MF_SPOOL")
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return Finding(False, f"{existing} cannot be written: mount it, or correct MF_SPOOL")
    if existing == folder:
        return _waiting(settings, f"{folder} can be written")
    return Finding(True, f"{folder} does not exist yet: it will be made below {existing}")


def _nearest(folder: Path) -> Path:
    """The folder, or what exists of the way to it; raises ``OSError`` where nobody may look."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(folder.parent)
    return folder


def _redis_spool(settings: Settings, address: RedisAddress) -> Finding:
    finding = _redis(address, for_spool=True)
    return _waiting(settings, finding.detail) if finding.is_ok else finding


def _waiting(settings: Settings, detail: str) -> Finding:
    """What is well with the spool, and what waits there."""
    store = make_spool(settings, FUNCTION)
    try:
        points, both = (store.waiting(dead_letters=dead_letters) for dead_letters in (False, True))
        others = store.others()
    except SpoolError as error:
        return Finding(False, str(error))
    dead = both - points
    counted = f"of {FUNCTION} {points} {'point waits' if points == 1 else 'points wait'}, "
    counted += f"{dead} dead letter{'' if dead == 1 else 's'}"
    return Finding(
        True, "; ".join([detail, counted, *(f"there are some of {other}, too" for other in others)])
    )


def _redis(address: RedisAddress, *, for_spool: bool = False) -> Finding:
    try:
        with imports_of("redis", "MF_SPOOL" if for_spool else "MF_DEDUPE"):
            from metric_forwarder.cli.redis_check import check_redis
    except ConfigError as error:
        return Finding(False, "; ".join(error.problems))
    found = check_redis(address, for_spool=for_spool)
    bad = [f"{one.seen}: {one.remedy}" for one in found if not one.ok]
    return Finding(not bad, "; ".join(bad or (one.seen for one in found)))


ANSWERS: Mapping[str, Callable[[Patient], Finding]] = {
    "receiver": _receiver_answer,
    "remote-write": _remote_write_answer,
}
"""How the reply of a destination is judged that says more than its verdict does."""


def _uses_account(kind: DestinationKind) -> bool:
    return kind.uses_account


def _has_url(kind: DestinationKind) -> bool:
    return bool(kind.url)


# In the order of the way there. To examine something more, write its function and add its line.
CHECKS: tuple[Check, ...] = (
    Check("credentials", credentials, applies=_uses_account),
    Check("region", region, applies=_uses_account),
    Check("name", name_resolution, applies=_has_url),
    Check("connection", connection, needs="name", applies=_has_url),
    Check("answer", answer, needs="connection", applies=_has_url),
    Check("clock", clock_skew, needs="answer", applies=_has_url),
    Check("dedupe", dedupe_store),
    Check("spool", spool),
    Check("http", http_exposure),
    Check("bridge", bridge),
    Check("scrape", scrape),
)


def examine(patient: Patient) -> Iterator[tuple[str, Finding]]:
    """Make every check that can be made."""
    passed = set()
    for check in CHECKS:
        if not check.applies(patient.settings.kind):
            continue
        if check.needs in passed or check.needs is None:
            finding = check.examine(patient)
        else:
            finding = Finding(False, f"not tried: first see to {check.needs}")
        if finding.is_ok:
            passed.add(check.name)
        yield check.name, finding
