"""Writing a controller bundle: whole, and numerically what was trained, or not at all."""

import math
import os
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from deploy.export.batch import check_batch, export_batch
from deploy.export.graphs import OPSET, export_graph
from deploy.export.metadata import Joints, attach, metadata
from deploy.export.parity import MOST_TIPPED, Recorded, measure
from deploy.runtime.graph import encode_signature, head_signature, plan_signature
from robot_wm import console
from robot_wm.contracts import config, files
from robot_wm.contracts.bundle import (
    ENCODE_FILE,
    HEAD_FILE,
    PLAN_FILE,
    SCHEMA,
    SPEC_FILE,
    TIPPED,
    Bundle,
    ControllerSpec,
    read_bundle,
)
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.familiar import Familiar
from robot_wm.contracts.solids import Solids
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.slope import traced_slope

TOLERANCE = 1e-4


def export_bundle(
    controllable: Controllable,
    recorded: Recorded,
    path: Path,
    tolerance: float = TOLERANCE,
    seed: int = 0,
    joints: Joints | None = None,
    familiar: Familiar | None = None,
    dynamic_batch: bool = False,
    solids: Solids | None = None,
) -> Bundle:
    """Export encoder and planner, compare them with PyTorch, and only then let the bundle appear at `path`.

    Args:
        controllable: a calibrated body.
        recorded: inputs from a log of that body, for the comparison.
        path: the bundle's folder; one that exists is replaced.
        tolerance: largest absolute difference of any output, through a whole plan with the same noise.
        seed: of the noise.
        joints: what the MJCF says of the commanded joints, for other projects' runners.
        familiar: what the calibration log looked like, for the runtime's guards.
        dynamic_batch: write graphs for any number of rows as well.
        solids: the body's parts that must stay apart, for the runtime's guards.

    Raises:
        UserError: a module that does not export without control flow, recorded inputs of another body, or a
            difference above `tolerance`.
    """
    spec = describe(controllable)
    _check_recorded(spec, recorded)
    encoder, planner = controllable.encoder.eval(), controllable.planner.eval()
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        building.chmod(0o755)
        graphs = [(encoder, encode_signature(spec), ENCODE_FILE), (planner, plan_signature(spec), PLAN_FILE)]
        if controllable.one_shot is not None:
            graphs.append((controllable.one_shot.eval(), head_signature(spec), HEAD_FILE))
        with traced_slope(planner):
            for module, signature, name in console.track(graphs, "export (graphs)"):
                export_graph(module, signature, building / name)
        if dynamic_batch:
            with traced_slope(planner):
                export_batch(encoder, planner, spec, building)
            check_batch(encoder, planner, spec, building, recorded, tolerance)
        for graph in sorted(building.iterdir()):
            attach(graph, metadata(spec, joints, graph.name))
        parity = measure(encoder, planner, building, spec, recorded, seed, controllable.one_shot)
        check_parity(parity, tolerance)
        hashes = {path.name: files.sha256(path) for path in sorted(building.iterdir())}
        values = config.to_mapping(replace(spec, familiar=familiar, solids=solids)) | {
            "files": hashes,
            "parity": parity,
        }
        files.write_json(building / SPEC_FILE, values)
        publish(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return read_bundle(path)


def describe(controllable: Controllable) -> ControllerSpec:
    """What `controller.json` will say, still without the graphs' hashes and parity."""
    planner, camera = controllable.planner, controllable.embodiment.camera
    return ControllerSpec(
        schema=SCHEMA,
        embodiment=controllable.embodiment.name,
        embodiment_sha256=controllable.embodiment.digest(),
        camera=camera.name,
        height=camera.height,
        width=camera.width,
        proprio=tuple(controllable.proprio_names),
        command=controllable.command,
        safety=controllable.embodiment.safety,
        latent_dim=planner.body.latent_dim,
        history=planner.body.history,
        horizon=planner.config.horizon,
        candidates=planner.config.candidates,
        iterations=planner.config.iterations,
        opset=OPSET,
        files={},
        parity={},
        lineage=dict(controllable.lineage),
        ahead=planner.ahead,
        delay_s=controllable.embodiment.delay_s,
    )


def check_parity(parity: dict[str, float], tolerance: float) -> None:
    """Raise UserError when outputs differ by more than `tolerance`, naming each; an infinite one judges nothing."""
    if math.isinf(tolerance):
        return
    share = parity.get(TIPPED, 0.0)
    if share > MOST_TIPPED:
        raise UserError(
            f"{share:.0%} of the plans are tipped by rounding, because candidates cost the same to within it; at most "
            f"{MOST_TIPPED:.0%} may be, or parity means little",
            "No bundle was written; give the planner fewer candidates or a log with more rows",
        )
    failed = {name: value for name, value in parity.items() if name != TIPPED and not value <= tolerance}  # NaN fails
    if failed:
        found = ", ".join(f"{name} differs from PyTorch by {value:.3g}" for name, value in failed.items())
        raise UserError(
            f"the exported {found}, more than {tolerance:g}",
            "No bundle was written. An encoder that was fitted to few pictures blows up what hardly varies in them: "
            "give more pictures or steps. Otherwise look for operators that depend on rounding (top-k, comparisons)",
        )


def _check_recorded(spec: ControllerSpec, recorded: Recorded) -> None:
    frame = (spec.height, spec.width, 3)
    for name, found, wanted in (
        ("frames", recorded.frames_NYXC.shape[1:], frame),
        ("proprio", recorded.proprio_NP.shape[1:], (len(spec.proprio),)),
        ("commands", recorded.reference_NU.shape[1:], (spec.command.dim,)),
    ):
        if found != wanted:
            raise UserError(f"the log's {name} have shape {found}, {spec.embodiment} has {wanted}", "Give its own log")


def publish(building: Path, path: Path) -> None:
    """Make a finished folder appear under its name; everything in it is on the disk before."""
    for file in [*building.iterdir(), building]:
        descriptor = os.open(file, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    if path.exists():
        shutil.rmtree(path)
    os.replace(building, path)
