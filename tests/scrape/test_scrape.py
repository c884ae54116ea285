"""Timers that scrape: what targets expose arrives, and a target that fails stops nobody."""

import json
import math
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import Failure, Fault, HttpRequest, HttpTransport, Streamed
from metric_forwarder.clock import Clock, Deadline, SystemClock
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.samples import FilteredSample, InvalidSample, Reading, Sample
from metric_forwarder.jobs import BadJob, Replay, Scrape, ScrapeTarget, read_job
from metric_forwarder.model import Message
from metric_forwarder.scrape.exposition import Exposition
from metric_forwarder.scrape.scraper import MAX_SAMPLES, MAX_TARGET_BYTES, SIDE_BY_SIDE, Scraper
from metric_forwarder.scrape.targets import join
from metric_forwarder.settings.settings import Settings
from receiver_emulator import Emulator
from support.command_line import settings_for
from support.fakes import machine_of
from support.harness import outcomes, remote_write_environ, report_of
from support.patience import ends_within
from support.prometheus_server import PrometheusServer
from support.scrape_targets import NODE, Targets, serving_targets


@pytest.fixture
def targets() -> Iterator[Targets]:
    with serving_targets() as running:
        yield running


def application(receiver: Emulator, **settings: str) -> Application:
    named = {**settings_for(receiver), "NAMESPACE": "node", "SCRAPE_HOSTS": "127.0.0.1", **settings}
    return Application({f"MF_{name}": value for name, value in named.items()})


def firing(
    *urls: str, keep: tuple[str, ...] = ("node_load1",), time: str = "2026-01-01T00:00:00Z", **more: Any
) -> Any:
    if len(urls) > 1 and "labels" not in more:
        # Several paths of one host must be told apart.
        groups = [{"targets": [url], "labels": {"target": str(number)}} for number, url in enumerate(urls)]
        more["scrape"] = groups
    job = {"scrape": list(urls), "keep": list(keep), **more}
    return {"Type": "Timer", "TriggerName": "scrape-node", "Time": time, "Message": json.dumps(job)}


def stored(receiver: Emulator) -> set[tuple[str, tuple[tuple[str, Any], ...], float]]:
    return {(p["metricName"], tuple(sorted(p["dimensions"].items())), p["value"]) for p in receiver.points()}


# --- what arrives ---------------------------------------------------------------------------------------------


def test_the_samples_that_are_kept_arrive_with_the_targets_name(receiver: Emulator, targets: Targets) -> None:
    event = firing(targets.url(), keep=("node_load1", "node_cpu_*", "http_request_seconds_*"), job="node")
    report = report_of(application(receiver), event)
    assert (report["status"], report["outcomes"]["delivered"]) == ("ok", 7)
    own = {"instance": targets.host, "job": "node"}
    expected = [
        ("node_load1", {}, 0.21),
        ("node_cpu_seconds_total", {"cpu": "0", "mode": "idle"}, 362812.78),
        ("node_cpu_seconds_total", {"cpu": "1", "mode": "idle"}, 1.5e5),
        ("http_request_seconds_bucket", {"le": "0.1"}, 7),
        ("http_request_seconds_bucket", {"le": "+Inf"}, 9),
        ("http_request_seconds_sum", {}, 1.25),
        ("http_request_seconds_count", {}, 9),
    ]
    assert stored(receiver) == {
        (name, tuple(sorted({**labels, **own}.items())), value) for name, labels, value in expected
    }
    assert {point["namespace"] for point in receiver.points()} == {"node"}


def test_a_targets_own_job_and_instance_stay_as_exported(receiver: Emulator, targets: Targets) -> None:
    targets.text = 'up_since{job="inner",instance="i"} 1\n'
    report_of(application(receiver), firing(targets.url(), keep=("up_since",), namespace="other"))
    (point,) = receiver.points()
    assert point["dimensions"] == {"exported_job": "inner", "exported_instance": "i", "job": "scrape", "instance": targets.host}  # fmt: skip
    assert point["namespace"] == "other"


def test_what_cannot_be_sent_is_invalid_with_the_reason_and_the_rest_goes(
    receiver: Emulator, targets: Targets
) -> None:
    targets.text = (
        'x_quantile{quantile="0.5"} NaN\nx_max +Inf\nx:rate5m 1\nx_many{a="1",b="2",c="3",d="4"} 1\n'
        'x_fine 1\n{"x.dotted"} 1\nx_third 1 2 3\nx_exemplar 7 # {t="x"} 0.43\n'
        f"x_giant {10**400}\n"
    )
    report = report_of(application(receiver), firing(targets.url("/metrics?token=sEcret"), keep=("x*",)))
    assert outcomes(report) == {"invalid": 6, "filtered": 1, "delivered": 2}
    told = {
        (error["source"].removeprefix(targets.url()).strip() or error["pointer"]): error["rule"]
        for error in report["errors"]
    }
    assert told == {
        "x_max": "not-finite",
        "x:rate5m": "pattern",
        "x_many": "maxProperties",
        "line 7": "syntax",
        "line 8": "syntax",
        "line 9": "value",
    }
    assert {name for name, _, _ in stored(receiver)} == {"x_fine", "x_dotted"}
    assert targets.url() in {error["source"] for error in report["errors"]}
    assert "sEcret" not in json.dumps(report)


@pytest.mark.parametrize(
    ("line", "name"),
    [
        ('{"a:b"} 1', "a:b"),
        (r'{"a\"b"} 1', "a_b"),
        ('{"x"="y","my.metric"} 1', "my_metric"),
        ('{x="y","my.metric"} 1', "my_metric"),
    ],
)
def test_a_quoted_name_is_kept_by_the_name_that_its_sample_has(line: str, name: str) -> None:
    (kept,) = read(line, lambda asked: asked == name)
    assert isinstance(kept, Sample)
    assert kept.metric == name
    assert read(line, lambda asked: asked != name) == []


def test_a_series_that_is_exposed_twice_with_different_values_is_not_called_a_duplicate(
    receiver: Emulator, targets: Targets
) -> None:
    targets.text = 'n{a="1",b="2"} 1\nn{b="2",a="1"} 2\nn{a="1",b="2"} 1\nm 3\n'
    report = report_of(application(receiver), firing(targets.url(), keep=("*",)))
    assert report["outcomes"]["invalid"] == 1
    (told,) = report["errors"]
    assert (told["pointer"], told["rule"]) == ("line 2", "duplicate-series")
    assert {(name, value) for name, _, value in stored(receiver)} >= {("n", 1), ("m", 3)}
    assert report["outcomes"]["duplicate"] == 1, "the same value again"


def test_a_samples_own_time_is_the_points_time(receiver: Emulator, targets: Targets) -> None:
    now_ms = round(time.time() * 1000)
    targets.text = f"fresh 1 {now_ms}\nold 2 {now_ms - 3_600_000}\nancient 3 5000\nfuture 4 1e300\n"
    app = application(receiver)
    report = report_of(app, firing(targets.url(), keep=("f*", "old", "ancient")))
    assert outcomes(report) == {"delivered": 1, "stale": 2, "invalid": 1}, report["errors"]
    later = report_of(app, firing(targets.url(), keep=("fresh",), time="2026-01-01T00:01:00Z"))
    assert outcomes(later) == {"duplicate": 1}, "the same reading of the same time"


def test_a_redelivered_firing_does_not_double_what_has_arrived(receiver: Emulator, targets: Targets) -> None:
    app = application(receiver)
    event = firing(targets.url(), keep=("node_*",))
    assert outcomes(report_of(app, event)) == {"delivered": 3}
    targets.text = "node_extra 1\n" + NODE.replace("0.21", "0.5")
    assert outcomes(report_of(app, event)) == {"delivered": 1, "duplicate": 3}
    assert outcomes(report_of(app, firing(targets.url(), keep=("node_*",), time="2026-01-01T00:01:00Z"))) == {"delivered": 4}  # fmt: skip


def test_what_cannot_be_delivered_is_spooled_and_what_is_invalid_is_not_kept(
    receiver: Emulator, targets: Targets, tmp_path: Path
) -> None:
    targets.text = "node_load1 1\nx_infinite +Inf\n"
    receiver.fault("code", 1002, times=None)
    app = application(receiver, SPOOL=tmp_path.as_uri(), MAX_ATTEMPTS="1")
    url = targets.url("/metrics?token=sEcret")
    report = report_of(app, firing(url, targets.url("/missing"), keep=("node_*", "x_*")))
    assert outcomes(report) == {"spooled": 1, "invalid": 2}
    (spooled,) = tmp_path.glob("points-*")
    assert "sEcret" not in spooled.read_text("utf-8")
    record = json.loads(spooled.read_text("utf-8").splitlines()[1])
    assert record["time_ms"] == 1_767_225_600_000, "the firing of the timer"
    assert list(tmp_path.glob("dead-*")) == []
    receiver.clear_faults()
    replay = {
        "Type": "Timer",
        "TriggerName": "replay",
        "Time": "2026-01-01T00:02:00Z",
        "Message": '{"replay": true}',
    }
    assert outcomes(report_of(app, replay)) == {"delivered": 1}


# --- targets that fail ----------------------------------------------------------------------------------------

FAILING = {
    "/missing": "answered HTTP 404",
    "/redirect": "a redirection is not followed",
    "/endless": "exposes more than 4 MB",
    "/announced": "exposes more than 4 MB",
    "/cut": "broke off",
    "/garbage": "not a Prometheus text exposition: it is not UTF-8",
    "/page": "not a Prometheus text exposition, at line 1",
    "/quoted": "at line 1: has more than 65536 characters",
    "/packed": "compressed",
}


@pytest.mark.parametrize(("path", "reason"), FAILING.items(), ids=list(FAILING))
def test_a_target_that_fails_is_reported_and_the_others_are_scraped(
    receiver: Emulator, targets: Targets, path: str, reason: str
) -> None:
    report = report_of(application(receiver), firing(targets.url(path), targets.url()))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    (error,) = report["errors"]
    assert error["source"] == targets.url(path)
    assert reason in error["message"]
    assert sorted(targets.asked) == sorted([path, "/metrics"])


def test_a_line_that_cannot_be_read_is_reported_and_the_lines_around_it_arrive(
    receiver: Emulator, targets: Targets
) -> None:
    report = report_of(application(receiver), firing(targets.url("/broken")))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    (error,) = report["errors"]
    assert (error["source"], error["pointer"], error["rule"]) == (targets.url("/broken"), "line 2", "syntax")


def test_a_target_is_told_how_long_it_is_waited_for_so_that_a_probe_ends_before(
    receiver: Emulator, targets: Targets
) -> None:
    report_of(application(receiver), firing(targets.url()))
    report_of(application(receiver), firing(targets.url(), time="2026-01-01T00:01:00Z"), time_limit_ms=6_000)
    times = [float(seen["X-Prometheus-Scrape-Timeout-Seconds"]) for seen in targets.headers_seen]
    assert 9 < times[0] <= 10
    assert 0 < times[1] <= 3


def test_a_value_that_may_be_cut_in_half_is_not_sent(receiver: Emulator, targets: Targets) -> None:
    targets.text = "node_load1 1\nnode_load5 12"  # of 1234, from a target that was killed
    report = report_of(application(receiver), firing(targets.url("/unframed"), keep=("node_*",)))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert (report["errors"][0]["pointer"], report["errors"][0]["rule"]) == ("line 2", "eof")
    for path, text in (
        ("/metrics", "node_load5 12"),
        ("/unframed", "node_load5 12\n"),
        ("/unframed", "node_load5 12\n# x"),
    ):
        targets.text = text
        report = report_of(application(receiver), firing(targets.url(path), keep=("node_*",)))
        assert outcomes(report) == {"delivered": 1}, (path, text)


def test_a_target_that_answers_in_openmetrics_is_read_as_that(receiver: Emulator, targets: Targets) -> None:
    report = report_of(application(receiver, MAX_AGE_S="0"), firing(targets.url("/openmetrics")))
    assert outcomes(report) == {"delivered": 1}, "seconds, not milliseconds of 1970"


@pytest.mark.parametrize("path", ["/numeral", "/unpacked"])
def test_a_target_with_a_content_length_or_an_encoding_that_says_nothing_is_read(
    receiver: Emulator, targets: Targets, path: str
) -> None:
    report = report_of(application(receiver), firing(targets.url(path), targets.url("/missing")))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}


def test_what_a_target_exposes_after_its_end_is_reported_and_not_left_out() -> None:
    text = "a 1\n# EOF\n# TYPE b gauge\nb 2\nc 3\n# EOF\n"
    exposition = Exposition(text, open_metrics=True, keep=lambda name: name != "c", watch=lambda: None)
    first, second = exposition.readings()
    assert first == Sample("line 1", "a", {}, 1)
    assert isinstance(second, InvalidSample)
    assert (second.where, second.rule) == ("line 4", "eof")


def test_a_target_that_refuses_connections_is_reported(receiver: Emulator, targets: Targets) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    report = report_of(application(receiver), firing(f"http://127.0.0.1:{port}/metrics", targets.url()))
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    assert "ConnectionRefusedError" in report["errors"][0]["message"]
    assert "check its host and port" in report["errors"][0]["message"]


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/hang", "/dribble"])
def test_a_target_that_never_ends_costs_half_of_the_time_and_not_the_others(
    receiver: Emulator, targets: Targets, path: str
) -> None:
    with ends_within(2.5):
        report = report_of(
            application(receiver), firing(targets.url(path), targets.url()), time_limit_ms=3000
        )
    assert outcomes(report) == {"delivered": 1, "invalid": 1}
    # Which end of the connection gives up first is for the machine to say.
    said = report["errors"][0]["message"]
    assert "no answer in time" in said or "broke off" in said


@pytest.mark.slow
def test_a_target_that_gives_a_byte_at_a_time_leaves_no_thread_behind(
    receiver: Emulator, targets: Targets
) -> None:
    report_of(application(receiver), firing(targets.url("/dribble")), time_limit_ms=2000)
    patience = time.monotonic() + 30
    while any(thread.name == "download" for thread in threading.enumerate()):
        assert time.monotonic() < patience
        time.sleep(0.01)


@pytest.mark.slow
@pytest.mark.alone
def test_samples_of_thousands_of_labels_do_not_take_the_functions_time(
    receiver: Emulator, targets: Targets
) -> None:
    started = time.process_time()
    report = report_of(application(receiver), firing(targets.url("/crowded")), time_limit_ms=60_000)
    assert "has more than 100 labels" in report["errors"][0]["message"]
    # Reading every label of every line took ten seconds on a slow machine.
    assert time.process_time() - started < 3


@pytest.mark.slow
@pytest.mark.parametrize("line", ["\n", "a 1\n", "# a\n"])
def test_texts_of_which_nothing_is_kept_do_not_take_the_functions_time_either(
    receiver: Emulator, targets: Targets, line: str
) -> None:
    targets.text = line * (4_000_000 // len(line))
    urls = [targets.url(f"/metrics?{number}") for number in range(40)]
    with ends_within(2):
        report = report_of(application(receiver), firing(*urls), time_limit_ms=2000)
    assert {error["outcome"] for error in report["errors"]} == {"invalid"}


@pytest.mark.parametrize("path", ["/endless", "/quoted"])
def test_what_is_too_large_is_given_up_before_it_takes_memory(
    receiver: Emulator, targets: Targets, path: str
) -> None:
    app = application(receiver)
    report_of(app, firing(targets.url()))
    tracemalloc.start()
    try:
        assert outcomes(report_of(app, firing(targets.url(path)))) == {"invalid": 1}
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * MAX_TARGET_BYTES


def test_targets_are_asked_side_by_side(receiver: Emulator, targets: Targets) -> None:
    urls = [targets.url(f"/together?{i}") for i in range(targets.together.parties)]
    assert len(urls) <= SIDE_BY_SIDE
    assert outcomes(report_of(application(receiver), firing(*urls))) == {"delivered": len(urls)}


@pytest.mark.slow
def test_more_samples_than_an_event_holds_are_reported_and_not_sent(targets: Targets) -> None:
    targets.text = "".join(f'n{{i="{i}"}} 1\n' for i in range(MAX_SAMPLES + 1))
    found = scrape(targets, targets.url())
    assert [message.broken for message in found] == [
        f"would make more than {MAX_SAMPLES} samples: keep fewer"
    ]


@pytest.mark.slow
def test_the_targets_after_one_with_too_many_samples_are_forwarded(targets: Targets) -> None:
    targets.text = "".join(f'n{{i="{i}"}} 1\n' for i in range(MAX_SAMPLES // 2 + 1))
    found = scrape(targets, targets.url("/metrics?1"), targets.url("/metrics?2"), targets.url("/fine"))
    assert sum(message.broken is None for message in found) == MAX_SAMPLES // 2 + 2
    assert sum(message.broken is not None for message in found) == 1


def test_a_name_that_no_target_exposes_is_reported_since_it_may_be_a_typing_error(
    receiver: Emulator, targets: Targets
) -> None:
    report = report_of(
        application(receiver), firing(targets.url(), keep=("node_load1", "node_laod5", "go_*"))
    )
    assert outcomes(report) == {"delivered": 1, "invalid": 2}
    assert '"node_laod5", which no target exposes' in report["errors"][0]["message"]
    report = report_of(application(receiver), firing(targets.url("/missing")))
    assert outcomes(report) == {"invalid": 1}, "nobody can tell while no target answers"
    event = firing(targets.url("/missing"), targets.url(), keep=("node_load1", "only_of_the_missing"))
    assert outcomes(report_of(application(receiver), event)) == {"delivered": 1, "invalid": 1}, (
        "nor while one fails"
    )


# --- who may be asked -----------------------------------------------------------------------------------------


def scrape(
    targets: Targets,
    *urls: str,
    hosts: tuple[str, ...] = ("127.0.0.1",),
    keep: tuple[str, ...] = ("n*",),
    clock: Clock | None = None,
) -> list[Message]:
    assert targets.host in urls[0]
    clock = clock or SystemClock()
    scraper = Scraper(hosts, HttpTransport, machine_of(clock))
    deadline = Deadline(clock, clock.monotonic() + 10)
    asked = tuple(ScrapeTarget(url, (("target", str(number)),)) for number, url in enumerate(urls))
    return list(scraper.messages(Scrape(asked, keep), Message("timer", None, "timer/x@y"), deadline))


def test_targets_that_did_not_answer_are_asked_after_the_others_at_the_next_firing() -> None:
    may_answer = threading.Event()

    class Connection:
        def stream(self, request: HttpRequest, _: Deadline) -> Streamed | Failure:
            if request.url.endswith("/hangs"):
                may_answer.wait(5)
                return Failure(Fault.UNANSWERED, "timeout")
            return Streamed(200, {"Content-Length": "4"}, iter([b"n 1\n"]), lambda: None)

    clock = SystemClock()
    scraper = Scraper(("h",), Connection, machine_of(clock))
    paths = [f"{number}/hangs" for number in range(SIDE_BY_SIDE)] + ["a", "b", "c"]
    asked = tuple(ScrapeTarget(f"http://h/{path}", (("target", path),)) for path in paths)

    def fire() -> Iterator[Message]:
        deadline = Deadline(clock, clock.monotonic() + 600)
        return scraper.messages(Scrape(asked, ("n",)), Message("timer", None, "timer/x@y"), deadline)

    may_answer.set()
    assert sum(message.broken is None for message in fire()) == 3
    may_answer.clear()
    second = fire()
    assert [message.broken for message in islice(second, 3)] == [None] * 3
    may_answer.set()
    assert all(message.broken for message in second)


def test_a_host_that_is_not_listed_is_never_asked(targets: Targets) -> None:
    port = targets.server_address[1]
    others = ["127.0.0.1:1", "localhost", "example.org"]
    urls = [
        targets.url(),
        f"http://127.0.0.1:{port}@localhost:1/",
        f"http://localhost:1@127.0.0.1:{port}/",
        f"http://127.0.0.1:{port}\\@localhost/",
        f"ftp://127.0.0.1:{port}/",
        "file:///etc/hosts",
        "http://",
        "http://[::1",
        "http://127.0.0.1:99999/",
        "http://127.0.0.1:0/",
        "//127.0.0.1/",
        "http://ex ample/",
        "http://exämple/",
    ]
    found = scrape(targets, *urls, hosts=tuple(others))
    assert targets.asked == []
    assert len(found) == len(urls)
    assert all(message.broken for message in found)
    assert any("MF_SCRAPE_HOSTS" in (message.broken or "") for message in found)


def test_a_url_with_user_and_password_is_refused_and_neither_is_shown(targets: Targets) -> None:
    url = targets.url().replace("//", "//user:sEcret@")
    clock = SystemClock()
    scraper = Scraper(("127.0.0.1",), HttpTransport, machine_of(clock))
    deadline = Deadline(clock, clock.monotonic() + 10)
    (failed,) = scraper.messages(Scrape((ScrapeTarget(url),), ("*",)), Message("timer", None), deadline)
    assert "without user and password" in (failed.broken or "")
    assert "sEcret" not in f"{failed.source} {failed.broken}"
    assert targets.asked == []


@pytest.mark.parametrize(
    "url",
    [
        "http://user:sEcret?1@127.0.0.1/",
        "http://user:a#sEcret@127.0.0.1/",
        "http://127.0.0.1:0/?sEcret",
        "ftp://a?b=sEcret@c",
    ],
)
def test_what_may_be_secret_is_not_shown_of_a_url_that_is_none(targets: Targets, url: str) -> None:
    (_, failed) = sorted(scrape(targets, targets.url("/fine"), url), key=lambda message: message.broken or "")
    assert failed.broken
    assert "sEcret" not in f"{failed.source} {failed.broken}"
    assert "user" not in failed.source


def test_without_a_thread_every_target_is_reported_as_not_scraped(
    targets: Targets, starve: Callable[[], None]
) -> None:
    starve()
    found = scrape(targets, targets.url("/fine"), targets.url())
    assert ["no thread" in (message.broken or "") for message in found] == [True, True]


@pytest.mark.slow
def test_of_many_targets_no_more_is_held_than_of_those_asked_at_once(targets: Targets) -> None:
    targets.text = "n 1\n" + "#a\n" * 50_000
    urls = [targets.url(f"/metrics?{number}") for number in range(3 * SIDE_BY_SIDE)]
    scrape(targets, targets.url("/fine"))
    tracemalloc.start()
    try:
        # Tracing makes it slow: a clock that stands still gives every target the time it needs.
        found = scrape(targets, *urls, clock=StoppedClock())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [message.broken for message in found] == [None] * len(urls)
    assert {message.body.metric for message in found} == {"n"}
    # The text and its bytes, and those that the server of the test sends.
    assert peak < (2 * SIDE_BY_SIDE + 10) * len(targets.text)


class StoppedClock(SystemClock):
    """Never moves, so that no deadline comes; sockets have their own time."""

    def monotonic(self) -> float:
        return 0.0


def test_a_listed_host_may_be_named_with_or_without_its_port(targets: Targets) -> None:
    for hosts in (("127.0.0.1",), (targets.host,)):
        assert not any(
            message.broken for message in scrape(targets, targets.url("/metrics?a=b c&d=%20"), hosts=hosts)
        )
    assert targets.asked == ["/metrics?a=b%20c&d=%20"] * 2
    assert "Proxy-Connection" not in targets.headers_seen[0]


def test_while_no_host_is_listed_a_timer_that_scrapes_is_a_configuration_error(receiver: Emulator) -> None:
    with pytest.raises(ConfigError, match="MF_SCRAPE_HOSTS is empty, but a timer asks to scrape"):
        application(receiver, SCRAPE_HOSTS="").handle(firing("http://127.0.0.1/"), {})


@pytest.mark.parametrize(
    "hosts", ["http://a", "a/b", "a b", "user@a", "a:port", "*", "a,,b;c", "a:99999", "[::1]:0", "[1]"]
)
def test_invalid_hosts_are_a_configuration_error(hosts: str, receiver: Emulator) -> None:
    environ = {f"MF_{name}": value for name, value in settings_for(receiver).items()}
    with pytest.raises(ConfigError, match="MF_SCRAPE_HOSTS"):
        Settings.read({**environ, "MF_SCRAPE_HOSTS": hosts})
    settings = Settings.read({**environ, "MF_SCRAPE_HOSTS": " A.b:1, [::1]:9100 ,[::1],10.0.0.5,"})
    assert settings.scrape_hosts == ("a.b:1", "[::1]:9100", "[::1]", "10.0.0.5")


# --- the job --------------------------------------------------------------------------------------------------

URL = "http://a/metrics"


@pytest.mark.parametrize(
    "message",
    [
        {"scrape": URL, "keep": ["a"]},
        {"scrape": [], "keep": ["a"]},
        {"scrape": [URL]},
        {"scrape": [URL], "keep": []},
        {"scrape": [URL], "keep": [1]},
        {"scrape": [URL], "keep": ["a"], "keeep": ["b"]},
        {"scrape": [URL], "keep": ["a"], "job": 1},
        {"scrape": [URL], "keep": ["a"], "labels": {"__a": "b"}},
        {"scrape": [URL], "keep": ["a"], "labels": {"a-b": "c"}},
        {"scrape": [URL], "keep": ["a"], "labels": {"a": 1}},
        {"scrape": [URL], "keep": ["a"], "labels": []},
        {"scrape": [{"targets": [URL], "label": {}}], "keep": ["a"]},
        {"scrape": [{"targets": []}], "keep": ["a"]},
        {"scrape": [URL, 5], "keep": ["a"]},
        {"Scrape": [URL], "keep": ["a"]},
    ],
    ids=str,
)
def test_a_job_that_says_nothing_that_can_be_done_is_invalid_and_says_how(
    receiver: Emulator, message: Any
) -> None:
    assert isinstance(read_job(json.dumps(message)), BadJob)
    event = {**firing(), "Message": json.dumps(message)}
    report = report_of(application(receiver), event)
    assert outcomes(report) == {"invalid": 1}
    assert "is not a scrape job: it must be" in report["errors"][0]["message"]


def test_jobs_are_distinguished_from_payloads() -> None:
    assert read_job(json.dumps({"scrape": [URL, URL], "keep": ["a"]})) == Scrape((ScrapeTarget(URL),), ("a",))
    assert read_job({"replay": True}) == Replay(dead_letters=False)
    assert read_job('{"metricName": "m", "dimensions": {}, "value": 1}') is None
    assert read_job("[]") is None


# --- the text -------------------------------------------------------------------------------------------------

# Names that begin with two underscores are Prometheus' own; no target exposes them.
LABELS = st.dictionaries(
    st.from_regex(r"(?!__)[a-zA-Z_][a-zA-Z0-9_]{0,5}", fullmatch=True),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=8),
    max_size=3,
)
SAMPLES = st.lists(st.tuples(st.from_regex(r"[a-z_:][a-z0-9_:]{0,6}", fullmatch=True), LABELS, st.floats(), st.none() | st.integers(0, 10**13)), max_size=6)  # fmt: skip


def exposed(name: str, labels: dict[str, str], value: float, time_ms: int | None) -> str:
    escaped = {
        key: text.replace("\\", r"\\").replace("\n", r"\n").replace('"', r"\"")
        for key, text in labels.items()
    }
    inside = ",".join(f'{key}="{text}"' for key, text in escaped.items())
    number = (
        "NaN"
        if math.isnan(value)
        else ("+Inf" if value > 0 else "-Inf")
        if math.isinf(value)
        else repr(value)
    )
    return f"{name}{{{inside}}} {number}" + ("" if time_ms is None else f" {time_ms}")


def read(text: str, keep: Callable[[str], bool] = lambda _: True) -> list[Reading]:
    return list(Exposition(text, open_metrics=False, keep=keep, watch=lambda: None).readings())


@pytest.mark.slow
@given(SAMPLES)
def test_whatever_is_exposed_is_read_as_it_was(
    samples: list[tuple[str, dict[str, str], float, int | None]],
) -> None:
    text = "# a comment\n\n" + "".join(exposed(*sample) + "\n" for sample in samples)
    found = read(text)
    for sample, (name, labels, value, time_ms) in zip(found, samples, strict=True):
        assert isinstance(sample, Sample)
        assert sample.metric == name
        assert sample.dimensions == {label: text for label, text in labels.items() if text}
        assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))
        assert sample.time_ns == (None if time_ms is None else time_ms * 1_000_000)
    assert read(text, lambda _: False) == []


@pytest.mark.parametrize(
    "line",
    [
        "a 1 " + "9" * 400,
        "a 1_0",
        "a",
        'a{b="c"',
        'a{b="c",b="d"} 1',
        "a 1 x",
        "a 1 2 3",
        'a 7 # {t="x"} 0.43',
    ],
)
def test_a_line_that_is_not_a_sample_is_reported_and_the_next_is_read(line: str) -> None:
    first, second, third = read(f"fine 1\n{line}\nfine 2\n")
    assert isinstance(second, InvalidSample)
    assert second.where == "line 2"
    assert [first, third] == [Sample("line 1", "fine", {}, 1), Sample("line 3", "fine", {}, 2)]


@given(st.text() | st.text('ab{}=",\\ #1e.\n\t+-_:', max_size=40))
def test_any_text_is_read_or_refused_and_nothing_else(text: str) -> None:
    for reading in read(text):
        assert isinstance(reading, (Sample, InvalidSample, FilteredSample))


# --- targets of one host --------------------------------------------------------------------------------------


def probes(targets: Targets, *names: str) -> list[str]:
    return [targets.url(f"/probe?target={name}&token=sEcret") for name in names]


def test_two_targets_that_would_get_the_same_labels_are_reported_and_neither_is_fetched(
    receiver: Emulator, targets: Targets
) -> None:
    event = {
        **firing(),
        "Message": json.dumps({"scrape": [*probes(targets, "a", "b"), targets.url()], "keep": ["*"]}),
    }
    report = report_of(application(receiver), event)
    assert outcomes(report) == {"invalid": 3}
    assert all('{"instance": "__param_target"}' in error["message"] for error in report["errors"])
    assert targets.asked == []
    assert "sEcret" not in json.dumps(report)


def test_labels_of_the_job_tell_the_targets_of_one_host_apart(receiver: Emulator, targets: Targets) -> None:
    job = {
        "scrape": [
            *probes(targets, "a", "b"),
            {"targets": [targets.url()], "labels": {"instance": "c", "room": "2"}},
        ],
        "keep": ["probe_success", "node_load1"],
        "labels": {"instance": "__param_target", "path": "__metrics_path__"},
    }
    report = report_of(application(receiver), {**firing(), "Message": json.dumps(job)})
    assert outcomes(report) == {"delivered": 3}
    assert {point["dimensions"]["instance"]: point["value"] for point in receiver.points()} == {
        "a": 1,
        "b": 2,
        "c": 0.21,
    }
    assert {point["dimensions"]["path"] for point in receiver.points()} == {"/probe", "/metrics"}
    assert {point["dimensions"].get("room") for point in receiver.points()} == {None, "2"}


def test_a_label_of_a_parameter_that_the_url_lacks_is_reported(receiver: Emulator, targets: Targets) -> None:
    event = firing(targets.url(), labels={"instance": "__param_target"})
    report = report_of(application(receiver), event)
    assert outcomes(report) == {"invalid": 1}
    assert "has no parameter of that name" in report["errors"][0]["message"]


LABELS_OF_SAMPLES = st.dictionaries(
    st.sampled_from(["job", "instance", "exported_job", "exported_exported_job", "a"]), st.text(), max_size=5
)


@given(LABELS_OF_SAMPLES, LABELS_OF_SAMPLES)
def test_no_label_is_lost_where_target_and_sample_have_the_same_names(
    labels: dict[str, str], own: dict[str, str]
) -> None:
    joined = join(labels, own)
    assert own.items() <= joined.items()
    assert sorted(joined.values()) == sorted([*labels.values(), *own.values()])


def test_two_probes_of_one_host_are_two_series_of_a_real_prometheus_and_an_idle_summary_is_nan_there(
    targets: Targets, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    targets.text = 'idle{quantile="0.5"} NaN\nidle_max +Inf\nidle_sum 0\n'
    with PrometheusServer(tmp_path) as server:
        now_s = time.time()
        app = Application(
            remote_write_environ(REMOTE_WRITE_URL=server.url, NAMESPACE="", SCRAPE_HOSTS="127.0.0.1")
        )
        job = {
            "scrape": [*probes(targets, "a", "b"), {"targets": [targets.url()], "labels": {"instance": "c"}}],
            "keep": ["probe_success", "idle*", "up"],
            "labels": {"instance": "__param_target"},
        }
        at = datetime.fromtimestamp(now_s - 1, timezone.utc).isoformat()
        report = report_of(app, {**firing(time=at), "Message": json.dumps(job)})
        assert outcomes(report) == {"delivered": 8}
        held = server.samples('{__name__=~".+"}', at_s=now_s + 60)
    values = {
        (dict(labels)["__name__"], dict(labels)["instance"]): [value for _, value in samples]
        for labels, samples in held.items()
    }
    assert values == {
        ("probe_success", "a"): ["1"],
        ("probe_success", "b"): ["2"],
        ("idle", "c"): ["NaN"],
        ("idle_max", "c"): ["+Inf"],
        ("idle_sum", "c"): ["0"],
        ("up", "a"): ["1"],
        ("up", "b"): ["1"],
        ("up", "c"): ["1"],
    }
    assert "ERROR" not in capsys.readouterr().out


def test_an_idle_summary_is_filtered_for_the_receiver_and_logs_no_error(
    receiver: Emulator, targets: Targets, capsys: pytest.CaptureFixture[str]
) -> None:
    targets.text = 'node_idle{quantile="0.5"} NaN\nnode_idle_sum 0\n'
    report = report_of(application(receiver), firing(targets.url(), keep=("node_*",)))
    assert outcomes(report) == {"delivered": 1, "filtered": 1}
    assert (report["status"], report["errors"]) == ("ok", [])
    assert '"level":"ERROR"' not in capsys.readouterr().out


def test_whether_a_target_answered_is_sent_where_it_is_kept(receiver: Emulator, targets: Targets) -> None:
    event = firing(targets.url(), targets.url("/missing"), keep=("up", "scrape_*", "node_load1"))
    report = report_of(application(receiver), event)
    assert outcomes(report) == {"delivered": 5, "invalid": 1}
    ups = {
        point["dimensions"]["target"]: point["value"]
        for point in receiver.points()
        if point["metricName"] == "up"
    }
    assert ups == {"0": 1, "1": 0}
    exposed = [
        point["value"] for point in receiver.points() if point["metricName"] == "scrape_samples_scraped"
    ]
    assert exposed == [7]
    assert {point["metricName"] for point in receiver.points()} == {
        "up",
        "node_load1",
        "scrape_duration_seconds",
        "scrape_samples_scraped",
    }


@pytest.mark.parametrize(
    ("text", "up"),
    [
        ("Internal Server Error\nplease retry later\n", 0),
        ("# an error\n\nSign in\n", 0),
        ("", 1),
        ("# nothing here\n", 1),
        ("other_metric 1\nbroken line\n", 1),
        ("broken line\nnode_load1 1\n", 1),
    ],
    ids=[
        "an error",
        "a comment before it",
        "empty",
        "a comment",
        "a sample before it",
        "a kept sample behind it",
    ],
)
def test_a_target_whose_text_is_no_exposition_is_down_whatever_is_kept(
    receiver: Emulator, targets: Targets, text: str, up: int
) -> None:
    targets.text = text
    report = report_of(application(receiver), firing(targets.url(), keep=("up", "node_load1")))
    arrived = {point["metricName"]: point["value"] for point in receiver.points()}
    assert arrived == {"up": up} | ({"node_load1": 1} if "node_load1" in text else {})
    told = [error["message"] for error in report["errors"] if "not a Prometheus text" in error["message"]]
    assert len(told) == 1 - up
