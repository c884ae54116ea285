"""Checks whether the function could deliver from here, with these settings: one small check for each possible obstacle.

The command ``doctor`` runs the checks on your machine; the event ``{"doctor": true}`` runs them in the function.
"""

import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import unquote, urlsplit

from metric_forwarder.clients.background import SerialWorker
from metric_forwarder.clients.http import Failure, HttpReply, HttpRequest, server_time
from metric_forwarder.clients.reachability import addresses, connection_failure, unreachable
from metric_forwarder.clock import Deadline
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.http import HttpDestination
from metric_forwarder.destinations.parts import Parts, make_destination
from metric_forwarder.destinations.table import DestinationKind
from metric_forwarder.errors import ConfigError
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.settings.extras import imports_of
from metric_forwarder.settings.redis_address import RedisAddress
from metric_forwarder.settings.settings import Settings
from metric_forwarder.spool.making import make_spool
from metric_forwarder.spool.store import SpoolError
from metric_forwarder.times import in_words

SETTINGS_CAN_BE_USED = "every MF_ variable can be used"
_TIMEOUT_S = 3.0
# For all hosts that may be scraped together.
_PATIENCE_S = 10.0
# The receiver does not publish its tolerance, nor a remote-write endpoint how far ahead a point may be; NTP keeps a clock far
# closer than this.
_MAX_SKEW_S = 60.0
_DEFAULT_PORTS = {"http": 80, "https": 443}
_HTTP_OK = 200
# The receiver's return codes for a request without content.
_NOTHING_SENT = frozenset({ReturnCode.CONTENT_MISSING, ReturnCode.PARAMETER_MISSING})


class DoctorContext(NamedTuple):
    """What the checks examine, and the tools for it; ``function`` is the function's namespace and name."""

    settings: Settings
    parts: Parts
    function: str

    @property
    def url_setting(self) -> str:
        """The variable that holds the destination's URL."""
        return self.settings.kind.url

    @property
    def url(self) -> str:
        return str(self.settings.value_of(self.url_setting))

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]

    def destination(self) -> HttpDestination:
        """Make the destination as the function would; raises ``ConfigError`` if a package is missing."""
        made = make_destination(self.settings, self.parts)
        if not isinstance(made, HttpDestination):
            raise TypeError(f"{self.settings.destination} has no request to ask with")
        return made

    def ask(self) -> HttpReply | Failure:
        """Send a request without points, and get a reply with a Date.

        The receiver replies to a request without content with a return code. A remote-write request without series stores
        nothing.
        """
        if self.settings.destination == "receiver":
            request = HttpRequest("GET", self.url, {"Accept-Encoding": "identity"}, None)
        else:
            request = self.destination().request([])
        return self.parts.connect().send(request, _TIMEOUT_S)


class CheckResult(NamedTuple):
    """The result of a check: ``detail`` says what is fine, or what to do."""

    is_ok: bool
    detail: str


class Check(NamedTuple):
    """One line of ``doctor``; a check is not run if the check that it ``needs`` has failed."""

    name: str
    run: Callable[[DoctorContext], CheckResult]
    needs: str | None = None
    applies: Callable[[DestinationKind], bool] = lambda _: True


def credentials(context: DoctorContext) -> CheckResult:
    found = context.parts.credentials.read(_TIMEOUT_S)
    if isinstance(found, Verdict):
        return CheckResult(False, found.reason)
    secret_id, secret_key = found
    if secret_id == secret_key.reveal():
        return CheckResult(False, "SecretId and SecretKey are the same: one of them was pasted twice")
    if not secret_id.startswith("AKID"):
        return CheckResult(
            False, "the SecretId does not begin with AKID, as every SecretId of Tencent Cloud does: check it"
        )
    where = f"the secret {context.settings.secret_name}" if context.settings.secret_name else "the settings"
    return CheckResult(
        True,
        f"{where} hold a SecretId of {len(secret_id)} characters and a SecretKey; whether the receiver accepts them (only those "
        "of the main account) shows only when the first point is sent",
    )


def region(context: DoctorContext) -> CheckResult:
    short = context.settings.region
    return CheckResult(True, f"{short} ({REGION_NAMES[short]})")


def name_resolution(context: DoctorContext) -> CheckResult:
    host, port = context.address
    found = addresses(host, port)
    if not found:
        return CheckResult(
            False,
            f"{host} has no address here: correct {context.url_setting}, or run this inside Tencent Cloud's network, "
            "where the name is known",
        )
    return CheckResult(True, f"{host} is {', '.join(found)}")


def connection(context: DoctorContext) -> CheckResult:
    host, port = context.address
    failure = connection_failure(host, port, _TIMEOUT_S)
    if failure is not None:
        return CheckResult(
            False,
            f"no connection to {host} port {port} ({failure}): allow it in the security group, put the function into a "
            f"VPC, or correct {context.url_setting}",
        )
    return CheckResult(True, f"{host} port {port} accepts connections")


def answer(context: DoctorContext) -> CheckResult:
    try:
        return ANSWERS.get(context.settings.destination, _http_answer)(context)
    except ConfigError as error:
        return CheckResult(False, "; ".join(error.problems))


def _http_answer(context: DoctorContext) -> CheckResult:
    """Send a request without points, and let the destination judge the reply."""
    verdict = context.destination().judge(context.ask())
    return CheckResult(verdict.action is Action.ACCEPT, verdict.reason)


def _remote_write_answer(context: DoctorContext) -> CheckResult:
    destination = context.destination()
    verdict = destination.judge(reply := context.ask())
    if isinstance(reply, Failure):
        return CheckResult(
            False,
            f"{verdict.reason}; MF_REMOTE_WRITE_URL may have the wrong port, or the wrong one of http and https",
        )
    if verdict.action is Action.SPLIT:
        return CheckResult(
            False,
            f"HTTP {reply.status} to a request without points: check MF_REMOTE_WRITE_URL; if points do arrive, only "
            "the empty request was refused",
        )
    if verdict.action is not Action.ACCEPT:
        return CheckResult(False, verdict.reason)
    not_remote_write = destination.prepare(_TIMEOUT_S)
    if not_remote_write is not None:
        return CheckResult(False, not_remote_write.reason)
    return CheckResult(True, f"the destination answers (with HTTP {reply.status} to an empty request)")


def _receiver_answer(context: DoctorContext) -> CheckResult:
    reply = context.ask()
    if isinstance(reply, Failure):
        return CheckResult(
            False, f"no HTTP answer ({reply.detail}): check MF_RECEIVER_URL, its port above all"
        )
    verdict = context.destination().judge(reply)
    if reply.status != _HTTP_OK or not verdict.code:
        return CheckResult(
            False,
            f"HTTP {reply.status}, and no return code for an empty request: another server answers at "
            "MF_RECEIVER_URL",
        )
    if verdict.code not in _NOTHING_SENT:
        return CheckResult(False, f"{verdict.code} to an empty request: {verdict.reason}")
    return CheckResult(True, f"the receiver answers (with {verdict.code} to an empty request)")


def clock_skew(context: DoctorContext) -> CheckResult:
    reply = context.ask()
    theirs_s = None if isinstance(reply, Failure) else server_time(reply)
    if theirs_s is None:
        return CheckResult(False, "the reply has no Date: check this machine's clock by hand")
    skew_s = theirs_s - context.parts.machine.clock.time()
    if abs(skew_s) > _MAX_SKEW_S:
        side = "behind" if skew_s > 0 else "ahead of"
        return CheckResult(
            False,
            f"this clock is {in_words(abs(skew_s))} {side} the destination's, which refuses times that are too far from its own"
            ": set it, by NTP for instance",
        )
    return CheckResult(True, f"within {_MAX_SKEW_S:.0f} s of the destination's")


def dedupe_store(context: DoctorContext) -> CheckResult:
    dedupe = context.settings.dedupe
    if isinstance(dedupe, RedisAddress):
        return _redis(context, dedupe)
    where = {"memory:": "each warm instance remembers for itself", "off": "nothing is remembered"}
    return CheckResult(True, f"{where[dedupe]} (MF_DEDUPE)")


def spool(context: DoctorContext) -> CheckResult:
    settings = context.settings
    if isinstance(settings.spool, RedisAddress):
        return _redis_spool(context, settings.spool)
    if not settings.spool:
        return CheckResult(True, "none: undelivered points are left to the platform's redelivery (MF_SPOOL)")
    return _spool_folder(context, settings.spool)


def bridge(context: DoctorContext) -> CheckResult:
    settings = context.settings
    if not settings.bridge_accounts:
        return CheckResult(True, "closed: no MF_BRIDGE_ACCOUNTS")
    if settings.bridge_accounts == "own":
        return CheckResult(True, "open to clients that sign with the forwarder's own key")
    count = len(settings.bridge_accounts)
    clients = (
        "1 account that signs with its key" if count == 1 else f"{count} accounts that sign with their keys"
    )
    return CheckResult(True, f"open to clients of {clients}")


def http_exposure(context: DoctorContext) -> CheckResult:
    settings = context.settings
    if settings.http_auth == "cam":
        return CheckResult(
            True, "open to clients that the platform lets in: check that the trigger requires CAM"
        )
    if not settings.http_token:
        return CheckResult(True, "closed: no MF_HTTP_TOKEN")
    return CheckResult(True, "open to clients that know MF_HTTP_TOKEN")


def scrape(context: DoctorContext) -> CheckResult:
    hosts = context.settings.scrape_hosts
    if not hosts:
        return CheckResult(True, "closed: no MF_SCRAPE_HOSTS")
    failures = unreachable(hosts, context.parts.machine, _TIMEOUT_S, _PATIENCE_S)
    if failures:
        closed = ", ".join(f"{host} {failure}" for host, failure in failures.items())
        return CheckResult(
            False,
            f"{closed}: correct MF_SCRAPE_HOSTS, allow the ports in the security groups, or put the function into the VPC",
        )
    return CheckResult(True, f"open to {', '.join(hosts)}: the names are known, and the given ports are open")


def self_metrics(context: DoctorContext) -> CheckResult:
    settings = context.settings
    if settings.self_metrics == "off":
        return CheckResult(True, "off (MF_SELF_METRICS)")
    if not settings.remote_write_url:
        return CheckResult(
            False,
            "MF_SELF_METRICS is on, but MF_REMOTE_WRITE_URL is empty, so they are written nowhere: set it, or MF_SELF_METRICS to "
            "off; only metric-forwarder serve does without it, since it shows them at /metrics",
        )
    return CheckResult(True, "written to MF_REMOTE_WRITE_URL (MF_SELF_METRICS)")


def _spool_folder(context: DoctorContext, url: str) -> CheckResult:
    folder = Path(unquote(urlsplit(url).path))
    try:
        existing = _nearest(folder)
    except OSError as error:
        return CheckResult(
            False, f"{folder} cannot be read ({error.strerror}): mount it, or correct MF_SPOOL"
        )
    if existing != folder and existing == existing.parent:
        return CheckResult(
            False, f"{folder} does not exist, nor does its mount: mount it, or correct MF_SPOOL"
        )
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        return CheckResult(False, f"{existing} cannot be written: mount it, or correct MF_SPOOL")
    if existing == folder:
        return _waiting(context, f"{folder} can be written")
    return CheckResult(True, f"{folder} does not exist yet: it will be made below {existing}")


def _nearest(folder: Path) -> Path:
    """The folder, or its nearest parent that exists; raises ``OSError`` if that may not be read."""
    try:
        folder.stat()
    except (FileNotFoundError, NotADirectoryError):
        return _nearest(folder.parent)
    return folder


def _redis_spool(context: DoctorContext, address: RedisAddress) -> CheckResult:
    result = _redis(context, address, for_spool=True)
    return _waiting(context, result.detail) if result.is_ok else result


def _waiting(context: DoctorContext, detail: str) -> CheckResult:
    """Add to a good result how much waits in the spool."""
    store = make_spool(context.settings, context.function, context.parts.machine)
    try:
        points, both = (store.waiting(dead_letters=dead_letters) for dead_letters in (False, True))
        others = store.others()
    except SpoolError as error:
        return CheckResult(False, str(error))
    dead = both - points
    counted = f"of {context.function} {points} {'point waits' if points == 1 else 'points wait'}, "
    counted += f"{dead} dead letter{'' if dead == 1 else 's'}"
    return CheckResult(
        True, "; ".join([detail, counted, *(f"there are also records of {other}" for other in others)])
    )


def _redis(context: DoctorContext, address: RedisAddress, *, for_spool: bool = False) -> CheckResult:
    try:
        with imports_of("redis", "MF_SPOOL" if for_spool else "MF_DEDUPE"):
            from metric_forwarder.spool.redis_check import check_redis  # noqa: PLC0415 - it needs an extra
    except ConfigError as error:
        return CheckResult(False, "; ".join(error.problems))
    found = check_redis(address, context.parts.machine, for_spool=for_spool)
    bad = [f"{one.seen}: {one.remedy}" for one in found if not one.ok]
    return CheckResult(not bad, "; ".join(bad or (one.seen for one in found)))


ANSWERS: Mapping[str, Callable[[DoctorContext], CheckResult]] = {
    "receiver": _receiver_answer,
    "remote-write": _remote_write_answer,
}
"""The destinations whose reply to an empty request says more than the verdict on it."""


def _uses_account(kind: DestinationKind) -> bool:
    return kind.uses_account


def _has_url(kind: DestinationKind) -> bool:
    return bool(kind.url)


# In the order of a point's way. To add a check, write its function and add its line.
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
    Check("metrics", self_metrics),
)


def run_checks(context: DoctorContext, deadline: Deadline | None = None) -> Iterator[tuple[str, CheckResult]]:
    """Run every check that applies to the destination, in order, until the deadline."""
    passed = set()
    try:
        worker = SerialWorker("doctor", context.parts.machine.tasks) if deadline else None
    except RuntimeError:
        yield "threads", CheckResult(False, "no thread could be started: raise the function's memory")
        return
    for check in CHECKS:
        if not check.applies(context.settings.kind):
            continue
        if check.needs not in passed and check.needs is not None:
            result = CheckResult(False, f"not checked: {check.needs} must be ok first")
        elif worker is None or deadline is None:
            result = check.run(context)
        else:
            result = _run_in_time(worker, check, context, deadline)
        if result.is_ok:
            passed.add(check.name)
        yield check.name, result
    if worker:
        worker.dismiss()


def _run_in_time(
    worker: SerialWorker, check: Check, context: DoctorContext, deadline: Deadline
) -> CheckResult:
    """Run a check until the deadline at most, since no timeout covers a name server that never answers."""
    if worker.is_busy or deadline.remaining() <= 0:
        return CheckResult(False, "not checked: the function's time was up; raise its timeout")
    try:
        return worker.submit(lambda: check.run(context)).result(deadline.remaining())
    except TimeoutError:
        return CheckResult(False, "gave no answer within the function's time limit")


def examine(context: DoctorContext, deadline: Deadline | None = None) -> dict[str, Any]:
    """Run the checks, and return their results as JSON: ``status`` is ``ok`` or ``failed``."""
    found = [("settings", CheckResult(True, SETTINGS_CAN_BE_USED)), *run_checks(context, deadline)]
    checks = [{"name": name, "ok": result.is_ok, "detail": result.detail} for name, result in found]
    return {"status": "ok" if all(result.is_ok for _, result in found) else "failed", "checks": checks}
