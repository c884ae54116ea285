"""The paths of common metrics clients: such a client needs only another host in its configuration.

| path | what comes | reply |
|---|---|---|
| ``/v1/metrics`` | OTLP, in JSON or protobuf by its ``Content-Type`` | ``ExportMetricsServiceResponse`` |
| ``/api/v1/write``, ``/api/v1/prom/write``, ``/api/v1/push`` | Prometheus remote write 1.0 | 204 |
| ``/write``, ``/api/v2/write`` | influx line protocol; ``precision`` is a parameter | 204 |
| ``/metrics/job/<job>[/<label>/<value>]…`` | Prometheus text, as for a Pushgateway | 200 |
| ``/api/v1/import/prometheus`` | Prometheus text | 204 |

A prefix such as API Gateway's ``/release`` is allowed. Sources: the OTLP specification; Prometheus remote write 1.0; InfluxDB's
API of versions 1 and 2; Pushgateway's README; VictoriaMetrics' documents.
"""

import base64
import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

from metric_forwarder.model import FormatHint
from metric_forwarder.triggers.traits import ReplyTo

_BASE64 = "@base64"
_job_in = re.compile(r"/metrics/(job(?:@base64)?/.*)", re.DOTALL).search
_LONGEST_PATH = 4096
# As much as a snappy block may hold.
_MAX_REMOTE_WRITE_BYTES = 32 * 2**20


class Route(NamedTuple):
    """How a request is read and answered.

    Attributes:
        format: the name of its format.
        reply_to: whose protocol the reply is in.
        hint: what its path and parameters say.
        encodings: accepted for a body, besides none and gzip.
        is_binary: its body is bytes, even if a gateway has turned them into text.
        max_zstd_bytes: the limit of a decompressed zstd body; 0: as for any other body.
    """

    format: str
    reply_to: ReplyTo
    hint: FormatHint = FormatHint()
    encodings: tuple[str, ...] = ()
    is_binary: bool = False
    max_zstd_bytes: int = 0


class NoRoute(NamedTuple):
    """The reply to a request to one of these paths that cannot be read: an HTTP status, and what would be right."""

    status: int
    reason: str


def find_route(event: Mapping[str, Any], content_type: str) -> Route | NoRoute | None:
    """Return the route of a request by its path; None for any other path."""
    path = event.get("path")
    if not isinstance(path, str) or len(path) > _LONGEST_PATH:
        return None
    # Looked for first, since the last label of a job may have any value, such as "write".
    # Some clients encode the mark of a value in base64.
    if job := _job_in(path.replace("%40", "@")):
        return _pushgateway(job[1], content_type)
    for suffix, make in _ROUTES.items():
        if path.endswith(suffix):
            return make(event, content_type)
    return None


def _otlp(_event: Mapping[str, Any], content_type: str) -> Route | NoRoute:
    media_type = content_type.partition(";")[0].strip()
    if media_type == "application/x-protobuf":
        return Route("otlp-protobuf", ReplyTo.OTLP_PROTOBUF, is_binary=True)
    if media_type == "application/json":
        return Route("otlp-json", ReplyTo.OTLP_JSON)
    return NoRoute(415, "OTLP comes with Content-Type application/json or application/x-protobuf")


def _remote_write(event: Mapping[str, Any], content_type: str) -> Route | NoRoute:
    if "write.v2" in content_type or _parameter(
        event["headers"], "x-prometheus-remote-write-version"
    ).startswith("2"):
        return NoRoute(415, "remote write is taken in version 1.0 (prometheus.WriteRequest)")
    return Route(
        "remote-write",
        ReplyTo.REMOTE_WRITE,
        encodings=("snappy",),
        is_binary=True,
        max_zstd_bytes=_MAX_REMOTE_WRITE_BYTES,
    )


_PRECISIONS = {"n": "ns", "u": "us", "µ": "us"}


def _influx(reply_to: ReplyTo, event: Mapping[str, Any]) -> Route | NoRoute:
    precision = _parameter(event.get("queryString") or event.get("queryStringParameters"), "precision")
    unit = _PRECISIONS.get(precision, precision)
    if unit not in ("", "ns", "us", "ms", "s", "m", "h"):
        return NoRoute(400, "precision is one of ns, us, ms, s, m and h")
    return Route("influx", reply_to, FormatHint(precision=unit))


def _influx_1(event: Mapping[str, Any], _content_type: str) -> Route | NoRoute:
    return _influx(ReplyTo.INFLUX_1, event)


def _influx_2(event: Mapping[str, Any], _content_type: str) -> Route | NoRoute:
    return _influx(ReplyTo.INFLUX_2, event)


def _import(_event: Mapping[str, Any], _content_type: str) -> Route | NoRoute:
    return Route("prometheus-text", ReplyTo.NO_CONTENT)


def _pushgateway(grouping: str, content_type: str) -> Route | NoRoute:
    """Read ``job/<job>/<label>/<value>…``; a name that ends in ``@base64`` has a value in URL-safe base64."""
    is_protobuf = "vnd.google.protobuf" in content_type
    if is_protobuf and "encoding=delimited" not in content_type.replace(" ", ""):
        return NoRoute(415, _NOT_DELIMITED)
    steps = grouping.rstrip("/").split("/") if not grouping.endswith("@base64/") else grouping.split("/")
    if len(steps) % 2:
        return NoRoute(
            400,
            "a path of a Pushgateway is /metrics/job/<job>, with pairs of a label and its value behind it",
        )
    labels: dict[str, str] = {}
    for name, value in zip(steps[::2], steps[1::2], strict=True):
        text = _decoded(value) if name.endswith(_BASE64) else _unquoted(value)
        if text is None:
            return NoRoute(400, _BAD_LABEL)
        labels[name.removesuffix(_BASE64)] = text
    name = "prometheus-protobuf" if is_protobuf else "prometheus-text"
    return Route(name, ReplyTo.PUSHGATEWAY, FormatHint(labels=labels), is_binary=is_protobuf)


_NOT_DELIMITED = "protobuf is taken with encoding=delimited, as Go's client sends it, or send Prometheus text"
_BAD_LABEL = (
    "a label's value in the path is UTF-8, URL-encoded, or in URL-safe base64 if its name ends in @base64"
)


def _unquoted(value: str) -> str | None:
    try:
        return unquote(value, errors="strict")
    except ValueError:
        return None


def _decoded(value: str) -> str | None:
    if value == "=":
        return ""
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        return None


def _parameter(members: Any, name: str) -> str:
    """Return a parameter or header as text; empty if it is missing."""
    for key, value in members.items() if isinstance(members, dict) else ():
        if str(key).lower() == name:
            value = value[0] if isinstance(value, list) and value else value  # noqa: PLW2901 - the value that counts
            return value if isinstance(value, str) else ""
    return ""


# If two paths end alike, the longer one comes first.
_ROUTES: Mapping[str, Callable[[Mapping[str, Any], str], Route | NoRoute]] = {
    "/v1/metrics": _otlp,
    "/api/v1/write": _remote_write,
    "/api/v1/prom/write": _remote_write,
    "/api/v1/push": _remote_write,
    "/api/v2/write": _influx_2,
    "/write": _influx_1,
    "/api/v1/import/prometheus": _import,
}
