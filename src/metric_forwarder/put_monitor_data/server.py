"""The server's side of PutMonitorData: what makes a request valid, and which return code refuses it otherwise.

Pure: no socket, no clock; the caller passes the request and the time. A server checks a request in three steps,
in this order, and the first refusal is the reply to the whole request (there is no reply for each point):

1. ``parse_request``: method (1000), path (1001), content (1004), JSON (1005), missing fields (1009), types
   (1010), the action (1012), region and nonce (1013).
2. ``authenticate``: the signature (1011), then the clock (1021).
3. ``check_points``: sizes (1015, 1018), the namespace (1016), then each point: metric (1019), name lengths
   (1020), dimensions (1017).

Source: the receiver's own document, sections 2 to 7. It does not publish the order, the tolerance of the clock and the
size limits: the order is the natural one, the tolerance is that of API v1, and the limits are parameters without a default.
"""

import hmac
import json
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NoReturn, TypedDict
from urllib.parse import parse_qsl

from metric_forwarder.formats.json_text import MAX_VALUES, holds_too_much
from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.signing import ACTION, sign, string_to_sign

METHODS = ("GET", "POST")
PATHS = ("/v2/index.php", "/report.cgi")
MAX_NAMESPACE_LENGTH = 32
MAX_DIMENSIONS = 5
DEFAULT_CLOCK_TOLERANCE_S = 7200.0

Catalogue = Mapping[str, Mapping[str, Sequence[str]]]
"""The namespaces and metrics that exist: namespace → metric → the names of its dimensions."""

_REQUIRED = ("SecretId", "Region", "Timestamp", "Nonce", "Signature", "Namespace", "Data")
_TEXTS = ("SecretId", "Region", "Signature", "Namespace")
_INTEGERS = ("Timestamp", "Nonce")
_POINT_MEMBERS = ("dimensions", "metricName", "value")
_INTEGER_TEXT = re.compile(r"-?[0-9]{1,19}")
_LEGAL_NAME = re.compile(r"[A-Za-z0-9_]+")
_MAX_INTEGER = 2**63 - 1


class WirePoint(TypedDict):
    """One point of a request; its other members are ignored."""

    dimensions: dict[str, str | int | float]
    metricName: str
    value: int | float


class Refusal(NamedTuple):
    """Why a request is refused.

    ``message`` is the code's documented meaning, then the place as a JSON pointer; it never repeats what the
    request holds.
    """

    code: ReturnCode
    message: str


class PutRequest(NamedTuple):
    """A request that has every member, each of its type; nothing else has been checked yet.

    Attributes:
        method: ``GET`` or ``POST``.
        path: the path as requested, one of ``PATHS``.
        size: bytes of the body, or of a GET's query string.
        secret_id: the key that the request says has signed it.
        region: a short region code.
        timestamp: Unix seconds at the moment of signing.
        nonce: a positive integer.
        signature: base64 text, not checked yet.
        namespace: the namespace of all points.
        data: the points.
    """

    method: str
    path: str
    size: int
    secret_id: str
    region: str
    timestamp: int
    nonce: int
    signature: str
    namespace: str
    data: Sequence[WirePoint]

    def __repr__(self) -> str:
        return f"<{self.method} {self.path} of {self.secret_id}, {self.size} bytes>"


class RequestLimits(NamedTuple):
    """The sizes a receiver accepts in one request; the real ones are not published, so each default is None: no limit.

    Attributes:
        max_bytes: of the body, or of a GET's query string (1015).
        max_points: in ``Data`` (1018).
        max_name_length: characters of a metric's or a dimension's name (1020).
    """

    max_bytes: int | None = None
    max_points: int | None = None
    max_name_length: int | None = None


NO_LIMITS = RequestLimits()


def refuse(code: ReturnCode, where: str) -> Refusal:
    """Return a refusal; its message is the code's documented meaning, then ``where``."""
    return Refusal(code, f"{code.meaning}: {where}")


def encode_reply(refusal: Refusal | None) -> bytes:
    """Return the body of the HTTP 200 reply: ``{"code":0,"message":"OK"}``, or the refusal's code and message."""
    code, message = (0, "OK") if refusal is None else (int(refusal.code), refusal.message)
    return json.dumps({"code": code, "message": message}, separators=(",", ":")).encode()


# --- step 1: from bytes to a request -----------------------------------------------------------------------


def parse_request(
    method: str, path: str, query: str, body: bytes, *, any_region: bool = False
) -> PutRequest | Refusal:
    """Read a request as the receiver does.

    Args:
        method: the HTTP method.
        path: the path as requested, without the query string.
        query: the query string as requested, still URL-encoded; a POST's is ignored.
        body: a POST's body, JSON whatever its content type; a GET's is ignored.
        any_region: accept regions that the receiver does not know.

    Returns:
        The request, or the refusal with code 1000, 1001, 1004, 1005, 1009, 1010, 1012, 1013 or 1015.
    """
    if method not in METHODS:
        return refuse(ReturnCode.METHOD_NOT_SUPPORTED, "use POST or GET")
    if path not in PATHS:
        return refuse(ReturnCode.WRONG_CGI, f"use {' or '.join(PATHS)}")
    if not (body if method == "POST" else query):
        return refuse(ReturnCode.CONTENT_MISSING, "the body of a POST or the query string of a GET is empty")
    fields = _post_fields(body) if method == "POST" else _get_fields(query)
    if isinstance(fields, Refusal):
        return fields
    size = len(body) if method == "POST" else len(query)
    return _check_fields(fields, any_region=any_region) or _build(method, path, size, fields)


def _post_fields(body: bytes) -> dict[str, Any] | Refusal:
    if holds_too_much(body):
        return refuse(ReturnCode.DATA_TOO_LONG, f"the body holds more than {MAX_VALUES} values")
    try:
        fields = _load_json(body.decode("utf-8"))
    except (ValueError, RecursionError):
        return refuse(ReturnCode.NOT_JSON, "the body of a POST is one JSON object in UTF-8")
    if not isinstance(fields, dict):
        return refuse(ReturnCode.PARAMETER_TYPE, "the body of a POST is a JSON object")
    return fields


def _get_fields(query: str) -> dict[str, Any] | Refusal:
    try:
        fields: dict[str, Any] = dict(parse_qsl(query, keep_blank_values=True, errors="strict"))
        if "Data" in fields:
            fields["Data"] = _load_json(fields["Data"])
    except (ValueError, RecursionError):
        return refuse(ReturnCode.NOT_JSON, "/Data of a GET is URL-encoded JSON in UTF-8")
    return fields


def _load_json(text: str) -> Any:
    return json.loads(text, parse_constant=_forbidden_constant)


def _forbidden_constant(_: str) -> NoReturn:
    # Python's json accepts NaN and Infinity, which are not JSON.
    raise ValueError("not JSON")


def _check_fields(fields: dict[str, Any], *, any_region: bool) -> Refusal | None:
    for name in _REQUIRED:
        if name not in fields:
            return refuse(ReturnCode.PARAMETER_MISSING, f"/{name}")
    for name in _TEXTS:
        if not isinstance(fields[name], str):
            return refuse(ReturnCode.PARAMETER_TYPE, f"/{name} is a string")
    for name in _INTEGERS:
        if _integer(fields[name]) is None:
            return refuse(ReturnCode.PARAMETER_TYPE, f"/{name} is an integer")
    if not isinstance(fields["Data"], list):
        return refuse(ReturnCode.PARAMETER_TYPE, "/Data is a list of points")
    return _check_shapes(fields["Data"]) or _check_call(fields, any_region=any_region)


def _check_call(fields: dict[str, Any], *, any_region: bool) -> Refusal | None:
    # The document's own samples sign the action, but do not send it.
    action = fields.get("Action", ACTION)
    if not isinstance(action, str):
        return refuse(ReturnCode.PARAMETER_TYPE, "/Action is a string")
    if action != ACTION:
        return refuse(ReturnCode.API_RULES_BROKEN, f"/Action is {ACTION}")
    if not any_region and fields["Region"] not in REGION_NAMES:
        return refuse(ReturnCode.PARAMETER_INVALID, "/Region is a short region code such as gz")
    if (_integer(fields["Nonce"]) or 0) <= 0:
        return refuse(ReturnCode.PARAMETER_INVALID, "/Nonce is a positive integer")
    return None


def _integer(value: Any) -> int | None:
    """Return the integer in a field, which is a number or decimal text (a GET has only text)."""
    if isinstance(value, str):
        value = int(value) if _INTEGER_TEXT.fullmatch(value) else None
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _MAX_INTEGER:
        return None
    return value


def _check_shapes(data: list[Any]) -> Refusal | None:
    for index, point in enumerate(data):
        refusal = _check_shape(point, f"/Data/{index}")
        if refusal is not None:
            return refusal
    return None


def _check_shape(point: Any, where: str) -> Refusal | None:
    if not isinstance(point, dict):
        return refuse(ReturnCode.PARAMETER_TYPE, f"{where} is an object")
    for name in _POINT_MEMBERS:
        if name not in point:
            return refuse(ReturnCode.PARAMETER_MISSING, f"{where}/{name}")
    if not isinstance(point["metricName"], str):
        return refuse(ReturnCode.PARAMETER_TYPE, f"{where}/metricName is a string")
    if not _is_number(point["value"]):
        return refuse(ReturnCode.PARAMETER_TYPE, f"{where}/value is a number")
    return _check_dimension_values(point["dimensions"], f"{where}/dimensions")


def _check_dimension_values(dimensions: Any, where: str) -> Refusal | None:
    if not isinstance(dimensions, dict):
        return refuse(ReturnCode.PARAMETER_TYPE, f"{where} is an object")
    for value in dimensions.values():
        if not isinstance(value, str) and not _is_number(value):
            return refuse(ReturnCode.PARAMETER_TYPE, f"{where}: each value is a string")
    return None


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _build(method: str, path: str, size: int, fields: dict[str, Any]) -> PutRequest:
    return PutRequest(
        method=method,
        path=path,
        size=size,
        secret_id=fields["SecretId"],
        region=fields["Region"],
        timestamp=int(fields["Timestamp"]),
        nonce=int(fields["Nonce"]),
        signature=fields["Signature"],
        namespace=fields["Namespace"],
        data=[
            {"dimensions": point["dimensions"], "metricName": point["metricName"], "value": point["value"]}
            for point in fields["Data"]
        ],
    )


# --- step 2: who sent it, and when -------------------------------------------------------------------------


def authenticate(
    request: PutRequest,
    accounts: Mapping[str, str],
    now: float,
    *,
    tolerance_s: float = DEFAULT_CLOCK_TOLERANCE_S,
) -> Refusal | None:
    """Check the signature, then the clock.

    Args:
        request: what ``parse_request`` returned.
        accounts: SecretId → SecretKey.
        now: the receiver's clock, Unix seconds.
        tolerance_s: how far, either way, the timestamp may be from ``now``.

    Returns:
        None, or the refusal with code 1011 or 1021.
    """
    if not _is_signed(request, accounts.get(request.secret_id)):
        return refuse(
            ReturnCode.AUTHENTICATION_FAILED, "the SecretId is unknown or the signature is not its own"
        )
    if abs(now - request.timestamp) > tolerance_s:
        return refuse(
            ReturnCode.TIMESTAMP_ILLEGAL,
            f"/Timestamp is more than {tolerance_s:g} s from the receiver's clock",
        )
    return None


def _is_signed(request: PutRequest, secret_key: str | None) -> bool:
    if secret_key is None:
        return False
    text = string_to_sign(
        request.method,
        request.path,
        secret_id=request.secret_id,
        region=request.region,
        timestamp=request.timestamp,
        nonce=request.nonce,
    )
    # JSON can hold lone surrogates, which UTF-8 cannot; compare_digest accepts non-ASCII only as bytes.
    given = request.signature.encode("utf-8", "surrogatepass")
    return hmac.compare_digest(sign(text, secret_key).encode(), given)


# --- step 3: its points ------------------------------------------------------------------------------------


def check_points(
    request: PutRequest, limits: RequestLimits = NO_LIMITS, catalogue: Catalogue | None = None
) -> Refusal | None:
    """Check the sizes, the namespace and every point.

    Args:
        request: what ``parse_request`` returned.
        limits: the sizes accepted.
        catalogue: the namespaces and metrics that exist; None: every legal name exists.

    Returns:
        None, or the refusal with code 1013, 1015, 1016, 1017, 1018, 1019 or 1020.
    """
    return (
        _check_sizes(request, limits)
        or _check_namespace(request.namespace, catalogue)
        or _check_each(request.data, limits, None if catalogue is None else catalogue[request.namespace])
    )


def _check_sizes(request: PutRequest, limits: RequestLimits) -> Refusal | None:
    if limits.max_bytes is not None and request.size > limits.max_bytes:
        return refuse(ReturnCode.DATA_TOO_LONG, f"{request.size} bytes, the limit is {limits.max_bytes}")
    if limits.max_points is not None and len(request.data) > limits.max_points:
        return refuse(
            ReturnCode.TOO_MANY_METRICS,
            f"/Data holds {len(request.data)} points, the limit is {limits.max_points}",
        )
    return None


def _check_namespace(namespace: str, catalogue: Catalogue | None) -> Refusal | None:
    if len(namespace) > MAX_NAMESPACE_LENGTH or not _LEGAL_NAME.fullmatch(namespace):
        return refuse(
            ReturnCode.NAMESPACE_ILLEGAL,
            f"/Namespace is 1 to {MAX_NAMESPACE_LENGTH} characters of A-Z a-z 0-9 _",
        )
    if catalogue is not None and namespace not in catalogue:
        return refuse(ReturnCode.NAMESPACE_ILLEGAL, "/Namespace does not exist")
    return None


def _check_each(
    data: Sequence[WirePoint], limits: RequestLimits, metrics: Mapping[str, Sequence[str]] | None
) -> Refusal | None:
    if not data:
        return refuse(ReturnCode.NO_VALID_DATA, "/Data is empty")
    for index, point in enumerate(data):
        where = f"/Data/{index}"
        refusal = (
            _check_values(point, where)
            or _check_metric(point["metricName"], where, limits, metrics)
            or _check_dimensions(point, where, limits, metrics)
        )
        if refusal is not None:
            return refusal
    return None


def _check_values(point: WirePoint, where: str) -> Refusal | None:
    # 1e999 is valid JSON, but no double can hold it.
    if not _is_finite(point["value"]):
        return refuse(ReturnCode.PARAMETER_INVALID, f"{where}/value is outside the range of a double")
    for value in point["dimensions"].values():
        if not isinstance(value, str) and not _is_finite(value):
            return refuse(
                ReturnCode.PARAMETER_INVALID, f"{where}/dimensions: a value is outside the range of a double"
            )
    return None


def _is_finite(number: float) -> bool:
    # math.isfinite raises for an integer beyond a double's range; a comparison is exact for integers and floats.
    return -sys.float_info.max <= number <= sys.float_info.max


def _check_metric(
    name: str, where: str, limits: RequestLimits, metrics: Mapping[str, Sequence[str]] | None
) -> Refusal | None:
    if limits.max_name_length is not None and len(name) > limits.max_name_length:
        return refuse(ReturnCode.NAME_TOO_LONG, f"{where}/metricName, the limit is {limits.max_name_length}")
    if not _LEGAL_NAME.fullmatch(name):
        return refuse(ReturnCode.NO_VALID_DATA, f"{where}/metricName is characters of A-Z a-z 0-9 _")
    if metrics is not None and name not in metrics:
        return refuse(ReturnCode.NO_VALID_DATA, f"{where}/metricName does not exist in this namespace")
    return None


def _check_dimensions(
    point: WirePoint, where: str, limits: RequestLimits, metrics: Mapping[str, Sequence[str]] | None
) -> Refusal | None:
    names = point["dimensions"]
    if limits.max_name_length is not None and any(len(name) > limits.max_name_length for name in names):
        return refuse(ReturnCode.NAME_TOO_LONG, f"{where}/dimensions, the limit is {limits.max_name_length}")
    if len(names) > MAX_DIMENSIONS:
        return refuse(
            ReturnCode.DIMENSION_CHECK_FAILED, f"{where}/dimensions has more than {MAX_DIMENSIONS} members"
        )
    if not all(map(_LEGAL_NAME.fullmatch, names)):
        return refuse(
            ReturnCode.DIMENSION_CHECK_FAILED, f"{where}/dimensions: a name is characters of A-Z a-z 0-9 _"
        )
    if metrics is not None and not set(names) <= set(metrics[point["metricName"]]):
        return refuse(
            ReturnCode.DIMENSION_CHECK_FAILED, f"{where}/dimensions: a name was not declared for this metric"
        )
    return None
