"""`robot-wm <command> key=value …`: one command per stage, and one line for every mistake that the user can mend."""

import errno
import functools
import importlib
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import robot_wm
from deploy import command_help
from robot_wm.contracts import config
from robot_wm.contracts.errors import UserError


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
    "excite": Stage(
        "calibration.stages.excite", "excite", "ExciteConfig",
        "A safe motion that makes a body's parameters identifiable, judged before anything moves",
        "robot-wm excite embodiment=desk_arm",
    ),
    "identify": Stage(
        "calibration.stages.identify", "identify_body", "IdentifyConfig",
        "MuJoCo parameters of a body from a log of it, with 95 % intervals, as a patch to its MJCF",
        "robot-wm identify embodiment=desk_arm data=runs/record/RUN",
    ),
    "board": Stage(
        "calibration.stages.board", "print_board", "BoardConfig",
        "The calibration board as a PDF to print",
        "robot-wm board file=board.pdf",
    ),
    "camera": Stage(
        "calibration.stages.camera", "calibrate_camera", "CameraConfig",
        "A camera's lens and place from pictures of the board, as an MJCF whose render overlays the real picture",
        "robot-wm camera embodiment=desk_arm data=runs/record/RUN",
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
    "evaluate": Stage(
        "deploy.stages.evaluate", "evaluate", "EvaluateConfig",
        "Success on held-out goals beside random, hold, oracle and from scratch",
        "robot-wm evaluate embodiment=fetch bundle=runs/export/RUN goals=25",
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
    "bench": Stage(
        "deploy.bench.bench", "bench", "BenchConfig",
        "A measurement with targets, machine, versions and seed",
        "robot-wm bench parity size=quick --json",
    ),
}  # fmt: skip

LINEAGE = "Where a run came from, back to the videos, with every SHA-256 verified"

_EXTRAS = {
    "huggingface_hub": "hub",
    **dict.fromkeys(("mujoco", "gymnasium", "gymnasium_robotics"), "sim"),
    **dict.fromkeys(("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript"), "train"),
    **dict.fromkeys(
        ("hydra", "omegaconf", "rich", "pyarrow", "av", "cv2", "scipy", "matplotlib", "jinja2", "PIL"), "train"
    ),
}

_WORDS = {"bench": "benchmark", "inspect": "data", "robots": "robot"}  # the key that a word without = is the value of

_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


@dataclass
class Request:
    """The words after the command: overrides, folders to search for configs, positional words, switches."""

    overrides: list[str] = field(default_factory=list)
    config_dirs: list[Path] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    help: bool = False
    json: bool = False
    multirun: bool = False


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code: 0, 2 for a mistake the user can mend, 130 when interrupted."""
    try:
        return _dispatch(list(sys.argv[1:] if argv is None else argv))
    except UserError as error:
        return _refuse(str(error))
    except KeyboardInterrupt:
        print("\ninterrupted; run the same command again to resume", file=sys.stderr)
        return 130
    except ImportError as error:
        return _refuse(_missing_package(error))
    except OSError as error:
        return _refuse(_failed_access(error))


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help", "help"):
        print(command_help.overview({**{k: s.does for k, s in STAGES.items()}, "lineage": LINEAGE}))
        return 0 if argv else 2
    if argv[0] == "--version":
        print(f"robot-wm {robot_wm.__version__}")
        return 0
    name, request = argv[0], _parse(argv[1:])
    if name == "lineage":
        return _lineage(request)
    if name not in STAGES:
        raise UserError(f"unknown command {name!r}", f"Commands: {', '.join([*STAGES, 'lineage'])}")
    if request.help:
        print(command_help.stage(name, STAGES[name].does, STAGES[name].example, request.config_dirs))
        return 0
    if request.multirun:
        return _multirun(name, request)
    result = run_stage(name, _overrides(name, request), request.config_dirs)
    if result is not None:
        print(result)
    return 0


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
    compose.multirun(overrides, functools.partial(_job, name, request.config_dirs, Path.cwd()), folder)
    return 0


def _job(name: str, config_dirs: Sequence[Path], folder: Path, overrides: Sequence[str]) -> None:
    """One job of a multirun, wherever its launcher put it."""
    os.chdir(folder)
    run_stage(name, overrides, config_dirs)


def load(stage: Stage) -> tuple[Callable[[Any], Path | None], type[Any]]:
    """Import a stage's function and config dataclass."""
    module = importlib.import_module(stage.module)
    return getattr(module, stage.function), getattr(module, stage.config)


def _parse(words: list[str]) -> Request:
    request = Request()
    rest = iter(words)
    for word in rest:
        if word in ("-h", "--help"):
            request.help = True
        elif word in ("-m", "--multirun"):
            request.multirun = True
        elif word == "--json":
            request.json = True
        elif word == "--config-dir" or word.startswith("--config-dir="):
            value = word.partition("=")[2] or next(rest, "")
            if not value or not Path(value).is_dir():
                raise UserError(f"--config-dir {value!r} is not a folder", "Give a folder such as my/configs")
            request.config_dirs.append(Path(value))
        elif word.startswith("-"):
            raise UserError(
                f"unknown option {word!r}", "Options: --help, --config-dir FOLDER, --multirun, --json (bench)"
            )
        elif "=" in word:
            request.overrides.append(word)
        else:
            request.words.append(word)
    return request


def _overrides(name: str, request: Request) -> list[str]:
    extra = [f"{_WORDS[name]}={word}" for word in request.words[:1] if name in _WORDS]
    if name == "bench" and request.json:
        extra.append("json=true")
    elif request.json:
        raise UserError(f"--json is no option of {name}", "Only bench takes it")
    if name == "robots" and request.config_dirs:
        quoted = ["'" + str(folder).replace("'", "\\'") + "'" for folder in request.config_dirs]
        extra.append(f"folders=[{','.join(quoted)}]")
    left = request.words[1:] if name in _WORDS else request.words
    if left:
        raise UserError(f"argument {left[0]!r} is not key=value", f"See robot-wm {name} --help")
    return request.overrides + extra


def _lineage(request: Request) -> int:
    if request.help:
        print(f"robot-wm lineage RUN\n\n{LINEAGE}.\nExit code 1 when something is missing or altered.")
        return 0
    if len(request.words) != 1 or request.overrides:
        raise UserError("lineage takes one run folder", "robot-wm lineage runs/export/RUN")
    from deploy import lineage

    return lineage.show(Path(request.words[0]))


def _missing_package(error: ImportError) -> str:
    if "cannot open shared object file" in str(error):
        return f"a system library is missing ({error}). sudo apt-get install -y libgl1 libglib2.0-0 libegl1 libosmesa6."
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    extra = _EXTRAS[package]
    return f"{package} is not installed. pip install 'robot-wm[{extra}]'{'' if extra == 'hub' else ' (or [all])'}."


def _failed_access(error: OSError) -> str:
    place = f" while writing {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"disk full{place}. Free some space and run the same command again to resume."
    if error.filename and error.errno in _NO_ACCESS:
        return f"{error.filename}: {error.strerror}. Check the path and its permissions, or give another (out=FOLDER)."
    raise error


def _refuse(message: str) -> int:
    print(f"error: {message}", file=sys.stderr)
    return 2
