"""The receiver's side of the protocol refuses what its document says it refuses, for that reason."""

import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.put_monitor_data.regions import REGION_NAMES
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.put_monitor_data.server import (
    METHODS,
    PATHS,
    Catalogue,
    PutRequest,
    Refusal,
    RequestLimits,
    authenticate,
    check_points,
    encode_reply,
    parse_request,
)
from metric_forwarder.put_monitor_data.signing import sign, string_to_sign

NOW = 1_408_704_141
SECRET_ID = "AKDuXhrYW5ilcFO11bakwWxxxxxxxxxxxxx"
KEY = "tsPHxrAB8fhffaGNmHZDjxxxxxxxxxx"
ACCOUNTS = {SECRET_ID: KEY}
PATH = "/v2/index.php"
POINT = {"dimensions": {"diskname": "sda", "ip": "172.31.58.160"}, "metricName": "diskusage", "value": 0.3}


def _fields(method: str = "POST", **changes: Any) -> dict[str, Any]:
    fields = {
        "Action": "PutMonitorData",
        "SecretId": SECRET_ID,
        "Region": "gz",
        "Timestamp": NOW,
        "Nonce": 345122,
        "Namespace": "pc",
        "Data": [POINT],
    } | changes
    text = (
        f"{method}receiver.monitor.tencentyun.com{PATH}?Action=PutMonitorData&Nonce={fields['Nonce']}"
        f"&Region={fields['Region']}&SecretId={fields['SecretId']}&Timestamp={fields['Timestamp']}"
    )
    return {"Signature": sign(text, KEY)} | fields


def _post(fields: object) -> PutRequest | Refusal:
    return parse_request("POST", PATH, "", json.dumps(fields).encode())


def _get(fields: Mapping[str, Any]) -> PutRequest | Refusal:
    query = urlencode({**fields, "Data": json.dumps(fields["Data"])})
    return parse_request("GET", PATH, query, b"")


def _read(result: PutRequest | Refusal) -> PutRequest:
    assert isinstance(result, PutRequest), result
    return result


def _verdict(
    result: PutRequest | Refusal,
    *,
    now: float = NOW,
    limits: RequestLimits | None = None,
    catalogue: Catalogue | None = None,
) -> ReturnCode:
    """Return what a server that takes the three steps in order would answer."""
    if isinstance(result, PutRequest):
        refusal = authenticate(result, ACCOUNTS, now) or check_points(
            result, limits or RequestLimits(), catalogue
        )
    else:
        refusal = result
    return ReturnCode.OK if refusal is None else refusal.code


def test_a_post_and_a_get_of_the_documents_example_are_the_same_request() -> None:
    posted, got = _read(_post(_fields())), _read(_get(_fields("GET")))

    assert _verdict(posted) == _verdict(got) == ReturnCode.OK
    for request in (posted, got):
        assert (request.namespace, request.secret_id, request.region) == ("pc", SECRET_ID, "gz")
        assert (request.timestamp, request.nonce, request.data) == (NOW, 345122, [POINT])


def test_the_documents_regression_signatures_are_accepted() -> None:
    assert _verdict(_post(_fields(Signature="l6+P06jARnL+Ky8QdaaEZ1VA5XM="))) == ReturnCode.OK
    assert _verdict(_get(_fields("GET", Signature="A9bbns9+qeUeU1/C79NFX8MuNIE="))) == ReturnCode.OK


def test_the_action_may_be_left_out_as_the_documents_samples_do() -> None:
    fields = _fields()
    del fields["Action"]
    assert _verdict(_post(fields)) == ReturnCode.OK


def test_numbers_may_come_as_decimal_text() -> None:
    assert _verdict(_post(_fields(Timestamp=str(NOW), Nonce="345122"))) == ReturnCode.OK


def test_dimension_values_may_be_numbers_and_are_kept_as_given() -> None:
    point = {**POINT, "dimensions": {"port": 8080, "load": 0.5}}
    assert _read(_post(_fields(Data=[point]))).data[0]["dimensions"] == {"port": 8080, "load": 0.5}


def test_additional_members_of_a_point_are_ignored() -> None:
    assert _read(_post(_fields(Data=[{**POINT, "unit": "%"}]))).data == [POINT]


@pytest.mark.parametrize("method", ["PUT", "HEAD", "DELETE", "post", ""])
def test_other_methods_are_1000(method: str) -> None:
    assert _verdict(parse_request(method, PATH, "", b"{}")) == ReturnCode.METHOD_NOT_SUPPORTED


@pytest.mark.parametrize("path", ["/", "/v2/index.php/", "/V2/index.php", "/v3/index.php", ""])
def test_other_paths_are_1001(path: str) -> None:
    assert _verdict(parse_request("POST", path, "", b"{}")) == ReturnCode.WRONG_CGI


def test_nothing_sent_is_1004() -> None:
    assert _verdict(parse_request("POST", PATH, "Namespace=pc", b"")) == ReturnCode.CONTENT_MISSING
    assert _verdict(parse_request("GET", PATH, "", b"{}")) == ReturnCode.CONTENT_MISSING


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"Namespace=pc", id="a form"),
        pytest.param(b"{", id="cut off"),
        pytest.param(b'{"Namespace":"\xff"}', id="not UTF-8"),
        pytest.param('{"a":1}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'\xef\xbb\xbf{"a":1}', id="a byte order mark"),
        pytest.param(b'{"a":NaN}', id="NaN"),
        pytest.param(b'{"a":-Infinity}', id="Infinity"),
        pytest.param(b"[" * 200_000, id="deeply nested"),
        pytest.param(b'{"a":' * 200_000, id="deeply nested objects"),
    ],
)
def test_what_is_not_json_is_1005(body: bytes) -> None:
    assert _verdict(parse_request("POST", PATH, "", body)) == ReturnCode.NOT_JSON


@pytest.mark.parametrize("query", ["Data=%5B", "Data=%FF", "Data=NaN", "Data=", "%ff=1"])
def test_data_of_a_get_that_is_not_json_is_1005(query: str) -> None:
    assert _verdict(parse_request("GET", PATH, query, b"")) == ReturnCode.NOT_JSON


@pytest.mark.parametrize(
    "name", ["SecretId", "Region", "Timestamp", "Nonce", "Signature", "Namespace", "Data"]
)
def test_a_missing_field_is_1009_and_is_named(name: str) -> None:
    fields = _fields()
    del fields[name]
    refusal = _post(fields)
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.message) == (1009, f"a parameter is missing: /{name}")


@pytest.mark.parametrize("name", ["dimensions", "metricName", "value"])
def test_a_missing_member_of_a_point_is_1009_and_is_located(name: str) -> None:
    broken = {key: value for key, value in POINT.items() if key != name}
    refusal = _post(_fields(Data=[POINT, broken]))
    assert isinstance(refusal, Refusal)
    assert (refusal.code, refusal.message) == (1009, f"a parameter is missing: /Data/1/{name}")


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"Namespace": 5}, id="Namespace a number"),
        pytest.param({"Namespace": None}, id="Namespace null"),
        pytest.param({"SecretId": []}, id="SecretId a list"),
        pytest.param({"Region": 1}, id="Region a number"),
        pytest.param({"Signature": {}}, id="Signature an object"),
        pytest.param({"Action": 1}, id="Action a number"),
        pytest.param({"Timestamp": 1408704141.5}, id="Timestamp a fraction"),
        pytest.param({"Timestamp": True}, id="Timestamp a boolean"),
        pytest.param({"Timestamp": "soon"}, id="Timestamp a word"),
        pytest.param({"Timestamp": 2**63}, id="Timestamp beyond 64 bits"),
        pytest.param({"Nonce": "1.5"}, id="Nonce a fraction"),
        pytest.param({"Nonce": "\u0661"}, id="Nonce not ASCII"),
        pytest.param({"Data": POINT}, id="Data an object"),
        pytest.param({"Data": "[]"}, id="Data a string"),
        pytest.param({"Data": [5]}, id="a point a number"),
        pytest.param({"Data": [{**POINT, "value": True}]}, id="value a boolean"),
        pytest.param({"Data": [{**POINT, "value": "0.3"}]}, id="value a string"),
        pytest.param({"Data": [{**POINT, "value": None}]}, id="value null"),
        pytest.param({"Data": [{**POINT, "metricName": 5}]}, id="metricName a number"),
        pytest.param({"Data": [{**POINT, "dimensions": ["sda"]}]}, id="dimensions a list"),
        pytest.param({"Data": [{**POINT, "dimensions": {"a": {}}}]}, id="a dimension an object"),
        pytest.param({"Data": [{**POINT, "dimensions": {"a": True}}]}, id="a dimension a boolean"),
    ],
)
def test_a_wrong_type_is_1010(changes: dict[str, Any]) -> None:
    assert _verdict(_post(_fields(**changes))) == ReturnCode.PARAMETER_TYPE


@pytest.mark.parametrize("document", [[], 5, "text", None, True])
def test_a_body_that_is_not_an_object_is_1010(document: object) -> None:
    assert _verdict(_post(document)) == ReturnCode.PARAMETER_TYPE


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"SecretId": "AKIDunknown"}, id="an unknown SecretId"),
        pytest.param({"SecretId": "\ud800"}, id="a SecretId that is no UTF-8"),
        pytest.param({"Signature": ""}, id="no signature"),
        pytest.param({"Signature": "l6+P06jARnL+Ky8QdaaEZ1VA5XN="}, id="another signature"),
        pytest.param({"Signature": "签名\ud800"}, id="a signature that is no ASCII"),
        pytest.param({"Signature": _fields("GET")["Signature"]}, id="a GET's signature in a POST"),
    ],
)
def test_a_signature_that_is_not_the_accounts_own_is_1011(changes: dict[str, Any]) -> None:
    # _fields would sign a SecretId that UTF-8 cannot carry
    fields = _fields() | changes
    assert _verdict(_post(fields)) == ReturnCode.AUTHENTICATION_FAILED


@pytest.mark.parametrize("field", ["Region", "Timestamp", "Nonce"])
def test_each_signed_parameter_is_covered_by_the_signature(field: str) -> None:
    other = {"Region": "sh", "Timestamp": NOW + 1, "Nonce": 345123}[field]
    assert _verdict(_post(_fields() | {field: other})) == ReturnCode.AUTHENTICATION_FAILED


def test_the_path_requested_is_the_path_signed() -> None:
    body = json.dumps(_fields()).encode()
    assert _verdict(parse_request("POST", "/report.cgi", "", body)) == ReturnCode.AUTHENTICATION_FAILED


def test_another_action_is_1012() -> None:
    assert _verdict(_post(_fields(Action="GetMonitorData"))) == ReturnCode.API_RULES_BROKEN


@pytest.mark.parametrize(
    "changes",
    [{"Region": "ap-guangzhou"}, {"Region": "xx"}, {"Nonce": 0}, {"Nonce": -1}, {"Nonce": "-1"}],
    ids=str,
)
def test_an_unknown_region_or_a_nonce_that_is_not_positive_is_1013(changes: dict[str, Any]) -> None:
    assert _verdict(_post(_fields(**changes))) == ReturnCode.PARAMETER_INVALID


@pytest.mark.parametrize("literal", ["1e999", "-1e999", "9" * 400])
def test_a_number_beyond_the_range_of_a_double_is_1013(literal: str) -> None:
    in_value = json.dumps(_fields()).replace("0.3", literal).encode()
    in_dimension = json.dumps(_fields()).replace('"sda"', literal).encode()
    for body in (in_value, in_dimension):
        assert _verdict(parse_request("POST", PATH, "", body)) == ReturnCode.PARAMETER_INVALID


def test_every_documented_region_code_is_accepted() -> None:
    for region in REGION_NAMES:
        assert _verdict(_post(_fields(Region=region))) == ReturnCode.OK


def test_a_body_larger_than_the_limit_is_1015() -> None:
    request = _read(_post(_fields()))
    assert _verdict(request, limits=RequestLimits(max_bytes=request.size)) == ReturnCode.OK
    assert _verdict(request, limits=RequestLimits(max_bytes=request.size - 1)) == ReturnCode.DATA_TOO_LONG


@pytest.mark.parametrize("namespace", ["", "a-b", "qce/cvm", "命名空间", "a b", "pc\n", "n" * 33])
def test_an_illegal_namespace_is_1016(namespace: str) -> None:
    assert _verdict(_post(_fields(Namespace=namespace))) == ReturnCode.NAMESPACE_ILLEGAL


def test_a_namespace_of_32_characters_is_legal() -> None:
    assert _verdict(_post(_fields(Namespace="n" * 32))) == ReturnCode.OK


@pytest.mark.parametrize(
    "dimensions",
    [
        pytest.param({"disk-name": "sda"}, id="a dash"),
        pytest.param({"": "sda"}, id="an empty name"),
        pytest.param({f"d{n}": "x" for n in range(6)}, id="six dimensions"),
    ],
)
def test_illegal_dimensions_are_1017(dimensions: dict[str, str]) -> None:
    point = {**POINT, "dimensions": dimensions}
    assert _verdict(_post(_fields(Data=[POINT, point]))) == ReturnCode.DIMENSION_CHECK_FAILED


def test_five_dimensions_are_accepted() -> None:
    point = {**POINT, "dimensions": {f"d{n}": "x" for n in range(5)}}
    assert _verdict(_post(_fields(Data=[point]))) == ReturnCode.OK


def test_more_points_than_the_limit_are_1018() -> None:
    limits = RequestLimits(max_points=2)
    assert _verdict(_post(_fields(Data=[POINT] * 2)), limits=limits) == ReturnCode.OK
    assert _verdict(_post(_fields(Data=[POINT] * 3)), limits=limits) == ReturnCode.TOO_MANY_METRICS


@pytest.mark.parametrize("data", [[], [{**POINT, "metricName": "disk-usage"}], [{**POINT, "metricName": ""}]])
def test_no_points_or_an_illegal_metric_name_is_1019(data: list[Any]) -> None:
    assert _verdict(_post(_fields(Data=data))) == ReturnCode.NO_VALID_DATA


def test_names_longer_than_the_limit_are_1020() -> None:
    limits = RequestLimits(max_name_length=9)
    assert _verdict(_post(_fields()), limits=limits) == ReturnCode.OK
    metric = {**POINT, "metricName": "diskusages"}
    dimension = {**POINT, "dimensions": {"disknames1": "sda"}}
    for point in (metric, dimension):
        assert _verdict(_post(_fields(Data=[point])), limits=limits) == ReturnCode.NAME_TOO_LONG


@pytest.mark.parametrize("skew", [-7201, 7201])
def test_a_clock_off_by_more_than_the_tolerance_is_1021(skew: int) -> None:
    assert _verdict(_post(_fields()), now=NOW + skew) == ReturnCode.TIMESTAMP_ILLEGAL


@pytest.mark.parametrize("skew", [-7200, 0, 7200])
def test_a_clock_off_by_no_more_than_the_tolerance_is_accepted(skew: int) -> None:
    assert _verdict(_post(_fields()), now=NOW + skew) == ReturnCode.OK


def test_the_signature_is_checked_before_the_clock() -> None:
    assert _verdict(_post(_fields(Signature="wrong")), now=0) == ReturnCode.AUTHENTICATION_FAILED


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        pytest.param({"Namespace": "other"}, ReturnCode.NAMESPACE_ILLEGAL, id="namespace"),
        pytest.param({"Data": [{**POINT, "metricName": "other"}]}, ReturnCode.NO_VALID_DATA, id="metric"),
        pytest.param(
            {"Data": [{**POINT, "dimensions": {"other": "x"}}]},
            ReturnCode.DIMENSION_CHECK_FAILED,
            id="dimension",
        ),
        pytest.param({}, ReturnCode.OK, id="all declared"),
    ],
)
def test_a_catalogue_refuses_what_was_not_created(changes: dict[str, Any], code: ReturnCode) -> None:
    catalogue = {"pc": {"diskusage": ["diskname", "ip"]}}
    assert _verdict(_post(_fields(**changes)), catalogue=catalogue) == code


def test_the_reply_is_the_documents() -> None:
    assert encode_reply(None) == b'{"code":0,"message":"OK"}'
    refusal = Refusal(ReturnCode.NOT_JSON, 'no "JSON"')
    assert json.loads(encode_reply(refusal)) == {"code": 1005, "message": 'no "JSON"'}


def test_the_representation_of_a_request_shows_neither_signature_nor_points() -> None:
    request = _read(_post(_fields()))
    assert request.signature not in repr(request)
    assert "172.31.58.160" not in repr(request)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
POINTS = st.fixed_dictionaries(
    {}, optional={"dimensions": JSON | st.just({}), "metricName": JSON, "value": JSON | st.floats()}
)
NEARLY = st.fixed_dictionaries(
    {},
    optional={
        "Action": JSON | st.just("PutMonitorData"),
        "SecretId": JSON | st.just(SECRET_ID),
        "Region": JSON | st.just("gz"),
        "Timestamp": JSON | st.just(NOW),
        "Nonce": JSON | st.just(1),
        "Signature": JSON | st.just("x"),
        "Namespace": JSON | st.just("pc"),
        "Data": JSON | st.lists(POINTS, max_size=3),
    },
)


@given(method=st.sampled_from(METHODS), path=st.sampled_from(PATHS), query=st.text(), body=st.binary())
def test_arbitrary_bytes_are_refused_and_never_an_error(
    method: str, path: str, query: str, body: bytes
) -> None:
    assert isinstance(parse_request(method, path, query, body), Refusal)


@pytest.mark.slow
@given(fields=NEARLY | JSON)
def test_arbitrary_json_is_refused_with_the_codes_meaning_and_never_an_error(fields: Any) -> None:
    result = _post(fields)
    refusal = authenticate(result, ACCOUNTS, NOW) if isinstance(result, PutRequest) else result
    assert refusal is not None
    assert refusal.message.startswith(refusal.code.meaning)


@pytest.mark.slow
@given(
    points=st.lists(
        st.fixed_dictionaries(
            {
                "dimensions": st.dictionaries(
                    st.text(),
                    st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
                    max_size=7,
                ),
                "metricName": st.text(),
                "value": st.integers() | st.floats(allow_nan=False, allow_infinity=False),
            }
        ),
        max_size=4,
    ),
    namespace=st.text(),
    limits=st.builds(
        RequestLimits,
        max_bytes=st.none() | st.integers(0, 500),
        max_points=st.none() | st.integers(0, 4),
        max_name_length=st.none() | st.integers(0, 9),
    ),
)
def test_signed_points_of_any_content_are_accepted_or_refused_and_never_an_error(
    points: list[dict[str, Any]], namespace: str, limits: RequestLimits
) -> None:
    request = _read(_post(_fields(Data=points, Namespace=namespace)))
    assert authenticate(request, ACCOUNTS, NOW) is None
    refusal = check_points(request, limits)
    assert refusal is None or refusal.message.startswith(refusal.code.meaning)


@given(tail=st.text(st.characters(codec="ascii", categories=["L", "N"])))
def test_a_refusal_never_repeats_what_the_request_held(tail: str) -> None:
    secret = f"hush{tail}"
    held = {**POINT, "metricName": f"{secret}-", "dimensions": {f"{secret}-": secret}, "value": 1}
    for changes in ({"Data": [held]}, {"Namespace": f"{secret}-"}, {"Signature": secret}, {"Action": secret}):
        result = _post(_fields() | changes)
        refusal = result
        if isinstance(result, PutRequest):
            refused = authenticate(result, ACCOUNTS, NOW) or check_points(result)
            assert refused is not None
            refusal = refused
        assert isinstance(refusal, Refusal)
        assert secret not in refusal.message


@given(
    timestamp=st.integers(0, 2**40),
    nonce=st.integers(1, 2**62),
    region=st.sampled_from(sorted(REGION_NAMES)),
    method=st.sampled_from(METHODS),
    path=st.sampled_from(PATHS),
)
def test_the_receiver_accepts_every_request_that_the_signer_signs(
    timestamp: int, nonce: int, region: str, method: str, path: str
) -> None:
    text = string_to_sign(method, path, secret_id=SECRET_ID, region=region, timestamp=timestamp, nonce=nonce)
    fields = _fields(Timestamp=timestamp, Nonce=nonce, Region=region) | {"Signature": sign(text, KEY)}
    query = urlencode({**fields, "Data": json.dumps(fields["Data"])})
    request = _read(parse_request(method, path, query, json.dumps(fields).encode()))
    assert authenticate(request, ACCOUNTS, timestamp) is None
