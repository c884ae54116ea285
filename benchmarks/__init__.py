"""What the forwarder costs, measured beside a floor and beside its peers: ``make bench``.

::

    receiver.py    answers every request at once, or after a while; in a process of its own
    workload.py    the events, the same for everyone
    subjects/      what is measured, each in an interpreter of its own: the forwarder, the floor, the peers
    processes.py   starts receivers and subjects, and asks subjects for one run after the other
    rows.py        a row of the table: what was measured, its bound, the verdict
    cpu.py cold_start.py memory.py latency.py package.py
                   the rows
    small_events.py scale.py shapes.py instructions.py
                   more of them
    plot.py page.py
                   docs/benchmarks.md and its plot

All figures of a row come from one session in which the parties take turns, so that whatever else the machine does
meets all of them; a ratio is the median of the ratios of the turns. CPU time is that of the measured process, all its
threads included, and nothing of the receiver's.
"""
