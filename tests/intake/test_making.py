"""An intake that only looks at messages takes them as the function does, but whatever their age, and explains everything."""

import json

from metric_forwarder.intake.intake import Intake
from metric_forwarder.intake.making import make_intake
from metric_forwarder.model import Message
from metric_forwarder.reporting.ledger import Ledger
from metric_forwarder.settings.settings import Settings
from support.fakes import START, FakeClock
from support.harness import environ, point


def look_at(settings: dict[str, str], *texts: str) -> tuple[Intake, Ledger]:
    ledger = Ledger(max_problems=1000)
    intake = make_intake(Settings.read(settings), FakeClock(), ledger)
    intake.take_all(Message("s", text.encode(), "c") for text in texts)
    return intake, ledger


def test_the_age_of_a_point_is_not_looked_at() -> None:
    old = [json.dumps(point(timestamp=START - age_s)) for age_s in (2, 301, 10**7)]
    intake, ledger = look_at(environ(), *old)
    assert (len(intake.points), intake.stale, ledger.problems) == (3, {}, [])


def test_every_invalid_point_is_explained() -> None:
    _, ledger = look_at(environ(), *(json.dumps(point(metricName=f"a {number}")) for number in range(150)))
    assert {problem.rule for problem in ledger.problems} == {"pattern"}
    assert len(ledger.problems) == 150


def test_messages_are_read_by_the_format_and_the_mapping_that_are_set() -> None:
    ours = json.dumps(point(metricName="cpu", dimensions={"host": "load"}))
    mapping = environ(MAPPING=json.dumps({"name": "/dimensions/host", "value": "/value"}))
    taken = [look_at(settings, ours)[0].points for settings in (mapping, mapping | {"MF_FORMAT": "mapping"})]
    assert [[each.series.metric for each in points] for points in taken] == [["cpu"], ["load"]]
