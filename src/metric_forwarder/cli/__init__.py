"""The command line, ``metric-forwarder``: for people and scripts, never part of the deployed function.

One module per command or pair of commands; beside them ``function`` (the function as the platform runs it),
``inputs`` (files to read), ``inspection`` (points of an event, without sending),
``examination`` (what ``doctor`` looks at), ``reachability`` (of hosts), ``wrapping`` (points → trigger events),
``display`` (the one home of ``rich``) and ``reference`` (writes the generated parts of the documents).

Exit status: 0 all ok; 1 something was not delivered or not valid; 2 usage or configuration.
"""

import sys

# What the extra "cli" installs.
_EXTRA = frozenset({"aiohttp", "click", "rich"})


def main() -> None:
    """Run the command line, and exit."""
    try:
        # Where the extra is not installed, to say so takes more than a traceback.
        from metric_forwarder.cli.commands import forwarder

        forwarder(prog_name="metric-forwarder")
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        print(
            f"The command line needs the package {error.name}, which is not installed here: "
            "in a clone of the project, .venv/bin/pip install -e '.[cli]'",
            file=sys.stderr,
        )
        sys.exit(2)
