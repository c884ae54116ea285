"""Relabel rules: what Prometheus's ``metric_relabel_configs`` make of the labels of a point.

The metric's name is the label ``__name__``, and the namespace ``__namespace__``. Other labels that begin with two
underscores are for the rules only, and are removed after the last rule. Sources: Prometheus, configuration
(relabel_config) and its package ``relabel``.
"""

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from metric_forwarder.errors import ConfigError
from metric_forwarder.intake.re2 import BadPattern, Groups, Pattern
from metric_forwarder.intake.series import as_text, is_whole
from metric_forwarder.intake.simple_case import lowered, raised
from metric_forwarder.model import is_label_name
from metric_forwarder.settings.readers import RepeatedName, text_or_file, unique_members

NAME = "__name__"
NAMESPACE = "__namespace__"
_MAX_RULES = 1_000
# Results that are kept from one point to the next of its series.
_MAX_KNOWN = 4_000
_LONGEST_KNOWN = 2_000

_is_target = re.compile(r"(?:[a-zA-Z_]|\$(?:\{\w+\}|\w))(?:\w|\$(?:\{\w+\}|\w))*", re.ASCII).fullmatch
_reference = re.compile(r"\$(?:\$|\{(\w+)\}|(\w+))").sub

Labels = dict[str, str]


class Relabelled(NamedTuple):
    """A point's namespace, metric and labels after the last rule."""

    namespace: str
    metric: str
    labels: Mapping[str, str]


class BadRule(ValueError):
    """A rule that Prometheus would refuse, or that is not known here; the message says which and why."""


class _Rule(NamedTuple):
    """One rule; its members are those of Prometheus's ``relabel_config``."""

    source_labels: Sequence[str]
    separator: str
    regex: Pattern
    modulus: int
    target_label: str
    replacement: str
    action: Callable[["_Rule", Labels], bool]

    def value(self, labels: Labels) -> str:
        return self.separator.join([labels.get(name, "") for name in self.source_labels])


_MEMBERS = frozenset(_Rule._fields)


class Relabeller:
    """Applies static labels, and then rules in their order.

    Args:
        rules: decoded JSON: a list of objects with the members of ``relabel_config``.
        labels: added to each point that has no such label.

    Raises:
        BadRule: one of them is not valid.
    """

    def __init__(self, rules: Any, labels: Mapping[str, str]) -> None:
        self._rules = _read_rules(rules)
        self._labels = dict(labels)
        self._known: dict[tuple[Any, ...], tuple[Relabelled | None, str]] = {}

    def apply(self, namespace: str, metric: str, labels: Mapping[str, str]) -> Relabelled | None:
        """Apply the rules to a point; None if one of them drops it. The result's ``metric`` is empty if they removed its name."""
        return self._find(namespace, metric, labels)[0]

    def relabel(self, raw: Any, default_namespace: str) -> tuple[Any, str]:
        """Return a point after the rules, and what it was, if they changed it.

        The point is None if they drop it, and unchanged if it is invalid.
        """
        if type(raw) is not dict:
            return raw, ""
        metric, dimensions, namespace = raw.get("metricName"), raw.get("dimensions"), raw.get("namespace", "")
        if type(metric) is not str or type(dimensions) is not dict or type(namespace) is not str:
            return raw, ""
        labels = {name: as_text(value) if is_whole(value) else value for name, value in dimensions.items()}
        if not all(type(value) is str for value in labels.values()):
            return raw, ""
        result, was = self._find(namespace or default_namespace, metric, labels)
        if result is None:
            return None, ""
        changed = {**raw, "metricName": result.metric, "dimensions": dict(result.labels)}
        return ({**changed, "namespace": result.namespace} if result.namespace else changed), was

    def _find(self, namespace: str, metric: str, labels: Mapping[str, str]) -> tuple[Relabelled | None, str]:
        key = (namespace, metric, *labels.items())
        if key in self._known:
            return self._known[key]
        result = self._apply(namespace, metric, labels)
        was = (
            ""
            if result == (namespace, metric, labels)
            else json.dumps([namespace, metric, sorted(labels.items())])
        )
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        if sum(map(len, labels.values())) < _LONGEST_KNOWN:
            self._known[key] = result, was
        return result, was

    def _apply(self, namespace: str, metric: str, labels: Mapping[str, str]) -> Relabelled | None:
        # A label with an empty value does not exist for a rule. But it is kept, since the destination may tell it from none.
        found = {**self._labels, **labels, NAMESPACE: namespace, NAME: metric}
        has_any = any(found.values())
        if not all(rule.action(rule, found) for rule in self._rules) or (has_any and not any(found.values())):
            # A point that has lost all of its labels is dropped, too.
            return None
        left = {name: value for name, value in found.items() if not name.startswith("__")}
        return Relabelled(found.get(NAMESPACE, ""), found.get(NAME, ""), left)


def read_relabeller(rules: str, labels: Iterable[tuple[str, str]]) -> Relabeller:
    """Make one from ``MF_RELABEL``, which is JSON text or the path of a JSON file, and ``MF_LABELS``.

    Raises:
        ConfigError: the file cannot be read, or a rule is not valid.
    """
    try:
        return Relabeller(read_rules(rules), dict(labels))
    except OSError as error:
        problem = f"cannot be read ({type(error).__name__}): name a JSON file of the package, or write JSON"
    except RepeatedName as twice:
        problem = str(twice)
    except BadRule as wrong:
        problem = f"{str(wrong).strip()}: see docs/formats.md, relabel rules"
    except (ValueError, RecursionError):
        problem = "holds no JSON: it must be a list of rules"
    raise ConfigError([f"MF_RELABEL {problem}"])


def read_rules(rules: str) -> Any:
    """Decode ``MF_RELABEL``; raises ``OSError``, or ``ValueError`` if it is not JSON or names a member twice."""
    text = text_or_file(rules)
    return json.loads(text, object_pairs_hook=unique_members) if text else []


def _set(labels: Labels, name: str, value: str) -> None:
    """Remove labels with an empty value, which do not exist for Prometheus."""
    if value:
        labels[name] = value
    else:
        labels.pop(name, None)


def _replace(rule: _Rule, labels: Labels) -> bool:
    groups = rule.regex.fullmatch(rule.value(labels))
    if groups is not None:
        target = expand(rule.target_label, groups, rule.regex)
        if not is_label_name(target):
            labels.pop(rule.target_label, None)
        else:
            value = expand(rule.replacement, groups, rule.regex)
            # Prometheus removes the label of the unexpanded name.
            _set(labels, target if value else rule.target_label, value)
    return True


def _keep(rule: _Rule, labels: Labels) -> bool:
    return rule.regex.fullmatch(rule.value(labels)) is not None


def _keep_equal(rule: _Rule, labels: Labels) -> bool:
    return labels.get(rule.target_label, "") == rule.value(labels)


def _set_case(rule: _Rule, labels: Labels, change: Callable[[str], str]) -> bool:
    _set(labels, rule.target_label, change(rule.value(labels)))
    return True


def _hashmod(rule: _Rule, labels: Labels) -> bool:
    digest = hashlib.md5(rule.value(labels).encode("utf-8", "surrogatepass"), usedforsecurity=False).digest()
    labels[rule.target_label] = str(int.from_bytes(digest[8:], "big") % rule.modulus)
    return True


def _label_map(rule: _Rule, labels: Labels) -> bool:
    # As they were before this rule.
    for name, value in sorted(labels.items()):
        groups = rule.regex.fullmatch(name) if value else None
        if groups is not None:
            _set(labels, expand(rule.replacement, groups, rule.regex), value)
    return True


def _drop_labels(rule: _Rule, labels: Labels, *, matching: bool) -> bool:
    for name in [name for name in labels if (rule.regex.fullmatch(name) is not None) is matching]:
        del labels[name]
    return True


def expand(template: str, groups: Groups, pattern: Pattern) -> str:
    """Put groups into a template, as Go does: ``$1``, ``${1}``, ``$name``, and ``$$`` for a dollar."""
    if "$" not in template:
        return template

    def group(match: re.Match[str]) -> str:
        name = match[1] or match[2]
        if name is None:
            return "$"
        number = int(name) if name.isascii() and name.isdigit() and len(name) < 9 else pattern.names.get(name)  # noqa: PLR2004 - no pattern has as many groups
        return (groups[number] or "") if number is not None and number < len(groups) else ""

    return _reference(group, template)


_ACTIONS: Mapping[str, Callable[[_Rule, Labels], bool]] = {
    "replace": _replace,
    "keep": _keep,
    "drop": lambda rule, labels: not _keep(rule, labels),
    "keepequal": _keep_equal,
    "dropequal": lambda rule, labels: not _keep_equal(rule, labels),
    "lowercase": partial(_set_case, change=lowered),
    "uppercase": partial(_set_case, change=raised),
    "hashmod": _hashmod,
    "labelmap": _label_map,
    "labeldrop": partial(_drop_labels, matching=True),
    "labelkeep": partial(_drop_labels, matching=False),
}
_WITH_TARGET = frozenset({"replace", "hashmod", "lowercase", "uppercase", "keepequal", "dropequal"})
# What an action has no use for, and therefore refuses.
_FOREIGN = {
    **dict.fromkeys(("labeldrop", "labelkeep"), _MEMBERS - {"regex", "action"}),
    **dict.fromkeys(("keepequal", "dropequal"), _MEMBERS - {"source_labels", "target_label", "action"}),
    **dict.fromkeys(("lowercase", "uppercase"), frozenset({"replacement"})),
}


def _read_rules(rules: Any) -> list[_Rule]:
    if not isinstance(rules, list) or len(rules) > _MAX_RULES:
        raise BadRule(f" is not a list of at most {_MAX_RULES} rules")
    return [_read_rule(f"/{index}", rule) for index, rule in enumerate(rules)]


def _read_rule(where: str, rule: Any) -> _Rule:
    try:
        return _read_members(rule)
    except BadRule as wrong:
        raise BadRule(f"{where}{wrong}") from None


def _read_members(rule: Any) -> _Rule:
    if not isinstance(rule, dict):
        raise BadRule(" is not an object")
    unknown = sorted(set(rule) - _MEMBERS)
    if unknown:
        raise BadRule(
            f"/{str(unknown[0])[:40]} is no member of a rule: it may have {', '.join(sorted(_MEMBERS))}"
        )
    action = str(rule.get("action", "replace")).lower()
    if action not in _ACTIONS:
        raise BadRule(f"/action must be one of {', '.join(_ACTIONS)}")
    foreign = sorted(_FOREIGN.get(action, frozenset()) & rule.keys())
    if foreign:
        raise BadRule(f"/{foreign[0]} has no meaning for {action}")
    read = _Rule(
        _read_sources(rule.get("source_labels", [])),
        _read_text(rule, "separator", ";"),
        _read_pattern(rule),
        _read_modulus(rule, action),
        _read_text(rule, "target_label", ""),
        _read_text(rule, "replacement", "$1"),
        _ACTIONS[action],
    )
    _check_target(action, read)
    return read


def _read_text(rule: Mapping[str, Any], member: str, default: str) -> str:
    value = rule.get(member, default)
    if not isinstance(value, str):
        raise BadRule(f"/{member} is not a text")
    return value


def _read_sources(sources: Any) -> Sequence[str]:
    if not isinstance(sources, list) or not all(
        isinstance(name, str) and is_label_name(name) for name in sources
    ):
        raise BadRule("/source_labels is not a list of labels' names")
    return tuple(sources)


def _read_pattern(rule: Mapping[str, Any]) -> Pattern:
    try:
        return Pattern(_read_text(rule, "regex", "(.*)"))
    except BadPattern as bad:
        raise BadRule(f"/regex {bad}") from None


def _read_modulus(rule: Mapping[str, Any], action: str) -> int:
    modulus = rule.get("modulus", 0)
    if type(modulus) is not int or not 0 <= modulus < 2**64 or (action == "hashmod" and modulus == 0):
        raise BadRule("/modulus must be a whole number above 0")
    return modulus


def _check_target(action: str, rule: _Rule) -> None:
    if action in _WITH_TARGET and not rule.target_label:
        raise BadRule(f"/target_label is needed by {action}")
    is_right = _is_target if action == "replace" else is_label_name
    if action in _WITH_TARGET and not is_right(rule.target_label):
        raise BadRule("/target_label is no name of a label")
    if action == "labelmap" and not _is_target(rule.replacement):
        raise BadRule("/replacement must make the name of a label, as $1 does")
