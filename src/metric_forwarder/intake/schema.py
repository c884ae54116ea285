"""The contract: which points a destination can take, decided and explained by ``jsonschema``.

``jsonschema`` costs some 200 µs a point and 170 ms to import, so it only explains: what a shipped schema accepts is
decided by a predicate that reads its limits from the schema file (a property test holds the two together).
"""

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from metric_forwarder.errors import ConfigError
from metric_forwarder.formats.payload import NotJson, Violation
from metric_forwarder.secret import describe_value
from metric_forwarder.times import NUMBERS_BELOW, milliseconds

if TYPE_CHECKING:
    import jsonschema.protocols

# jsonschema's ValidationError; its stubs call every attribute possibly unset.
_Error = Any

SCHEMAS = Path(__file__).parents[1] / "schemas"
# Deeper than any point is; keeps whatever walks a value recursively, ``jsonschema`` included, within the stack.
_MAX_DEPTH = 32
# More than any destination takes; the validator needs 100 µs for each.
_MAX_VALUES = 300
_TOO_DEEP: tuple[tuple[Any, ...], Violation] = (
    (),
    Violation("", "depth", "is nested too deeply: a point has two levels"),
)
_MAX_VIOLATIONS = 1000
_SHOWN_CHARACTERS = 32

# By structure.json, and by every schema the package ships.
_REQUIRED = frozenset({"metricName", "dimensions", "value"})
_MAX_FLOAT = 1.7976931348623157e308


class Contract:
    """The schema in force.

    Args:
        destination: the name of a schema the package ships, such as ``receiver``.
        user_schema: the path of a schema file to use in its place; its points are all judged by ``jsonschema``, and
            must have the structure of a point besides.

    Attributes:
        schema: as JSON.
        accepts: whether a point is valid.
        accepts_again: whether one that was valid, and that the spool has written anew, can be sent: the user's schema judges
            what producers write.
        accepts_id: whether a point's ``id`` is valid, by a shipped schema.
        takes_any_number: whether a valid point stays valid with any other finite value.

    Raises:
        ConfigError: the user's schema cannot be read, is no draft-07 schema, or has a ``$ref`` that cannot be followed.
    """

    def __init__(self, destination: str, user_schema: str = "") -> None:
        self.schema: Mapping[str, Any]
        self.accepts: Callable[[Any], bool]
        self.accepts_again: Callable[[Any], bool]
        self.accepts_id: Callable[[Any], bool] = lambda _: False
        self.takes_any_number = not user_schema
        self._schemas: tuple[Mapping[str, Any], ...]
        if user_schema:
            self.schema = _read_user_schema(user_schema)
            self._schemas = (self.schema, _read(SCHEMAS / "structure.json"))
            self.accepts = self._is_valid
            self.accepts_again = self._has_structure
        else:
            self.schema = _read(SCHEMAS / f"{destination}.json")
            self._schemas = (self.schema,)
            self.accepts = self.accepts_again = predicate(self.schema)
            self.accepts_id = _text_or_whole_check(self.schema["properties"]["id"])

    def violations(self, point: Any) -> list[tuple[tuple[Any, ...], Violation]]:
        """Everything wrong with a point: its path inside the point, and the violation with an empty pointer."""
        found = _walk(point)
        if found:
            return found
        errors = (error for validator in self._validators for error in validator.iter_errors(point))
        explained = (entry for error in islice(errors, _MAX_VIOLATIONS) for entry in _explain(error))
        try:
            return list(dict.fromkeys(explained))
        except RecursionError:
            # Of a user's schema that takes many steps a level.
            return [_TOO_DEEP]

    def _is_valid(self, point: Any) -> bool:
        return not self.violations(point)

    def _has_structure(self, point: Any) -> bool:
        structure = self._validators[-1]
        return not _walk(point) and structure.is_valid(point)

    @cached_property
    def _validators(self) -> "list[jsonschema.protocols.Validator]":
        # Slow to import, and not needed while all points are valid.
        from jsonschema import Draft7Validator, FormatChecker, validators  # noqa: PLC0415

        formats = FormatChecker(formats=())
        formats.checks("date-time")(_is_time)
        types = Draft7Validator.TYPE_CHECKER.redefine("number", _is_number)
        strict = validators.extend(Draft7Validator, type_checker=types)  # type: ignore[no-untyped-call]
        return [strict(schema, format_checker=formats) for schema in self._schemas]


def predicate(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """Make the predicate that is true for what a shipped schema accepts, and for nothing else."""
    properties = schema["properties"]
    is_metric = _text_check(properties["metricName"])
    are_dimensions = _dimensions_check(properties["dimensions"])
    optional: dict[str, Callable[[Any], bool]] = {
        "namespace": _text_check(properties["namespace"]),
        "timestamp": _is_timestamp,
        "id": _text_or_whole_check(properties["id"]),
    }

    def accepts(point: Any) -> bool:
        if type(point) is not dict:
            return False
        try:
            metric, dimensions, value = point["metricName"], point["dimensions"], point["value"]
        except KeyError:
            return False
        if len(point) > 3 and not _are_all(optional, point):  # noqa: PLR2004 - those just read
            return False
        return is_finite(value) and is_metric(metric) and are_dimensions(dimensions)

    return accepts


def _are_all(optional: Mapping[str, Callable[[Any], bool]], point: Mapping[str, Any]) -> bool:
    """Whether the members of a point beside the required ones are known, and right."""
    for name, value in point.items():
        if name not in _REQUIRED and (name not in optional or not optional[name](value)):
            return False
    return True


def _text_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    matches = re.compile(schema.get("pattern", "")).search
    shortest, longest = schema.get("minLength", 0), schema.get("maxLength", math.inf)

    def check(value: Any) -> bool:
        return type(value) is str and shortest <= len(value) <= longest and matches(value) is not None

    return check


def _text_or_whole_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    is_text = _text_check(schema)
    least, most = schema["minimum"], schema["maximum"]

    def check(value: Any) -> bool:
        if type(value) is str:
            return is_text(value)
        # To JSON Schema 1.0 is an integer too.
        is_whole = type(value) is int or (type(value) is float and value.is_integer())
        return is_whole and least <= value <= most

    return check


def _dimensions_check(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    matches = re.compile(schema["propertyNames"]["pattern"]).search
    longest_name = schema["propertyNames"].get("maxLength", math.inf)
    is_value = _text_or_whole_check(schema["additionalProperties"])
    longest = schema["additionalProperties"].get("maxLength", math.inf)
    most = schema.get("maxProperties", math.inf)

    def check(dimensions: Any) -> bool:
        if type(dimensions) is not dict or len(dimensions) > most:
            return False
        for name, value in dimensions.items():
            if type(name) is not str or len(name) > longest_name or not matches(name):
                return False
            # Only text beyond ASCII may hold half a surrogate pair.
            is_plain = type(value) is str and len(value) <= longest and value.isascii()
            if not (is_plain or is_value(value)):
                return False
        return True

    return check


def is_finite(value: Any) -> bool:
    # A chained comparison is false for NaN, and for what is beyond a float's range.
    return (type(value) is float or type(value) is int) and -_MAX_FLOAT <= value <= _MAX_FLOAT


def _is_timestamp(value: Any) -> bool:
    if type(value) is str:
        return milliseconds(value) is not None
    return (type(value) is float or type(value) is int) and 0 <= value < NUMBERS_BELOW


def _read(path: Path) -> Mapping[str, Any]:
    schema: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return schema


def _read_user_schema(path: str) -> Mapping[str, Any]:
    from jsonschema import Draft7Validator, SchemaError  # noqa: PLC0415 - only a user's schema needs it this early

    try:
        schema = _read(Path(path))
        Draft7Validator.check_schema(schema)
        _check_references(schema)
    except OSError as error:
        problem = f"name a file that can be read ({error.strerror})"
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        # Not the error's own message, which quotes the file: it may be another one than was meant.
        rule = f"{error.validator} {json.dumps(error.validator_value)[:200]}"
        problem = f"its file is no draft-07 schema at {where}: that must be {rule}"
    except _Unfollowable as error:
        problem = str(error)
    except (ValueError, RecursionError):
        problem = "its file must hold JSON in UTF-8"
    else:
        return schema
    raise ConfigError([f"MF_SCHEMA {describe_value(path)}: {problem}"])


class _Unfollowable(Exception):
    """A ``$ref`` that no validator can follow, and what to do about it."""


def _check_references(schema: Mapping[str, Any]) -> None:
    """Follow every ``$ref`` now, since a validator does so only with the points that lead it there.

    Raises:
        _Unfollowable: one leads nowhere, outside the file, or round in a circle.
        SchemaError: what one leads to is no schema.
    """
    from graphlib import CycleError, TopologicalSorter  # noqa: PLC0415 - only a user's schema needs these

    from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]  # noqa: PLC0415
    from referencing.jsonschema import DRAFT7  # noqa: PLC0415

    root = DRAFT7.create_resource(schema)
    # Schema → those that judge the same value as it does, all by their identity.
    judged_alike: dict[int, list[int]] = {}
    pending = [(root, REGISTRY.resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        found = resource.contents
        if not isinstance(found, dict) or id(found) in judged_alike:
            continue
        if "$ref" in found:
            target = _follow(found["$ref"], resolver)
            judged_alike[id(found)] = [id(target.contents)]
            pending.append((DRAFT7.create_resource(target.contents), target.resolver))
        else:
            judged_alike[id(found)] = [id(other) for other in _in_place(found)]
            pending += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
    try:
        TopologicalSorter(judged_alike).prepare()
    except CycleError:
        raise _Unfollowable(
            "a $ref in its file leads back to itself for the same value: let it lead to a member's schema"
        ) from None


def _follow(reference: Any, resolver: Any) -> Any:
    from jsonschema import Draft7Validator  # noqa: PLC0415
    from referencing.exceptions import Unresolvable  # noqa: PLC0415

    try:
        target = resolver.lookup(reference)
    except (Unresolvable, ValueError):
        raise _Unfollowable(_leads_nowhere(reference)) from None
    Draft7Validator.check_schema(target.contents)
    return target


def _in_place(schema: Mapping[str, Any]) -> Iterator[Any]:
    """The schemas inside a draft-07 schema that judge the very value it judges, and not a member of it."""
    for name in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(name, ())
    for name in ("not", "if", "then", "else"):
        yield schema.get(name)
    yield from schema.get("dependencies", {}).values()


def _leads_nowhere(reference: str) -> str:
    if reference.startswith("#"):
        return f'the $ref "{reference[:60]}" in its file leads nowhere: correct it, or add what it names'
    return "a $ref in its file leads out of it, where nothing is read: copy what it names into the file"


def _is_number(_checker: Any, value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)


def _is_time(value: Any) -> bool:
    return not isinstance(value, str) or milliseconds(value) is not None


def _walk(point: Any) -> list[tuple[tuple[Any, ...], Violation]]:
    """What no schema can say, or what would break the validator: text that was no JSON, depth, giant integers, crowds."""
    found: list[tuple[tuple[Any, ...], Violation]] = []
    for count, (path, value) in enumerate(_values(point)):
        if count == _MAX_VALUES:
            return [((), Violation("", "size", f"holds more than {_MAX_VALUES} values: a point has a few"))]
        if isinstance(value, NotJson):
            found.append((path, Violation("", value.rule, value.message)))
        elif isinstance(value, int) and not -_MAX_FLOAT <= value <= _MAX_FLOAT:
            found.append((path, Violation("", "maximum", "is beyond every number that can be sent")))
        elif isinstance(value, (dict, list)) and len(path) == _MAX_DEPTH:
            return [_TOO_DEEP]
        elif isinstance(value, dict) and not all(isinstance(name, str) for name in value):
            found.append((path, Violation("", "type", "has a name that is not a string")))
        if len(found) == _MAX_VIOLATIONS:
            break
    return found


def _values(point: Any) -> Iterator[tuple[tuple[Any, ...], Any]]:
    """Every value inside a point with its path, as deep as is looked; only the way there is held in memory."""
    yield (), point
    trail: list[tuple[tuple[Any, ...], Iterator[tuple[Any, Any]]]] = [((), _members(point))]
    while trail:
        above, members = trail[-1]
        for step, value in members:
            path = (*above, step)
            yield path, value
            if len(path) < _MAX_DEPTH:
                trail.append((path, _members(value)))
                break
        else:
            trail.pop()


def _members(value: Any) -> Iterator[tuple[Any, Any]]:
    if isinstance(value, dict):
        return iter(value.items())
    return iter(enumerate(value)) if isinstance(value, list) else iter(())


def _explain(error: _Error) -> Iterator[tuple[tuple[Any, ...], Violation]]:
    """Say what is wrong, and what would be right, in the words of the schema's own descriptions."""
    path = tuple(error.absolute_path)
    rule = str(error.validator)
    if rule == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield (*path, name), Violation("", rule, f'is missing: add "{name}"{_described(error, name)}')
    elif rule == "additionalProperties" and error.validator_value is False:
        known = error.schema.get("properties", {})
        for name in islice((name for name in error.instance if name not in known), _MAX_VIOLATIONS):
            yield (*path, name), Violation("", rule, f"is no member of a point{_nearest(name, known)}")
    else:
        if "propertyNames" in error.absolute_schema_path:
            path = (*path, error.instance)
        yield path, Violation("", rule, _WORDS.get(rule, _other_rule)(error) + _remedy(error))


def _remedy(error: _Error) -> str:
    description = error.schema.get("description") if isinstance(error.schema, dict) else None
    return f": it must be {description}" if description else ""


def _described(error: _Error, name: str) -> str:
    member = error.schema.get("properties", {}).get(name, {})
    description = member.get("description") if isinstance(member, dict) else None
    return f", {description}" if description else ""


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # noqa: PLC0415 - needed only to explain a mistake

    matches = get_close_matches(name[:100], list(known), n=1, cutoff=0.5)
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


def _wrong_text(error: _Error) -> str:
    return f"{show(error.instance)} has a character that is not allowed, or is empty"


def _too_long(error: _Error) -> str:
    return f"is longer than {error.validator_value} characters"


def _too_many(error: _Error) -> str:
    return f"has {len(error.instance)} members, more than {error.validator_value}"


def _out_of_range(error: _Error) -> str:
    return f"{show(error.instance)} is out of range"


def _no_time(error: _Error) -> str:
    return f"{show(error.instance)} is no time"


def _other_rule(error: _Error) -> str:
    rule = error.validator_value
    return f"breaks the rule {error.validator}" + (
        f" {show(rule)}" if not isinstance(rule, (dict, list)) else ""
    )


_WORDS: Mapping[str, Callable[[_Error], str]] = {
    "type": _wrong_type,
    "pattern": _wrong_text,
    "maxLength": _too_long,
    "maxProperties": _too_many,
    "minimum": _out_of_range,
    "maximum": _out_of_range,
    "exclusiveMaximum": _out_of_range,
    "format": _no_time,
}
