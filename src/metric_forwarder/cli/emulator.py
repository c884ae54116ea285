"""``emulator``: the emulated receiver in a terminal of its own."""

import json
import shlex
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import click

from metric_forwarder.cli.inputs import Unusable, read_json, unlistenable
from metric_forwarder.cli.options import Number, WholeNumber, example, host_option, port_option

if TYPE_CHECKING:
    from receiver_emulator import EmulatorOptions, RequestRecord


def _parse_accounts(
    _ctx: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]
) -> dict[str, str]:
    accounts = {}
    for pair in pairs:
        secret_id, _, secret_key = pair.partition(":")
        if not secret_id or not secret_key:
            # Without the given text, which may be a key.
            raise click.BadParameter("an account is given as ID:KEY, its SecretId and its SecretKey.")
        accounts[secret_id] = secret_key
    return accounts


def _parse_catalogue(_ctx: click.Context, _parameter: click.Parameter, file: str | None) -> Any:
    if file is None:
        return None
    catalogue = read_json(file)
    if not _is_catalogue(catalogue):
        raise Unusable(
            f"{file} is not a catalogue: it must be an object of namespaces, each an object of metrics, each a list of "
            'dimension names, such as {"pc": {"diskusage": ["diskname", "ip"]}}'
        )
    return catalogue


def _is_catalogue(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(metrics, dict)
        and all(
            isinstance(names, list) and all(isinstance(n, str) for n in names) for names in metrics.values()
        )
        for metrics in value.values()
    )


_limit = WholeNumber(min=1)


@click.command(epilog=example("metric-forwarder emulator --port 8080 --max-points-per-request 10"))
@host_option
@port_option(8080)
@click.option(
    "--account",
    "accounts",
    multiple=True,
    callback=_parse_accounts,
    metavar="ID:KEY",
    help="A SecretId and its SecretKey; may be given several times. Without it, there is an example account.",
)
@click.option(
    "--max-requests-per-second", type=_limit, metavar="N", help="Answer 1006 to more; no limit without it."
)
@click.option(
    "--max-points-per-request", type=_limit, metavar="N", help="Answer 1018 to more; no limit without it."
)
@click.option(
    "--max-body-bytes", type=_limit, metavar="BYTES", help="Answer 1015 to more; no limit without it."
)
@click.option(
    "--max-name-length", type=_limit, metavar="N", help="Answer 1020 to longer names; no limit without it."
)
@click.option(
    "--latency",
    "latency_s",
    type=Number(min=0),
    default=0.0,
    metavar="SECONDS",
    help="Delay every reply by this time.",
)
@click.option(
    "--clock-offset",
    "clock_offset_s",
    type=Number(),
    default=0.0,
    metavar="SECONDS",
    help="Set the receiver's clock ahead (or behind, if negative); beyond two hours it replies 1021.",
)
@click.option(
    "--catalogue",
    callback=_parse_catalogue,
    metavar="FILE",
    help='The namespaces, metrics and dimensions that exist, such as {"pc": {"diskusage": ["ip"]}}; '
    "without it, every legal name exists.",
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print its address and the variables to export as a line of JSON."
)
@click.option("--verbose", "-v", is_flag=True, help="Log a line to standard error for each request.")
def emulator(accounts: dict[str, str], *, as_json: bool, verbose: bool, **options: Any) -> None:
    """Run a local receiver until interrupted.

    It speaks the receiver's protocol, checks signatures, replies with the receiver's return codes, and shows on a page what
    it received. At the start it prints the variables to export, so that the function sends to it.
    """
    from receiver_emulator import EXAMPLE_ACCOUNTS, EmulatorOptions, serve

    describe = _described if as_json else _welcome
    chosen = EmulatorOptions(accounts=accounts or EXAMPLE_ACCOUNTS, **options)
    try:
        serve(
            chosen,
            lambda url: click.echo(describe(url, chosen, is_example=not accounts)),
            _log_request if verbose else None,
        )
    except OSError as error:
        raise unlistenable(chosen.host, chosen.port, error) from None


def _log_request(request: "RequestRecord") -> None:
    """Write a line about a request, as ``serve`` does."""
    time = datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    shown = ("method", "path", "status", "code", "namespace", "points", "bytes", "fault")
    line = {
        "time": time,
        "level": "INFO",
        "event": "access",
        **{name: request[name] for name in shown},  # type: ignore[literal-required]
        "ms": request["durationMs"],
    }
    click.echo(json.dumps(line, separators=(",", ":")), err=True)


def _described(url: str, options: "EmulatorOptions", *, is_example: bool) -> str:
    """The same as ``_welcome``, for programs; without a key of the user's own."""
    from receiver_emulator.options import exports

    variables = {name: shlex.split(value)[0] for name, value in exports(url, options).items()}
    if not is_example:
        del variables["MF_SECRET_KEY"]
    return json.dumps({"url": url, "page": f"{url}/", "exports": variables})


def _welcome(url: str, options: "EmulatorOptions", *, is_example: bool) -> str:
    from receiver_emulator.options import exports

    to_export = "\n".join(f"  export {name}={value}" for name, value in exports(url, options).items())
    return (
        f"The receiver listens on {url} until interrupted (Ctrl-C).\n"
        f"What it was sent: {url}/ (a page), {url}/-/points (JSON)\n\n"
        f"To send to it, in another terminal{' (the key is an example, not a real one)' if is_example else ''}:\n\n"
        f"{to_export}\n"
    )
