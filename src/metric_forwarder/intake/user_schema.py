"""Reads a user's schema (``MF_SCHEMA``), and refuses what cannot be judged by its standard.

Only draft-07 is supported. A pattern is written for ECMA 262, so it is translated for Python's ``re``. ``schema`` imports this
module where a user has a schema, since the libraries for it take time to import.
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from typing import Any

from jsonschema import Draft7Validator, FormatChecker, SchemaError
from jsonschema_specifications import REGISTRY  # type: ignore[import-untyped]
from referencing.exceptions import Unresolvable
from referencing.jsonschema import DRAFT7

from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.patterns import compile_pattern
from metric_forwarder.secret import describe_value
from metric_forwarder.settings.readers import RepeatedName, located, unique_members

_DRAFT_07 = "http://json-schema.org/draft-07/schema#"
_is_draft_07 = re.compile(r"https?://json-schema\.org/draft-07/schema#?").fullmatch
_is_some_draft = re.compile(r"https?://json-schema\.org/[a-z0-9/#.-]{1,60}").fullmatch
# Draft-07 ignores these keywords; a schema that has them and names no draft is meant for a later one.
_LATER_KEYWORDS = (
    "dependentRequired",
    "dependentSchemas",
    "maxContains",
    "minContains",
    "prefixItems",
    "unevaluatedItems",
    "unevaluatedProperties",
    "$dynamicRef",
    "$recursiveRef",
)


def read_user_schema(path: str) -> Mapping[str, Any]:
    """Read a schema file.

    Raises:
        ConfigError: it cannot be read, is not a draft-07 schema, or has parts that cannot be checked.
    """
    try:
        content = located(path).read_bytes()
    except OSError as error:
        raise _refusal(path, f"name a file that can be read ({error.strerror})") from None
    return parse_user_schema(content, path)


def parse_user_schema(content: bytes, path: str) -> Mapping[str, Any]:
    """Read the contents of a schema file.

    Raises:
        ConfigError: it is not a draft-07 schema, or has parts that cannot be checked.
    """
    try:
        # An editor may have put a byte order mark first.
        text = content.decode("utf-8-sig")
        schema: Any = json.loads(
            text, object_pairs_hook=unique_members, parse_constant=_raise_for_constant, parse_float=_finite
        )
        if not isinstance(schema, dict):
            raise _Unusable("its file must hold a JSON object")  # noqa: TRY301
        _check_draft(schema)
        _check_form(schema)
        _check_parts(schema)
    except SchemaError as error:
        where = "/".join(map(str, error.absolute_path)) or "its top"
        # Not the error's own message, which quotes the file: it may be another one than was meant.
        rule = f"{error.validator} {json.dumps(error.validator_value)[:200]}"
        problem = f"its file is not a draft-07 schema at {where}: that must be {rule}"
    except _Unusable as error:
        problem = str(error)
    except RepeatedName as twice:
        problem = f"its file {twice}"
    except (ValueError, RecursionError):
        problem = "its file must hold JSON in UTF-8"
    else:
        return schema
    raise _refusal(path, problem)


def _refusal(path: str, problem: str) -> ConfigError:
    return ConfigError([f"MF_SCHEMA {describe_value(path)}: {problem}"])


class _Unusable(Exception):
    """What cannot be judged in a schema, and what to do about it."""


def _raise_for_constant(name: str) -> Any:
    raise _Unusable(f"its file holds {name}, which is not a JSON number")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _Unusable("its file holds a number that no 64-bit float holds")
    return number


def _check_form(schema: Any) -> None:
    # Without formats: a pattern is checked as it will be used.
    Draft7Validator.check_schema(schema, format_checker=FormatChecker(formats=()))


def _check_draft(schema: Mapping[str, Any]) -> None:
    named = schema.get("$schema")
    if named is None or (isinstance(named, str) and _is_draft_07(named)):
        return
    # Do not quote other text: the file may be the wrong one.
    shown = f" ({named})" if isinstance(named, str) and _is_some_draft(named) else ""
    raise _Unusable(
        f'its "$schema" names another standard{shown}, and only draft-07 is supported: write "{_DRAFT_07}", and its words'
    )


def _check_parts(schema: Mapping[str, Any]) -> None:
    """Look at every schema inside the schema, and follow every ``$ref`` now: a validator does so only with some points.

    Raises:
        _Unusable: a ``$ref`` leads nowhere, outside the file or round in a circle; a pattern cannot be used; a draft is
            named that is not supported.
        SchemaError: a ``$ref`` does not lead to a schema.
    """
    names_draft = "$schema" in schema
    root = DRAFT7.create_resource(schema)
    # Schema → the schemas that judge the same value, by ``id()``.
    judged_alike: dict[int, list[int]] = {}
    pending = [(root, REGISTRY.resolver_with_root(root))]
    while pending:
        resource, resolver = pending.pop()
        found = resource.contents
        if not isinstance(found, dict) or id(found) in judged_alike:
            continue
        if "$ref" in found:
            # Draft-07 ignores the other members next to a $ref.
            target = _follow(found["$ref"], resolver)
            judged_alike[id(found)] = [id(target.contents)]
            pending.append((DRAFT7.create_resource(target.contents), target.resolver))
        else:
            _check_words(found, names_draft=names_draft)
            judged_alike[id(found)] = [id(other) for other in _in_place(found)]
            pending += [(inner, resolver.in_subresource(inner)) for inner in resource.subresources()]
    try:
        TopologicalSorter(judged_alike).prepare()
    except CycleError:
        raise _Unusable(
            "a $ref in its file leads back to itself for the same value: let it lead to a member's schema"
        ) from None


def _check_words(schema: Mapping[str, Any], *, names_draft: bool) -> None:
    _check_draft(schema)
    for word in () if names_draft else _LATER_KEYWORDS:
        if word in schema:
            raise _Unusable(
                f'"{word}" is a word of a later draft than 07, the one that is supported: say it in the words of draft-07'
            )
    for pattern in schema.get("patternProperties", ()):
        _check_pattern(pattern)
    if "pattern" in schema:
        _check_pattern(schema["pattern"])


def _check_pattern(pattern: str) -> None:
    try:
        compile_pattern(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise _Unusable(
            f"the pattern {json.dumps(pattern)[:80]} in its file cannot be used: {error}"
        ) from None


def _follow(reference: Any, resolver: Any) -> Any:
    try:
        target = resolver.lookup(reference)
    except (Unresolvable, ValueError):
        raise _Unusable(_leads_nowhere(reference)) from None
    _check_form(target.contents)
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
