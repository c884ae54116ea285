"""Fixtures that several test modules share."""

from collections.abc import Callable, Iterator

import pytest

from harness import Harness, environ, make_harness
from metric_forwarder.bootstrap import Application
from receiver_emulator import Emulator


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
