"""A real VictoriaMetrics holds what was sent to it, as Prometheus does; where it differs is said here, too."""

import re
import time
from collections.abc import Iterator

import pytest

from destinations.test_remote_write_prometheus import (
    Place,
    test_a_path_that_takes_no_remote_write_is_a_matter_of_the_settings,
    test_doctor_finds_it_well_and_stores_nothing,
    test_points_that_come_out_of_order_within_an_event_all_arrive,
    test_readings_without_timestamps_all_arrive,
    test_ten_thousand_points_over_500_series_arrive_with_their_values_and_times,
)
from metric_forwarder.bootstrap import Application
from support.command_line import run
from support.harness import ckafka, outcomes, point, remote_write_environ, report_of
from support.victoria_metrics_server import VictoriaMetricsServer

__all__ = [
    "test_a_path_that_takes_no_remote_write_is_a_matter_of_the_settings",
    "test_doctor_finds_it_well_and_stores_nothing",
    "test_points_that_come_out_of_order_within_an_event_all_arrive",
    "test_readings_without_timestamps_all_arrive",
    "test_ten_thousand_points_over_500_series_arrive_with_their_values_and_times",
]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    with VictoriaMetricsServer(tmp_path_factory.mktemp("merging")) as server:
        # It keeps decimals of some twelve digits.
        yield Place(server, round(time.time() * 1000), lambda number: number / 8)


def test_a_repeated_delivery_changes_nothing_where_equal_samples_are_merged(place: Place) -> None:
    points = [point(number, "again", timestamp=place.now_ms - 5000 + number) for number in range(20)]
    application = place.application(DEDUPE="off")
    assert outcomes(report_of(application, points)) == {"delivered": 20}
    before = place.held("pc_again")
    assert len(before) == 20
    # Unlike Prometheus, it takes the older ones, too.
    assert outcomes(report_of(application, points)) == {"delivered": 20}
    assert place.held("pc_again") == before


def test_without_deduplication_victoria_metrics_stores_a_repeated_point_twice(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    with VictoriaMetricsServer(tmp_path_factory.mktemp("keeping"), merging=False) as server:
        place = Place(server, round(time.time() * 1000))
        application = place.application(DEDUPE="off")
        for _ in range(2):
            assert outcomes(report_of(application, point(1, timestamp=place.now_ms))) == {"delivered": 1}
        assert place.held("pc_diskusage") == [(place.now_ms, 1.0)] * 2


def test_late_samples_arrive_too(place: Place) -> None:
    for offset_ms in (0, -1000, -86_400_000):
        late = point(offset_ms, "late", timestamp=place.now_ms + offset_ms)
        assert outcomes(report_of(place.application(), ckafka(late))) == {"delivered": 1}
    held = place.server.samples("pc_late", at_s=place.now_ms / 1000, range_s=2 * 86_400)
    assert [float(value) for values in held.values() for _, value in values] == [-86_400_000, -1000, 0]


def test_another_value_at_the_same_time_is_taken_and_not_refused(place: Place) -> None:
    for value in (5, 7):
        other = point(value, "other", timestamp=place.now_ms)
        assert outcomes(report_of(place.application(), other)) == {"delivered": 1}
    assert len(place.held("pc_other")) == 1


WRONG_PATHS = (
    "/api/v1/import",
    "/api/v1/import/prometheus",
    "/write",
    "/api/v2/write",
    "/influx/write",
    "/metrics",
    "/health",
    "/ping",
    "/api/v1/labels",
    "/api/v1/query",
    "/api/v1/push",
    "/flags",
)


# These answer 400 to everything that is no request of theirs.
REFUSING_PATHS = (
    "/datadog/api/v1/series",
    "/api/v1/import/csv",
    "/api/v1/import/native",
    "/newrelic/infra/v2/metrics/events/bulk",
)


@pytest.mark.parametrize("path", [*WRONG_PATHS, *REFUSING_PATHS])
def test_a_path_that_takes_something_else_is_never_called_delivered_and_doctor_says_so(
    place: Place, path: str
) -> None:
    url = place.server.url.replace("/api/v1/write", path)
    before = place.samples('{__name__=~".+"}')
    report = report_of(Application(remote_write_environ(REMOTE_WRITE_URL=url)), [point(1), point(2, "other")])
    assert "delivered" not in outcomes(report)
    assert "MF_REMOTE_WRITE_URL" in report["errors"][0]["message"]
    done = run("doctor", DESTINATION="remote-write", REMOTE_WRITE_URL=url)
    assert done.status == 1
    assert re.search("answer .*MF_REMOTE_WRITE_URL", done.out)
    assert place.samples('{__name__=~".+"}') == before
