"""One contestant of `time_to_accuracy` in a process of its own: trains an epoch when told to."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.images import Images
from benchmarks.rivals import named
from benchmarks.task import Task
from benchmarks.worker import keep_to_cores, talk
from hubel import HubelError
from hubel.train.settings import settings

__all__ = ["main"]


def main() -> None:
    """Serves the contestant, task, folder of images and settings of the arguments."""
    name, line, folder, chosen = sys.argv[1:]
    task = Task.from_json(line)
    keep_to_cores(task.threads)
    answers = talk()

    def say(**facts: Any) -> None:
        print(json.dumps(facts), file=answers)

    rival = named(name, task)
    try:
        module = importlib.import_module(f"benchmarks.rivals.{rival.file}")
        # One untimed step first, which also says what is not there.
        rival.start(task)()
    except ModuleNotFoundError as error:
        say(left_out=f"{error.name} is not installed")
        return
    except HubelError as error:
        say(left_out=str(error))
        return
    images = Images.load(Path(folder))
    trained = module.epochs(task, images, settings(**json.loads(chosen)), **rival.options)
    say(ready=True)
    for _ in sys.stdin:
        seconds, accuracy = next(trained)
        say(median=seconds, accuracy=accuracy)


if __name__ == "__main__":
    main()
