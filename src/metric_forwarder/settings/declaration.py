"""How a setting is declared: its name, its default, what reads its text, and its meaning, in one line.

A class of settings has the declarations as attributes. In an object of the class each attribute is the value that was
read, of the type that its reader returns.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar, overload

from metric_forwarder.secret import describe_value

_T = TypeVar("_T")

# A reference of a template or deployment tool that was not replaced by its value.
_is_unfilled = re.compile(r"\$\{[^{}]*\}|\$\([^()]*\)|\{\{.*\}\}|.*\$\{env:\w+\}.*", re.DOTALL).fullmatch
_is_quoted = re.compile(r"""(["']).*\1""", re.DOTALL).fullmatch


class BadValue(Exception):
    """The text is not valid for the setting.

    Args:
        right: what it must be set to; together with ``what``, the whole remedy.
        what: what is wrong, without showing a secret; None: the text is described.
    """

    def __init__(self, right: str, what: str | None = None) -> None:
        super().__init__(right)
        self.right = right
        self.what = what

    def problem(self, name: str, text: str) -> str:
        """Say what is wrong with a setting, for a ``ConfigError``."""
        if self.what is None:
            return f"{name} {describe_value(text)}: set it to {self.right}"
        return f"{name} {self.what}: {self.right}"


class Setting(Generic[_T]):
    """The declaration of one environment variable.

    Args:
        read: converts a text, stripped of white space, to the value; raises ``BadValue``.

    Attributes:
        name: of the environment variable.
        default: the text that is used if the variable is empty; a destination may have another.
        meaning: for the settings table of the README; ``settings_in_chinese`` translates it.
        field: its attribute in the class of settings.
    """

    def __init__(self, name: str, default: str, read: Callable[[str], _T], meaning: str) -> None:
        self.name = name
        self.default = default
        self.meaning = meaning
        self._read = read
        self.field = ""

    def __set_name__(self, owner: type, field: str) -> None:
        self.field = field

    @overload
    def __get__(self, instance: None, owner: type) -> "Setting[_T]": ...
    @overload
    def __get__(self, instance: object, owner: type) -> _T: ...
    def __get__(self, instance: object | None, owner: type) -> "Setting[_T] | _T":
        # After reading, the value is in the object's own dict, where Python finds it first.
        if instance is not None:
            raise AttributeError(f"{self.name} was not read")
        return self

    def fill(self, values: dict[str, Any], text: str, default: str, problems: list[str]) -> None:
        """Add the value of a text to the values; for a bad text add the default's value, and the problem to the problems."""
        try:
            if text:
                _look_for_mistakes(text)
            values[self.field] = self._read(text or default)
        except BadValue as bad:
            problems.append(bad.problem(self.name, text))
            values[self.field] = self._read(default)


def _look_for_mistakes(text: str) -> None:
    """Find mistakes that can be made in any setting, and that many readers would take for a value."""
    if _is_unfilled(text):
        raise BadValue(
            "set the variable that it refers to where the function is deployed, or write the value itself",
            "holds a reference that was not filled in",
        )
    if len(text) > 1 and _is_quoted(text):
        raise BadValue("remove the quotes", "stands in quotes")


def declared(owner: type) -> Sequence[Setting[Any]]:
    """The settings that a class declares, in the order of their lines."""
    return [member for member in vars(owner).values() if isinstance(member, Setting)]


def fill_all(
    settings: Sequence[Setting[Any]],
    environ: Mapping[str, str],
    defaults: Mapping[str, str],
    problems: list[str],
) -> dict[str, Any]:
    """Read all settings: field → value.

    Args:
        settings: the declarations.
        environ: all environment variables; an empty value means the default.
        defaults: those that differ from the declared ones.
        problems: the problems found are added here.
    """
    values: dict[str, Any] = {}
    for each in settings:
        text = environ.get(each.name, "").strip()
        each.fill(values, text, defaults.get(each.name, each.default), problems)
    return values
