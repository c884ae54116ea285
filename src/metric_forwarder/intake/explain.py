"""Says what is wrong with a point, and what would be right: slow, and only for points that ``schema`` does not accept.

``schema`` imports it when it is needed, since ``jsonschema`` takes some 170 ms to import, and 200 µs a point.
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from difflib import get_close_matches
from fractions import Fraction
from itertools import islice
from typing import Any

from jsonschema import Draft7Validator, FormatChecker, ValidationError, validators
from jsonschema.protocols import Validator

from metric_forwarder.formats.json_text import NotJson, Violation
from metric_forwarder.intake.patterns import compile_pattern
from metric_forwarder.intake.schema import MAX_FLOAT
from metric_forwarder.times import milliseconds

# Where in the point, and what is wrong there; the violation's own pointer is empty.
Located = tuple[tuple[Any, ...], Violation]
# jsonschema's ValidationError; its stubs call every attribute possibly unset.
_Error = Any

# Deeper than any valid point; keeps recursion, also that of ``jsonschema``, within the stack.
_MAX_DEPTH = 32
# More values than any destination takes; the validator needs 100 µs for each.
_MAX_VALUES = 300
_MAX_VIOLATIONS = 1000
_SHOWN_CHARACTERS = 32
_TOO_DEEP: Located = ((), Violation("", "depth", "is nested too deeply: a point has two levels"))


class Explainer:
    """Validates points against a schema of the package, and against that of a user if there is one.

    Args:
        ours: its descriptions complete "it must be".
        users: from ``user_schema``; its descriptions are quoted.
    """

    def __init__(self, ours: Mapping[str, Any], users: Mapping[str, Any] | None = None) -> None:
        self._ours = _strict_validator(ours)
        self._users = None if users is None else _strict_validator(users)

    def violations(self, point: Any) -> list[Located]:
        """Everything wrong with a point."""
        found = _check_values(point)
        if found:
            return found
        try:
            return list(dict.fromkeys(islice(self._explained(point), _MAX_VIOLATIONS)))
        except RecursionError:
            # A user's schema may take many steps for each level.
            return [_TOO_DEEP]

    def accepts_by_ours(self, point: Any) -> bool:
        """Whether a point is valid by the package's schema alone."""
        return not _check_values(point) and self._ours.is_valid(point)

    def _explained(self, point: Any) -> Iterator[Located]:
        if self._users is not None:
            for error in self._users.iter_errors(point):
                yield from _explain(error, 'MF_SCHEMA says of it "{}"')
        for error in self._ours.iter_errors(point):
            yield from _explain(error, "it must be {}")


def _explain(error: _Error, form: str) -> Iterator[Located]:
    """Say what is wrong, and what would be right, in the words of the schema's own descriptions."""
    path = tuple(error.absolute_path)
    rule = str(error.validator)
    if rule == "required":
        for name in error.validator_value:
            if name not in error.instance:
                member = _description(error.schema.get("properties", {}).get(name))
                text = f'is missing: add "{name}"' + (f", {member}" if member else "")
                yield (*path, name), Violation("", rule, text)
    elif rule == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for name in islice(_additional(error.instance, error.schema), _MAX_VIOLATIONS):
            yield (*path, name), Violation("", rule, f"is no member of a point{_nearest(name, known)}")
    else:
        if "propertyNames" in error.absolute_schema_path:
            path = (*path, error.instance)
        description = _description(error.schema)
        remedy = f": {form.format(description)}" if description else ""
        yield path, Violation("", rule, _WORDS.get(rule, _other_rule)(error) + remedy)


def _description(schema: Any) -> str:
    description = schema.get("description") if isinstance(schema, dict) else None
    return description[:250] if isinstance(description, str) else ""


def _strict_validator(schema: Mapping[str, Any]) -> Validator:
    """Draft-07, but numbers are finite, ``multipleOf`` is decimal, and patterns follow ECMA 262."""
    types = Draft7Validator.TYPE_CHECKER.redefine("number", _is_number)
    strict: type[Validator] = validators.extend(  # type: ignore[no-untyped-call]
        Draft7Validator, _KEYWORDS, type_checker=types
    )
    formats = FormatChecker(formats=())
    formats.checks("date-time")(lambda value: not isinstance(value, str) or milliseconds(value) is not None)
    return strict(schema, format_checker=formats)


def _is_number(_checker: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _check_multiple(validator: Any, divisor: float, instance: Any, _schema: Any) -> Iterator[Any]:
    """Compare as decimals: 19.99 is a multiple of 0.01, although their binary fractions are not."""
    if validator.is_type(instance, "number"):
        quotient = Fraction(repr(instance)) / Fraction(repr(divisor))
        if quotient.denominator != 1:
            yield ValidationError("")


def _check_pattern(validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[Any]:
    if validator.is_type(instance, "string") and not compile_pattern(pattern).search(instance):
        yield ValidationError("")


def _check_pattern_properties(
    validator: Any, patterns: Mapping[str, Any], instance: Any, _schema: Any
) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    for pattern, schema in patterns.items():
        matches = compile_pattern(pattern).search
        for name, value in instance.items():
            if matches(name):
                yield from validator.descend(value, schema, path=name, schema_path=pattern)


def _check_additional(validator: Any, schema: Any, instance: Any, parent: Any) -> Iterator[Any]:
    if not validator.is_type(instance, "object"):
        return
    names = _additional(instance, parent)
    if validator.is_type(schema, "object"):
        for name in names:
            yield from validator.descend(instance[name], schema, path=name)
    elif not schema and next(names, None) is not None:
        yield ValidationError("")


def _additional(instance: Mapping[str, Any], schema: Mapping[str, Any]) -> Iterator[str]:
    """The names of an object's members that neither ``properties`` nor ``patternProperties`` names."""
    known = schema.get("properties", {})
    patterns = [compile_pattern(pattern) for pattern in schema.get("patternProperties", ())]
    return (
        name
        for name in instance
        if name not in known and not any(pattern.search(name) for pattern in patterns)
    )


# Each yields errors without words, which are never shown; ``jsonschema`` adds the place and the rule.
_KEYWORDS = {
    "additionalProperties": _check_additional,
    "multipleOf": _check_multiple,
    "pattern": _check_pattern,
    "patternProperties": _check_pattern_properties,
}


def _check_values(point: Any) -> list[Located]:
    """Find what no schema can check, or what would break the validator: text that is not JSON, depth, numbers out of range."""
    found: list[Located] = []
    for count, (path, value) in enumerate(_values(point)):
        if count == _MAX_VALUES:
            return [((), Violation("", "size", f"holds more than {_MAX_VALUES} values: a point has a few"))]
        if isinstance(value, NotJson):
            found.append((path, Violation("", value.rule, value.message)))
        elif isinstance(value, (int, float)) and not -MAX_FLOAT <= value <= MAX_FLOAT:
            # NaN fails the comparison too; no JSON text can hold it.
            found.append((path, Violation("", "maximum", _NOT_FINITE if value != value else _BEYOND)))  # noqa: PLR0124
        elif isinstance(value, (dict, list)) and len(path) == _MAX_DEPTH:
            return [_TOO_DEEP]
        elif isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            found.append((path, Violation("", "type", "has a name that is not a string: correct it")))
        if len(found) == _MAX_VIOLATIONS:
            break
    return found


_BEYOND = "is beyond every number that can be sent: the largest is 1.7976931348623157e308"
_NOT_FINITE = "is not a number (NaN): send a finite number, or no point"


def _values(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Yield every value inside a point with its path, down to ``_MAX_DEPTH``; holds only the current path in memory."""
    yield path, value
    if isinstance(value, (dict, list)) and len(path) < _MAX_DEPTH:
        for step, member in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _values(member, (*path, step))


def _nearest(name: str, known: Iterable[str]) -> str:
    # A short name is close to too much: "fields" to "id".
    matches = get_close_matches(name[:100], list(known), n=1, cutoff=0.6)
    return f': did you mean "{matches[0]}"?' if matches else ": remove it"


def show(value: Any) -> str:
    """A value as an error may quote it: short scalars only, everything else by its kind and size."""
    if isinstance(value, str):
        return (
            json.dumps(value) if len(value) <= _SHOWN_CHARACTERS else f"a string of {len(value)} characters"
        )
    if isinstance(value, (list, dict)):
        return f"an {'object' if isinstance(value, dict) else 'array'} of {len(value)}"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, (int, float)):
        return repr(value)[:_SHOWN_CHARACTERS]
    return f"a {type(value).__name__}"


def _wrong_type(error: _Error) -> str:
    wanted = error.validator_value
    types = [wanted] if isinstance(wanted, str) else wanted
    names = " or ".join(("an " if name[0] in "aeiou" else "a ") + name for name in types)
    return f"{show(error.instance)} is not {names}"


def _mismatch(error: _Error) -> str:
    problem = "is not allowed"
    # Bytes that are not UTF-8 become these characters: see ``otlp_protobuf``.
    if re.search("[\udc80-\udcff]", error.instance):
        problem = "holds a byte that is not UTF-8, or half of a surrogate pair"
    elif re.search("[\ud800-\udfff]", error.instance):
        problem = "holds half of a surrogate pair"
    return f"{show(error.instance)} {problem}"


def _other_rule(error: _Error) -> str:
    rule = error.validator_value
    shown = "" if isinstance(rule, (dict, list)) else f" {show(rule)}"
    return f"breaks the rule {error.validator}{shown}"


def _out_of_range(error: _Error) -> str:
    return f"{show(error.instance)} is out of range"


_WORDS: Mapping[str, Callable[[_Error], str]] = {
    "type": _wrong_type,
    "pattern": _mismatch,
    "maxLength": lambda error: f"is longer than {error.validator_value} characters",
    "maxProperties": lambda error: f"has {len(error.instance)} members, more than {error.validator_value}",
    "minimum": _out_of_range,
    "maximum": _out_of_range,
    "exclusiveMaximum": _out_of_range,
    "format": lambda error: f"{show(error.instance)} is not a time",
}
