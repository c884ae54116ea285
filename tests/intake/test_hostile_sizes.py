"""A few kilobytes, or the platform's 6 MB of next to nothing, take neither the function's memory nor its time."""

import base64
import gzip
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.formats.payload import MAX_POINTS
from metric_forwarder.spool.policies import MAX_DEAD_LETTERS
from metric_forwarder.triggers.cos import MAX_LINES
from support.fakes import AnyObject, FakeClock, InProcessReceiver
from support.harness import ROOT, Harness, ckafka, environ, make_harness, outcomes, point
from support.peak_memory import RECEIVER, TOKEN, handle_alone

MB = 2**20
# The text itself a few times, and what a small function has to spare.
MOST_MEMORY = 64 * MB


# An object was created.
CREATED = {"Records": json.loads((ROOT / "tests" / "events" / "cos.json").read_text("utf-8"))["Records"][:1]}


def listed(unit: str, size: int, around: tuple[str, str] = ("[", "]")) -> str:
    """A list of the same, over and over."""
    return ",".join([unit] * (size // (len(unit) + 1))).join(around)


def packed(text: str) -> str:
    return base64.b64encode(gzip.compress(text.encode())).decode()


def http(body: str, path: str = "/", **more: Any) -> Any:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Encoding": "gzip" if more else "identity"}
    return {"httpMethod": "POST", "path": path, "headers": headers, "body": body, **more}


def unsigned(text: str) -> Any:
    head = dict.fromkeys(["SecretId", "Region", "Signature", "Namespace"], "x") | {"Timestamp": 1, "Nonce": 1}
    whole = json.dumps(head).removesuffix("}") + f',"Data":{text}}}'
    return http(packed(whole), "/v2/index.php", isBase64Encoded=True)


# Bytes are those of an object.
EVENTS: dict[str, Callable[[], Any]] = {
    "a message of numbers": lambda: ckafka(listed("1", 6 * MB)),
    "a message of empty objects": lambda: ckafka(listed("{}", 6 * MB)),
    "a message of names": lambda: ckafka(listed('"1":1', 6 * MB, ("{", "}"))),
    "messages of numbers": lambda: ckafka(*[listed("1", 198_000)] * 8),
    "messages of empty lists": lambda: ckafka(*[listed("[[]]", 400_000)] * 4),
    "a gzip body of empty objects": lambda: http(packed(listed("{}", 6 * MB)), isBase64Encoded=True),
    "a request that nobody signed": lambda: unsigned(listed("{}", 6 * MB - 1000)),
    "logs that are none": lambda: {
        "clslogs": {"data": packed(listed("{}", 8 * MB - 100, ('{"records":[', "]}")))}
    },
    "an object of numbers": lambda: b"1\n" * (4 * MB),
    "an object of empty objects": lambda: listed("{}", 8 * MB).encode(),
    "a gzip object that begins as no JSON": lambda: gzip.compress(b"x\n" + b"1\n" * (4 * MB - 2)),
}


def harness_of(stored: bytes = b"", **settings: str) -> Harness:
    clock = FakeClock()
    receiver = InProcessReceiver(clock)
    receiver.keep_nothing()
    named = environ(HTTP_TOKEN=TOKEN, BRIDGE_ACCOUNTS="own", **settings)
    return Harness(Application(named, clock, lambda: receiver, AnyObject(stored)), receiver, clock)


WITH_AND_WITHOUT = pytest.mark.parametrize("spools", [False, True], ids=["without a spool", "with a spool"])


def of(name: str) -> tuple[Any, bytes]:
    """The event, and the object that it names."""
    content = EVENTS[name]()
    return (CREATED, content) if isinstance(content, bytes) else (content, b"")


def made(name: str, folder: Path, *, spools: bool) -> tuple[Harness, Any]:
    """A warm instance, and the event."""
    event, stored = of(name)
    harness = harness_of(stored, **({"SPOOL": folder.as_uri()} if spools else {}))
    harness.handle(ckafka(point("1"), "x"))  # what is needed to explain is loaded
    return harness, event


@pytest.mark.slow
@pytest.mark.alone
@WITH_AND_WITHOUT
@pytest.mark.parametrize("name", EVENTS)
def test_next_to_nothing_does_not_take_the_functions_time(name: str, tmp_path: Path, *, spools: bool) -> None:
    harness, event = made(name, tmp_path, spools=spools)
    usual = ckafka(*[point(value) for value in range(10_000)])
    # 24 to 55 times were measured for the same code; what grows with the square of the size takes thousands.
    assert _seconds(harness, event) < 100 * _seconds(harness, usual)


@pytest.mark.slow
@WITH_AND_WITHOUT
@pytest.mark.parametrize("name", EVENTS)
def test_next_to_nothing_does_not_take_the_functions_memory(
    name: str, tmp_path: Path, *, spools: bool
) -> None:
    event, stored = of(name)
    settings = {**RECEIVER, "MF_BRIDGE_ACCOUNTS": "own"}
    taken = handle_alone(event, stored, tmp_path, settings, "up", spools=spools, explains=True)
    assert taken.more < MOST_MEMORY


def _seconds(harness: Harness, event: Any) -> float:
    began = time.process_time()
    harness.application.handle(event, {})
    return time.process_time() - began


@pytest.mark.parametrize("form", ["list", "points", "Data"])
def test_a_message_of_more_points_than_are_held_is_one_invalid_that_says_so(form: str) -> None:
    many = [point(1)] * (MAX_POINTS + 1)
    body = many if form == "list" else {form: many}
    report = make_harness().handle(body)
    assert outcomes(report) == {"invalid": 1}
    (error,) = report["errors"]
    assert (error["rule"], error["pointer"]) == ("size", "" if form == "list" else f"/{form}")
    assert f"more than {MAX_POINTS} points: split it" in error["message"]


@pytest.mark.slow
def test_a_message_of_as_many_points_as_are_held_is_delivered() -> None:
    harness = harness_of()
    assert outcomes(harness.handle([point(1)] * MAX_POINTS)) == {"delivered": MAX_POINTS}


def test_commas_and_brackets_inside_of_texts_are_not_values() -> None:
    cpus = ",".join(map(str, range(100))) + "{[" * 20
    points = [point(value, dimensions={"cpus": cpus}) for value in range(4000)]
    assert outcomes(harness_of().handle(ckafka(points))) == {"delivered": 4000}
    lines = "\n".join(json.dumps(one) for one in points).encode()
    assert outcomes(harness_of(lines).handle(CREATED)) == {"delivered": 4000}


@pytest.mark.slow
def test_a_broken_first_line_takes_no_other_along_however_many_values_they_hold() -> None:
    line = b'{"metricName":"m","dimensions":{"a":"1","b":"2","c":"3","d":"4"},"value":1}\n'
    report = harness_of(b'{"metricName":\n' + line * 90_000, NAMESPACE="pc").handle(CREATED)
    assert outcomes(report) == {"delivered": 90_000, "invalid": 1}
    assert report["errors"][0]["source"].endswith(":1")


@pytest.mark.slow
def test_the_lines_before_too_many_are_taken_and_the_rest_is_reported() -> None:
    line = json.dumps({"metricName": "m", "dimensions": {}, "value": 1}).encode() + b"\n"
    report = harness_of(line * (MAX_LINES + 1), NAMESPACE="pc").handle(CREATED)
    assert outcomes(report) == {"delivered": MAX_LINES, "invalid": 1}
    assert f"more than {MAX_LINES} lines: split it" in report["errors"][0]["message"]


@pytest.mark.slow
def test_dead_letters_over_the_limit_are_counted_in_the_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    harness = make_harness(SPOOL=tmp_path.as_uri())
    report = harness.handle([1] * (MAX_DEAD_LETTERS + 7))
    assert outcomes(report) == {"invalid": MAX_DEAD_LETTERS + 7}
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    (told,) = [line for line in lines if line["event"] == "spool"]
    assert told["message"].startswith("7 invalid points are not kept as dead letters")
    replay = {"Type": "Timer", "TriggerName": "r", "Time": "2026-01-01T00:00:00Z"}
    again = harness.handle({**replay, "Message": '{"replay": true, "deadLetters": true}'})
    assert outcomes(again) == {"invalid": MAX_DEAD_LETTERS}
