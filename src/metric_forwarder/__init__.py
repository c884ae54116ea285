"""Metric forwarder: from a trigger event of Tencent Cloud SCF to a destination, and never a point lost in silence.

How an event flows, and where to look::

    index.main_handler          the platform calls this
      bootstrap.Application     reads the settings, builds what follows, once per warm instance
        triggers.decode         event    → messages   one module per source, one table; what HTTP may not enter
        pipeline.Pipeline       the line:
          scrape.Scraper          a timer's job → messages: what Prometheus targets expose
          intake.Intake           messages → points     payload (decode), validation (the schema),
                                                        dedupe.Identifier; bad ones are settled here
          dedupe.DedupeStore      points   → those not delivered before
          core.delivery.Sender    points   → outcomes   batching → destinations (encode, sign, judge)
                                                        → transport; retry, halving, pace, deadline
          ledger.Ledger           one row per point, one outcome per row
          report.make_report      ledger   → report
        replies.reply           report   → return or raise: to the platform, the caller or an HTTP client

The command line is in ``cli``; the emulated receiver is the package ``receiver_emulator`` beside this one. Neither is
deployed.
"""
