"""Everything the forwarder raises on purpose.

::

    ForwarderError
    ├── ConfigError         a setting is wrong: every problem at once
    ├── UnknownTrigger      the forwarder does not know this kind of event
    ├── InstanceBusy        the instance was handling another event for too long
    └── DeliveryIncomplete  points are undelivered, so the platform must redeliver the event

An expected failure of a point is not an exception but an outcome: see ``model.Outcome``.
"""

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar, cast

_T = TypeVar("_T")


class ForwarderError(Exception):
    """Base of the errors raised on purpose."""


class ConfigError(ForwarderError):
    """Settings that cannot work.

    Attributes:
        problems: one text for each wrong setting: the variable, its value (never a secret), what would be right.
    """

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = f"{count} setting{'s' if count != 1 else ''} to correct"
        super().__init__("\n  - ".join([f"{heading}:", *self.problems]))


class ProblemCollector:
    """Runs several factories and collects their ConfigErrors, to raise them as one.

    Args:
        problems: those that are known already.
    """

    def __init__(self, problems: Iterable[str] = ()) -> None:
        self._problems = list(problems)

    def collect(self, maker: Callable[[], _T]) -> _T:
        """Return what the factory makes; it must not be used before ``check`` has passed."""
        try:
            return maker()
        except ConfigError as error:
            self._problems += error.problems
            return cast("_T", None)

    def check(self) -> None:
        """Raise all problems as one ``ConfigError``, if there are any."""
        if self._problems:
            raise ConfigError(self._problems)


class UnknownTrigger(ForwarderError):
    """An event of an unknown kind.

    Attributes:
        keys: the event's top-level keys, shortened; never their values.
    """

    SHOWN = 20

    def __init__(self, type_name: str, keys: Iterable[object] = ()) -> None:
        self.keys = tuple(str(key)[:40] for key in keys)
        if self.keys:
            shown = ", ".join(json.dumps(key) for key in self.keys[: self.SHOWN])
            seen = f"an object with the top-level keys {shown}"
        else:
            seen = _IN_JSON.get(type_name, f"a value of type {type_name}")
        super().__init__(
            f"the event is of an unknown kind: {seen}. Known are the triggers in docs/triggers.md, "
            'and a payload itself, such as {"metricName": …, "dimensions": {…}, "value": …}'
            + (_HOW_TO_ASK if {key.lower() for key in self.keys} & _IN_JOBS else "")
        )


_IN_JOBS = {"replay", "deadletters", "dead_letters", "scrape", "keep", "doctor"}
_HOW_TO_ASK = (
    '. A job is asked for with {"replay": true}, with "deadLetters": true if you like, with {"doctor": true}, or with '
    '{"scrape": ["http://host:9100/metrics"], "keep": ["node_load1"]}'
)

# Python's types, in the words of JSON.
_IN_JSON = {
    "dict": "an empty object",
    "NoneType": "null",
    "bool": "true or false",
    "int": "a number",
    "float": "a number",
}


class InstanceBusy(ForwarderError):
    """The platform gave an instance a second event while it was handling another one."""

    def __init__(self) -> None:
        super().__init__(
            "this instance was handling another event for more than half of the time limit: an instance handles one event "
            "at a time, so switch its concurrency off, or raise the function's timeout"
        )


class DeliveryIncomplete(ForwarderError):
    """Points of the event are undelivered; raised so that the platform redelivers the event.

    Attributes:
        report: the report of the event, a dict; the exception's text is the same as JSON.
    """

    def __init__(self, report: dict[str, Any]) -> None:
        self.report = report
        super().__init__(json.dumps(report, ensure_ascii=False, separators=(",", ":")))
