"""Options that several commands share, and the form of their examples."""

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from metric_forwarder.cli.sample_formats import WRITTEN
from metric_forwarder.errors import ConfigError
from metric_forwarder.formats import Format
from metric_forwarder.settings.settings import PREFIX

_Command = TypeVar("_Command", bound=Callable[..., Any])


class Number(click.FloatRange):
    """A finite number; error messages call it a number."""

    name = "number"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is not a finite number.", param, ctx)
        return number


class WholeNumber(click.IntRange):
    """A whole number; error messages call it that."""

    name = "whole number"


def example(*lines: str, heading: str = "Example:") -> str:
    """An epilog that shows command lines, and is not wrapped."""
    return "\n".join(["\b", heading, *(f"  {line}" for line in lines)])


def json_option(command: _Command) -> _Command:
    """``--json``, for commands that print tables on a terminal."""
    return click.option(
        "--json", "as_json", is_flag=True, help="Print JSON also on a terminal; elsewhere it is the default."
    )(command)


def format_option(command: _Command) -> _Command:
    """``--format``, for commands that write points; the command gets a ``Format``."""
    return click.option(
        "--format",
        "written_format",
        type=click.Choice([each.value for each in WRITTEN]),
        default=Format.JSON.value,
        show_default=True,
        metavar="FORMAT",
        callback=lambda _ctx, _parameter, name: Format(name),
        help="Write points in this format of docs/formats.md; only json has a namespace and an id.",
    )(command)


def _load_env_file(ctx: click.Context, _parameter: click.Parameter, file: str | None) -> None:
    """Add a file's assignments to the environment while the command runs; variables that are set already stay."""
    if file is None or ctx.resilient_parsing:
        return
    from metric_forwarder.cli.deployment.dotenv import read_dotenv

    path = Path(file)
    if not path.is_file():
        raise click.BadParameter(f"{file} does not exist, or is not a file.")
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
        help="Read settings from a file such as .env; exported variables take precedence.",
    )(command)


def quiet_option(command: _Command) -> _Command:
    """``--quiet``, for commands whose exit status is enough."""
    return click.option(
        "--quiet", "-q", is_flag=True, help="Print no report and no log: the exit status gives the result."
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
    help="The address to listen on; the default accepts only this machine.",
)


def port_option(default: int) -> Callable[[_Command], _Command]:
    """``--port``, for commands that serve."""
    return click.option(
        "--port",
        type=WholeNumber(0, 65535),
        default=default,
        show_default=True,
        metavar="PORT",
        help="The port to listen on; 0 means any free port.",
    )
