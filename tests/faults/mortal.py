"""Runs commands in forked processes that kill themselves just before their n-th change on disk.

A program of its own (`python -m tests.faults.mortal PLAN OUT`), so that libraries are imported once for many short
lives. PLAN is JSON: `{"deaths": number, "commands": {name: [word, …]}}`, where `{out}` in a word stands for a folder.
Each command first runs to its end in `name/whole`, and is made again from its manifest in `name/rebuilt`. In
`name/killed` it is killed (SIGKILL) before one of its changes under `out=` or `cache=`, run there again and killed
again, as often as `deaths` says, and at last runs to its end. OUT receives what came of it.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

MANIFEST = "manifest.json"
LIFE_S = 120.0  # of one command, at most
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate", "os.link", "os.symlink", "shutil.rmtree"}


def count_changes(places: list[str], last: int | str | None, tally: Path) -> None:
    """Count this process's changes below `places`, and kill it before number `last` (from 0), or a rename to `last`."""
    seen = 0
    descriptor = os.open(tally, os.O_CREAT | os.O_WRONLY)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        nonlocal seen
        if event == "open" and isinstance(arguments[2], int):
            changes = bool(arguments[2] & _WRITES)
        else:
            changes = event in _CHANGES
        if not changes or not isinstance(arguments[0], str | os.PathLike):
            return
        if not os.path.abspath(os.fspath(arguments[0])).startswith(tuple(places)):
            return
        if seen == last or (event == "os.rename" and os.path.basename(os.fspath(arguments[1])) == last):
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1
        os.pwrite(descriptor, str(seen).encode(), 0)

    sys.addaudithook(hook)


def live(arguments: list[str], last: int | str | None, tally: Path) -> None:
    """In the forked process: be quiet, count, run, leave without cleaning up."""
    log = os.open(tally.with_suffix(".log"), os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(log, stream)
    from deploy import cli

    places = [os.path.abspath(a.partition("=")[2]) for a in arguments if a.startswith(("out=", "cache="))]
    count_changes(places, last, tally)
    try:
        code = cli.main(arguments)
    except BaseException:
        import traceback

        traceback.print_exc()
        code = 1
    os._exit(code)


def fork(arguments: list[str], last: int | str | None, tally: Path) -> tuple[int, int]:
    """Exit status (negative: the signal) of one life, and how many changes it made."""
    tally.unlink(missing_ok=True)
    process = os.fork()
    if not process:
        live(arguments, last, tally)
    try:
        end_s = time.monotonic() + LIFE_S
        while True:
            done, status = os.waitpid(process, os.WNOHANG)
            if done:
                changes = tally.read_bytes() if tally.is_file() else b""
                return os.waitstatus_to_exitcode(status), int(changes or b"0")
            if time.monotonic() > end_s:
                return -signal.SIGALRM, 0
            time.sleep(0.01)
    finally:
        try:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
        except (ProcessLookupError, ChildProcessError):
            pass


def lives(words: list[str], folder: Path, deaths: int) -> dict[str, Any]:
    """The whole life of a command, the same made again, and lives cut short, each behind the one before."""

    def live_in(name: str, last: int | str | None) -> tuple[int, int]:
        place = folder / name
        return fork([word.format(out=place) for word in words], last, folder / f"{name}.tally")

    folder.mkdir()
    status, changes = live_in("whole", None)
    found: dict[str, Any] = {"status": status, "changes": changes, "deaths": []}
    if status:
        return found
    (run,) = (path.parent for path in (folder / "whole").glob(f"{words[0]}/*/manifest.json"))
    again = ["rebuild", str(run), f"out={folder / 'rebuilt'}"]
    found["rebuilt"], _ = fork(again, None, folder / "rebuilt.tally")
    random = np.random.default_rng(0)
    for number in range(deaths):  # the last death is always before the manifest's own rename
        left = changes - 1 if number == 0 else changes // 2  # a life that goes on behind another has less to do
        moment = MANIFEST if number == deaths - 1 else int(random.integers(left))
        killed, _ = live_in("killed", moment)
        found["deaths"].append({"moment": moment, "killed": killed})
    found["resumed"], _ = live_in("killed", None)
    return found


def main() -> None:
    """Import what stages need, without a thread or a GL context, then let each command live and die."""
    plan, out = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    import torch

    from deploy import cli, compose  # noqa: F401

    for stage in {"rebuild", *(words[0] for words in plan["commands"].values())}:
        cli.load(cli.STAGES[stage])
    torch.onnx.export(
        torch.nn.Linear(1, 1), (torch.zeros(1, 1),), dynamo=True, verbose=False
    )  # its tables take seconds
    found = {name: lives(words, out.parent / name, plan["deaths"]) for name, words in plan["commands"].items()}
    out.write_text(json.dumps(found))


if __name__ == "__main__":
    main()
