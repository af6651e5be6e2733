"""`robot-wm <command> key=value …`: one command per stage, and one line for every mistake that the user can mend."""

import contextlib
import functools
import importlib
import io
import json
import os
import select
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import robot_wm
from deploy import command_help
from deploy.commands import OTHERS, STAGES, Stage
from deploy.refusals import failed_access, failed_machine, missing_package
from deploy.request import Request, command, parse, typed
from robot_wm.contracts import config
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import MANIFEST, read_run

EXIT_CODES = {
    0: "done",
    1: "something is wrong with what was checked (doctor, lineage)",
    2: "a mistake that you can mend; one line says what and how",
    130: "interrupted by Ctrl-C; the same command resumes",
}

_WORDS = {
    "bench": "benchmark",
    "inspect": "data",
    "rebuild": "run",
    "robots": "robot",
    "view": "target",
}  # what a word without = is the value of


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (see EXIT_CODES)."""
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        code = _dispatch(words)
        sys.stdout.flush()
        return code
    except UserError as error:
        return _refuse(error, words)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except ImportError as error:
        return _refuse(missing_package(error), words)
    except OSError as error:
        return 0 if _nobody_reads(error) else _refuse(failed_access(error), words)
    except Exception as error:
        return _refuse(failed_machine(error), words)


def _nobody_reads(error: OSError) -> bool:
    """Whether our own output found no reader (`robot-wm robots | head`); what is left of it goes nowhere."""
    if not isinstance(error, BrokenPipeError) or not hasattr(select, "poll"):
        return False
    output = select.poll()
    output.register(sys.stdout, 0)
    if not output.poll(0):
        return False  # another pipe broke
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return True


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(command_help.overview({k: s.does for k, s in STAGES.items()} | OTHERS, EXIT_CODES))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"robot-wm {robot_wm.__version__}")
        return 0
    name, rest = command(argv)
    if name not in STAGES and name not in OTHERS:
        known = ", ".join(typed(each) for each in (*STAGES, *OTHERS))
        raise UserError(f"unknown command {name!r}", f"Commands: {known}")
    request = parse(rest)
    with _shown(request):
        if name in OTHERS:
            return _other(name, request)
        if request.help:
            print(command_help.stage(name, STAGES[name].does, STAGES[name].example, request.config_dirs))
            return 0
        if request.multirun:
            return _multirun(name, request)
        result = run_stage(name, _overrides(name, request), request.config_dirs)
    if request.json and name != "bench":  # which has printed its own
        print(json.dumps(_described(name, result), indent=2))
    elif result is not None:
        print(result)
    return 0


def _shown(request: Request) -> contextlib.AbstractContextManager[None]:
    if request.color and not request.quiet:
        return contextlib.nullcontext()
    if not request.color:
        os.environ["NO_COLOR"] = "1"  # for worker processes
    try:
        from robot_wm import console
    except ImportError:  # a bare install shows no colours and no progress
        return contextlib.nullcontext()
    return console.shown(request.quiet, request.color)


def _described(name: str, result: Path | None) -> dict[str, Any]:
    """What --json prints of a finished command: what was written, and what its manifest says of it."""
    told: dict[str, Any] = {"command": typed(name), "path": None if result is None else str(result)}
    if result is not None and (result / MANIFEST).is_file():
        manifest = config.to_mapping(read_run(result))
        told |= {key: manifest[key] for key in ("wall_s", "metrics", "gates", "outputs")}
    return told


def run_stage(name: str, overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> Path | None:
    """Compose a stage's config from configs/ and `overrides`, check it, and run the stage.

    Returns:
        The run folder that the stage wrote, if it wrote one.

    Raises:
        UserError: an unknown or missing key, a wrong value, or whatever the stage refuses.
        ImportError: a package of an extra is not installed.
    """
    from deploy import compose  # hydra: absent on a robot

    values = compose.compose(name, overrides, config_dirs)
    function, config_class = load(STAGES[name])
    return function(config.from_mapping(config_class, values, name))


def _multirun(name: str, request: Request) -> int:
    from deploy import compose

    overrides = _overrides(name, request)
    out = next((o.partition("=")[2] for o in reversed(overrides) if o.startswith("out=")), "runs")
    folder = Path(out).resolve() / "multirun" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}"
    told = compose.multirun(overrides, functools.partial(_job, name, request, Path.cwd()), folder)
    if request.json:
        print(json.dumps({"command": typed(name), "jobs": told}, indent=2))
    else:
        print(*(job["path"] for job in told if job["path"] is not None), sep="\n")
    return 0


def _job(name: str, request: Request, folder: Path, overrides: Sequence[str]) -> dict[str, Any]:
    """One job of a multirun, wherever its launcher put it; returns what --json prints of it."""
    os.chdir(folder)
    told: dict[str, Any] = {"overrides": list(overrides)}
    if name == "bench" and request.json:  # it prints its own, which belongs among those of the others
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            run_stage(name, overrides, request.config_dirs)
        return told | {"command": name, "path": None, "result": json.loads(printed.getvalue())}
    return told | _described(name, run_stage(name, overrides, request.config_dirs))


def load(stage: Stage) -> tuple[Callable[[Any], Path | None], type[Any]]:
    """Import a stage's function and config dataclass."""
    module = importlib.import_module(stage.module)
    return getattr(module, stage.function), getattr(module, stage.config)


def _overrides(name: str, request: Request) -> list[str]:
    extra = [f"{_WORDS[name]}={word}" for word in request.words[:1] if name in _WORDS]
    if name == "bench" and request.json:
        extra.append("json=true")
    if name in ("robots", "view") and request.config_dirs:
        quoted = ["'" + str(folder).replace("'", "\\'") + "'" for folder in request.config_dirs]
        extra.append(f"folders=[{','.join(quoted)}]")
    left = request.words[1:] if name in _WORDS else request.words
    if left:
        raise UserError(f"argument {left[0]!r} is not key=value", f"See robot-wm {typed(name)} --help")
    return request.overrides + extra


def _other(name: str, request: Request) -> int:
    if request.help:
        print(command_help.other(name, OTHERS[name]))
        return 0
    if request.overrides or len(request.words) != (name != "doctor"):
        raise UserError(f"{name} takes {command_help.ARGUMENT[name] or 'no argument'}", f"See robot-wm {name} --help")
    if name == "doctor":
        from deploy import doctor

        return doctor.show(request.json)
    if name == "completion":
        from deploy import completion

        print(completion.script(request.words[0], STAGES, OTHERS), end="")
        return 0
    from deploy import lineage

    return lineage.show(Path(request.words[0]), request.json)


def _refuse(error: UserError, words: Sequence[str]) -> int:
    print(f"error: {error}", file=sys.stderr)
    if "--json" in words:
        print(json.dumps({"error": {"problem": error.problem, "remedy": error.remedy}}, indent=2))
    return 2
