"""What several commands have in common: an option, and the form of their examples."""

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number, called so where something else was given."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number, called so where something else was given."""

    name = "whole number"


def example(*lines: str, heading: str = "Example:") -> str:
    """An epilog that shows command lines, and is not wrapped."""
    return "\n".join(["\b", heading, *(f"  {line}" for line in lines)])


def json_option(command: _Command) -> _Command:
    """``--json``, for commands that print something nicer on a terminal."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON on a terminal, too; elsewhere it is the default."
    )(command)


host_option = click.option(
    "--host",
    default="127.0.0.1",
    show_default=True,
    metavar="ADDRESS",
    help="The address to listen on; the default lets no other machine in.",
)


def port_option(default: int) -> Callable[[_Command], _Command]:
    """Where a command that serves listens."""
    return click.option(
        "--port",
        type=WholeNumber(0, 65535),
        default=default,
        show_default=True,
        metavar="PORT",
        help="The port to listen on; 0 takes a free one.",
    )
