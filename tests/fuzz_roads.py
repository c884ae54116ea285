"""Fuzzing the law that the two roads into the intake say the same of every text: ``make fuzz-roads``.

``python fuzz_roads.py 500000 1`` takes that many messages, made from the seeds that follow 1. It ends with an error, and with the
texts, where the roads differ.
"""

import sys
import time

from support.roads import compare

_OF_ONE_SEED = 10_000


def main(messages: int, seed: int) -> None:
    began, points, taken = time.monotonic(), 0, 0
    while taken < messages:
        some = min(_OF_ONE_SEED, messages - taken)
        points += compare(seed, some)
        taken, seed = taken + some, seed + 1
        told = f"{taken} messages, {points} points, {time.monotonic() - began:.0f} s: no difference\n"
        sys.stdout.write(told)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:3]))
