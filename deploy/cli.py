"""`robot-wm <command> key=value …`: one command per stage, and one line for every mistake that the user can mend."""

import contextlib
import functools
import importlib
import io
import json
import os
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import robot_wm
from deploy import command_help
from deploy.refusals import failed_access, failed_machine, missing_package
from deploy.request import Request, command, parse, typed
from robot_wm.contracts import config
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import MANIFEST, read_run


class Stage(NamedTuple):
    """Where a command's function and config dataclass are, what it does, and an example of its use."""

    module: str
    function: str
    config: str
    does: str
    example: str


STAGES: dict[str, Stage] = {
    "record": Stage(
        "sims.stages.record", "record", "RecordConfig",
        "Simulated video of many arms, or a calibration log of one robot, as a LeRobot dataset",
        "robot-wm record episodes=200 workers=2",
    ),
    "ingest": Stage(
        "robot_wm.stages.ingest", "ingest", "IngestConfig",
        "Your own video (a file, a folder, a LeRobot dataset) as a dataset without actions",
        "robot-wm ingest data=videos/kitchen.mp4",
    ),
    "inspect": Stage(
        "deploy.stages.inspect", "inspect", "InspectConfig",
        "What is in a dataset and what is wrong with it: a table, and a page with pictures and ranges",
        "robot-wm inspect runs/ingest/RUN",
    ),
    "pretrain": Stage(
        "robot_wm.stages.pretrain", "pretrain", "PretrainConfig",
        "Labeler and world model from video without actions",
        "robot-wm pretrain data=[runs/record/RUN]",
    ),
    "label": Stage(
        "robot_wm.stages.label", "label", "LabelConfig",
        "A dataset with the latent actions that the labeler infers",
        "robot-wm label data=runs/ingest/RUN model=runs/pretrain/RUN",
    ),
    "calibrate": Stage(
        "calibration.stages.calibrate", "calibrate", "CalibrateConfig",
        "The world model fitted to one body from a few minutes of its own log",
        "robot-wm calibrate embodiment=fetch model=runs/pretrain/RUN data=runs/record/RUN",
    ),
    "plan": Stage(
        "calibration.stages.plan", "plan_motion", "PlanConfig",
        "A safe motion that makes a body's parameters identifiable, judged before anything moves",
        "robot-wm calibrate plan embodiment=so101",
    ),
    "identify": Stage(
        "calibration.stages.identify", "identify_body", "IdentifyConfig",
        "MuJoCo parameters of a body from a log of it, with 95 % intervals, as a patch to its MJCF",
        "robot-wm calibrate identify embodiment=so101 data=runs/record/RUN",
    ),
    "board": Stage(
        "calibration.stages.board", "print_board", "BoardConfig",
        "The calibration board as a PDF to print",
        "robot-wm calibrate board file=board.pdf",
    ),
    "camera": Stage(
        "calibration.stages.camera", "calibrate_camera", "CameraConfig",
        "A camera's lens and place from pictures of the board, as an MJCF whose render overlays the real picture",
        "robot-wm calibrate camera embodiment=so101 data=runs/record/RUN",
    ),
    "export": Stage(
        "deploy.stages.export", "export", "ExportConfig",
        "Encoder, world model and planner as ONNX, with numeric parity as a gate",
        "robot-wm export calibration=runs/calibrate/RUN",
    ),
    "run": Stage(
        "deploy.stages.run", "run", "RunConfig",
        "A controller in closed loop on a twin; its flight log is a dataset",
        "robot-wm run bundle=runs/export/RUN episodes=5",
    ),
    "serve": Stage(
        "deploy.stages.serve", "serve", "ServeConfig",
        "A twin in its own process and in real time, for `run robot=remote`",
        "robot-wm serve embodiment=fetch port=5555",
    ),
    "evaluate": Stage(
        "deploy.stages.evaluate", "evaluate", "EvaluateConfig",
        "Success on held-out goals beside random, hold, oracle and from scratch",
        "robot-wm evaluate embodiment=fetch bundle=runs/export/RUN goals=25",
    ),
    "verify": Stage(
        "deploy.stages.verify", "verify", "VerifyConfig",
        "Where a controller fails on the twin: how often, how little it takes, and the worst of it to watch",
        "robot-wm verify embodiment=fetch bundle=runs/export/RUN",
    ),
    "rebuild": Stage(
        "deploy.rebuild", "rebuild", "RebuildConfig",
        "A run made again from its manifest alone, every output compared bit for bit",
        "robot-wm rebuild runs/calibrate/RUN",
    ),
    "demo": Stage(
        "deploy.stages.demo", "demo", "DemoConfig",
        "All stages at a small size, from video to a report of the Fetch arm under control",
        "robot-wm demo video=path/to/your/video.mp4",
    ),
    "robots": Stage(
        "sims.stages.robots", "show", "RobotsConfig",
        "Which robots can be simulated by name; or one of them, with joints, limits and a picture",
        "robot-wm robots panda",
    ),
    "view": Stage(
        "deploy.stages.view", "view", "ViewConfig",
        "A page to look at: a run, dataset, flight, world model, controller or robot",
        "robot-wm view runs/run/RUN",
    ),
    "bench": Stage(
        "deploy.bench.bench", "bench", "BenchConfig",
        "A measurement with targets, machine, versions and seed",
        "robot-wm bench parity size=quick --json",
    ),
}  # fmt: skip

OTHERS = {  # commands without a config: they run where nothing but the bare package is installed
    "lineage": "Where a run came from, back to the videos, with every SHA-256 verified",
    "doctor": "What this machine can do and what it lacks: rendering, codecs, ONNX Runtime, GPU, disk, versions",
    "completion": "The commands and keys for the Tab key of bash, zsh or fish",
}

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
        return _dispatch(words)
    except UserError as error:
        return _refuse(error, words)
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except ImportError as error:
        return _refuse(missing_package(error), words)
    except OSError as error:
        return _refuse(failed_access(error), words)
    except Exception as error:
        return _refuse(failed_machine(error), words)


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
