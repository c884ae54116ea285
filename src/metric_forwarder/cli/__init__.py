"""The command line, ``metric-forwarder``: for people and scripts, never part of the deployed function.

One module per command or pair of commands; beside them::

    local_function       the function as the platform runs it
    http_server          the function behind HTTP
    serve_page, page_reports
                         what serve shows on a page, and what other commands show on the emulator's
    live_demo            the events of make page
    prometheus_server    a Prometheus for the demonstration
    deployment           what deploy does
    inputs, options      files to read, and options of several commands
    dry_run, reasons     points of an event without sending, and why a message is taken for its format
    sample_events, sample_formats
                         points → trigger events, in any format
    display              the only module that uses rich
    reference, settings_in_chinese
                         the generated parts of the documents

Exit status: 0 all ok; 1 something was not delivered or not valid; 2 usage or configuration; 130 interrupted.
"""

import io
import os
import sys

# The packages of the extra "cli".
_EXTRA = frozenset({"aiohttp", "click", "rich"})


def main() -> None:
    """Run the command line, and exit."""
    _mend_streams()
    try:
        # Without the extra, a traceback would not say what to install.
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
        # Errors of files are reported where they are read; an OSError without name or number is a library's.
        if error.errno is None or error.filename is not None:
            raise
        print(
            f"Error: standard output cannot be written ({error.strerror}): send it elsewhere", file=sys.stderr
        )
        # Otherwise the interpreter would try again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(2)


def _mend_streams() -> None:
    """Open streams that the shell has closed on the null device, and escape characters that the output's encoding lacks."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_RDWR), mode, encoding="utf-8"))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
