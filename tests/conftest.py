"""Fixtures that several test modules share."""

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness import Harness, environ, make_harness
from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.prometheus_server import find_program
from receiver_emulator import Emulator
from redis_server import RedisServer


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=16, help="how often test_redis_chaos.py kills an instance")


# Tests against a real Prometheus. CI must have one; elsewhere a machine without it is told what was left out.
_WITH_PROMETHEUS = ["test_migration.py", "test_remote_write_prometheus.py"]
collect_ignore = [] if find_program() or os.environ.get("CI") else _WITH_PROMETHEUS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what passing tests counted, and what was not collected."""
    if collect_ignore:
        terminalreporter.write_line(
            f"NOT RUN, for want of the program prometheus: {', '.join(collect_ignore)}"
        )
    for report in terminalreporter.getreports("passed"):
        if report.user_properties:
            counted = ", ".join(f"{name} {count}" for name, count in report.user_properties)
            terminalreporter.write_line(f"{report.head_line}: {counted}")


@pytest.fixture
def redis_server(tmp_path: Path) -> Iterator[RedisServer]:
    """A Redis of the test's own, empty."""
    with RedisServer(tmp_path) as server:
        yield server


@pytest.fixture
def harness() -> Harness:
    return make_harness()


@pytest.fixture
def emulator() -> Iterator[Emulator]:
    with Emulator() as running:
        yield running


@pytest.fixture
def connect() -> Callable[..., Application]:
    """Make an application that sends over real sockets."""

    def make(emulator: Emulator, **settings: str) -> Application:
        return Application(environ(**{"RECEIVER_URL": emulator.url, **settings}))

    return make


@pytest.fixture
def starve() -> Iterator[Callable[[], None]]:
    """Let no thread start from now on: none gets the memory that it would need."""
    usual = threading.stack_size()

    def take_it() -> None:
        threading.stack_size(2**46)

    yield take_it
    threading.stack_size(usual)
