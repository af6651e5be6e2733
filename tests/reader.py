"""A reader of the documentation: the desk at which they type, and commands made so small that they end in seconds.

`python -m tests.reader WORDS…` is `robot-wm WORDS…` at a tiny size: what a reader of `make docs-run` has as `robot-wm`.
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from deploy.request import command
from tests.documentation import REPOSITORY

OWN = ("my_arm", "heron")  # bodies that the pages let their reader make
MODEL = "ROBOT_WM_TINY_MODEL"  # environment variable: the world model that stands in for the shipped one
PRETRAIN = (
    "model.encoder.size=32", "model.encoder.channels=[8,8,8]", "model.encoder.blocks=1",
    "model.encoder.keypoints=4", "model.encoder.grid_channels=1", "model.dynamics.width=32",
    "model.dynamics.blocks=1", "model.action_dim=3", "model.labeler_width=32", "model.flow_cells=8",
    "training.steps=12", "training.batch=8", "training.health_every=6", "training.checkpoint_every=6",
)  # fmt: skip
TINY = {  # what makes a command quick and its result worthless
    "record": ("workers=1",),
    "pretrain": PRETRAIN,
    "calibrate": (
        "fit.steps=200", "fit.batch=16", "validation=0.25", "transitions=60", "body.most_s=1",
        "head.steps=10", "head.futures=64", "reading.steps=0", "curve_steps=10",
    ),
    "plan": ("motion.duration_s=2", "motion.candidates=4"),
    "identify": ("most_s=2", "fit.starts=1"),
    "export": (
        "planner.horizon=1", "planner.candidates=8", "planner.iterations=1", "planner.sampler.elites=2", "gate_pairs=8",
    ),
    "run": ("episodes=1",),
    "evaluate": ("goals=2", "references=[random,hold]"),
    "verify": ("pairs=2", "rounds=2", "draws=2", "break_pairs=1", "break_steps=1", "videos=1"),
    "view": ("episodes=1",),
}  # fmt: skip
TINY_RECORD = {True: ("transitions=60", "transitions_per_episode=15"), False: ("episodes=4", "frames_per_episode=12")}
LAUNCHER = "hydra/launcher=submitit_slurm"  # without it jobs run here, one after the other


def tiny(words: Sequence[str], model: str = "") -> list[str]:
    """A command (without `robot-wm`) with its size replaced; `model` stands in for the shipped world model."""
    name = command(words)[0] if words else ""
    added = list(TINY.get(name, ()))
    if name == "record":
        added += TINY_RECORD[any(word.startswith("embodiment=") for word in words)]
    if name == "calibrate" and model:
        added.append(f"model={model}")
    replaced = {override.partition("=")[0] for override in added}
    kept = [word for word in words if word != LAUNCHER and ("=" not in word or word.partition("=")[0] not in replaced)]
    return [*kept, *added]


def desk(folder: Path) -> Path:
    """The folder in which a reader types: with the examples, and robots of their own under mine/."""
    (folder / "examples").symlink_to(REPOSITORY / "examples")
    own = folder / "mine" / "embodiment"
    own.mkdir(parents=True)
    drafted = (REPOSITORY / "examples/new_robot/embodiment/desk_arm.yaml").read_text()
    for name in OWN:
        (own / f"{name}.yaml").write_text(drafted.replace("desk_arm", name))
        (own / f"{name}.xml").write_text((REPOSITORY / "examples/new_robot/embodiment/desk_arm.xml").read_text())
    return folder


if __name__ == "__main__":
    from deploy import cli

    raise SystemExit(cli.main(tiny(sys.argv[1:], os.environ.get(MODEL, ""))))
