"""The custom-monitoring receiver: ``PutMonitorData`` over HTTP, signed with HMAC-SHA1.

Source: the receiver's own document. One request carries points of one namespace and gets one reply for all of them:
HTTP 200 with ``{"code":0,"message":"OK"}``, where ``code`` may also be a numeric text, with any content type.
"""

import json
from collections.abc import Iterable, Mapping
from json.encoder import encode_basestring_ascii as quoted
from typing import Any
from urllib.parse import quote_plus, urlencode, urlsplit

from metric_forwarder.clients.http import (
    Failure,
    HttpReply,
    HttpRequest,
    Transport,
)
from metric_forwarder.credentials import CredentialSource
from metric_forwarder.delivery.destination import Destination
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.http import HttpDestination, judge_failure, with_head
from metric_forwarder.destinations.parts import Parts
from metric_forwarder.destinations.receiver_verdicts import for_code, for_status
from metric_forwarder.destinations.server_clock import ServerClocks
from metric_forwarder.formats.json_text import Violation
from metric_forwarder.machine import Machine
from metric_forwarder.model import Batch, Series
from metric_forwarder.put_monitor_data.replies import is_cut_off, read_code
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.signing import ACTION, sign, string_to_sign
from metric_forwarder.settings.settings import Settings

# Nonce is documented as a random positive integer; no upper bound is published, 31 bits fit every server.
_MAX_NONCE = 2**31 - 1
_HTTP_OK = 200
_KNOWN_CODES = frozenset(map(int, ReturnCode))


class PutMonitorDataDestination(HttpDestination):
    """Encodes, signs and judges for the receiver.

    Args:
        url: where requests go; the signature covers the real receiver's host and this URL's path.
        method: ``POST`` or ``GET``.
        region: the short code.
        credentials: where the key to sign with comes from.
        transport: carries the requests.
        machine: its clock dates the requests, its chance makes their nonces.
        clocks: what is known of the clock of each destination.
    """

    carries_timestamps = False
    carries_non_finite = False
    ordered = False

    def __init__(
        self,
        *,
        url: str,
        method: str,
        region: str,
        credentials: CredentialSource,
        transport: Transport,
        machine: Machine,
        clocks: ServerClocks,
    ) -> None:
        parts = urlsplit(url)
        # Without key and path: another key or path of the same receiver leads to the same place.
        self.scope = f"receiver {parts.netloc} {region}"
        super().__init__(transport, machine.clock, clocks[self.scope])
        self._url = url
        self._method = method
        self._region = region
        self._credentials = credentials
        self._time = machine.clock.time
        self._token = machine.chance.token
        self._path = parts.path

    def prepare_series(self, series: Series, dimensions: Mapping[str, str]) -> Violation | None:
        if not series.namespace:
            return _NO_NAMESPACE
        members = ",".join([f"{quoted(name)}:{quoted(value)}" for name, value in sorted(dimensions.items())])
        wire = f'{{"dimensions":{{{members}}},"metricName":{quoted(series.metric)},"value":'
        series.encoded_prefix = (quote_plus(wire) if self._method == "GET" else wire).encode("ascii")
        return None

    def group(self, series: Series) -> str:
        return series.namespace

    def encode(
        self,
        series: Iterable[Series],
        values: Iterable[float],
        times_ms: Iterable[int],  # noqa: ARG002 - stamped on arrival
    ) -> list[bytes]:
        points = zip(series, values, strict=True)
        if self._method == "GET":
            return [
                each.encoded_prefix + quote_plus(f"{value!r}}},").encode("ascii") for each, value in points
            ]
        return [b"%b%a}," % (each.encoded_prefix, value) for each, value in points]

    def prepare(self, timeout_s: float) -> Verdict | None:
        return self._credentials.ensure_loaded(timeout_s)

    def request(self, batch: Batch) -> HttpRequest:
        credentials = self._credentials.current()
        head: dict[str, Any] = {
            "Action": ACTION,
            "SecretId": credentials.secret_id,
            "Region": self._region,
            "Timestamp": int(self._time() + self._server_clock.signing_offset_s),
            "Nonce": int.from_bytes(self._token(4), "big") % _MAX_NONCE + 1,
        }
        text = string_to_sign(
            self._method,
            self._path,
            secret_id=head["SecretId"],
            region=self._region,
            timestamp=head["Timestamp"],
            nonce=head["Nonce"],
        )
        head["Signature"] = sign(text, credentials.secret_key.reveal())
        head["Namespace"] = batch[0].series.namespace
        points = b"".join([point.wire for point in batch])
        if self._method == "GET":
            data = points.decode("ascii").removesuffix(quote_plus(","))
            url = f"{self._url}?{urlencode(head)}&Data={quote_plus('[')}{data}{quote_plus(']')}"
            return HttpRequest("GET", url, _HEADERS, None)
        opened = _COMPACT.encode(head).removesuffix("}").encode("ascii")
        body = b"".join((opened, b',"Data":[', points.removesuffix(b","), b"]}"))
        return HttpRequest("POST", self._url, _POST_HEADERS, body)

    def smallest_request(self) -> HttpRequest:
        if self._method == "GET":
            return HttpRequest("GET", self._url, _HEADERS, None)
        return HttpRequest("POST", self._url, _POST_HEADERS, b"{}")

    def judge(self, reply: HttpReply | Failure) -> Verdict:
        if isinstance(reply, Failure):
            return judge_failure(reply, "the receiver", _UNENCRYPTED, _UNREACHABLE)
        verdict = _judge_body(reply.body) if reply.status == _HTTP_OK else for_status(reply.status)
        verdict = with_head(verdict, reply, self._time())
        if verdict.action is Action.SET_CLOCK and verdict.server_time is None:
            verdict = verdict._replace(reason=f"{verdict.reason}; this reply had none")
        return verdict

    def is_its_own(self, verdict: Verdict) -> bool:
        return verdict.code in _KNOWN_CODES

    def fix(self, verdict: Verdict, timeout_s: float) -> bool:
        """Read the key again, or take the receiver's clock for all later signatures."""
        if verdict.action is Action.REAUTHENTICATE:
            return self._credentials.reload(timeout_s)
        if verdict.server_time is None:
            return False
        self._server_clock.signing_offset_s = verdict.server_time - self._time()
        return True


_NO_NAMESPACE = Violation(
    "/namespace",
    "required",
    'is missing: name a "namespace" in the point or its envelope, or set MF_NAMESPACE',
)
# json.dumps would make an encoder for each call, since it keeps only the one without options.
_COMPACT = json.JSONEncoder(separators=(",", ":"))
_HEADERS: Mapping[str, str] = {"Accept-Encoding": "identity", "User-Agent": "metric-forwarder"}
_POST_HEADERS: Mapping[str, str] = {**_HEADERS, "Content-Type": "application/json"}


def _judge_body(body: bytes) -> Verdict:
    """Judge by the code of a complete reply; a page, an empty or an incomplete reply has none."""
    code = read_code(body)
    if code in _KNOWN_CODES:
        return for_code(ReturnCode(code))
    if code is not None:
        reason = f"the receiver replied with the undocumented code {code}: ask Tencent Cloud's support"
        return Verdict(Action.RETRY, str(code), reason, code)
    if is_cut_off(body):
        reason = "the reply was empty or incomplete: the receiver may have taken the request"
        return Verdict(Action.RESEND, "no answer", reason)
    reason = "the reply was not the receiver's: check MF_RECEIVER_URL, and proxies on the way"
    return Verdict(Action.RETRY, "not the receiver", reason)


_UNENCRYPTED = "the receiver speaks only HTTP, so correct MF_RECEIVER_URL, or what answers there"
_UNREACHABLE = (
    "it is only reachable inside Tencent Cloud's network; check MF_RECEIVER_URL and the function's VPC"
)


def make(settings: Settings, parts: Parts) -> Destination:
    return PutMonitorDataDestination(
        url=settings.receiver_url,
        method=settings.receiver_method,
        region=settings.region,
        credentials=parts.credentials,
        transport=parts.connect(),
        machine=parts.machine,
        clocks=parts.clocks,
    )
