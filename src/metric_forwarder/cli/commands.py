"""The command ``metric-forwarder`` and its table of subcommands."""

from importlib import metadata
from typing import Any

import click

from metric_forwarder.cli.check import check, schema
from metric_forwarder.cli.demo import demo
from metric_forwarder.cli.deploy import deploy
from metric_forwarder.cli.doctor import doctor
from metric_forwarder.cli.emulator import emulator
from metric_forwarder.cli.events import events
from metric_forwarder.cli.inputs import Unusable
from metric_forwarder.cli.invoke import invoke, send
from metric_forwarder.cli.options import example
from metric_forwarder.cli.replay import replay
from metric_forwarder.cli.serve import serve
from metric_forwarder.errors import ForwarderError

# The shells' status of a program that SIGINT ended: 128 plus the signal's number.
_INTERRUPTED = 130


class ForwarderGroup(click.Group):
    """Subcommands in the order of the table below; the forwarder's own errors are shown without a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        del ctx
        return list(self.commands)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ForwarderError as error:
            raise Unusable(str(error)) from None
        except KeyboardInterrupt:
            click.echo("Interrupted.", err=True)
            ctx.exit(_INTERRUPTED)


def _show_version(ctx: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 - click calls it by position
    if not wanted or ctx.resilient_parsing:
        return
    try:
        version = metadata.version("metric-forwarder")
    except metadata.PackageNotFoundError:
        version = "(run from its source, not installed)"
    click.echo(f"metric-forwarder {version}")
    ctx.exit()


@click.group(
    cls=ForwarderGroup,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=example(
        "metric-forwarder emulator",
        "metric-forwarder send --namespace pc --metric diskusage --value 0.3 --dimension diskname=sda",
        heading="Example, in two terminals:",
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_show_version,
    help="Show the version and exit.",
)
def forwarder() -> None:
    """Forward metric points from trigger events of Tencent Cloud SCF, without losing one silently.

    The settings are the environment variables MF_…, as in the deployed function. Exit status: 0 all ok, 1 something
    was not delivered or not valid, 2 usage or configuration, 130 interrupted (Ctrl-C).
    """


for command in (invoke, send, check, schema, events, emulator, demo, doctor, replay, serve, deploy):
    forwarder.add_command(command)
