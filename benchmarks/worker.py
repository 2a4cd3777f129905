"""One contestant in a process of its own: readies a step, and times it when its turn comes.

Run with the contestant's name and a Task. It says on one line of JSON that it is ready, or why it
cannot take part. Then each line that it reads is the seconds to go on for, and is answered with the
median of the steps. While it waits it uses no core, so that contestants do not disturb one another.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.memory_use import peak_memory
from benchmarks.rivals import named
from benchmarks.task import Task
from hubel import HubelError

__all__ = ["keep_to_cores", "main", "talk"]

_WARM = 2
_SHOWN = 2000


def keep_to_cores(threads: int) -> None:
    """Leave the process so many cores: some libraries ask how many there are and nothing else."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])


def talk() -> Any:
    """Where answers go; whatever a library prints goes to the standard error instead."""
    answers = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)
    return answers


def main() -> None:
    """Serves the contestant and task of the arguments until standard input ends."""
    task = Task.from_json(sys.argv[2])
    keep_to_cores(task.threads)
    answers = talk()

    def say(**facts: Any) -> None:
        print(json.dumps(facts), file=answers)

    rival = named(sys.argv[1], task)
    try:
        importlib.import_module(rival.imports)
        imported = peak_memory()
        run = rival.start(task)
        first = np.concatenate([np.ravel(run())[:_SHOWN] for _ in range(_WARM)])
    except ModuleNotFoundError as error:
        say(left_out=f"{error.name} is not installed")
        return
    except HubelError as error:
        say(left_out=str(error))
        return
    say(answer=first.tolist(), imported=imported)
    for line in sys.stdin:
        seconds = float(line)
        times: list[float] = []
        begun = perf_counter()
        while not times or perf_counter() - begun < seconds:
            start = perf_counter()
            run()
            times.append(perf_counter() - start)
        say(median=median(times), steps=len(times), peak=peak_memory())


if __name__ == "__main__":
    main()
