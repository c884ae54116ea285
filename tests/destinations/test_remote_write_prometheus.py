"""A real Prometheus holds exactly what was sent to it, whatever else came along."""

import json
import struct
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.prometheus_server import RemoteWriteServer
from metric_forwarder.clients.http import HttpTransport
from metric_forwarder.delivery.verdicts import Action
from metric_forwarder.destinations.remote_write import RemoteWrite
from metric_forwarder.destinations.remote_write_proof import EMPTY_BODY
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.machine import system_machine
from metric_forwarder.model import Message, Point, Series
from metric_forwarder.secret import Secret
from support.command_line import run
from support.harness import ckafka, outcomes, point, remote_write_environ, report_of
from support.prometheus_server import PrometheusServer


class Place(NamedTuple):
    """A running server, the time when the tests began, Unix milliseconds, and the most exact values that it keeps."""

    server: RemoteWriteServer
    now_ms: int
    reading: Callable[[int], float] = lambda number: number / 7

    def application(self, **settings: str) -> Application:
        return Application(remote_write_environ(REMOTE_WRITE_URL=self.server.url, **settings))

    def samples(self, name: str) -> dict[tuple[Any, ...], list[Any]]:
        return self.server.samples(name, at_s=self.now_ms / 1000)

    def held(self, name: str) -> list[tuple[int, float]]:
        """The samples of a metric with one series."""
        return [(at, float(value)) for values in self.samples(name).values() for at, value in values]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with PrometheusServer(tmp_path_factory.mktemp("prometheus")) as server:
        yield Place(server, round(time.time() * 1000))


@pytest.mark.slow
def test_ten_thousand_points_over_500_series_arrive_with_their_values_and_times(place: Place) -> None:
    points = [
        point(
            place.reading(number) if number % 3 else -number,
            "load",
            dimensions={"host": f"h{number % 500}", "disk": '系统盘 "C:\\" \n'},
            timestamp=place.now_ms - 200_000 + number * 10,
        )
        for number in range(10_000)
    ]  # fmt: skip
    bodies = [points[start : start + 100] for start in range(0, 10_000, 100)]
    report = report_of(place.application(), ckafka(*bodies))
    assert outcomes(report) == {"delivered": 10_000}
    expected: dict[tuple[Any, ...], list[Any]] = {}
    for sent in points:
        name = tuple(sorted({"__name__": "pc_load", **sent["dimensions"]}.items()))
        expected.setdefault(name, []).append((sent["timestamp"], float(sent["value"])))
    held = place.samples("pc_load")
    assert {name: [(at, float(value)) for at, value in values] for name, values in held.items()} == expected


def test_a_repeated_delivery_changes_nothing(place: Place) -> None:
    points = [point(number, "again", timestamp=place.now_ms - 5000 + number) for number in range(20)]
    application = place.application(DEDUPE="off")
    assert outcomes(report_of(application, points)) == {"delivered": 20}
    before = place.held("pc_again")
    # The newest is taken again, which changes nothing; of the others it cannot be told that they are there.
    assert outcomes(report_of(application, points)) == {"delivered": 1, "rejected": 19}
    assert place.held("pc_again") == before
    assert len(before) == 20
    # An instance that remembers does not even ask.
    remembering = place.application()
    late = [point(number, "later", timestamp=place.now_ms - 5000 + number) for number in range(20)]
    assert outcomes(report_of(remembering, late)) == {"delivered": 20}
    assert outcomes(report_of(remembering, late)) == {"duplicate": 20}


REFUSED: dict[str, tuple[int, Any, str]] = {
    "out of order": (-1000, 1, "out of order"),
    "too old": (-30 * 86_400_000, 1, "too old"),
    "another value at the same time": (0, 2, "other value"),
}


@pytest.mark.parametrize(("offset_ms", "value", "rule"), REFUSED.values(), ids=REFUSED)
def test_a_sample_that_prometheus_refuses_is_rejected_and_named_and_the_rest_arrives(
    place: Place, offset_ms: int, value: int, rule: str
) -> None:
    metric, rest = f"refused_{offset_ms}".replace("-", "m"), f"rest_{offset_ms}".replace("-", "m")
    application = place.application()
    report_of(application, point(1, metric, timestamp=place.now_ms))
    points = [point(n, rest, dimensions={"n": n % 40}, timestamp=place.now_ms - 1000 + n) for n in range(100)]
    points[33] = point(value, metric, timestamp=place.now_ms + offset_ms)
    report = report_of(application, ckafka(points, topic="t"))
    assert outcomes(report) == {"delivered": 99, "rejected": 1}
    (error,) = report["errors"]
    assert (error["source"], error["pointer"], error["rule"]) == ("t/0@0", "/33", rule)
    assert sum(map(len, place.samples(f"pc_{rest}").values())) == 99
    assert place.held(f"pc_{metric}") == [(place.now_ms, 1.0)]


def test_points_that_come_out_of_order_within_an_event_all_arrive(place: Place) -> None:
    numbers = [5, 2, 9, 0, 7, 1, 8, 3, 6, 4]
    points = [point(number, "shuffled", timestamp=place.now_ms - 5000 + number) for number in numbers]
    assert outcomes(report_of(place.application(), points)) == {"delivered": 10}
    assert [value for _, value in place.held("pc_shuffled")] == list(range(10))


def test_readings_without_timestamps_all_arrive(place: Place) -> None:
    report = report_of(place.application(), ckafka(*[point(number, "bare") for number in range(30)]))
    assert outcomes(report) == {"delivered": 30}
    held = [
        value
        for values in place.server.samples("pc_bare", at_s=time.time() + 60).values()
        for _, value in values
    ]
    assert list(map(float, held)) == list(range(30))


@pytest.mark.parametrize("number", [-0.0, 5e-324, 1.7976931348623157e308, 2**53 + 1, 0.1])
def test_extreme_numbers_arrive_as_they_are(place: Place, number: float) -> None:
    metric = f"extreme_{abs(hash(repr(number)))}"
    report_of(place.application(), point(number, metric, timestamp=place.now_ms))
    assert [repr(value) for _, value in place.held(f"pc_{metric}")] == [repr(float(number))]


def text_message(text: str) -> dict[str, object]:
    """A text exposition as a message of CKafka."""
    return {"Records": [{"Ckafka": {"topic": "t", "partition": 0, "offset": 0, "msgBody": text}}]}


def test_nan_and_infinities_arrive_as_they_are(place: Place) -> None:
    at = place.now_ms
    text = f"special_nan NaN {at}\nspecial_high +Inf {at}\nspecial_low -Inf {at}\n"
    report = report_of(place.application(NAMESPACE=""), text_message(text))
    assert outcomes(report) == {"delivered": 3}
    held = {name: place.held(name) for name in ("special_nan", "special_high", "special_low")}
    assert {name: [(time, repr(value)) for time, value in samples] for name, samples in held.items()} == {
        "special_nan": [(at, "nan")],
        "special_high": [(at, "inf")],
        "special_low": [(at, "-inf")],
    }


def test_our_own_json_stays_json_without_nan_or_infinities(place: Place) -> None:
    body = '[{"metricName":"m","dimensions":{},"value":%s},{"metricName":"m","dimensions":{},"value":1e999}]'
    for text in ("NaN", "Infinity", "-Infinity"):
        report = report_of(place.application(), ckafka(body % text))
        assert outcomes(report) == {"invalid": 2}


@pytest.mark.parametrize("ahead_s", [65 * 60, 3 * 86_400, 30 * 365 * 86_400])
def test_a_point_far_ahead_is_invalid_and_the_series_of_others_go_on_being_delivered(
    place: Place, ahead_s: int
) -> None:
    now_ms = round(time.time() * 1000)
    application, metric = place.application(), f"others_{ahead_s}"
    ahead = point(1, "ahead", timestamp=now_ms + ahead_s * 1000)
    report = report_of(application, [ahead, point(2, metric, timestamp=now_ms)])
    assert outcomes(report) == {"invalid": 1, "delivered": 1}
    (error,) = report["errors"]
    assert (error["pointer"], error["rule"]) == ("/0/timestamp", "maxAhead")
    assert "correct the producer's clock, or the unit of its time" in error["message"]
    assert outcomes(report_of(application, point(3, metric, timestamp=now_ms + 10))) == {"delivered": 1}
    held = place.server.samples(f"pc_{metric}", at_s=time.time() + 60)
    assert [value for values in held.values() for _, value in values] == ["2", "3"]
    assert place.held("pc_ahead") == []


def test_a_stale_marker_ends_a_series_of_a_real_prometheus(place: Place) -> None:
    (marker,) = struct.unpack("<d", bytes.fromhex("020000000000f07f"))
    destination = RemoteWrite(
        url=place.server.url,
        user="",
        password=Secret(""),
        transport=HttpTransport(),
        machine=system_machine(),
        clocks=make_server_clocks(),
    )
    series = Series("", "ending", {})
    assert destination.prepare_series(series, {}) is None
    for value, time_ms in ((1.0, place.now_ms - 1000), (marker, place.now_ms)):
        (wire,) = destination.encode([series], [value], [time_ms])
        each = Point(0, series, value, None, None, Message("s", None), "", None, time_ms, wire)
        assert destination.send([each], 5).action is Action.ACCEPT
    assert place.held("ending") == [(place.now_ms - 1000, 1.0)], "a marker is shown to nobody"
    assert (instant(place, "ending", -1), instant(place, "ending", 1)) == (["1"], []), "it has ended"


def instant(place: Place, metric: str, offset_ms: int) -> list[str]:
    """The values of a metric at a moment, as a graph shows them."""
    query = urlencode({"query": metric, "time": (place.now_ms + offset_ms) / 1000})
    with urlopen(place.server.url.replace("/write", f"/query?{query}"), timeout=10) as response:
        return [series["value"][1] for series in json.load(response)["data"]["result"]]


def test_with_an_out_of_order_window_late_samples_arrive_too(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with PrometheusServer(tmp_path_factory.mktemp("window"), out_of_order_s=3600) as server:
        place = Place(server, round(time.time() * 1000))
        application = place.application()
        for offset in (0, -1000, -2000):
            late = point(offset, "late", timestamp=place.now_ms + offset)
            assert outcomes(report_of(application, late)) == {"delivered": 1}
        assert [value for _, value in place.held("pc_late")] == [-2000, -1000, 0]
        beyond = [point(1, "beyond", timestamp=place.now_ms - 7_200_000), point(2, "rest")]
        report = report_of(application, beyond)
        assert outcomes(report) == {"rejected": 1, "delivered": 1}
        assert report["errors"][0]["rule"] == "too old"


def test_a_stored_sample_that_its_own_request_has_made_too_old_is_not_said_to_be_missing(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with PrometheusServer(tmp_path_factory.mktemp("window"), out_of_order_s=600) as server:
        place = Place(server, round(time.time() * 1000))
        application = place.application(DEDUPE="off")
        report_of(application, point(1, "first", timestamp=place.now_ms - 7_200_000))
        # As with a reply that was lost: the same request twice.
        pair = [
            point(2, "old", timestamp=place.now_ms - 7_300_000),
            point(3, "new", timestamp=place.now_ms),
        ]
        assert outcomes(report_of(application, pair)) == {"delivered": 2}
        report = report_of(application, pair)
        assert outcomes(report) == {"delivered": 1, "rejected": 1}
        assert "may be stored already" in report["errors"][0]["message"]
        assert place.held("pc_old") == [(place.now_ms - 7_300_000, 2.0)]


def test_a_path_that_takes_no_remote_write_is_a_matter_of_the_settings(place: Place) -> None:
    url = place.server.url.replace("/write", "/nothing")
    report = report_of(Application(remote_write_environ(REMOTE_WRITE_URL=url)), point())
    assert outcomes(report) == {"undelivered": 1}
    assert "MF_REMOTE_WRITE_URL" in report["errors"][0]["message"]
    assert report["requests"]["sent"] == 1


@pytest.mark.parametrize("path", ["query", "series", "query_exemplars"])
def test_a_path_that_refuses_whatever_it_is_sent_rejects_no_point(place: Place, path: str) -> None:
    url = place.server.url.replace("/write", f"/{path}")
    report = report_of(Application(remote_write_environ(REMOTE_WRITE_URL=url)), [point(1), point(2, "b")])
    assert outcomes(report) == {"undelivered": 2}
    assert "MF_REMOTE_WRITE_URL" in report["errors"][0]["message"]


def test_an_empty_request_is_taken(place: Place) -> None:
    request = Request(place.server.url, EMPTY_BODY, method="POST")
    with urlopen(request, timeout=10) as response:
        assert response.status == 204


def test_doctor_finds_it_well_and_stores_nothing(place: Place) -> None:
    before = place.samples('{__name__=~".+"}')
    done = run("doctor", DESTINATION="remote-write", REMOTE_WRITE_URL=place.server.url)
    assert (done.status, done.err) == (0, "")
    assert "the destination answers (with HTTP 204" in done.out
    assert place.samples('{__name__=~".+"}') == before
