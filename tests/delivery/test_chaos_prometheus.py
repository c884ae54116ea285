"""Random faults between the forwarder and a real Prometheus: what is called delivered can be read back, exactly."""

import time
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from receiver_emulator.faults import FAULT_KINDS, FaultKind
from support.chaos import AMBIGUOUS, Arrival, Fault, run_schedules
from support.faulty_gateway import FaultyGateway
from support.harness import remote_write_environ
from support.prometheus_server import PrometheusServer

SCHEDULES = 1200
GROUPS = 8
# Beyond any point of a schedule, milliseconds.
SPACING_MS = 100


class PrometheusGround:
    """A real Prometheus without an out-of-order window, seen through a gateway that errs.

    Args:
        server: what the groups share: schedules are told apart by a label.
        gateway: of this group.
        start_ms: the time of the first point, Unix milliseconds.
    """

    kinds: tuple[FaultKind, ...] = tuple(kind for kind in FAULT_KINDS if kind != "code")
    # None of 2xx: to remote write each of them says "stored", and a gateway that lies is believed.
    statuses = (302, 400, 401, 404, 408, 413, 429, 500, 502, 503, 504)
    two_sided: frozenset[FaultKind] = AMBIGUOUS | {"status", "delay"}
    repeats = False

    def __init__(self, server: PrometheusServer, gateway: FaultyGateway, start_ms: int) -> None:
        self._server = server
        self._gateway = gateway
        self._start_ms = start_ms

    def environ(self, **settings: str) -> dict[str, str]:
        return remote_write_environ(REMOTE_WRITE_URL=self._gateway.url, **settings)

    def time_ms(self, schedule: int, number: int) -> int:
        return self._start_ms + schedule * SPACING_MS + number

    def begin(self, faults: Iterable[Fault]) -> None:
        for fault in faults:
            self._gateway.fault(**fault)

    def heal(self) -> None:
        self._gateway.clear_faults()

    def arrived(self, schedule: int) -> Counter[Arrival]:
        held = self._server.samples(f'{{schedule="{schedule}"}}', at_s=time.time() + 60)
        return Counter(
            Arrival(dict(labels)["__name__"].removeprefix("pc_"), float(value), at_ms)
            for labels, samples in held.items()
            for at_ms, value in samples
        )


@pytest.mark.slow
def test_no_schedule_of_faults_loses_a_point_or_lies_about_one(tmp_path: Path) -> None:
    start_ms = round(time.time() * 1000) - SCHEDULES * SPACING_MS

    with PrometheusServer(tmp_path) as server:

        @contextmanager
        def prometheus_ground(group: int) -> Iterator[PrometheusGround]:
            with FaultyGateway(server.url, seed=group) as gateway:
                yield PrometheusGround(server, gateway, start_ms)

        assert run_schedules(SCHEDULES, GROUPS, prometheus_ground, tmp_path) >= SCHEDULES
