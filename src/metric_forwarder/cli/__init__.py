"""The command line, ``metric-forwarder``: for people and scripts, never part of the deployed function.

One module per command or pair of commands; beside them ``local_function`` (the function as the platform runs it),
``http_server`` (the function behind HTTP),
``inputs`` (files to read), ``dry_run`` (points of an event, without sending), ``reasons`` (why a message is read
as it is), ``sample_events`` (points → trigger events),
``display`` (the one home of ``rich``) and ``reference`` (writes the generated parts of the documents).

Exit status: 0 all ok; 1 something was not delivered or not valid; 2 usage or configuration; 130 interrupted.
"""

import io
import os
import sys

# What the extra "cli" installs.
_EXTRA = frozenset({"aiohttp", "click", "rich"})


def main() -> None:
    """Run the command line, and exit."""
    _mend_streams()
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
    except OSError as error:
        # Files are told where they are read; what has neither name nor number is an error of a library.
        if error.errno is None or error.filename is not None:
            raise
        print(
            f"Error: standard output cannot be written ({error.strerror}): send it elsewhere", file=sys.stderr
        )
        # At its end the interpreter would try once more.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


def _mend_streams() -> None:
    """Open on nothing what the shell has closed, and escape what the encoding of the output lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
