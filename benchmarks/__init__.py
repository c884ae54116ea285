"""What the forwarder costs, compared with a floor and with its peers: ``make bench``.

::

    receiver.py    replies to every request at once, or after a delay; a process of its own
    workload.py    the events, the same for every subject
    subjects/      the programs that are measured, each in its own interpreter: the forwarder, the floor, the peers
    processes.py   starts receivers and subjects, and lets a subject handle one event after the other
    rows.py        a row of the table: what was measured, its bound, the verdict
    cold_start.py package.py memory.py latency.py redis_dedupe.py cpu.py small_events.py scale.py shapes.py
    instructions.py formats.py
                   the rows
    plot.py page.py
                   docs/benchmarks.md and its plot
    shared_quota.py
                   docs/scale.md: many instances that share one quota, in virtual time; not part of ``make bench``

The subjects of a row take turns within one run, so that other load on the machine affects all of them; a ratio is the
median of the turns' ratios. CPU time is that of the measured process with all its threads, without the receiver.
"""
