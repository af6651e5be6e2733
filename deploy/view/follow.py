"""The page of a flight under way, written anew every few seconds: by whoever looks, or by a process beside the run."""

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from deploy import children
from deploy.view import flight
from robot_wm import console
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import CONFIG, in_progress

REFRESH_S = 2
PAGE, LOG = "view.html", "view.log"  # in the folder of a run that is watched from its start
_SHOWN = 4  # flights on the page that is left
_NICE = 10  # drawing a page must not delay a plan


def follow(page: Path, run: Path) -> None:
    """Write the page of the flight under way, again and again, until nobody writes the run any more.

    Raises:
        UserError: no run.
    """
    if not (run / CONFIG).is_file():
        raise UserError(f"view: {run} is no run", "Give follow=true with the folder of a robot-wm run that flies")
    while in_progress(run):
        with contextlib.suppress(UserError):  # nothing has been flown yet
            flight.write_latest(page, run, REFRESH_S)
        time.sleep(REFRESH_S)


@contextlib.contextmanager
def page_beside(run: Path) -> Iterator[None]:
    """Keep the page of a run up to date from a process of its own; when the context ends it shows whole flights."""
    console.say(f"page: {run / PAGE}, written anew every {REFRESH_S} s")
    command = [sys.executable, "-m", "deploy.view.follow", str(run)]
    with (run / LOG).open("wb") as log:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        yield
    finally:
        children.end(child)
        with contextlib.suppress(UserError):  # nothing was flown
            flight.write(run / PAGE, run, _SHOWN)


def _main(run: Path) -> None:
    """The child: follows until SIGTERM, or until the run's process is gone."""
    os.nice(_NICE)
    follow(run / PAGE, run)


if __name__ == "__main__":
    _main(Path(sys.argv[1]))
