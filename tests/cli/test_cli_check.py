"""``check`` and ``schema``: without a key, a region or a network."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metric_forwarder.bootstrap import Application
from metric_forwarder.cli.dry_run import dry_run
from metric_forwarder.cli.reasons import reason_for
from metric_forwarder.clients.http import HttpReply, HttpRequest
from metric_forwarder.destinations.remote_write_wire import compress, encode_labels
from metric_forwarder.formats import Format
from metric_forwarder.model import Message
from metric_forwarder.settings.settings import Settings
from receiver_emulator import Emulator
from support.command_line import child_environ, command, execute, on_terminal, point, run, settings_for
from support.remote_write import encode_series


def _write(path: Path, content: Any) -> str:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return str(path)


def test_valid_files_end_with_status_0_and_need_no_setting(tmp_path: Path) -> None:
    payload = _write(tmp_path / "payload.json", {"namespace": "pc", "points": [point(), point(2)]})
    event = _write(tmp_path / "event.json", {"Type": "Timer", "Message": json.dumps(point())})
    done = execute("check", payload, event)
    assert done.status == 0
    assert [(f["trigger"], f["received"], f["valid"], f["errors"]) for f in done.printed] == [
        ("direct", 2, 2, []),
        ("timer", 1, 1, []),
    ]


JOBS = {
    "replay": {"replay": True, "deadLetters": True},
    "scrape": {"scrape": ["http://10.0.0.5:9100/metrics"], "keep": ["node_load1"]},
}


@pytest.mark.slow
@pytest.mark.parametrize("job", JOBS)
def test_a_timers_job_is_shown_as_a_job_and_is_valid(tmp_path: Path, job: str) -> None:
    event = _write(tmp_path / "event.json", {"Type": "Timer", "Message": json.dumps(JOBS[job])})
    done = run("check", event)
    assert done.status == 0
    nothing: dict[str, Any] = {"errors": [], "messages": [], "points": [], "filtered": []}
    assert done.printed == [
        {"file": event, "trigger": "timer", "job": job, "received": 0, "valid": 0, **nothing}
    ]
    shown = on_terminal(command("check", event), child_environ())
    assert f"ok the job {job}, without points to check" in " ".join(shown.out.split())


def test_a_job_without_content_gives_the_same_error_as_in_the_function(emulator: Emulator) -> None:
    event = json.dumps({"Type": "Timer", "Message": '{"scrape": []}'})
    done, invoked = run("check", "-", given=event), run("invoke", "-", given=event, **settings_for(emulator))
    assert (done.status, done.printed[0]["received"]) == (1, 1)
    assert done.printed[0]["errors"] == invoked.printed["errors"]
    assert "is not a scrape job" in done.printed[0]["errors"][0]["message"]


def test_every_error_is_printed_with_its_coordinates_and_there_is_no_cap() -> None:
    bodies = [json.dumps([point("1"), point(2, extra=1, dimensions={"a b": 1})]) for _ in range(40)]
    records = [
        {"Ckafka": {"topic": "t", "partition": 3, "offset": offset, "msgBody": body}}
        for offset, body in enumerate(bodies)
    ]
    done = run("check", "-", given=json.dumps({"Records": records}))
    (found,) = done.printed
    assert (done.status, found["received"], found["valid"]) == (1, 80, 0)
    wanted = {
        (f"t/3@{n}", pointer) for n in range(40) for pointer in ("/0/value", "/1/extra", "/1/dimensions/a b")
    }
    assert {(error["source"], error["pointer"]) for error in found["errors"]} == wanted


def test_a_payload_is_read_as_a_producers_text_is() -> None:
    text = '[{"metricName": "m", "dimensions": {}, "value": NaN}, {"metricName": "m", "metricName": "n"}]'
    (found,) = run("check", "-", given=text).printed
    assert [error["rule"] for error in found["errors"]] == ["not-finite", "duplicate-key"]


def test_an_unreadable_file_ends_with_status_2_and_the_others_are_checked(tmp_path: Path) -> None:
    broken = _write(tmp_path / "broken.json", "{")
    unknown = _write(tmp_path / "unknown.json", {"what": 1})
    wrong = _write(tmp_path / "wrong.json", point("1"))
    done = run("check", broken, unknown, str(tmp_path / "missing.json"), wrong)
    assert done.status == 2
    assert [found["valid"] for found in done.printed] == [0]
    assert "broken.json is not JSON (Expecting property name" in done.err
    assert "correct it, or name its format with MF_FORMAT" in done.err
    assert "unknown.json: the event is of an unknown kind" in done.err
    assert "MF_MAPPING says where its samples are" in done.err
    assert "missing.json cannot be read" in done.err


def test_age_is_not_judged_and_the_settings_for_intake_are(tmp_path: Path) -> None:
    nameless = {name: member for name, member in point(timestamp=1).items() if name != "namespace"}
    path = _write(tmp_path / "old.json", nameless)
    assert run("check", path).printed[0]["errors"][0]["pointer"] == "/namespace"
    assert run("check", path, NAMESPACE="pc").status == 0
    large = _write(tmp_path / "large.json", point(dimensions={"a": "x" * 300}))
    assert run("check", large).status == 0
    assert run("check", large, BATCH_MAX_BYTES="256").printed[0]["errors"][0]["rule"] == "maxBytes"


def test_an_empty_file_is_not_asked_for_json_alone_since_payloads_may_be_in_any_format() -> None:
    done = run("check", "-", given=" \n")
    assert done.status == 2
    assert "standard input is empty: it must hold a payload or a trigger event" in done.err


def test_a_setting_that_cannot_be_used_is_reported_even_here() -> None:
    done = run("check", "-", given="[]", BATCH_MAX_BYTES="few")
    assert done.status == 2
    assert "MF_BATCH_MAX_BYTES" in done.err
    assert "MF_SECRET_ID" not in done.err


_POINTS = st.lists(
    st.fixed_dictionaries(
        {
            "metricName": st.sampled_from(["m", "not a name"]),
            "value": st.one_of(st.integers(), st.sampled_from(["", "1"])),
        },
        optional={"dimensions": st.just({"ip": "1"}), "namespace": st.sampled_from(["pc", ""])},
    ),
    max_size=6,
)


class _Willing:
    """A receiver that takes everything."""

    def send(self, request: HttpRequest, timeout_s: float) -> HttpReply:
        del request, timeout_s
        return HttpReply(200, {}, b'{"code":0}')


@pytest.mark.slow
@given(_POINTS)
def test_what_a_check_calls_valid_is_what_the_function_delivers(points: list[Any]) -> None:
    environ = {"MF_SECRET_ID": "a", "MF_SECRET_KEY": "b", "MF_REGION": "gz", "MF_LOG_LEVEL": "ERROR"}
    report = Application(environ, transport=_Willing).handle(points, {})
    tried = dry_run(points, Settings.read({}, to_send=False))
    assert tried.received == report["received"] == len(points)
    assert len(tried.points) == report["outcomes"]["delivered"]
    shown = [(problem.pointer, problem.rule, problem.message) for problem in tried.problems]
    assert shown[:20] == [(e["pointer"], e["rule"], e["message"]) for e in report["errors"]]


# --- schema -------------------------------------------------------------------------------------------------


def test_the_schema_is_printed_without_any_setting() -> None:
    done = run("schema")
    assert (done.status, done.printed["properties"]["dimensions"]["maxProperties"]) == (0, 5)


def test_a_schema_of_ones_own_is_the_one_in_force(tmp_path: Path) -> None:
    path = _write(tmp_path / "own.json", {"title": "mine"})
    assert run("schema", SCHEMA=path).printed == {"title": "mine"}


@pytest.mark.parametrize("content", ["{", '{"type": "nothing"}'], ids=["no JSON", "no schema"])
def test_a_schema_that_cannot_be_used_ends_with_status_2(tmp_path: Path, content: str) -> None:
    path = _write(tmp_path / "own.json", content)
    for words in (("schema",), ("check", _write(tmp_path / "p.json", point()))):
        done = run(*words, SCHEMA=path)
        assert done.status == 2
        assert "MF_SCHEMA" in done.err


@pytest.mark.slow
def test_a_payload_of_another_format_is_checked_sample_by_sample(tmp_path: Path) -> None:
    lines = _write(tmp_path / "cpu.txt", "cpu,host=a idle=1,user=high\ncpu n=2\n")
    metric = {"fields": {"n": 1}, "name": "cpu"}
    values = _write(tmp_path / "cpu.jsonl", "\n".join([json.dumps(metric)] * 2))
    done = execute("check", lines, values, NAMESPACE="pc")
    assert done.status == 1
    assert [(f["received"], f["valid"]) for f in done.printed] == [(3, 2), (2, 2)]
    assert [error["pointer"] for error in done.printed[0]["errors"]] == ["line 1 field user"]


# --- what is explained --------------------------------------------------------------------------------------

_OTLP = {
    "resourceMetrics": [
        {"scopeMetrics": [{"metrics": [{"name": "load", "gauge": {"dataPoints": [{"asDouble": 1}]}}]}]}
    ]
}
PAYLOADS = {
    "json": json.dumps(point()),
    "influx": "load,ip=10.0.0.1 value=1",
    "telegraf-json": json.dumps({"fields": {"value": 1}, "name": "load", "tags": {"ip": "10.0.0.1"}}),
    "prometheus-text": "load 1\n",
    "otlp-json": json.dumps(_OTLP),
    "kafka-adapter": json.dumps({"value": "1", "labels": {"__name__": "load"}}),
}
REASONS = {
    "json": "JSON that no other format claims",
    "influx": "a line of it is name[,tag=value] field=value[,…] [time]",
    "telegraf-json": 'it has "name" and "fields"',
    "prometheus-text": "a line of it is name{…} value [time]",
    "otlp-json": 'it has "resourceMetrics"',
    "kafka-adapter": '"labels" with "__name__"',
}


@pytest.mark.parametrize("name", PAYLOADS)
def test_the_format_of_a_message_is_reported_with_the_reason_and_its_points(name: str) -> None:
    done = run("check", "-", given=PAYLOADS[name], NAMESPACE="pc")
    (found,) = done.printed
    ((source, format_, reason, received, valid),) = (each.values() for each in found["messages"])
    assert (done.status, source, format_, received, valid) == (0, "payload", name, 1, 1)
    assert REASONS[name] in reason
    assert [(p["namespace"], p["metricName"], p["value"]) for p in found["points"]] == [("pc", "load", 1)]


def test_a_format_that_a_setting_or_a_path_names_is_reported_with_that_reason() -> None:
    (found,) = run("check", "-", given="load 1", NAMESPACE="pc", FORMAT="prometheus-text").printed
    assert found["messages"][0]["reason"] == "MF_FORMAT says so"
    event = {"httpMethod": "POST", "path": "/write", "headers": {}, "body": "load value=1"}
    (found,) = run("check", "-", given=json.dumps(event), NAMESPACE="pc").printed
    assert found["messages"][0]["reason"] == "the path of the request says so"
    assert found["valid"] == 1


def test_a_payload_that_almost_fits_a_format_is_reported_with_what_is_missing() -> None:
    done = run("check", "-", given=json.dumps({"fields": {"value": 1}, "tags": {}}))
    (found,) = done.printed
    assert (done.status, found["received"], found["messages"][0]["format"]) == (1, 1, "")
    assert 'looks like telegraf-json, but it has no "name"' in found["messages"][0]["reason"]


def test_a_mapping_reads_json_of_no_known_format(tmp_path: Path) -> None:
    mapping = json.dumps({"name": "/what", "value": "/much"})
    given = _write(tmp_path / "own.json", {"what": "load", "much": 3})
    (found,) = run("check", given, NAMESPACE="pc", MAPPING=mapping).printed
    assert (found["messages"][0]["format"], found["valid"], found["points"][0]["value"]) == ("mapping", 1, 3)


def test_a_binary_payload_is_read_in_the_format_that_a_setting_names() -> None:
    series = encode_series(encode_labels([("__name__", "load")]), [(7.0, 1767225600000)])
    done = run("check", "-", given=compress([series]), NAMESPACE="pc", FORMAT="remote-write")
    (found,) = done.printed
    assert (done.status, found["points"][0]["value"]) == (0, 7.0)
    assert found["points"][0]["timestamp"].startswith("2026-01-01T00:00:00")


def test_a_trigger_event_stays_one_whatever_format_its_messages_have() -> None:
    event = {"Records": [{"Ckafka": {"topic": "t", "partition": 0, "offset": 1, "msgBody": "load value=1"}}]}
    (found,) = run("check", "-", given=json.dumps(event), NAMESPACE="pc", FORMAT="influx").printed
    assert (found["trigger"], found["valid"]) == ("ckafka", 1)


RULES = [
    {"action": "drop", "source_labels": ["__name__"], "regex": "cpu_n"},
    {"action": "labeldrop", "regex": "host"},
]


def test_points_are_shown_before_and_after_rules_and_labels_and_dropped_ones_as_filtered() -> None:
    done = run(
        "check", "-", given='cpu,host=a idle=1,n=2,os="linux",x=high\n', NAMESPACE="pc", RELABEL=json.dumps(RULES), LABELS="env=prod"
    )  # fmt: skip
    (found,) = done.printed
    (idle,) = found["points"]
    before = {"namespace": "pc", "metricName": "cpu_idle", "dimensions": {"host": "a"}}
    assert (idle["dimensions"], idle["before"]) == ({"env": "prod"}, before)
    told = [(each["pointer"], each["rule"], each["before"]) for each in found["filtered"]]
    assert told == [
        ("line 1 field n", "relabel", {**before, "metricName": "cpu_n"}),
        ("line 1 field os", "text", None),
    ]
    assert (done.status, found["received"], len(found["errors"])) == (1, 4, 1)


@pytest.mark.parametrize(
    ("rules", "told"),
    [
        pytest.param([*RULES[1:], RULES[0]], "rule 2 of MF_RELABEL (drop)", id="after another"),
        pytest.param(
            [{"target_label": "team", "replacement": "a"}] * 9 + [{"action": "keep", "source_labels": ["team"], "regex": "b"}] + RULES,
            "rule 10 of MF_RELABEL (keep)",
            id="many",
        ),
        pytest.param([{"action": "dropequal", "source_labels": ["host"], "target_label": "host"}], "rule 1 of MF_RELABEL (dropequal)", id="alone"),
        pytest.param([{"action": "labeldrop", "regex": ".*"}, RULES[0]], "rule 1 of MF_RELABEL (labeldrop)", id="no label left"),
    ],
)  # fmt: skip
def test_the_rule_that_drops_a_point_is_named(tmp_path: Path, rules: list[Any], told: str) -> None:
    path = _write(tmp_path / "rules.json", rules)
    (found,) = run("check", "-", given="cpu,host=a n=1", NAMESPACE="pc", RELABEL=path).printed
    assert [each["message"] for each in found["filtered"]] == [f"is dropped by {told}"]


def test_a_point_that_no_rule_changes_has_no_before() -> None:
    (found,) = run(
        "check", "-", given="cpu,host=a idle=1", NAMESPACE="pc", RELABEL=json.dumps(RULES[:1])
    ).printed
    assert [p["before"] for p in found["points"]] == [None]


def test_every_format_has_words_for_its_shape() -> None:
    settings = Settings.read({}, to_send=False)
    assert all(isinstance(reason_for(each, Message("file", ""), settings), str) for each in Format)


def test_each_of_many_points_is_shown_with_its_own_series_before_the_labels() -> None:
    points: list[dict[str, Any]] = [{**point(value), "metricName": f"m{value}"} for value in range(4)]
    points[1]["value"] = "1"
    points[3]["metricName"] = "n"
    rules = json.dumps([{"action": "drop", "source_labels": ["__name__"], "regex": "(pc_)?n"}])
    (found,) = run("check", "-", given=json.dumps(points), RELABEL=rules, LABELS="env=prod").printed
    assert [(p["metricName"], p["before"]["metricName"]) for p in found["points"]] == [
        ("m0", "m0"),
        ("m2", "m2"),
    ]
    assert [each["before"]["metricName"] for each in found["filtered"]] == ["n"]


@pytest.mark.parametrize("bad", ['["x"]', '{"b": 1}', "null", "true", "0.5", "1e999"])
def test_an_invalid_dimension_does_not_keep_a_later_point_from_being_shown(bad: str) -> None:
    broken = json.dumps(point(dimensions={"ip": "BAD"})).replace('"BAD"', bad)
    done = run(
        "check", "-", given=f"[{broken}, {json.dumps(point(dimensions={'ip': 1}))}]", LABELS="env=prod"
    )
    (found,) = done.printed
    assert (done.status, [error["pointer"] for error in found["errors"]]) == (1, ["/0/dimensions/ip"])
    told = [(p["pointer"], p["dimensions"], p["before"]["dimensions"]) for p in found["points"]]
    assert told == [("/1", {"env": "prod", "ip": "1"}, {"ip": "1"})]


def test_json_lines_hold_one_payload_of_many_points_or_one_trigger_event_a_line(tmp_path: Path) -> None:
    lines = _write(tmp_path / "points.jsonl", f"{json.dumps(point())}\n{{\n{json.dumps(point('x'))}\n")
    (found,) = run("check", lines).printed
    assert (found["received"], found["valid"]) == (3, 1)
    assert [error["pointer"] for error in found["errors"]] == ["line 2", "line 3/value"]
    events = [{"Type": "Timer", "Message": json.dumps(point(value))} for value in (1, "x")]
    both = _write(tmp_path / "events.jsonl", "\n".join(map(json.dumps, events)))
    done = run("check", both)
    told = [(found["file"], found["trigger"], found["valid"]) for found in done.printed]
    assert told == [(f"{both} value 1", "timer", 1), (f"{both} value 2", "timer", 0)]
    assert done.status == 1


def test_values_that_json_has_not_are_printed_as_text() -> None:
    done = run("check", "-", given="load NaN\n", DESTINATION="remote-write")
    assert done.printed[0]["points"][0]["value"] == "nan"


@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 130], ids=["narrow", "wide"])
def test_on_a_terminal_format_points_and_filtered_are_readable(tmp_path: Path, columns: int) -> None:
    path = _write(tmp_path / "cpu.txt", 'cpu,host=a idle=1,n=2,os="linux"\n')
    shown = on_terminal(
        command("check", path), child_environ(NAMESPACE="pc", RELABEL=json.dumps(RULES)), columns=columns
    )
    text = " ".join(shown.out.replace("│", " ").split())
    assert shown.status == 0
    assert "1 message in the format influx: a line of it is name[,tag=value] field=value" in text
    assert "line 1 field idle" in text
    assert 'pc cpu_idle{}, was pc cpu_idle{host="a"}' in text
    assert (
        "filtered 1: is dropped by rule 1 of MF_RELABEL (drop) (relabel; the first: line 1 field n, pc cpu_n"
        in text
    )
    assert "filtered 1: is a text" in text


@pytest.mark.slow
@pytest.mark.parametrize(("count", "rest"), [(50, "30 more points"), (21, "1 more point")])
def test_on_a_terminal_many_points_are_cut_short_and_the_rest_counted(
    tmp_path: Path, count: int, rest: str
) -> None:
    path = _write(tmp_path / "many.txt", "".join(f"m{n} value=1\n" for n in range(count)))
    shown = on_terminal(command("check", path), child_environ(NAMESPACE="pc"))
    assert "m19{}" in shown.out
    assert "m20{}" not in shown.out
    assert f"… and {rest}: --json shows all" in shown.out
