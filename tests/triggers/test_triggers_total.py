"""Whatever is handed over is decoded, refused or an unknown trigger: nothing else is raised, nothing is waited for."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from metric_forwarder.errors import UnknownTrigger
from metric_forwarder.formats.payload import read_payload
from metric_forwarder.model import Message
from metric_forwarder.triggers import DecodeContext, HttpRefusal, decode
from metric_forwarder.triggers.decoding import OFFLINE
from support.fakes import AnyObject

ROOT = Path(__file__).parents[2]
SAMPLES = {
    path.stem: json.loads(path.read_text())
    for path in sorted((*ROOT.glob("events/*.json"), *ROOT.glob("tests/events/*.json")))
}
# Every name that a reader looks for, so that what is drawn gets past the first question.
NAMES = sorted(
    {
        *(
            "Records",
            "Ckafka",
            "CMQ",
            "cos",
            "clslogs",
            "data",
            "data_base64",
            "msgBody",
            "EventList",
            "Body",
        ),
        *(
            "specversion",
            "ClientContext",
            "httpMethod",
            "headers",
            "body",
            "isBase64Encoded",
            "event",
            "eventName",
        ),
        *(
            "cosObject",
            "cosBucket",
            "key",
            "name",
            "appid",
            "region",
            "cosRegion",
            "size",
            "Type",
            "Message",
            "id",
        ),
        *(
            "topic",
            "partition",
            "Partition",
            "offset",
            "msgId",
            "topicName",
            "topicOwner",
            "time",
            "Time",
            "source",
        ),
        *(
            "TriggerName",
            "eventTime",
            "Authorization",
            "content-encoding",
            "Idempotency-Key",
            "metricName",
            "points",
        ),
    }
)
TEXTS = st.one_of(
    st.text(st.characters(), max_size=20),
    st.sampled_from(
        ["Timer", "POST", "gzip", "cos:ObjectCreated:Put", "None", "H4sIAAAA", "\x1f\x8b", "ap-guangzhou"]
    ),
    st.sampled_from(
        [
            "9" * 5000,
            "0" * 20 + "9" * 5000,
            "\ud800",
            "1" * 17,
            "-1",
            "+1",
            "٣",
            "1e9",
            "[" * 20_000,
            '{"a":' * 20_000,
        ]
    ),
)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.just(10**4000), st.just(-(10**400)), TEXTS
)
JSON_LIKE = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(NAMES) | TEXTS, inner, max_size=5)
    ),
    max_leaves=25,
)
BODIES = st.sampled_from(
    [b"", b"\n\n", b"{}", b"{}\n{", b"[\n1]", b"\x1f\x8b", b"\x1f", b"\xff\xfe", b"{\n" * 30_000]
)


def read(event: Any, access: DecodeContext) -> None:
    before = copy.deepcopy(event)
    try:
        decoded = decode(event, access)
    except UnknownTrigger:
        return
    if isinstance(decoded, HttpRefusal):
        assert 400 <= decoded.status < 500
        return
    assert decoded.traits.name
    for message in decoded.messages:
        assert isinstance(message, Message)
        assert len(message.source) <= 200
        assert message.broken is None or message.broken
        assert message.time_ms is None or type(message.time_ms) is int
        # Between the years 1 and 9999.
        assert message.time_ms is None or abs(message.time_ms) < 3e14
        if message.broken is None:
            assert read_payload(message.body) is not None
    # "==" on NaN is never true; the text of both is.
    assert repr(event)[:100_000] == repr(before)[:100_000]


@pytest.mark.slow
@given(event=JSON_LIKE, body=BODIES, step=st.integers(1, 5))
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_decoding_any_json_raises_nothing_but_unknown_trigger(event: Any, body: bytes, step: int) -> None:
    read(event, OFFLINE._replace(objects=AnyObject(body, max(step, len(body) // 100))))


@pytest.mark.slow
@given(data=st.data(), body=BODIES)
@settings(max_examples=600, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_decoding_any_mutation_of_a_sample_event_raises_nothing_but_unknown_trigger(
    data: st.DataObject, body: bytes
) -> None:
    event = copy.deepcopy(SAMPLES[data.draw(st.sampled_from(sorted(SAMPLES)), label="sample")])
    for _ in range(data.draw(st.integers(1, 3), label="mutations")):
        event = mutate(event, data)
    read(event, OFFLINE._replace(objects=AnyObject(body, max(1, len(body) // 100))))


def mutate(event: Any, data: st.DataObject) -> Any:
    """Replace, remove or rename one member somewhere; a text may also lose a part."""
    places = [(None, None), *walk(event)]
    container, key = data.draw(st.sampled_from(places), label="place")
    if container is None:
        return data.draw(JSON_LIKE) if data.draw(st.integers(0, 9)) == 0 else event
    what = data.draw(st.sampled_from(["replace", "remove", "rename", "cut"]), label="what")
    old = container[key]
    if what == "cut" and isinstance(old, str):
        container[key] = old[: data.draw(st.integers(0, len(old)))]
    elif what == "remove":
        del container[key]
    elif what == "rename" and isinstance(container, dict):
        container[data.draw(st.sampled_from(NAMES))] = container.pop(key)
    else:
        container[key] = data.draw(JSON_LIKE)
    return event


def walk(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [place for key in keys for place in ((value, key), *walk(value[key]))]


def test_a_record_without_a_name_of_its_own_is_named_by_its_place_in_however_long_an_event() -> None:
    usual = {"topic": "t", "partition": 0, "offset": 1, "msgBody": "{}"}
    records: list[Any] = [{"Ckafka": usual}] * 1300
    records[1234] = {}
    decoded = decode({"Records": records}, OFFLINE)
    assert not isinstance(decoded, HttpRefusal)
    sources = [message.source for message in decoded.messages]
    assert sources == ["t/0@1"] * 1234 + ["record 1234"] + ["t/0@1"] * 65


USUAL_RECORDS = st.fixed_dictionaries(
    {
        "topic": st.text(max_size=5),
        "partition": st.integers(0, 3),
        "offset": st.integers(0, 2**64 - 1),
        "msgBody": st.text(st.characters(), max_size=5),
    }
)
ODD_MEMBERS = st.sampled_from(
    [("topic", "t" * 300), ("offset", -1), ("offset", 2**64), ("partition", 10**5000), ("partition", True)]
)
ANY_MEMBERS = st.tuples(
    st.sampled_from(("topic", "partition", "Partition", "offset", "msgBody")),
    SCALARS | st.lists(SCALARS, max_size=1),
)
UNUSUAL_RECORDS = st.builds(
    lambda usual, member: {**usual, member[0]: member[1]}, USUAL_RECORDS, ODD_MEMBERS | ANY_MEMBERS
)


@given(
    usual=st.lists(USUAL_RECORDS, min_size=1, max_size=4),
    others=st.lists(UNUSUAL_RECORDS | SCALARS | st.just({}), max_size=1),
)
@settings(deadline=None)
def test_records_of_ckafka_that_are_read_together_become_what_each_becomes_alone(
    usual: list[dict[str, Any]], others: list[Any]
) -> None:
    records = [{"Ckafka": content} for content in (*usual, *others)]
    together = decode({"Records": records}, OFFLINE)
    # A record of an unknown kind is unusual, so that all are read alone.
    alone = decode({"Records": [*records, {}]}, OFFLINE)
    assert not isinstance(together, HttpRefusal)
    assert not isinstance(alone, HttpRefusal)
    assert [repr(each) for each in together.messages] == [repr(each) for each in alone.messages][:-1]
