"""How far the exported graphs are from PyTorch: the whole plan, at the shipped sizes, on a body without a log."""

import tempfile
from pathlib import Path

import numpy as np
import torch

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.export.export import TOLERANCE, export_bundle
from deploy.export.parity import MOST_TIPPED, Recorded
from robot_wm.contracts.bundle import TIPPED
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.contracts.solids import Joint
from robot_wm.models.adapter import AdapterConfig, ProprioHead, make_adapter
from robot_wm.models.body import Body
from robot_wm.models.command_head import CommandHead, CommandHeadConfig
from robot_wm.models.kinematics import BodyPoint, Kinematics
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.planner import OneShot, Planner, PlannerConfig

_ROWS = {"quick": 8, "full": 64}
_JOINTS, _SKIP, _RATE_HZ, _TOP_RAD_S, _SIDE = 6, 5, 25.0, 1.5, 96


def parity(config: BenchConfig) -> list[Row]:
    """Largest absolute difference per output between PyTorch and ONNX Runtime, over cold and warm plans.

    The networks have the shipped sizes and random weights; frames, proprio and commands are random as well. Export
    gates the same figures on the log of the real body.
    """
    num = _ROWS[config.size]
    with tempfile.TemporaryDirectory() as folder:
        found = export_bundle(
            random_controllable(config.seed),
            random_recorded(num, config.seed),
            Path(folder) / "bundle",
            float("inf"),
            config.seed,
        ).spec.parity
    plans = {name: num if name == "latent" else 2 * num for name in found}
    return [
        Row(f"{name}: largest difference from PyTorch", value, n=plans[name], target=TOLERANCE, better="lower")
        for name, value in found.items()
        if name != TIPPED
    ] + [Row("plans that rounding alone can tip", found[TIPPED], n=2 * num, target=MOST_TIPPED, better="lower")]


def random_controllable(seed: int, search: PlannerConfig | None = None, measured: bool = False) -> Controllable:
    """A body with six joints, the networks at the shipped sizes with random weights.

    Args:
        seed: of the weights.
        search: None: as shipped.
        measured: the body's kinematics are known, as those of an arm that measures its joints.
    """
    torch.manual_seed(seed)
    model = WorldModel(WorldModelConfig()).eval()
    torch.nn.init.normal_(model.dynamics.outputs.weight, std=0.1)  # zeros at first: no command would matter
    command = CommandSpace(
        interface="joint_velocity",
        names=tuple(f"joint{i}" for i in range(_JOINTS)),
        unit="rad/s",
        low=(-_TOP_RAD_S,) * _JOINTS,
        high=(_TOP_RAD_S,) * _JOINTS,
        max_step=(_TOP_RAD_S,) * _JOINTS,
        frame_skip=_SKIP,
        control_rate_hz=_RATE_HZ,
    )
    embodiment = Embodiment(
        "parity", Mjcf("none.xml"), "joint_velocity", "none", Camera("front", _SIDE, _SIDE), _RATE_HZ, _SKIP,
        Safety(max_step=_TOP_RAD_S),
    )  # fmt: skip
    sizes, latent_dim = model.config, model.config.encoder.latent_dim
    names = tuple(f"{name}_{kind}" for kind in ("position", "velocity") for name in command.names)
    table = _arm() if measured else None
    adapter_config = AdapterConfig(kind="kinematic" if measured else "learned")
    body = Body(
        model.dynamics,
        make_adapter(adapter_config, table, _SKIP * _JOINTS, len(names), latent_dim, sizes.action_dim),
        ProprioHead(latent_dim, len(names)),
        command,
        torch.zeros(len(names)),
        torch.ones(len(names)),
        torch.tensor([1.0] * _JOINTS + [0.0] * _JOINTS),
    )
    model.encoder.resize_from(_SIDE, _SIDE)
    head = CommandHead(CommandHeadConfig(), latent_dim, body.history, body.proprio_dim, body.command_map)
    planner = Planner(search or PlannerConfig(), body, head=head).eval()
    return Controllable(model.encoder, planner, OneShot(planner, head).eval(), embodiment, command, names, {})


def _arm() -> Kinematics:
    """Six hinges, each 10 cm after the one before, and two points on the last of them."""
    turn = (0.8, 0.0, 0.6, 0.0, 1.0, 0.0, -0.6, 0.0, 0.8)
    links = tuple(
        Joint(i - 1, turn, (0.1, 0.0, 0.0), "hinge", (0.0, 1.0, 0.0), (0.0, 0.0, 0.0), i, 0.0) for i in range(_JOINTS)
    )
    return Kinematics(links, tuple(BodyPoint(f"point{x}", _JOINTS - 1, (x, 0.0, 0.0)) for x in (0.0, 0.1)))


def random_recorded(num: int, seed: int) -> Recorded:
    """Frames, proprio and commands of `random_controllable`'s body."""
    rng = np.random.default_rng(seed)
    return Recorded(
        rng.integers(0, 256, (num, _SIDE, _SIDE, 3), dtype=np.uint8),
        rng.normal(size=(num, 2 * _JOINTS)).astype(np.float32),
        rng.uniform(-_TOP_RAD_S, _TOP_RAD_S, (num, _JOINTS)).astype(np.float32),
    )
