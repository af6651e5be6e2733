"""export: a calibrated body becomes a controller bundle, if it agrees with PyTorch."""

import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from deploy.export import familiarity, parts
from deploy.export.export import TOLERANCE, export_bundle
from deploy.export.gate import FEWEST_PAIRS, MOST_PAIRS, closed_loop
from deploy.export.metadata import Joints, read_joints
from deploy.export.parity import Recorded
from deploy.export.precision import Precision
from deploy.export.variant import export_variant
from deploy.lineage import locate
from robot_wm import console
from robot_wm.contracts.bundle import TIPPED, Bundle
from robot_wm.contracts.dataset import ACTION, STATE
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run, read_run
from robot_wm.contracts.solids import Solids
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.models.adapter import KinematicAdapter
from robot_wm.planning.controllable import Controllable, load_controllable
from robot_wm.planning.planner import PlannerConfig

_EPISODE_ROWS = 4  # recorded rows taken from one episode, so that several episodes are seen


@dataclass(frozen=True)
class ExportConfig:
    """Configuration of `robot-wm export`.

    Attributes:
        calibration: calibrate run.
        planner: size of the search; fixed in the bundle.
        ahead: model steps between a frame and the first command of the plan made from it, which the planner predicts
            from the commands already under way; None: as many as the embodiment's delay takes.
        data: log of the body for the comparison with PyTorch; None is the one that calibration used.
        parity_tolerance: largest absolute difference of any output from PyTorch.
        parity_rows: recorded frames to compare on; each is planned from twice.
        precision: of the graphs; fp16 and int8 are made from fp32 and judged in closed loop.
        gate_pairs: validation goals of that judgement.
        dynamic_batch: write graphs for any number of rows beside those of batch 1.
    """

    calibration: str
    planner: PlannerConfig = field(default_factory=PlannerConfig)
    ahead: int | None = None
    data: str | None = None
    parity_tolerance: float = TOLERANCE
    parity_rows: int = 16
    precision: Precision = "fp32"
    gate_pairs: int = 20
    dynamic_batch: bool = False
    name: str = "export"
    out: str = "runs"
    seed: int = 0


def export(config: ExportConfig) -> Path:
    """Export; returns the run folder, which holds the bundle under `bundle/`.

    Raises:
        UserError: not a calibrate run, a log that is gone or of another body, or graphs that differ from PyTorch.
    """
    if config.parity_rows < 1 or config.parity_tolerance <= 0:
        raise UserError(
            f"parity_rows is {config.parity_rows}, parity_tolerance {config.parity_tolerance}", "Both must be positive"
        )
    if not FEWEST_PAIRS <= config.gate_pairs <= MOST_PAIRS:
        raise UserError(f"gate_pairs is {config.gate_pairs}", f"Give {FEWEST_PAIRS} to {MOST_PAIRS}")
    calibration = Path(config.calibration)
    inputs = {"calibration": calibration} | ({"data": Path(config.data)} if config.data else {})
    log = Path(config.data) if config.data else _log_of(calibration)
    with open_run(Path(config.out), "export", config.name, config, inputs) as run:
        if run.complete:
            console.say(f"export: already done with the same inputs: {run.path}")
            return run.path
        controllable = load_controllable(calibration, config.planner, config.ahead)
        recorded = read_recorded(log, controllable, config.parity_rows, config.seed)
        solids = _solids(controllable, log)
        console.say("export: encoder and planner to ONNX, then compared with PyTorch (about half a minute)")
        familiar = familiarity.measure(controllable, log)
        if familiar is None:
            console.say(f"export: {log} is too short to know unfamiliar images by; the runtime takes any")
        with tempfile.TemporaryDirectory(dir=run.path, prefix=".fp32.") as folder:
            where = (run.path if config.precision == "fp32" else Path(folder)) / "bundle"
            bundle = export_bundle(
                controllable, recorded, where, config.parity_tolerance, config.seed,
                joints=_joints(controllable.embodiment), familiar=familiar, dynamic_batch=config.dynamic_batch,
                solids=solids,
            )  # fmt: skip
            _show(bundle, config.parity_tolerance)
            parity = bundle.spec.parity
            if config.precision != "fp32":
                bundle = _variant(config, bundle, controllable.embodiment, run.path / "bundle")
        run.finish(
            ["bundle"],
            metrics={"parity": parity, "opset": bundle.spec.opset, "closed_loop": bundle.spec.closed_loop},
            gates={"parity": True, "parity_tolerance": config.parity_tolerance},
            embodiment_sha256=bundle.spec.embodiment_sha256,
        )
        return run.path


def _variant(config: ExportConfig, source: Bundle, embodiment: Embodiment, path: Path) -> Bundle:
    def judge(bundles: dict[str, Bundle]) -> dict[str, int]:
        return closed_loop(embodiment, bundles, config.gate_pairs, config.seed)

    bundle = export_variant(source, path, config.precision, judge, config.gate_pairs)
    rows = [(name, f"{round(share * config.gate_pairs)} of {config.gate_pairs}") for name, share in
            bundle.spec.closed_loop.items()]  # fmt: skip
    console.table("validation goals reached at the end", ("precision", "reached"), rows)
    return bundle


def _joints(embodiment: Embodiment) -> Joints | None:
    """What other projects' runners want to know of the joints; an export without it is still a controller."""
    try:
        return read_joints(embodiment)
    except (ImportError, UserError) as error:
        console.say(f"export: the graphs' metadata name no joints and gains, the MJCF cannot be read: {error}")
        return None


def _solids(controllable: Controllable, log: Path) -> Solids | None:
    """The body's parts that must stay apart, where its yaml asks for that; says what is not watched, or too tight."""
    safety = controllable.embodiment.safety
    if not safety.needs_solids:
        return None
    clearance_m = safety.self_clearance_m or 0.0
    adapter = controllable.planner.body.adapter
    table = adapter.kinematics.table if isinstance(adapter, KinematicAdapter) else None
    solids, left_out = parts.measure(controllable.embodiment, clearance_m, table)
    console.say(f"export: {len(solids.capsules)} capsules stand for the body, {len(solids.pairs)} pairs are kept apart")
    if left_out:
        console.say(f"export: not watched, too near at home: {'; '.join(left_out)}")
    dataset = LeRobotDataset(dataset_folder(log))
    states = [dataset.columns(episode)[STATE] for episode in range(dataset.num_episodes)]
    least_m, where, distance_N = parts.nearest(solids, np.concatenate(states))
    if safety.workspace_m is not None and parts.leaves(solids, np.concatenate(states), safety.workspace_m):
        console.say("export: the log itself leaves safety.workspace_m: flights like it will be stopped")
    if safety.self_clearance_m is not None and least_m < clearance_m:
        share = 100 * float((distance_N < clearance_m).mean())
        console.say(
            f"export: the log itself has {where} at {1000 * least_m:.0f} mm, {share:.1f} % of it nearer than"
            f" self_clearance_m ({1000 * clearance_m:.0f} mm): flights like it will be stopped"
        )
    return solids


def _log_of(calibration: Path) -> Path:
    """The log that calibration used, also when it moved with its tree of runs."""
    path = Path(read_run(calibration, "calibrate").inputs["data"].path)
    return locate(path, calibration) or path


def read_recorded(log: Path, controllable: Controllable, rows: int, seed: int) -> Recorded:
    """Frames, proprio and commands in force from a log of the body, one model step apart, from several episodes.

    Raises:
        UserError: the log is gone, lacks a feature, has another rate, or is shorter than one model step.
    """
    if not log.exists():
        raise UserError(f"the log {log} that calibration used is gone", "Give data=PATH of a log of the same body")
    dataset = LeRobotDataset(dataset_folder(log))
    for key in (STATE, ACTION):
        dataset.feature(key)
    dataset.check_rate(controllable.command.control_rate_hz, controllable.embodiment.name)
    camera, skip = controllable.embodiment.camera, controllable.command.frame_skip
    frames: list[NDArray[np.uint8]] = []
    proprio: list[NDArray[np.float32]] = []
    reference: list[NDArray[np.float32]] = []
    for episode in np.random.default_rng(seed).permutation(dataset.num_episodes):
        # The command in force at a row is the one of the row before.
        picked = np.arange(1, dataset.episode_length(episode), skip)[: min(_EPISODE_ROWS, rows - len(proprio))]
        if not len(picked):
            continue
        columns = dataset.columns(episode)
        frames.append(dataset.frames_at(episode, picked, camera.name, (camera.height, camera.width)))
        proprio.extend(columns[STATE][picked])
        reference.extend(columns[ACTION][picked - 1])
    if not proprio:
        raise UserError(f"{log} holds no episode of two rows or more", "Give data=PATH of a longer log")
    return Recorded(
        np.concatenate(frames), np.asarray(proprio, dtype=np.float32), np.asarray(reference, dtype=np.float32)
    )


def _show(bundle: Bundle, tolerance: float) -> None:
    rows = [(name, f"{value:.1e}", f"{tolerance:.0e}") for name, value in bundle.spec.parity.items() if name != TIPPED]
    console.table("largest difference from PyTorch", ("output", "found", "allowed"), rows)
