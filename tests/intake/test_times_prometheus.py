"""A real Prometheus goes on taking samples whatever times producers write, and loses none that share a moment."""

import base64
import gzip
import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.triggers.decoding import ObjectSource
from support.fakes import AnyObject
from support.harness import ROOT, ckafka, outcomes, point, remote_write_environ, report_of
from support.prometheus_server import PrometheusServer


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    with PrometheusServer(tmp_path_factory.mktemp("prometheus")) as running:
        yield running


def application(server: PrometheusServer, objects: ObjectSource | None = None) -> Application:
    return Application(remote_write_environ(REMOTE_WRITE_URL=server.url), objects=objects)


def held(server: PrometheusServer, name: str) -> list[float]:
    samples = server.samples(name, at_s=time.time() + 600)
    return [float(value) for values in samples.values() for _, value in values]


@pytest.mark.slow
def test_points_far_ahead_of_the_clock_silence_no_other_series(server: PrometheusServer) -> None:
    app, now_s = application(server), round(time.time())
    for number, ahead_s in enumerate((65 * 60, 3 * 86_400, 30 * 365 * 86_400)):
        report = report_of(app, ckafka(point(1, "ahead", timestamp=now_s + ahead_s), first_offset=number))
        assert outcomes(report) == {"invalid": 1}
        assert "correct the producer's clock, or the unit" in report["errors"][0]["message"]
        for offset, metric in enumerate(("quiet", f"new_{number}")):
            good = point(number, metric, timestamp=now_s + number)
            assert outcomes(report_of(app, ckafka(good, first_offset=100 * number + offset + 50))) == {
                "delivered": 1
            }
    assert held(server, "pc_quiet") == [0, 1, 2]


def test_seventy_logs_of_one_second_in_two_batches_are_stored(server: PrometheusServer) -> None:
    app, second = application(server), round(time.time()) - 5
    for batch in (range(40), range(40, 70)):
        records = [
            {"timestamp": str(second * 1_000_000), "content": json.dumps(point(value, "log"))}
            for value in batch
        ]
        packed = gzip.compress(json.dumps({"topic_id": "t", "records": records}).encode())
        report = report_of(app, {"clslogs": {"data": base64.b64encode(packed).decode()}})
        assert outcomes(report) == {"delivered": len(batch)}
    assert held(server, "pc_log") == list(range(70))


def test_two_objects_of_one_second_are_stored(server: PrometheusServer) -> None:
    (record, *_) = json.loads((ROOT / "tests" / "events" / "cos.json").read_text("utf-8"))["Records"]
    stored = AnyObject()
    app = application(server, stored)
    for number in range(2):
        lines = [json.dumps(point(number * 10 + value, "object")) for value in range(10)]
        stored.content = "\n".join(lines).encode()
        created: dict[str, Any] = json.loads(json.dumps(record))
        created["event"]["eventTime"] = round(time.time()) - 10
        created["cos"]["cosObject"]["key"] += str(number)
        assert outcomes(report_of(app, {"Records": [created]})) == {"delivered": 10}
    assert held(server, "pc_object") == list(range(20))
