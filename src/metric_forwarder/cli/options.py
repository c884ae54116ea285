"""What several commands have in common: an option, and the form of their examples."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from metric_forwarder.errors import ConfigError
from metric_forwarder.settings.settings import PREFIX

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


def _load_env_file(ctx: click.Context, _parameter: click.Parameter, file: str | None) -> None:
    """Put what a file assigns into the environment for as long as the command runs; what is there already stays."""
    if file is None or ctx.resilient_parsing:
        return
    from metric_forwarder.cli.deployment.dotenv import read_dotenv

    path = Path(file)
    if not path.is_file():
        raise click.BadParameter(f"{file} does not exist, or is no file.")
    try:
        assigned = read_dotenv(path)
    except ConfigError as error:
        raise click.BadParameter("; ".join(error.problems)) from None
    _set_while_running(ctx, {name: value for name, value in assigned.items() if name not in os.environ})


def _raise_log_level(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it by position
    if wanted and not ctx.resilient_parsing:
        _set_while_running(ctx, {f"{PREFIX}LOG_LEVEL": "DEBUG"})


def _set_while_running(ctx: click.Context, variables: dict[str, str]) -> None:
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)

    def restore() -> None:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value

    ctx.call_on_close(restore)


def env_file_option(command: _Command) -> _Command:
    """``--env-file``, for commands that read the function's settings."""
    return click.option(
        "--env-file",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_load_env_file,
        help="Read settings from a file such as .env; what is exported already is stronger.",
    )(command)


def quiet_option(command: _Command) -> _Command:
    """``--quiet``, for commands whose exit status says how it went."""
    return click.option(
        "--quiet", "-q", is_flag=True, help="Print no report and no log: the exit status says how it went."
    )(command)


def log_level_option(command: _Command) -> _Command:
    """``--verbose``, for commands that run the function."""
    return click.option(
        "--verbose",
        "-v",
        is_flag=True,
        expose_value=False,
        callback=_raise_log_level,
        help="Log a line for each request to the destination, as with MF_LOG_LEVEL=DEBUG.",
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
