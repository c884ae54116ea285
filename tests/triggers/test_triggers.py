"""Each kind of trigger event is read as its source documents it, oddities included."""

import ast
import base64
import gzip
import json
import re
from pathlib import Path
from typing import Any

import pytest

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.formats import Format
from metric_forwarder.formats.detect import read_rules
from metric_forwarder.formats.payload import MAX_POINTS
from metric_forwarder.model import Message
from metric_forwarder.put_monitor_data.return_codes import ReturnCode
from metric_forwarder.triggers import (
    KINDS,
    DecodeContext,
    Decoded,
    HttpRefusal,
    Redelivery,
    ReplyTo,
    TriggerTraits,
    dead_letter,
    decode,
    load_kind,
    records,
    traits,
)
from metric_forwarder.triggers.decoding import MAX_INFLATED_BYTES, OFFLINE, HttpAccess, checksum
from metric_forwarder.triggers.records import RECORDS
from support.harness import make_harness, outcomes

ROOT = Path(__file__).parents[2]
POINT = {"metricName": "cpuload", "dimensions": {"ip": "10.0.0.1"}, "value": 1}
TEXT = json.dumps(POINT)


def sample(name: str) -> Any:
    return json.loads((ROOT / name).read_text())


def decoded(event: Any, access: DecodeContext = OFFLINE) -> Decoded:
    result = decode(event, access)
    assert isinstance(result, Decoded)
    return result


def messages(event: Any, access: DecodeContext = OFFLINE) -> list[Message]:
    return list(decoded(event, access).messages)


def only(event: Any) -> Message:
    (message,) = messages(event)
    return message


# --- the table ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trigger", "answer", "count"),
    [
        ("events/ckafka.json", "ckafka", ReplyTo.PLATFORM, 6),
        ("events/cls.json", "cls", ReplyTo.PLATFORM, 3),
        ("events/cmq.json", "cmq", ReplyTo.PLATFORM, 2),
        ("events/dead-letter.json", "timer", ReplyTo.PLATFORM, 1),
        ("events/direct.json", "direct", ReplyTo.CALLER, 1),
        ("events/eventbridge.json", "eventbridge", ReplyTo.PLATFORM, 3),
        ("events/http.json", "http", ReplyTo.HTTP_CLIENT, 1),
        ("events/timer.json", "timer", ReplyTo.PLATFORM, 1),
        ("tests/events/api-gateway.json", "http", ReplyTo.HTTP_CLIENT, 1),
        ("tests/events/cos.json", "cos", ReplyTo.PLATFORM, 2),
        ("tests/events/dead-letter-in-cmq.json", "cmq", ReplyTo.PLATFORM, 1),
        ("tests/events/eventbridge-list.json", "eventbridge", ReplyTo.PLATFORM, 2),
        ("tests/events/mixed.json", "ckafka+cmq", ReplyTo.PLATFORM, 3),
        ("tests/events/oddities-ckafka.json", "ckafka", ReplyTo.PLATFORM, 3),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_sample_event_is_recognised_and_all_its_messages_are_found(
    name: str, trigger: str, answer: ReplyTo, count: int
) -> None:
    result = decoded(sample(name))
    assert (result.traits.name, result.traits.reply_to) == (trigger, answer)
    assert len(list(result.messages)) == count


def test_each_sample_event_matches_one_row_of_the_table() -> None:
    for path in (*ROOT.glob("events/*.json"), *ROOT.glob("tests/events/*.json")):
        event = json.loads(path.read_text())
        matching = [kind for kind in KINDS[:-1] if load_kind(kind).matches(event)]
        assert len(matching) == (0 if path.stem == "direct" else 1), path.name


def test_an_unknown_event_raises_and_names_its_keys_but_never_its_values() -> None:
    with pytest.raises(UnknownTrigger) as raised:
        decode({"detail": "a secret", "account": 7})
    assert raised.value.keys == ("detail", "account")
    assert "a secret" not in str(raised.value)


@pytest.mark.parametrize("event", [None, 7, 1.5, True, {}], ids=repr)
def test_a_value_that_is_not_an_event_raises_unknown_trigger(event: Any) -> None:
    with pytest.raises(UnknownTrigger):
        decode(event)


def test_a_list_without_a_cloud_event_is_a_payload() -> None:
    assert decoded([POINT]).traits.name == "direct"


# --- traits ---


TRAITS = {row.name: row for row in vars(traits).values() if isinstance(row, TriggerTraits)}


def test_only_a_ckafka_event_that_came_by_ckafka_is_redelivered_until_it_is_handled() -> None:
    for path in (ROOT / "events").glob("*.json"):
        event = json.loads(path.read_text())
        records = (event.get("Records") or []) if isinstance(event, dict) else []
        came_by_ckafka = bool(records) and all("Ckafka" in record for record in records)
        found = decode(event, OFFLINE)
        assert isinstance(found, Decoded)
        assert found.traits.is_redelivered_until_handled == came_by_ckafka, path.name
    event = sample("events/ckafka.json")
    assert decoded(event).traits is traits.CKAFKA
    assert decoded(letter(json.dumps(event))).traits.redelivery is Redelivery.A_FEW_TIMES
    assert decoded(sample("tests/events/mixed.json")).traits.redelivery is Redelivery.A_FEW_TIMES
    assert decoded(sample("tests/events/dead-letter-in-cmq.json")).traits is traits.CMQ


@pytest.mark.slow
def test_no_module_asks_for_a_trigger_by_its_name() -> None:
    # The scheme of a URL is a text of the same spelling.
    names = set(TRAITS) - {"http"}
    for path in (ROOT / "src" / "metric_forwarder").rglob("*.py"):
        compared = {
            constant.value
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Compare)
            for constant in (node.left, *node.comparators)
            if isinstance(constant, ast.Constant)
        }
        assert not compared & names, path


# --- records ------------------------------------------------------------------------------------------------


def test_an_event_without_records_is_empty() -> None:
    result = decoded({"Records": []})
    assert (result.traits.name, list(result.messages)) == ("records", [])


def test_a_mixed_event_is_read_record_by_record() -> None:
    first, second, third = messages(sample("tests/events/mixed.json"))
    assert first.coordinates == f"ckafka/host-metrics/0@1041~{checksum(first.body)}"
    assert second.coordinates == 'cmq/["1250000000","order-metrics","562949953421321"]'
    assert third.broken == f"is a record of an unknown kind: it must have one of {', '.join(RECORDS)}"


@pytest.mark.parametrize("member", records.RECORDS)
@pytest.mark.parametrize("content", [None, 7, "text", []], ids=repr)
def test_a_record_without_an_object_is_one_broken_message(member: str, content: Any) -> None:
    assert only({"Records": [{member: content}]}).broken == f'has a "{member}" that is not an object'


@pytest.mark.parametrize("record", [None, 7, "text", [], {}, {"s3": {}}], ids=repr)
def test_a_record_of_unknown_kind_is_one_broken_message(record: Any) -> None:
    assert only({"Records": [record]}).broken


# --- CKafka -------------------------------------------------------------------------------------------------


def ckafka(**content: Any) -> Message:
    return only({"Records": [{"Ckafka": {"topic": "t", "offset": 36, "msgBody": TEXT, **content}}]})


@pytest.mark.parametrize(
    "partition",
    [{"partition": 1}, {"Partition": 1}, {"partition": "1"}, {"Partition": "1"}],
    ids=str,
)
def test_a_kafka_message_is_known_by_topic_partition_and_offset(partition: dict[str, Any]) -> None:
    message = ckafka(**partition)
    assert (message.source, message.coordinates) == ("t/1@36", f"ckafka/t/1@36~{checksum(TEXT)}")


@pytest.mark.parametrize(
    "content",
    [
        {"partition": ""},
        {},
        {"partition": None},
        {"partition": True},
        {"partition": 1, "offset": "x"},
        {"partition": 1, "offset": "9" * 5000},
        {"partition": 1, "offset": 10**400},
        {"partition": 1, "topic": None},
    ],
    ids=lambda content: repr(content)[:40],
)
def test_a_kafka_message_without_a_place_has_no_coordinates(content: dict[str, Any]) -> None:
    message = ckafka(**content)
    assert (message.body, message.source, message.coordinates) == (TEXT, "record 0", None)


def test_the_key_none_of_a_kafka_message_means_nothing() -> None:
    assert ckafka(partition=1, msgKey="None") == ckafka(partition=1, msgKey="a")


def test_a_kafka_message_without_a_body_is_broken_and_named() -> None:
    message = ckafka(partition=1, msgBody=None)
    assert (message.source, message.broken) == ("t/1@36", 'has no "msgBody"')


# --- CMQ ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tag", ["", "a,b", "a, b", ["a", "b"], None], ids=repr)
@pytest.mark.parametrize("owner", [120, "120"], ids=repr)
def test_a_cmq_message_is_known_by_its_id_however_owner_and_tags_are_written(tag: Any, owner: Any) -> None:
    content = {"topicOwner": owner, "topicName": "t", "msgId": "7", "msgTag": tag, "msgBody": TEXT}
    message = only({"Records": [{"CMQ": content}]})
    assert (message.source, message.coordinates, message.body) == ("t#7", 'cmq/["120","t","7"]', TEXT)


def test_an_unusable_owner_is_left_out_of_the_coordinates_of_a_cmq_message() -> None:
    content = {"topicOwner": ["x"], "topicName": {}, "msgId": "7", "msgBody": TEXT}
    assert only({"Records": [{"CMQ": content}]}).coordinates == 'cmq/["","","7"]'


def test_the_publish_time_of_a_cmq_message_is_not_used_as_its_time() -> None:
    content = {"msgId": "7", "publishTime": "2026-03-02T09:30:00.125Z", "msgBody": TEXT}
    assert only({"Records": [{"CMQ": content}]}).time_ms is None


@pytest.mark.parametrize("content", [{}, {"msgId": 7}, {"msgId": ["x"], "msgBody": None}], ids=str)
def test_a_cmq_message_without_a_body_is_broken(content: dict[str, Any]) -> None:
    assert only({"Records": [{"CMQ": content}]}).broken == 'has no "msgBody"'


# --- CLS ----------------------------------------------------------------------------------------------------


def cls_event(content: Any, *, raw: bytes | None = None) -> dict[str, Any]:
    text = json.dumps(content).encode() if raw is None else raw
    return {"clslogs": {"data": base64.b64encode(gzip.compress(text, mtime=0)).decode()}}


def cls_logs(records: list[dict[str, Any]]) -> dict[str, Any]:
    return cls_event({"topic_name": "t", "records": records})


def test_a_log_is_a_message_with_the_time_of_the_log() -> None:
    batch = {
        "topic_id": "id",
        "topic_name": "t",
        "records": [{"timestamp": "1605578090000123", "content": TEXT}],
    }
    message = only(cls_event(batch))
    assert (message.source, message.body, message.time_ms) == ("t log 0", TEXT, 1605578090000)


@pytest.mark.parametrize("topic", ["our event log", "team/metrics", "metrics #2"])
def test_the_format_of_a_topic_of_logs_is_found_by_its_whole_name(topic: str) -> None:
    message = only(cls_event({"topic_name": topic, "records": [{"content": TEXT}]}))
    assert read_rules(f"{topic}=influx,json").find(message.source) is Format.INFLUX


def test_a_log_is_known_again_when_its_batch_comes_again_and_only_then() -> None:
    log = {"timestamp": "1605578090000000", "content": TEXT}
    batch = {"topic_id": "id", "records": [log, log]}
    first, second = messages(cls_event(batch))
    packed_otherwise = {
        "clslogs": {"data": base64.b64encode(gzip.compress(json.dumps(batch).encode(), 1, mtime=7)).decode()}
    }
    assert first.coordinates is not None
    assert first.coordinates != second.coordinates
    assert [m.coordinates for m in messages(packed_otherwise)] == [first.coordinates, second.coordinates]
    (other,) = messages(cls_event({"topic_id": "id", "records": [log]}))
    assert other.coordinates not in (first.coordinates, second.coordinates)


@pytest.mark.parametrize(
    ("event", "broken"),
    [
        ({"clslogs": None}, 'has no "data" text'),
        ({"clslogs": {"data": 7}}, 'has no "data" text'),
        ({"clslogs": {"data": "***"}}, 'has a "data" that is not base64'),
        ({"clslogs": {"data": "é"}}, 'has a "data" that is not base64'),
        ({"clslogs": {"data": "AAAA"}}, "is not intact gzip data: compress it again"),
        ({"clslogs": {"data": ""}}, "is gzip data that stops too early: it was cut off"),
        (cls_event(None, raw=b"{"), 'holds a "data" that is not JSON once inflated'),
        (cls_event(None, raw=b"[" * 100_000), 'holds a "data" that is not JSON once inflated'),
        (cls_event([]), 'holds a "data" without a list of "records"'),
        (cls_event({"records": {}}), 'holds a "data" without a list of "records"'),
        (cls_event({"records": [7]}), 'has no "content"'),
        (cls_event({"records": [{"timestamp": "1"}]}), 'has no "content"'),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_broken_logs_are_one_broken_message_that_says_why(event: Any, broken: str) -> None:
    assert only(event).broken == broken


def test_logs_cut_off_are_one_broken_message() -> None:
    whole = base64.b64decode(sample("events/cls.json")["clslogs"]["data"])
    for end in range(1, len(whole)):
        event = {"clslogs": {"data": base64.b64encode(whole[:end]).decode()}}
        assert only(event).broken == "is gzip data that stops too early: it was cut off"


def test_a_bomb_of_logs_is_not_inflated_beyond_its_bound() -> None:
    bomb = cls_event(None, raw=bytes(MAX_INFLATED_BYTES + 1))
    assert only(bomb).broken == "holds more than 8 MB: split it"


def test_more_logs_than_are_held_are_one_broken_message_that_says_so() -> None:
    many = cls_event({"records": [{}] * (MAX_POINTS + 1)})
    assert only(many).broken == f"holds more than {MAX_POINTS} logs: let CLS deliver fewer at once"


@pytest.mark.parametrize(
    "timestamp", [None, "", "soon", True, 1.5, [], "-1", 10**30, "9" * 5000], ids=lambda time: repr(time)[:9]
)
def test_a_log_without_a_readable_time_has_none(timestamp: Any) -> None:
    assert only(cls_event({"records": [{"timestamp": timestamp, "content": TEXT}]})).time_ms is None


MAP = {"metricName": "cpu", "dimensions": '{"ip":"1"}', "value": "0.7"}


@pytest.mark.parametrize(
    ("fields", "body"),
    [
        (MAP, {"metricName": "cpu", "dimensions": {"ip": "1"}, "value": 0.7}),
        ({"__FILENAME__": "a.log", "__CONTENT__": TEXT}, TEXT),
        ({"RequestId": "1", "SCF_Type": "Custom", "SCF_Message": TEXT}, TEXT),
    ],
    ids=["a point", "a raw log", "a line of a function"],
)
def test_a_map_is_known_as_json_text_however_it_is_written(fields: dict[str, str], body: Any) -> None:
    turned = dict(reversed(fields.items()))
    texts = [
        json.dumps(each, **form)
        for each in (fields, turned)
        for form in ({}, {"separators": (",", ":")}, {"indent": 1})
    ]
    for content in (fields, *texts):
        assert only(cls_event({"records": [{"content": content}]})).body == body


# --- EventBridge --------------------------------------------------------------------------------------------


def cloud_event(**members: Any) -> dict[str, Any]:
    return {"specversion": "1.0", "id": "1", "source": "s", "data": {"msgBody": TEXT}, **members}


def test_a_custom_event_holds_its_payload_in_data_in_whatever_format() -> None:
    for data in (POINT, {"metric": "cpu", "v": 5}, {"name": "cpu", "fields": {"v": 5}}, [POINT], TEXT):
        assert only(cloud_event(data=data)) == Message("event 1", data, 'cloudevent/["s","1"]')


@pytest.mark.parametrize("topic", ["metrics", "persistent://1/space/metrics"], ids=["CKafka", "TDMQ"])
def test_the_name_of_a_connectors_message_begins_with_its_topic(topic: str) -> None:
    assert only(cloud_event(data={"topic": topic, "msgBody": TEXT})).source == "metrics event 1"


@pytest.mark.parametrize(
    "event",
    [
        cloud_event(),
        [cloud_event()],
        {"EventList": [cloud_event()]},
        cloud_event(specversion="0", subjuect="x"),
    ],
    ids=["one", "a list", "an event list", "the early version"],
)
def test_a_cloud_event_is_read_alone_in_a_list_and_in_an_event_list(event: Any) -> None:
    assert only(event) == Message("event 1", TEXT, 'cloudevent/["s","1"]')


@pytest.mark.parametrize(
    "time",
    ["1615430559146", 1615430559146, 1615430559.146, "2021-03-11T02:42:39.146Z"],
    ids=["ms as text", "ms", "s", "RFC 3339"],
)
def test_the_time_of_a_cloud_event_is_read_however_it_is_written(time: Any) -> None:
    assert only(cloud_event(time=time)).time_ms == 1615430559146


@pytest.mark.parametrize(
    "time",
    [
        None,
        "",
        "soon",
        True,
        float("nan"),
        float("inf"),
        -1e308,
        10**400,
        {},
        "9" * 5000,
        "9" * 21,
        "0" * 20 + "9" * 5000,
    ],
    ids=lambda time: str(time)[-9:],
)
def test_a_cloud_event_without_a_readable_time_has_none(time: Any) -> None:
    assert only(cloud_event(time=time)).time_ms is None


@pytest.mark.parametrize(
    ("members", "body"),
    [
        ({"data": POINT}, POINT),
        ({"data": [POINT]}, [POINT]),
        ({"data": TEXT}, TEXT),
        ({"data": {"points": []}}, {"points": []}),
        ({"data": {"topic": "t", "Partition": 1, "offset": 37, "msgKey": "k", "msgBody": TEXT}}, TEXT),
        ({"data": None, "data_base64": base64.b64encode(TEXT.encode()).decode()}, TEXT.encode()),
    ],
    ids=["a point", "a list", "text", "an envelope", "a Kafka message", "base64"],
)
def test_the_payload_of_a_cloud_event_is_its_message_or_its_data(members: dict[str, Any], body: Any) -> None:
    assert only(cloud_event(**members)).body == body


@pytest.mark.parametrize(
    "event",
    [
        cloud_event(data=None),
        cloud_event(data={"msgBody": None}),
        cloud_event(data=None, data_base64="***"),
        cloud_event(data=None, data_base64=7),
        {"EventList": [7]},
        {"EventList": [{}]},
    ],
    ids=str,
)
def test_a_cloud_event_without_a_payload_is_one_broken_message(event: Any) -> None:
    assert only(event).broken


def test_only_a_text_serves_as_the_id_of_a_cloud_event() -> None:
    assert only(cloud_event(id=None)).coordinates is None
    assert only(cloud_event(source="a")).coordinates != only(cloud_event(source="b")).coordinates


# --- dead letters -------------------------------------------------------------------------------------------


def letter(content: Any) -> dict[str, Any]:
    return {"RequestId": "r", "ErrorCode": -1, "Body": {"ClientContext": content, "RetryNum": 2}}


def in_cmq(body: Any) -> dict[str, Any]:
    return {"Records": [{"CMQ": {"topicName": "dead", "msgId": "1", "msgBody": json.dumps(body)}}]}


@pytest.mark.parametrize(
    "name", ["ckafka", "cls", "cmq", "eventbridge", "timer", "http"], ids=lambda name: name
)
def test_a_dead_letter_is_read_as_the_event_inside_and_answers_the_platform(name: str) -> None:
    event = sample(f"events/{name}.json")
    inside = decoded(letter(json.dumps(event)))
    assert (inside.traits.name, inside.traits.reply_to) == (decoded(event).traits.name, ReplyTo.PLATFORM)
    assert list(inside.messages) == messages(event)


@pytest.mark.parametrize(
    "event",
    [
        [POINT, {**POINT, "metricName": "mem"}],
        [{"specversion": "1.0", "data": {**POINT, "metricName": name}} for name in ("cpuload", "mem")],
        {
            "Records": [
                {
                    "Ckafka": {
                        "topic": "t",
                        "partition": "",
                        "offset": 3,
                        "msgBody": TEXT.replace("cpuload", name),
                    }
                }
                for name in ("cpuload", "mem")
            ]
        },
    ],
    ids=["direct", "events without an id", "records without a partition"],
)
@pytest.mark.parametrize("wrap", [lambda letter: letter, in_cmq], ids=["by hand", "in CMQ"])
def test_of_a_dead_letter_that_comes_again_only_the_rest_is_sent(event: Any, wrap: Any) -> None:
    harness = make_harness(BATCH_MAX_POINTS="1", CONCURRENCY="1")
    harness.receiver.refuse_if = lambda request: (
        ReturnCode.INTERNAL_FAILURE if request.data[0]["metricName"] == "mem" else None
    )
    assert outcomes(harness.handle(wrap(letter(event)))) == {"delivered": 1, "undelivered": 1}
    assert outcomes(harness.handle(wrap(letter(event)))) == {"duplicate": 1, "undelivered": 1}
    harness.receiver.refuse_if = lambda _: None
    assert outcomes(harness.handle(wrap(letter(event)))) == {"duplicate": 1, "delivered": 1}
    assert [point["metricName"] for _, point in harness.receiver.points] == ["cpuload", "mem"]


def test_dead_letters_of_two_invocations_are_not_each_other() -> None:
    first, second, other = letter(POINT), {**letter(POINT), "RequestId": "s"}, letter([POINT])
    assert len({only(each).coordinates for each in (first, second, other)}) == 3
    assert only({**first, "RequestId": ""}).coordinates is None


def test_a_dead_letter_that_comes_as_a_cmq_message_is_opened() -> None:
    (message,) = messages(sample("tests/events/dead-letter-in-cmq.json"))
    assert message == only(sample("events/dead-letter.json"))
    assert message.coordinates == 'timer/["heartbeat","2026-03-02T09:25:00Z"]'


def test_a_cmq_message_that_only_mentions_a_dead_letter_is_an_ordinary_one() -> None:
    for body in ('{"ClientContext": 1}', '"ClientContext" {', '{"Body": {"x": "\\"ClientContext\\""}}'):
        assert only({"Records": [{"CMQ": {"msgId": "1", "msgBody": body}}]}).body == body


@pytest.mark.parametrize(
    ("content", "broken"),
    [
        ("{", 'has a "Body.ClientContext" that is not JSON'),
        ("[" * 100_000, 'has a "Body.ClientContext" that is not JSON'),
        ('{"detail":1}', "holds no event: the event is of an unknown kind"),
        (None, "holds no event: the event is of an unknown kind"),
    ],
    ids=["not JSON", "too deep", "unknown", "nothing"],
)
def test_a_dead_letter_without_an_event_is_broken_since_raising_would_make_another(
    content: Any, broken: str
) -> None:
    result = decoded(letter(content))
    (message,) = result.messages
    assert result.traits.name == "dead-letter"
    assert message.broken is not None
    assert message.broken.startswith(broken)


def test_dead_letters_are_opened_up_to_a_maximum_depth() -> None:
    event: Any = POINT
    for _ in range(dead_letter.MAX_DEPTH):
        event = letter(json.dumps(event))
    assert only(event).body == POINT
    assert "inside 5 others" in str(only(letter(json.dumps(event))).broken)


def test_an_http_request_in_a_dead_letter_must_be_let_in_like_any_other() -> None:
    event = letter(json.dumps(sample("events/http.json")))
    (message,) = messages(event, DecodeContext(HttpAccess()))
    assert str(message.broken).startswith("holds an HTTP request that is refused: HTTP is closed")
    assert isinstance(decode(sample("events/http.json")), HttpRefusal)


def test_an_http_request_in_a_dead_letter_that_is_a_message_is_not_let_in() -> None:
    body = json.dumps(letter(json.dumps(sample("events/http.json"))))
    (message,) = messages({"Records": [{"CMQ": {"msgId": "1", "msgBody": body}}]}, OFFLINE)
    assert "is refused" in str(message.broken)


def test_a_cls_batch_inside_of_a_message_is_inflated_to_one_megabyte_at_most() -> None:
    logs = cls_logs([{"content": "x" * 2**20, "timestamp": "0"}])
    body = json.dumps(letter(json.dumps(logs)))
    assert len(str(only(logs).body)) == 2**20
    assert (
        only({"Records": [{"CMQ": {"msgId": "1", "msgBody": body}}]}).broken
        == "holds more than 1 MB: split it"
    )


# --- timer and direct ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("body", [{}, {"Message": ""}, {"Message": " \n"}, {"Message": None}], ids=str)
def test_a_timer_without_a_message_is_an_empty_event(body: dict[str, Any]) -> None:
    assert messages({"Type": "Timer", "TriggerName": "n", "Time": "2026-03-02T09:30:00Z", **body}) == []


def test_a_firing_of_a_timer_is_known_by_name_and_time() -> None:
    message = only({"Type": "Timer", "TriggerName": "n", "Time": "2026-03-02T09:30:00Z", "Message": TEXT})
    assert message == Message(
        "n@2026-03-02T09:30:00Z", TEXT, 'timer/["n","2026-03-02T09:30:00Z"]', 1772443800000
    )


@pytest.mark.parametrize(
    "member", ["metricName", "dimensions", "value", "namespace", "points", "Namespace", "Data"]
)
def test_any_member_of_a_payload_makes_an_event_a_payload(member: str) -> None:
    event = {member: 1}
    assert (decoded(event).traits.name, only(event).body) == ("direct", event)


# --- CLS: times, fields and own lines ----------------------------------------------------------------------------


TIME_MS = 1_772_443_800_125


@pytest.mark.parametrize(
    ("timestamp", "time_ms"),
    [
        (str(TIME_MS // 1000), TIME_MS // 1000 * 1000),
        (str(TIME_MS), TIME_MS),
        (str(TIME_MS * 1000 + 1), TIME_MS),
        (str(TIME_MS * 10**6 + 999), TIME_MS),
        (TIME_MS * 1000, TIME_MS),
        ("0", None),
        (0, None),
        ("5", None),
        ("-1772443800", None),
        ("9" * 22, None),
        ("soon", None),
        (None, None),
    ],
    ids=["s", "ms", "µs", "ns", "number", "0", "number 0", "1970", "negative", "far", "text", "none"],
)
def test_the_unit_of_a_logs_time_follows_from_its_size(timestamp: Any, time_ms: int | None) -> None:
    assert only(cls_logs([{"content": TEXT, "timestamp": timestamp}])).time_ms == time_ms


def by_member(line: str) -> dict[str, str]:
    """The fields of a line of JSON that a function wrote, as SCF delivers it by its document: nested values stay JSON."""
    members = {
        name: value if isinstance(value, str) else json.dumps(value)
        for name, value in json.loads(line).items()
    }
    return {"SCF_FunctionName": "f", "SCF_Type": "Custom", "SCF_RetryNum": "0", **members}


@pytest.mark.parametrize(
    "content",
    [
        TEXT,
        {"__CONTENT__": TEXT},
        {"__CONTENT__": TEXT, "__TAG__.host": "a"},
        json.dumps({"__CONTENT__": TEXT}),
        {"SCF_Message": TEXT, "SCF_Type": "Custom", "SCF_FunctionName": "another"},
        {"metricName": "cpuload", "dimensions": '{"ip": "10.0.0.1"}', "value": "1"},
        '{"metricName":"cpuload","dimensions":"{\\"ip\\":\\"10.0.0.1\\"}","value":"1"}',
        POINT,
        {"__CONTENT__": TEXT, "__TAG__": {"host": "a"}, "lineno": 12},
        json.dumps({"__CONTENT__": TEXT, "__TAG__": None}),
        {"SCF_Message": TEXT, "SCF_Type": "Custom", "SCF_Duration": 12},
        by_member(TEXT),
        {**by_member(TEXT), "SCF_Message": "", "__SOURCE__": "10.0.0.2"},
        json.dumps(by_member(TEXT)),
        {**POINT, "__FILENAME__": "points.log"},
    ],
    ids=[
        "text", "__CONTENT__", "with tags", "as JSON text", "a function's line", "fields", "fields as text", "object",
        "fields that are no text", "a field that is null", "a number beside a line", "the members of a line",
        "an empty line beside members", "the members as text", "an object with fields of CLS",
    ],
)  # fmt: skip
def test_the_payload_of_a_log_is_its_text_one_of_its_fields_or_all_its_fields(content: Any) -> None:
    harness = make_harness(NAMESPACE="pc")
    report = harness.handle(cls_logs([{"content": content, "timestamp": "0"}]))
    assert outcomes(report) == {"delivered": 1}, report["errors"]
    assert harness.receiver.points == [("pc", POINT)]


def test_a_payload_with_a_text_for_a_number_stays_invalid_in_a_log() -> None:
    content = json.dumps({**POINT, "value": "1"})
    assert outcomes(make_harness().handle(cls_logs([{"content": content, "timestamp": "0"}]))) == {
        "invalid": 1
    }


REQUEST_ID = "3ae6ab5e-1c2d-4e5f-8a9b-0c1d2e3f4a5b"
PLATFORM_LINES = [
    f"START RequestId: {REQUEST_ID}",
    f"END RequestId: {REQUEST_ID}",
    f"Report RequestId: {REQUEST_ID} Duration:41ms Memory:128MB MemUsage:38.5MB",
    f"Init Report RequestId: {REQUEST_ID} Coldstart: 236ms",
]


def test_the_forwarders_own_log_comes_back_without_a_new_error(capsys: pytest.CaptureFixture[str]) -> None:
    harness = make_harness()
    harness.handle({"Records": [{"Ckafka": {"msgBody": "not JSON"}}]})
    with pytest.raises(UnknownTrigger):
        harness.application.handle({"detail": 1}, {})
    lines = [*PLATFORM_LINES, *capsys.readouterr().out.splitlines()]
    for wrap in (
        str,
        lambda line: {"__CONTENT__": line},
        lambda line: {"SCF_Message": line, "SCF_Type": "Custom"},
        lambda line: by_member(line) if line.startswith("{") else line,
        lambda line: {**by_member(line), "SCF_Message": ""} if line.startswith("{") else line,
        lambda line: json.dumps(by_member(line)) if line.startswith("{") else line,
    ):
        records = [{"content": wrap(line), "timestamp": "0"} for line in lines]
        records.append({"content": {"SCF_Message": "anything", "SCF_Type": "Platform"}, "timestamp": "0"})
        report = harness.handle(cls_logs([*records, {"content": TEXT, "timestamp": "0"}]))
        assert outcomes(report) == {"filtered": len(lines) + 1, "delivered": 1}
        assert {told["rule"] for told in report["filtered"]} == {"own-log"}
        (line,) = map(json.loads, capsys.readouterr().out.splitlines())
        assert line["level"] == "INFO"


def test_every_line_that_the_code_can_log_is_known_as_an_own_line() -> None:
    values: dict[str, Any] = {"failed": [], "points": 1, "statusCode": 401}
    seen = set()
    for path in (ROOT / "src" / "metric_forwarder").rglob("*.py"):
        for call in ast.walk(ast.parse(path.read_text())):
            if (
                not isinstance(call, ast.Call)
                or getattr(call.func, "attr", "") != "write"
                or len(call.args) < 2
            ):
                continue
            event = call.args[1]
            if isinstance(event, ast.Constant) and isinstance(event.value, str):
                # A report is logged as a whole; its first member is its status.
                names = [keyword.arg or "status" for keyword in call.keywords]
                line = {
                    "level": "WARN",
                    "event": event.value,
                    **{name: values.get(name, "x") for name in names},
                }
                content = json.dumps(line, separators=(",", ":"))
                for form in (content, by_member(content)):
                    assert only(cls_logs([{"content": form, "timestamp": "0"}])).left_out, form
                seen.add(event.value)
    assert {"report", "refused", "spool", "request"} <= seen


def test_a_log_that_only_looks_like_an_own_line_is_a_log_like_any_other() -> None:
    for content in (
        '{"level":"INFO"}',
        "START",
        "START RequestId: x",
        '{"level":"info","event":"report"}',
        '{"level":"INFO","event":"login","durationMs":12}',
        '{"level":"INFO","event":"request","requestId":"a","durationMs":12}',
        by_member('{"level":"INFO","event":"request","requestId":"a","durationMs":12}'),
        by_member('{"level":"info","event":"report","status":"ok"}'),
        {"level": "INFO", "event": "report", "status": "ok", "v": "1"},
        by_member('{"level":"INFO","event":["report"],"status":"ok"}'),
    ):
        assert only(cls_logs([{"content": content, "timestamp": "0"}])).left_out is None


# --- EventBridge: the connector for API Gateway ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "body"),
    [
        ({"body": TEXT, "httpMethod": "POST", "headers": {}}, TEXT),
        ({"body": POINT}, POINT),
        ({"body": base64.b64encode(TEXT.encode()).decode(), "isBase64Encoded": True}, TEXT.encode()),
    ],
    ids=["text", "decoded", "base64"],
)
def test_the_connector_for_api_gateway_hands_over_the_body_of_a_request(
    data: dict[str, Any], body: Any
) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "type": "connector:apigw",
        "source": "apigw.cloud.tencent",
        "data": data,
    }
    assert only(event).body == body


def test_a_request_without_a_body_is_broken_in_an_event_of_that_connector() -> None:
    event = {"specversion": "1.0", "id": "1", "type": "connector:apigw", "data": {"headers": {}}}
    assert only(event).broken == 'has no "data.body"'


# --- the documents ------------------------------------------------------------------------------------------


def test_the_document_has_every_kind_of_trigger_and_every_setting_of_http() -> None:
    text = (ROOT / "docs" / "triggers.md").read_text()
    rows = re.findall(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*) \| (WARN|ERROR) \|$", text, re.MULTILINE)
    replies = {"platform": ReplyTo.PLATFORM, "caller": ReplyTo.CALLER, "HTTP client": ReplyTo.HTTP_CLIENT, "receiver's client": ReplyTo.PUT_MONITOR_DATA}  # fmt: skip
    told = {name: (replies[reply_to], level) for names, _, reply_to, level in rows for name in re.findall(r"`([^`]+)`", names)}  # fmt: skip
    assert told == {
        row.name: (row.reply_to, "WARN" if row.is_redelivered_until_handled else "ERROR")
        for row in TRAITS.values()
    }
    for name in (*TRAITS, *records.RECORDS, "MF_HTTP_TOKEN", "MF_HTTP_AUTH=cam"):
        assert name in text, name
