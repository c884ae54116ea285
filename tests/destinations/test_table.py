"""A destination is a module, a schema and a row: nothing else asks for its name."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from metric_forwarder.bootstrap import Application
from metric_forwarder.clients.http import HttpTransport
from metric_forwarder.credentials import Credentials, FixedCredentials
from metric_forwarder.delivery.verdicts import Action, Verdict
from metric_forwarder.destinations.parts import Parts, make_destination
from metric_forwarder.destinations.server_clock import make_server_clocks
from metric_forwarder.destinations.stdout import StandardOutput
from metric_forwarder.destinations.table import DESTINATIONS, DestinationKind
from metric_forwarder.doctor import DoctorContext, run_checks
from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.schema import SCHEMAS
from metric_forwarder.machine import system_machine
from metric_forwarder.model import Batch
from metric_forwarder.secret import Secret
from metric_forwarder.settings.extras import EXTRAS, needed_extras
from metric_forwarder.settings.settings import SETTINGS, Settings
from support.fakes import FakeClock, machine_of
from support.harness import environ, outcomes, point, remote_write_environ, report_of

# For destinations that need more settings than their name.
ENVIRONS = {
    "receiver": environ(),
    "remote-write": remote_write_environ(),
}


class Drawer(StandardOutput):
    """The made-up destination: keeps what it is sent."""

    scope = "drawer"

    def __init__(self, label: str) -> None:
        super().__init__(system_machine())
        self.label = label
        self.kept: list[str] = []

    def send(self, batch: Batch, timeout_s: float) -> Verdict:  # noqa: ARG002 - a drawer takes no time
        self.kept += [each.wire.decode() for each in batch]
        return Verdict(Action.ACCEPT, "kept", "it lies in the drawer")


DRAWERS: list[Drawer] = []


def make(settings: Settings, parts: Parts) -> Drawer:  # noqa: ARG001 - nothing is needed
    DRAWERS.append(Drawer(settings.namespace))
    return DRAWERS[-1]


@pytest.fixture
def drawer_row() -> Iterator[None]:
    DESTINATIONS["drawer"] = DestinationKind(
        __name__,
        "stdout",
        needs={"MF_NAMESPACE": "what is written on the drawer"},
        defaults={"MF_BATCH_MAX_POINTS": "7"},
    )
    yield
    del DESTINATIONS["drawer"]
    DRAWERS.clear()


@pytest.mark.usefixtures("drawer_row")
def test_a_row_adds_a_destination_that_delivers_is_examined_and_has_its_own_needs_and_defaults() -> None:
    settings = {"MF_DESTINATION": "drawer", "MF_NAMESPACE": "pc"}
    report = report_of(Application(settings, FakeClock()), [point(), point(2, metric="cpu")])
    assert outcomes(report) == {"delivered": 2}
    assert report["requests"]["returnCodes"] == {"kept": 1}
    assert [json.loads(line)["metricName"] for line in DRAWERS[0].kept] == ["diskusage", "cpu"]
    read = Settings.read(settings)
    assert read.batch_max_points == 7
    nobody = FixedCredentials(Credentials("", Secret("")))
    parts = Parts(nobody, HttpTransport, machine_of(FakeClock()), make_server_clocks())
    checks = dict(run_checks(DoctorContext(read, parts, "default/f")))
    assert list(checks) == ["dedupe", "spool", "http", "bridge", "scrape", "metrics"]
    assert all(result.is_ok for result in checks.values())
    with pytest.raises(ConfigError, match="MF_NAMESPACE is empty: set it to what is written on the drawer"):
        Settings.read({"MF_DESTINATION": "drawer"})


@pytest.mark.parametrize("name", ["drawer", "prometheus"])
def test_a_name_without_a_row_is_a_configuration_error(name: str) -> None:
    with pytest.raises(
        ConfigError, match=f'MF_DESTINATION is "{name}": set it to receiver or remote-write or stdout'
    ):
        Settings.read(environ(DESTINATION=name))


@pytest.mark.parametrize("name", DESTINATIONS)
def test_every_row_makes_a_destination_and_names_what_exists(name: str) -> None:
    kind = DESTINATIONS[name]
    variables = {each.name for each in SETTINGS}
    assert {kind.url, *kind.needs, *kind.defaults} - {""} <= variables
    assert (SCHEMAS / f"{kind.schema}.json").is_file()
    assert needed_extras({"MF_DESTINATION": name}) == ([kind.extra] if kind.extra else [])
    settings = Settings.read(ENVIRONS.get(name, {"MF_DESTINATION": name}))
    parts = Parts(
        FixedCredentials(Credentials("", Secret(""))),
        HttpTransport,
        machine_of(FakeClock()),
        make_server_clocks(),
    )
    assert name.partition(" ")[0] in make_destination(settings, parts).scope


def test_every_extra_is_one_of_the_project_and_asked_for_by_settings_that_exist() -> None:
    project = (Path(__file__).parents[2] / "pyproject.toml").read_text("utf-8")
    for name, extra in EXTRAS.items():
        lines = project.partition(f"\n{name} = [\n")[2].partition("]")[0]
        assert extra.package in lines
        assert set(extra.asked_for) <= {each.name for each in SETTINGS}


def test_the_extras_follow_from_the_settings() -> None:
    assert needed_extras({"MF_SPOOL": "RediSS://h", "MF_DESTINATION": "remote-write"}) == [
        "redis",
        "remote-write",
    ]
    assert (
        needed_extras({"MF_SPOOL": "file:///redis:", "MF_SCRAPE_HOSTS": "  ", "MF_DEDUPE": "memory:"}) == []
    )
