"""Child processes that cannot outlive their test, nor keep it waiting."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LONGEST_S = 90.0


@contextmanager
def python(repository: Path, *arguments: str, seconds: float = LONGEST_S) -> Iterator[subprocess.Popen[str]]:
    """Python with these arguments, its output in a pipe; killed when the block ends, or after so many seconds.

    Reading the pipe of a killed process ends, so what reads it needs no timeout of its own.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    watchdog = threading.Timer(seconds, process.kill)
    watchdog.daemon = True
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait(timeout=30)
        if process.stdout is not None:
            process.stdout.close()
