"""A kinematic adapter knows from a few commands where the hand goes, and what latent action that is."""

from pathlib import Path

import numpy as np
import pytest
import torch

from calibration import kinematic_start, kinematics
from robot_wm.data.scales import Scales
from robot_wm.models.adapter import AdapterConfig, KinematicAdapter, make_adapter
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from sims import robots
from sims.render import focal
from sims.simulation import Simulation
from tests.small_bodies import fetch, planar_arm

SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), 1.5)
TINY = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(32, 1), 4
)


@pytest.mark.parametrize("interface", ["joint_position", "joint_velocity", "end_effector_velocity"])
def test_fifty_chunks_tell_how_the_hand_moves(tmp_path: Path, interface: str) -> None:
    body = fetch() if interface == "end_effector_velocity" else planar_arm(tmp_path, interface)
    with robots.load(body) as simulation:
        adapter, lens = _adapter(simulation), focal(simulation.model, simulation.camera)
        chunks, proprio, came, hands = _move(simulation, 90)
    few = slice(0, 50)
    adapter.proprio_mean_P.copy_(proprio.mean(0))
    adapter.proprio_std_P.copy_(proprio.std(0))
    standard = (proprio - proprio.mean(0)) / proprio.std(0)
    kinematic_start.set_scales(adapter, proprio[few], SCALES, lens)
    errors = kinematic_start.fit_response(adapter, chunks[few], standard[few], came[few])
    assert (errors < 0.5 * (came - proprio)[:, : adapter.num_joints].std(0)).all()

    found = adapter.motion(chunks[50:], standard[50:])[:, :3]
    wanted = hands[50:, 1] - hands[50:, 0]
    wanted = wanted * adapter.scale_3 * adapter.gain
    seen = wanted.std(0) > 0.05 * wanted.std()  # a planar arm below its camera has no depth to move in
    unexplained = (found - wanted)[:, seen].square().sum() / wanted[:, seen].square().sum()
    assert unexplained < 0.05


def test_the_map_starts_as_pretrainings_own_and_follows_labels(tmp_path: Path) -> None:
    with robots.load(planar_arm(tmp_path)) as simulation:
        adapter, lens = _adapter(simulation), focal(simulation.model, simulation.camera)
        chunks, proprio, came, _ = _move(simulation, 80)
    torch.manual_seed(0)
    model = WorldModel(TINY)
    kinematic_start.set_scales(adapter, proprio, SCALES, lens)
    kinematic_start.fit_response(adapter, chunks, proprio, came)
    kinematic_start.fit_map(adapter, model, chunks, proprio, None)
    motion = adapter.motion(chunks, proprio)
    said = model.state.displacement(adapter.linear(motion))
    assert said.detach() == pytest.approx(motion[:, :3], abs=1e-4), "the hand's motion comes back out of it"

    prior = adapter.linear(motion).detach()
    labels = (0.7 * prior + 0.2).clamp(-2, 2)
    kinematic_start.fit_map(adapter, model, chunks, proprio, labels)
    left = (adapter.linear(motion) - labels).detach().square().mean()
    assert left < 0.2 * (prior - labels).square().mean()


def _adapter(simulation: Simulation) -> KinematicAdapter:
    command, num_proprio = simulation.command, len(simulation.proprio_names)
    config = AdapterConfig(16, 4, "kinematic")
    table = kinematics.of_body(simulation)
    adapter = make_adapter(config, table, command.frame_skip * command.dim, num_proprio, TINY.encoder.latent_dim, 4)
    assert isinstance(adapter, KinematicAdapter)
    return adapter


def _move(simulation: Simulation, num: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Chunks in plan units, proprio before and after each, and where the camera has the hand, (num, 2, 3)."""
    command, rng = simulation.command, np.random.default_rng(0)
    chunks, proprio, came, hands = [], [], [], []
    for step in range(num):
        if step % 15 == 0:
            simulation.reset(step)
        plan = np.repeat(0.5 * rng.uniform(-1, 1, (1, command.dim)), command.frame_skip, axis=0)
        reference = simulation.reference()
        chunk = command.denormalize(plan, reference)
        proprio.append(simulation.proprio())
        before = simulation.to_camera(simulation.end_effector())
        for command_U in chunk:
            simulation.step(command_U)
        chunks.append(command.normalize(chunk, reference).ravel())
        came.append(simulation.proprio())
        hands.append([before, simulation.to_camera(simulation.end_effector())])
    a, b, c, d = (torch.from_numpy(np.asarray(x, np.float32)) for x in (chunks, proprio, came, hands))
    return a, b, c, d
