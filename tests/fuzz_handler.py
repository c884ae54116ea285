"""Coverage-guided fuzzing of the handler with events of arbitrary JSON: ``make fuzz``.

It ends with an error on any exception but the three that are promised, and on a secret in what comes out.
"""

import contextlib
import io
import json
import sys

import atheris

with atheris.instrument_imports(include=["metric_forwarder"]):
    from metric_forwarder.errors import ConfigError, DeliveryIncomplete, UnknownTrigger
    from receiver_emulator import EXAMPLE_SECRET_KEY
    from support.harness import CONTEXT, make_harness

SEEDS = (
    '{"Type":"Timer","TriggerName":"t","Time":"2026-01-31T08:00:00Z","Message":"[]"}',
    '{"Records":[{"Ckafka":{"topic":"t","partition":1,"offset":1,"msgBody":"{\\"metricName\\":\\"m\\"}"}}]}',
    '{"Records":[{"CMQ":{"msgId":"a","msgBody":"[{\\"value\\":1}]"}},{"cos":{"cosObject":{"key":"/1/b/k"}}}]}',
    '{"clslogs":{"data":"H4sIAAAAAAAA"}}',
    '{"specversion":"1.0","id":"1","type":"connector:tdmq","data":{"msgBody":"1"}}',
    '{"httpMethod":"POST","headers":{},"path":"/","body":"{}","isBase64Encoded":true}',
    '{"RequestId":"r","Body":{"ClientContext":"{}"}}',
    '{"namespace":"n","dimensions":{"a":"b"},"points":[{"metricName":"m","value":1e999,"timestamp":"x","id":1}]}',
)


def handle(data: bytes) -> None:
    try:
        event = json.loads(data.decode("utf-8", "surrogateescape"))
    except (ValueError, RecursionError):
        return
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        try:
            answer = json.dumps(make_harness(HTTP_AUTH="cam").application.handle(event, CONTEXT))
        except (UnknownTrigger, DeliveryIncomplete, ConfigError) as error:
            answer = str(error)
    if EXAMPLE_SECRET_KEY in answer + output.getvalue():
        raise AssertionError("a secret came out")


def main() -> None:
    for seed in SEEDS:
        handle(seed.encode())
    atheris.Setup(sys.argv, handle)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
