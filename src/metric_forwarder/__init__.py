"""Metric forwarder: from a trigger event of Tencent Cloud SCF to a destination, without losing a point silently.

An event comes in by a trigger, its messages are read by a format, its samples become points that a destination takes,
and every point ends in exactly one outcome. The parts, in the order of the flow::

    index.main_handler            the platform calls this
      bootstrap                   reads the environment and wires everything below, once per warm instance
        settings/                 the environment variables: one declaration each
        triggers/                 event    → messages    one module per source, one table
        formats/                  message  → samples     one module per payload format
        pipeline                  the line that an event goes down; settlement writes the outcome of each point
          jobs                    what a timer can ask for instead of sending points: a replay, a scrape
          intake/                 samples  → points      validation against the schema, series, times
          dedupe/                 points   → new points  identities; the stores, in memory and in Redis; the shared pace
          delivery/               points   → outcomes    batching, retry, pacing, deadline; the destination's port
          destinations/           encode a batch, sign it, judge the reply
          spool/                  undelivered points     kept in files or in Redis until they are replayed
        reporting/                outcomes → report → reply or log line

Opened only where a setting or an event asks for it::

    bridge/                       serves unchanged clients of the receiver
    scrape/                       a timer that fetches metrics from Prometheus targets
    doctor                        checks whether the function could deliver, for a person who asks

Used by all of them: ``model``, ``times``, ``uint64``, ``errors``, ``clock``, ``machine``, ``secret`` and ``credentials``;
``clients/``, with one module for each outside library or service; ``put_monitor_data/``, the receiver's protocol without
input or output.

The command line is in ``cli/``; the emulated receiver is the package ``receiver_emulator`` beside this one. Neither is
deployed.
"""

# The deployed package has no metadata to read it from. ``make release`` writes it, here and in pyproject.toml.
__version__ = "0.1.0"
