"""The command head on a body whose dynamics are known: trained in imagination, it reaches goals without a search."""

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from calibration.adapter_fit import Windows
from calibration.head_fit import HeadFitConfig, fit_head, imagined, relabelled
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run
from robot_wm.data.loader import Scales
from robot_wm.models.adapter import AdapterConfig, ProprioHead
from robot_wm.models.command_head import CommandHead, CommandHeadConfig
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.planning.controllable import CalibrationFile, load_controllable, save_calibration
from robot_wm.planning.objectives import ObjectiveConfig
from robot_wm.planning.planner import OneShot, Planner, PlannerConfig, fit_horizon
from robot_wm.training.checkpoint import ModelFile
from tests.equivalence.test_export_parity import NAMES, make_controllable
from tests.point_body import STEP, point_body

SCALES = Scales(1.0, (1.0,) * 4, (0.0,) * 3, (1.0,) * 3, 1.0)
CONFIG = HeadFitConfig(
    CommandHeadConfig(width=64, horizon=3), steps=300, batch=64, futures=512, learning_rate=3e-3, noise=0.0
)


def make_log(num: int = 400, length: int = 5) -> Windows:
    """A random walk within the unit square; every row is a model step."""
    generator = torch.Generator().manual_seed(0)
    commands = 2 * torch.rand((num, 1, 2), generator=generator).expand(-1, 2, -1) - 1
    places = [torch.zeros(2)]
    for command in commands[:-1].mean(1):
        places.append((places[-1] + STEP * command).clamp(-1, 1))
    place = torch.stack(places)
    reference = torch.cat([torch.zeros(1, 2), commands[:-1, -1]])
    rows = torch.arange(num - length)[:, None] + torch.arange(length)
    return Windows(torch.zeros(num, 1, 1, 3), place, commands.flatten(1), reference, rows)


@pytest.fixture(scope="module")
def head() -> CommandHead:
    log, noted = make_log(), []
    found = fit_head(point_body(), log.proprio, log, CONFIG, 0, lambda **values: noted.append(values))
    assert noted[-1]["cost"] < noted[0]["cost"]
    return found


@torch.no_grad()
def test_reaches_goals_at_once_and_stays(head: CommandHead) -> None:
    one_shot = OneShot(Planner(PlannerConfig(horizon=2), point_body()), head)
    generator = torch.Generator().manual_seed(1)
    place, goal = (1.6 * torch.rand((32, 2), generator=generator) - 0.8 for _ in range(2))
    reference = torch.zeros(32, 2)
    for _ in range(14):
        command, cost, _, plan, _ = one_shot(place[:, None].expand(-1, 2, -1), goal, place, reference)
        place, reference = place + STEP * command.mean(1), command[:, -1]
    assert float((place - goal).norm(dim=1).max()) < 0.1
    assert cost.shape == (32,)
    assert plan.shape == (32, 2, 2)
    assert (plan.abs() <= 1).all()


@torch.no_grad()
def test_a_small_search_is_better_for_its_proposal(head: CommandHead) -> None:
    body, size = point_body(), PlannerConfig(horizon=3, candidates=8, iterations=1)
    generator = torch.Generator().manual_seed(2)
    place, goal = (1.6 * torch.rand((64, 2), generator=generator) - 0.8 for _ in range(2))
    noise = torch.randn((64, 1, 8, 3, 2), generator=generator)
    inputs = (place[:, None].expand(-1, 2, -1), goal, place, torch.zeros(64, 2), torch.zeros(64, 3, 2), noise)
    _, alone, *_ = Planner(size, body)(*inputs)
    _, guided, *_ = Planner(size, body, head=head)(*inputs)
    assert float(guided.mean()) < 0.7 * float(alone.mean())


def test_lessons_are_what_the_log_and_the_model_say() -> None:
    body, log = point_body(), make_log()
    for lessons in (
        relabelled(body, log.proprio, log, 3),
        imagined(body, log.proprio, log, CONFIG, torch.Generator().manual_seed(0)),
    ):
        moved = (lessons.plan_WHU * STEP).sum(1)
        inside = (lessons.goal_WD.abs() < 0.99).all(1) & (lessons.proprio_WP.abs() < 0.6).all(1)
        inside &= lessons.steps_W == 1  # at most one step from where the walls are far
        assert inside.sum() > 20
        assert torch.allclose((lessons.proprio_WP + moved)[inside], lessons.goal_WD[inside], atol=1e-5)
        for row in range(0, len(moved), 37):
            assert (lessons.plan_WHU[row, int(lessons.steps_W[row]) :] == 0).all(), "it rests where it arrived"


def test_plans_are_cut_or_held_to_the_horizon() -> None:
    plan = torch.arange(3.0).reshape(1, 3, 1)
    assert fit_horizon(plan, 2).flatten().tolist() == [0, 1]
    assert fit_horizon(plan, 5).flatten().tolist() == [0, 1, 2, 2, 2]


def test_sizes_that_make_no_sense_are_refused() -> None:
    with pytest.raises(UserError, match="horizon 0"):
        CommandHeadConfig(horizon=0)
    with pytest.raises(UserError, match="futures 0"):
        HeadFitConfig(futures=0)


@torch.no_grad()
def test_a_calibration_keeps_its_head_and_plans_ahead_of_its_delay(tmp_path: Path) -> None:
    tiny = make_controllable()
    body, head = tiny.planner.body, tiny.planner.head
    assert head is not None
    encoder = EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1)
    sizes = WorldModelConfig(encoder, DynamicsConfig(32, 1), 3)
    model = WorldModel(sizes)
    model.dynamics.load_state_dict(body.dynamics.state_dict())
    late = replace(tiny.embodiment, delay_s=1.5 * tiny.embodiment.step_s)
    file = CalibrationFile(late, tiny.command, NAMES, AdapterConfig(16, 4), head=head.config)
    body.proprio_head = ProprioHead(body.latent_dim, len(NAMES))  # of the size that loading expects
    parts = SimpleNamespace(model=model, body=body, head=head)
    with open_run(tmp_path, "calibrate", "tiny", {"seed": 0}) as run:
        run.finish(save_calibration(run.path, parts, file, ModelFile(sizes, SCALES, 0.1)))
    found = load_controllable(run.path, PlannerConfig(objective=ObjectiveConfig(time=0.1)))
    assert found.planner.ahead == 2
    inputs = [torch.randn(3, 2, body.latent_dim), torch.randn(3, body.latent_dim), torch.randn(3, 4), torch.zeros(3, 2)]
    assert found.one_shot is not None
    *_, plan, _ = found.one_shot(*inputs)
    assert torch.allclose(plan, OneShot(Planner(PlannerConfig(), body), head)(*inputs)[-2], atol=1e-6)
    _, with_time, *_ = found.one_shot(*inputs)
    _, without, *_ = OneShot(Planner(PlannerConfig(), body), head)(*inputs)
    assert not torch.allclose(with_time, without)
