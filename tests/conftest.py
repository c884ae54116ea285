"""Fixtures that several test modules share."""

import gc
import os
import shutil
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import pytest
from hypothesis import Phase, settings

from metric_forwarder.bootstrap import Application
from receiver_emulator import Emulator
from support.harness import Harness, environ, make_harness
from support.redis_server import RedisServer

# How long an example takes says how busy the machine is, and nothing about a law.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

# `make mutants` tries thousands of changes, asks only whether a test fails, and wraps each function in others: the stack of a
# nested call is some three times as deep then.
if "MUTANT_UNDER_TEST" in os.environ:
    settings.register_profile(
        "mutants",
        max_examples=20,
        phases=(Phase.explicit, Phase.generate),
        database=None,
        derandomize=True,
        deadline=None,
    )
    settings.load_profile("mutants")
    sys.setrecursionlimit(4_000)  # not four times what it is: mutmut loads this file several times

# A shell lets what it runs in the background ignore interrupts, and so would every program that a test starts and interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN and "PYTEST_XDIST_WORKER" not in os.environ:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Six thousand tests are half a million objects that stay: looking through them for garbage takes seconds in each process."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()
        gc.collect()
        gc.freeze()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Take the tests of a change file by file: mutmut names them in no order, and the end of a file may wait for threads.

    Those of the file that has the name of the changed module come first.
    """
    if "MUTANT_UNDER_TEST" in os.environ:
        changed = os.environ["MUTANT_UNDER_TEST"].split(".")
        items.sort(key=lambda item: (item.path.stem.removeprefix("test_") not in changed, item.path))


def pytest_runtest_setup() -> None:
    """Let no test of `make mutants` find in a cache what the code returned before it was changed."""
    if "MUTANT_UNDER_TEST" in os.environ:
        for name, module in list(sys.modules.items()):
            if name.startswith("metric_forwarder."):
                for value in list(vars(module).values()):
                    if hasattr(value, "cache_clear"):
                        value.cache_clear()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, default=16, help="how often test_redis_chaos.py kills an instance")


# Tests against real servers. CI must have them; elsewhere a machine without one is told what was left out.
_WITH_PROGRAMS = {
    "chromium": ["receiver_emulator/test_page.py", "cli/test_serve_page.py"],
    "collectd": ["formats/test_collectd.py"],
    "influxd": ["formats/test_formats_influxdb.py"],
    "prometheus": [
        "delivery/test_chaos_prometheus.py",
        "bridge/test_migration.py",
        "destinations/test_remote_write_prometheus.py",
        "formats/test_collectd.py",
        "formats/test_real_clients.py",
        "intake/test_relabel_prometheus.py",
        "intake/test_times_prometheus.py",
        "reporting/test_alarm_rules_prometheus.py",
        "reporting/test_alarms_prometheus.py",
    ],
    "valgrind": ["intake/test_instructions.py"],
    "victoria-metrics": [
        "destinations/test_remote_write_victoria_metrics.py",
        "formats/test_formats_victoria_metrics.py",
        "formats/test_real_clients.py",
    ],
}
_LEFT_OUT = {
    program: files
    for program, files in _WITH_PROGRAMS.items()
    if not (shutil.which(program) or os.environ.get("CI"))
}
collect_ignore = [file for files in _LEFT_OUT.values() for file in files]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show what passing tests counted, and what was not collected."""
    for program, files in _LEFT_OUT.items():
        terminalreporter.write_line(f"NOT RUN, for want of the program {program}: {', '.join(files)}")
    for report in terminalreporter.getreports("passed"):
        if report.user_properties:
            counted = ", ".join(f"{name} {count}" for name, count in report.user_properties)
            terminalreporter.write_line(f"{report.head_line}: {counted}")


@pytest.fixture(autouse=True, scope="module")
def no_thread_outlives_its_module() -> Iterator[None]:
    """A forgotten server may keep a processor busy for all later tests, which then find the machine slow."""
    before = set(threading.enumerate())
    yield
    left = [
        thread
        for thread in threading.enumerate()
        # The threads of http.server end with their clients, which may keep a connection.
        if thread not in before and "process_request_thread" not in thread.name
    ]
    give_up = time.monotonic() + 60
    while any(thread.is_alive() for thread in left) and time.monotonic() < give_up:
        time.sleep(0.01)
    stands = sys._current_frames()
    alive = [thread for thread in left if thread.is_alive()]
    # Where each of them stands says what keeps it.
    assert not alive, "\n".join(
        f"{thread.name}\n{''.join(traceback.format_stack(stands.get(thread.ident or 0)))}" for thread in alive
    )


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


@pytest.fixture(scope="module")
def shared() -> Iterator[Emulator]:
    with Emulator() as emulator:
        yield emulator


@pytest.fixture
def receiver(shared: Emulator) -> Emulator:
    """One for all tests of a module; each gets it empty and without faults."""
    shared.clear()
    shared.clear_faults()
    return shared


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
