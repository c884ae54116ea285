"""The signature is the one the receiver's document describes."""

import pytest

from metric_forwarder.put_monitor_data.signing import sign, string_to_sign

DOCUMENT_KEY = "tsPHxrAB8fhffaGNmHZDjxxxxxxxxxx"
DOCUMENT_ID = "AKDuXhrYW5ilcFO11bakwWxxxxxxxxxxxxx"


def _text(method: str, path: str = "/v2/index.php") -> str:
    return string_to_sign(
        method, path, secret_id=DOCUMENT_ID, region="gz", timestamp=1408704141, nonce=345122
    )


def test_the_text_to_sign_is_the_documents_own() -> None:
    assert _text("GET") == (
        "GETreceiver.monitor.tencentyun.com/v2/index.php?Action=PutMonitorData&Nonce=345122&Region=gz"
        "&SecretId=AKDuXhrYW5ilcFO11bakwWxxxxxxxxxxxxx&Timestamp=1408704141"
    )


@pytest.mark.parametrize(
    ("method", "signature"),
    [
        pytest.param("GET", "A9bbns9+qeUeU1/C79NFX8MuNIE=", id="GET"),
        pytest.param("POST", "l6+P06jARnL+Ky8QdaaEZ1VA5XM=", id="POST"),
    ],
)
def test_the_documents_fake_key_gives_the_known_signature(method: str, signature: str) -> None:
    assert sign(_text(method), DOCUMENT_KEY) == signature


def test_the_path_is_signed_as_requested() -> None:
    assert _text("POST", "/report.cgi").startswith("POSTreceiver.monitor.tencentyun.com/report.cgi?")
    assert sign(_text("POST", "/report.cgi"), DOCUMENT_KEY) != sign(_text("POST"), DOCUMENT_KEY)


def test_the_algorithm_reproduces_the_official_api_v1_vector() -> None:
    text = (
        "GETcvm.api.qcloud.com/v2/index.php?Action=DescribeInstances&Nonce=11886&Region=gz"
        "&SecretId=AKIDz8krbsJ5yKBZQpn74WFkmLPx3gnPhESA&Timestamp=1465185768"
        "&instanceIds.0=ins-09dx96dg&limit=20&offset=0"
    )
    assert sign(text, "Gu5t9xGARNpq86cd98joQYCN3Cozk1qA") == "NSI3UqqD99b/UJb4tbG/xZpRW64="
