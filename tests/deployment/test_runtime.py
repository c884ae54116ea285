"""At home on the platform: how its runners load and call the function, and what they hand over."""

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from metric_forwarder.errors import ConfigError, DeliveryIncomplete, UnknownTrigger
from metric_forwarder.settings.context import time_limit_s
from receiver_emulator import EXAMPLE_SECRET_KEY, Emulator
from support.harness import CONTEXT, ROOT, ckafka, environ, make_harness, outcomes, point


def run(emulator: Emulator, events: list[Any], folder: Path, **told: str) -> tuple[list[Any], str]:
    """The replies to events, and everything that was written, when Tencent's local runner calls the function."""
    entry = folder / "function" / "index.py"
    shutil.copytree(ROOT / "src", entry.parent, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    variables = ";".join(
        f"{name}={value}" for name, value in environ(RECEIVER_URL=emulator.url, **told).items()
    )
    result = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "support" / "local_runner.py")],
        input=json.dumps([str(entry), variables, events]),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin"},
    )
    return [json.loads(line) for line in result.stdout.splitlines()], result.stdout + result.stderr


@pytest.mark.slow
def test_the_function_runs_as_tencents_local_runner_runs_it(emulator: Emulator, tmp_path: Path) -> None:
    events = [ckafka(point(1), point("2")), ckafka(point(1), point("2")), {"nonsense": 1}]
    replies, _ = run(emulator, events, tmp_path)
    assert [outcomes(reply) for reply in replies[:2]] == [
        {"delivered": 1, "invalid": 1},
        {"duplicate": 1, "invalid": 1},
    ]
    assert replies[2]["type"] == "UnknownTrigger"
    assert len(emulator.points()) == 1


@pytest.mark.slow
def test_a_time_limit_in_milliseconds_is_converted_to_seconds(emulator: Emulator, tmp_path: Path) -> None:
    emulator.fault("delay", 0.5)
    (reply,), _ = run(emulator, [point(1)], tmp_path)
    assert outcomes(reply) == {"delivered": 1}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_nothing_secret_is_written_with_the_root_logger_at_debug(
    emulator: Emulator, tmp_path: Path, method: str
) -> None:
    emulator.fault("status", 503)
    emulator.fault("reset")
    _, written = run(emulator, [point(1), point(2)], tmp_path, RECEIVER_METHOD=method)
    assert "outcomes" in written
    for secret in (EXAMPLE_SECRET_KEY, "Signature", "10.0.0.1"):
        assert secret not in written


@pytest.mark.parametrize(
    ("told", "seconds"),
    [(3000, 3.0), ("3000", 3.0), (3, 3.0), ("3", 3.0), (900, 900.0), (900_000, 900.0), (1000, 1.0), (None, 60.0), ("soon", 60.0), (0, 60.0), (-5, 60.0), ([], 60.0), (float("nan"), 60.0)],
)  # fmt: skip
def test_the_time_limit_is_understood_in_every_spelling(told: Any, seconds: float) -> None:
    assert time_limit_s({"time_limit_in_ms": told}) == seconds


@pytest.mark.parametrize("context", [None, {}, "text", {"request_id": 7}, {"request_id": "x" * 10_000}])
def test_a_context_of_any_shape_is_enough(context: Any) -> None:
    assert make_harness().application.handle(point(), context)["status"] == "ok"


KEYS = st.sampled_from(
    ["Type", "Timer", "Records", "Ckafka", "CMQ", "cos", "msgBody", "body", "headers", "httpMethod", "clslogs", "data",
     "specversion", "EventList", "Body", "ClientContext", "points", "Data", "value", "metricName", "Message", "id"]
) | st.text(max_size=4)  # fmt: skip
EVENTS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["Timer", "{", "1.0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=20,
)


@pytest.mark.slow
@given(EVENTS)
@settings(max_examples=1500, deadline=None)
def test_no_event_makes_the_handler_raise_anything_it_does_not_promise(event: Any) -> None:
    harness = make_harness(HTTP_AUTH="cam")
    try:
        answer = json.dumps(harness.application.handle(event, CONTEXT))
    except (UnknownTrigger, DeliveryIncomplete, ConfigError) as error:
        answer = str(error)
    assert len(answer) < 65_536
