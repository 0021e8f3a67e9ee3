"""`script/simulate`: let fleets live, and print each one in which something went wrong."""

from __future__ import annotations

import argparse
import multiprocessing
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

from tests.simulation.fleet_years import YEARS_OF_A_FLEET, lived
from tests.simulation.mutations import FOUND_AT, MUTATIONS
from tests.simulation.observer import Story

FLEETS_FOR_A_MUTATION = 50
MEMORY = "/dev/shm"  # a private folder in it
SHOWN = 25
"""Lines of a story's end."""


def main() -> int:
    """Run the simulation as the command line says."""
    parser = argparse.ArgumentParser(prog="script/simulate", description=__doc__)
    parser.add_argument("--years", type=float, default=100, help="fleet-years in all")
    parser.add_argument("--seed", type=int, default=1, help="the first fleet's seed")
    parser.add_argument("--without", default="", choices=["", *MUTATIONS], metavar="MEND")
    parser.add_argument("--mutations", action="store_true", help="take out each mend in turn")
    parser.add_argument("--log", action="store_true", help="print the whole story of one seed")
    options = parser.parse_args()
    if options.mutations:
        return mutations(options.seed)
    if options.log:
        story = lived(options.seed, options.years, options.without)
        print("\n".join(story.log))
        return 1 if story.violations else 0
    fleets = max(1, round(options.years / YEARS_OF_A_FLEET))
    seeds = range(options.seed, options.seed + fleets)
    faults: Counter[str] = Counter()
    runs, orders, failing = 0, 0, 0
    with stories(partial(lived, without=options.without), seeds) as told:
        for story in told:
            faults.update(story.faults)
            runs, orders = runs + story.runs, orders + story.orders
            if story.violations:
                failing += 1
                show(story)
    print(
        f"{fleets * YEARS_OF_A_FLEET} fleet-years in {fleets} fleets: {runs} runs, "
        f"{orders} orders, {sum(faults.values())} faults, {failing} fleets with a violation"
    )
    print(", ".join(f"{name}: {count}" for name, count in sorted(faults.items())))
    return 1 if failing else 0


@contextmanager
def stories(live: Callable[[Any], Any], fleets: Iterable[Any]) -> Iterator[Iterator[Any]]:
    """Yield the stories of these fleets, in their order; leave nothing behind, also at SIGTERM."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="certsync-simulation-", dir=MEMORY) as folder:
        pool = ProcessPoolExecutor(os.cpu_count(), initializer=_below, initargs=(folder,))
        try:
            yield pool.map(live, fleets)
            pool.shutdown()
        except BaseException:
            for each in multiprocessing.active_children():
                each.kill()
            raise


def _below(folder: str) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    tempfile.tempdir = folder


def mutations(seed: int) -> int:
    """Print for each mend the first fleet that lacks it; 1 if one is not missed by anybody."""
    missed = 0
    with stories(partial(found, seed=seed), MUTATIONS) as told:
        for mend, story in zip(MUTATIONS, told, strict=True):
            what = f"seed {story.seed}: {story.violations[0]}" if story else "NOT FOUND"
            print(f"{mend}: {what}", flush=True)
            missed += story is None
    return 1 if missed else 0


def found(mend: str, seed: int) -> Story | None:
    """Return the first story with a violation where a mend is taken out; None: there is none."""
    seeds = [FOUND_AT.get(mend, seed), *range(seed, seed + FLEETS_FOR_A_MUTATION)]
    stories = (lived(each, without=mend) for each in seeds)
    return next((story for story in stories if story.violations), None)


def show(story: Story) -> None:
    """Print the end of a story."""
    print(f"seed {story.seed}: {'; '.join(story.violations)}")
    print("\n".join(f"    {line}" for line in story.log[-SHOWN:]))
    print(f"    again: script/simulate --years {YEARS_OF_A_FLEET} --seed {story.seed} --log")


if __name__ == "__main__":
    sys.exit(main())
