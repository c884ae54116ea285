"""Prometheus remote write 1.0: Managed Service for Prometheus, a CLS metric topic, or any other such endpoint.

Source: the remote write 1.0 specification. docs/remote-write.md says what becomes of a point and what each reply means;
``remote_write_wire`` writes the bytes.
"""

import hashlib
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from metric_forwarder import __version__
from metric_forwarder.clients.http import (
    Failure,
    HttpReply,
    HttpRequest,
    Transport,
)
from metric_forwarder.delivery.verdicts import Action, Rule, Verdict
from metric_forwarder.destinations.http import HttpDestination, judge_failure, with_head
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.destinations.remote_write_proof import EMPTY_BODY, EndpointProof
from metric_forwarder.destinations.remote_write_wire import (
    compress,
    encode_labels,
    encode_points,
)
from metric_forwarder.destinations.server_clock import ServerClocks
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.machine import Machine
from metric_forwarder.model import Batch, Series
from metric_forwarder.secret import Secret
from metric_forwarder.settings.readers import RESERVED_HEADERS
from metric_forwarder.settings.settings import Settings

NAME_LABEL = "__name__"
_MAX_NAME = 1024
# Bytes of a reply that are read; a reply that refuses one point names it near the beginning.
_LOOKED_AT = 4096
# Series whose labels an instance remembers, to notice two with the same labels; each takes about 200 bytes. They are more than
# the intake remembers, which does not ask again about those.
_REMEMBERED_SERIES = 40_000
_DIGEST_BYTES = 16

NO_HEADERS: Mapping[str, Secret] = MappingProxyType({})

_is_metric_name = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*").fullmatch
_is_label_name = re.compile(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]*").fullmatch
_is_half_a_character = re.compile("[\ud800-\udfff]").search


class RemoteWrite(HttpDestination):
    """Encodes and judges for a remote-write endpoint.

    Args:
        url: where requests go.
        user: for basic authentication; empty: the password is a bearer token.
        password: empty: requests are not authenticated.
        transport: carries the requests.
        machine: its clock dates replies and bounds the proof.
        clocks: what is known of the clock of each destination.
        headers: more headers for each request, such as the tenant's; never one of ``RESERVED_HEADERS``.
        is_checked: whether the endpoint must prove that it accepts remote write.
    """

    carries_timestamps = True
    carries_non_finite = True
    ordered = True

    def __init__(
        self,
        *,
        url: str,
        user: str,
        password: Secret,
        transport: Transport,
        machine: Machine,
        clocks: ServerClocks,
        headers: Mapping[str, Secret] = NO_HEADERS,
        is_checked: bool = True,
    ) -> None:
        self.scope = f"remote-write {url} {user}{_tenant(headers)}"
        super().__init__(transport, machine.clock, clocks[self.scope])
        self._url = url
        self._headers = (
            {name: value.reveal() for name, value in headers.items() if name.lower() not in RESERVED_HEADERS}
            | _HEADERS
            | _authorization(user, password)
        )
        self._known: dict[bytes, bytes] = {}
        self._proof = EndpointProof(self._ask, self.judge, machine, is_off=not is_checked)

    def prepare_series(self, series: Series, dimensions: Mapping[str, str]) -> Violation | None:
        """Find a name that Prometheus does not accept, and a series with the labels of another one."""
        name = f"{series.namespace}_{series.metric}" if series.namespace else series.metric
        violation = _wrong_name(name, dimensions)
        if violation is not None:
            return violation
        # To Prometheus, a label with an empty value does not exist.
        labels = [(NAME_LABEL, name), *(pair for pair in dimensions.items() if pair[1])]
        series.encoded_prefix = encode_labels(sorted(labels))
        return self._collision(series)

    def encode(
        self, series: Iterable[Series], values: Iterable[float], times_ms: Iterable[int]
    ) -> list[bytes]:
        return encode_points([each.encoded_prefix for each in series], values, times_ms)

    def prepare(self, timeout_s: float) -> Verdict | None:
        """Let the endpoint prove that it accepts remote write, once while the instance is warm."""
        return self._proof.before_points(timeout_s)

    def send(self, batch: Batch, timeout_s: float) -> Verdict:
        until = self._clock.monotonic() + timeout_s
        verdict = super().send(batch, timeout_s)
        if verdict.action is Action.ACCEPT:
            found = self._proof.after_success(until)
            if found is None or found.retry_after_s is None:
                return found or verdict
            return verdict._replace(retry_after_s=found.retry_after_s)
        if verdict.action is Action.SPLIT and len(batch) == 1 and verdict.label not in _KNOWN_LABELS:
            return self._proof.after_refusal(until) or verdict
        return verdict

    def request(self, batch: Batch) -> HttpRequest:
        body = compress([point.wire for point in batch])
        return HttpRequest("POST", self._url, self._headers, body)

    def smallest_request(self) -> HttpRequest:
        return HttpRequest("POST", self._url, self._headers, EMPTY_BODY)

    def write(self, series: Sequence[bytes], timeout_s: float) -> Verdict:
        """Write encoded series that are not points of an event, in one attempt."""
        return self.judge(self._ask(compress(series), timeout_s))

    def judge(self, reply: HttpReply | Failure) -> Verdict:
        if isinstance(reply, Failure):
            return judge_failure(reply, "the destination", _UNENCRYPTED, _UNREACHABLE)
        return with_head(_judge_reply(reply), reply, self._clock.time())

    def is_its_own(self, verdict: Verdict) -> bool:
        return verdict.action is Action.ACCEPT

    def _ask(self, body: bytes, timeout_s: float) -> HttpReply | Failure:
        return self._transport.send(HttpRequest("POST", self._url, self._headers, body), timeout_s)

    def _collision(self, series: Series) -> Violation | None:
        """Whether an earlier series of this instance has the same labels; the oldest series is forgotten first."""
        own = series.digest
        holder = self._known.setdefault(_digest(series.encoded_prefix), own)
        if len(self._known) > _REMEMBERED_SERIES:
            del self._known[next(iter(self._known))]
        return None if holder == own else _TAKEN


def _wrong_name(name: str, dimensions: Mapping[str, str]) -> Violation | None:
    """Check the names here: a schema cannot check a name of two parts, and a user's own schema may accept others."""
    if len(name) > _MAX_NAME or not _is_metric_name(name):
        remedy = (
            'does not make a metric name together with its namespace: "namespace_metricName" must be at most '
            f"{_MAX_NAME} letters, digits, underscores and colons, no digit first"
        )
        return Violation("/metricName", "pattern", remedy)
    for label, value in dimensions.items():
        if not _is_label_name(label):
            remedy = "has a name that cannot be a label: use letters, digits and underscores, without a digit or two underscores first"
            return Violation("/dimensions", "pattern", remedy)
        if _is_half_a_character(value):
            return Violation("/dimensions", "pattern", "has a value that is not valid Unicode: correct it")
    return None


def _digest(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=_DIGEST_BYTES).digest()


def _tenant(headers: Mapping[str, Secret]) -> str:
    """Distinguish the tenants of one endpoint, without their secrets."""
    if not headers:
        return ""
    named = sorted((name.lower(), value.reveal()) for name, value in headers.items())
    return f" {_digest(json.dumps(named).encode()).hex()}"


def _authorization(user: str, password: Secret) -> dict[str, str]:
    if not password:
        return {}
    if not user:
        return {"Authorization": f"Bearer {password.reveal()}"}
    return {"Authorization": "Basic " + b64encode(f"{user}:{password.reveal()}".encode()).decode("ascii")}


_HEADERS = {
    "Accept-Encoding": "identity",
    "Content-Encoding": "snappy",
    "Content-Type": "application/x-protobuf",
    "User-Agent": f"metric-forwarder/{__version__}",
    "X-Prometheus-Remote-Write-Version": "0.1.0",
}
_TAKEN = Violation(
    "/metricName",
    "collision",
    'has the same labels as another series: "namespace_metricName" and the dimensions without the empty ones must tell '
    "them apart; rename one",
)

_CORRECT = "correct the named points at their producer"
_REFUSED = Rule(
    Action.SPLIT,
    f"the destination does not accept them: {_CORRECT}, or raise the destination's limits; if all are named, check "
    "MF_REMOTE_WRITE_URL",
)
_AUTHENTICATION = Rule(Action.STOP, "check MF_REMOTE_WRITE_USER and MF_REMOTE_WRITE_PASSWORD")
_URL = Rule(
    Action.STOP, "check MF_REMOTE_WRITE_URL, and whether the server there accepts Prometheus remote write 1.0"
)
_PASSING = Rule(
    Action.STOP, "wait: remote write forbids trying again at once; the points can still be delivered"
)
_HEALTH = "check the destination's health"
_SERVER = f"{_HEALTH}; the points can still be delivered"

# The other 2xx statuses say that a part of the request was accepted, or that a proxy answered.
_SUCCESSES = frozenset({200, 201, 202, 203, 204})

# HTTP statuses that are judged differently from the rest of their class; the classes are in ``status_rule``.
STATUSES: Mapping[int, Rule] = {
    401: _AUTHENTICATION,
    402: Rule(Action.STOP, "pay the destination's bill"),
    403: _AUTHENTICATION,
    404: _URL,
    405: _URL,
    406: _URL,
    407: _URL,
    408: _PASSING,
    410: _URL,
    411: _URL,
    413: Rule(Action.SHRINK, "lower MF_BATCH_MAX_BYTES"),
    415: _URL,
    421: _URL,
    425: _PASSING,
    426: _URL,
    429: Rule(Action.SLOW_DOWN, "lower MF_CONCURRENCY, or raise the destination's limits"),
    431: Rule(Action.STOP, "shorten MF_REMOTE_WRITE_PASSWORD"),
    502: Rule(Action.RESEND, _HEALTH),
    503: Rule(Action.HOLD_OFF, _SERVER),
    504: Rule(Action.RESEND, _HEALTH),
}


def status_rule(status: int) -> Rule:
    """The rule for an HTTP status: the table's, otherwise that of its class."""
    if status in STATUSES:
        return STATUSES[status]
    if status in _SUCCESSES:
        return Rule(Action.ACCEPT, "nothing")
    match status // 100:
        case 4:
            return _REFUSED
        case 5:
            return Rule(Action.RETRY, _SERVER)
        case _:
            return _URL


class KnownRefusal(NamedTuple):
    """A refusal of a sample that is recognised by words in the reply, with its label in reports and its reason."""

    words: tuple[str, ...]
    label: str
    reason: str


# The words of Prometheus, and of Thanos, Cortex, Mimir and others that took them over.
REFUSALS: tuple[KnownRefusal, ...] = (
    KnownRefusal(
        ("duplicate sample", "duplicate-timestamp", "same timestamp", "new value for timestamp"),
        "other value",
        "the destination holds another value of the series at this time: give each reading its own timestamp, or a label that "
        "tells it apart (MF_OTLP_RESOURCE=labels makes labels of an OTLP resource's attributes)",
    ),
    KnownRefusal(
        ("too far in future", "too-far-in-future", "too far in the future"),
        "in the future",
        "the timestamp is too far in the future for the destination: correct the producer's clock",
    ),
    KnownRefusal(
        ("out of bounds", "too old", "too-old"),
        "too old",
        "the destination does not accept so old (or so new) a timestamp; if the reply to an earlier request was lost, the point may "
        "be stored already: send sooner, correct the producer's clock, or give the destination a longer out-of-order time window",
    ),
    KnownRefusal(
        ("out of order", "out-of-order", "more recent timestamp"),
        "out of order",
        "the destination holds a later sample of the series: this one came too late, or is stored already; send in "
        "order, or give the destination an out-of-order time window",
    ),
)
_KNOWN_LABELS = frozenset(refusal.label for refusal in REFUSALS)
# The statuses that refuse samples.
_SPEAKING = frozenset({400, 409, 422})
# What Prometheus before 2.50 answers to a sample older than its out-of-order window, with the status 500 (its pull request
# 13335).
_OLD_REFUSAL = (500, b"too old sample")
# VictoriaMetrics reports an unknown path with the status 400. The text must begin so: further on, some servers repeat a
# point's labels, with which a producer could stop the delivery.
_is_unknown_path = re.compile(r'remoteaddr: "[^"]*"; requesturi: [^; ]*; unsupported path requested').match


def _judge_reply(reply: HttpReply) -> Verdict:
    rule = status_rule(reply.status)
    if rule.action is Action.ACCEPT and reply.body and (contradiction := _contradiction(reply)):
        reason = f"the destination answered HTTP {reply.status} with {contradiction}: {_URL.remedy}"
        return Verdict(Action.STOP, f"http {reply.status}", reason, reply.status)
    if reply.status in _SPEAKING or (reply.status, reply.body.strip()) == _OLD_REFUSAL:
        text = reply.body[:_LOOKED_AT].decode("utf-8", "replace").lower()
        if _is_unknown_path(text):
            rule = _URL
        for refusal in REFUSALS:
            if any(words in text for words in refusal.words):
                return Verdict(Action.SPLIT, refusal.label, refusal.reason, reply.status)
    reason = f"the destination answered HTTP {reply.status}: {rule.remedy}"
    return Verdict(rule.action, f"http {reply.status}", reason, reply.status)


def _contradiction(reply: HttpReply) -> str:
    """What the body of a success says against it; empty if nothing. Most successes have no body."""
    text = reply.body.removeprefix(_BYTE_ORDER_MARK).lstrip()
    kind = reply.headers.get("Content-Type", "").lower()
    if text and ("text/html" in kind or text[:1] == b"<"):
        return "an HTML page"
    if text[:1] == b"{":
        try:
            answer = json.loads(text)
        except (ValueError, RecursionError):
            return ""
        if _tells_error(answer) or _tells_error(answer.get("Response")):
            return "an error in its text"
    return ""


def _tells_error(answer: Any) -> bool:
    """Whether an object has the shape of an error: ``{"error": …}``, ``{"status": "error"}``, ``{"code": 401}``."""
    if not isinstance(answer, dict):
        return False
    members = {name.lower(): value for name, value in answer.items()}
    return (
        any(members.get(name) for name in _ERROR_MEMBERS)
        or members.get("success") is False
        or str(members.get("status", "")).lower() not in _GOOD_WORDS
        or str(members.get("code", "")).lower() not in _GOOD_WORDS
    )


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_ERROR_MEMBERS = ("error", "errors", "errorcode", "errormessage", "error_code", "error_message", "errortype")
_GOOD_WORDS = frozenset(
    {"", "none", "null", "0", "200", "201", "202", "204", "ok", "success", "succeeded", "accepted", "true"}
)


_UNENCRYPTED = (
    "correct its certificate, name the authority that signed it in MF_CA_FILE, or correct the scheme, host and "
    "port of MF_REMOTE_WRITE_URL"
)
_UNREACHABLE = "check MF_REMOTE_WRITE_URL, the function's VPC and its security groups"


def make(settings: Settings, parts: Parts) -> RemoteWrite:
    return RemoteWrite(
        url=settings.remote_write_url,
        user=settings.remote_write_user,
        password=settings.remote_write_password,
        headers=dict(settings.remote_write_headers),
        transport=parts.connect(),
        machine=parts.machine,
        clocks=parts.clocks,
        is_checked=settings.remote_write_check == "on",
    )
