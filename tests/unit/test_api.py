"""The Python API: its doctests run, and it says what the modules behind it say."""

import doctest
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import robot_wm
from robot_wm import api
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run
from robot_wm.data.loader import Scales
from robot_wm.models.adapter import Adapter, AdapterConfig, ProprioHead
from robot_wm.models.body import Body
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import DynamicsConfig, WorldModel, WorldModelConfig
from robot_wm.planning.controllable import CalibrationFile, save_calibration
from robot_wm.planning.planner import PlannerConfig
from robot_wm.training.checkpoint import ModelFile
from tests.equivalence.test_export_parity import NAMES, make_controllable

SCALES = Scales(1.0, (1.0,) * 4, (0.0,) * 3, (1.0,) * 3, 1.0)


@pytest.fixture(scope="module")
def model() -> robot_wm.PretrainedModel:
    return robot_wm.load_pretrained()


@pytest.fixture(scope="module")
def frames_TYXC(film) -> np.ndarray:
    return film(6, 80, 100)


def test_doctests_of_the_api_pass() -> None:
    found = doctest.testmod(api, extraglobs={"robot_wm": robot_wm}, optionflags=doctest.ELLIPSIS)
    assert found.attempted >= 10
    assert found.failed == 0


def test_names_are_there_without_torch_until_they_are_used() -> None:
    script = (
        "import sys, robot_wm; assert 'torch' not in sys.modules; robot_wm.UserError; print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "True"
    assert set(robot_wm.__all__) <= set(dir(robot_wm))
    with pytest.raises(AttributeError, match="no attribute 'load'"):
        robot_wm.load  # noqa: B018


@torch.no_grad()
def test_numbers_are_those_of_the_modules(model: robot_wm.PretrainedModel, frames_TYXC: np.ndarray) -> None:
    z_TD = model.encode(frames_TYXC)
    inner = model.torch_model
    assert np.array_equal(z_TD, inner.encode(torch.from_numpy(frames_TYXC)[None])[0].numpy())
    a_TA = model.infer(z_TD)
    assert np.array_equal(a_TA, torch.tanh(inner.infer(torch.from_numpy(z_TD)[None])[0])[0].numpy())
    step = inner.predict(torch.from_numpy(z_TD[-inner.config.history :])[None], torch.from_numpy(a_TA[:1]))[0]
    np.testing.assert_allclose(model.predict(z_TD, a_TA)[0], step[0].numpy(), atol=1e-6)
    first = model.predict(z_TD[:1], a_TA[:1])  # one latent stands in for a history of itself
    np.testing.assert_allclose(first, model.predict(z_TD[[0, 0]], a_TA[:1]), atol=1e-6)


def test_plan_comes_nearer_to_what_the_model_itself_predicts(
    model: robot_wm.PretrainedModel, frames_TYXC: np.ndarray
) -> None:
    z_TD = model.encode(frames_TYXC)
    there = np.full((3, model.action_dim), 0.5, np.float32)
    goal_D = model.predict(z_TD, there)[-1]
    still, planned = 0 * there, model.plan(z_TD, goal_D, horizon=3)
    cost = {name: model.score(model.predict(z_TD, a), goal_D) for name, a in (("plan", planned), ("still", still))}
    assert cost["plan"] < 0.3 * cost["still"]
    assert np.array_equal(planned, model.plan(z_TD, goal_D, horizon=3))
    assert np.abs(planned).max() <= 1


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda m: m.encode(np.zeros((2, 8, 8, 3))), "frames are float64"),
        (lambda m: m.encode(np.zeros((8, 8, 3), np.uint8)), "shape"),
        (lambda m: m.infer(np.zeros((1, m.latent_dim), np.float32)), "two or more"),
        (lambda m: robot_wm.open_dataset("nowhere"), "nowhere"),
        (lambda m: robot_wm.load_calibrated("nowhere"), "calibrate"),
    ],
)
def test_mistakes_teach(model: robot_wm.PretrainedModel, call, words: str) -> None:
    with pytest.raises(UserError, match=words):
        call(model)


@pytest.fixture(scope="module")
def calibrated_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A calibrate run with random weights."""
    tiny = make_controllable()
    torch.manual_seed(0)
    sizes = WorldModelConfig(
        EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(32, 1), 3
    )
    model = WorldModel(sizes)

    body = Body(
        model.dynamics,
        Adapter(AdapterConfig(16, 4), 2 * tiny.command.dim, len(NAMES), sizes.encoder.latent_dim, 3),
        ProprioHead(sizes.encoder.latent_dim, len(NAMES)),
        tiny.command,
        torch.zeros(len(NAMES)),
        torch.ones(len(NAMES)),
        torch.ones(len(NAMES)),
    )
    parts = SimpleNamespace(model=model, body=body, head=None)
    file = CalibrationFile(tiny.embodiment, tiny.command, NAMES, AdapterConfig(16, 4))
    with open_run(tmp_path_factory.mktemp("api"), "calibrate", "tiny", {"seed": 0}) as run:
        run.finish(save_calibration(run.path, parts, file, ModelFile(sizes, SCALES, 0.1)))
    return run.path


def test_a_calibrated_model_plans_commands_within_limits(calibrated_run: Path, film) -> None:
    size = PlannerConfig(horizon=2, candidates=16, iterations=2)
    body = robot_wm.load_calibrated(calibrated_run, size)
    z_TD = body.encode(film(3, body.embodiment.camera.height, body.embodiment.camera.width))
    command_KU = body.plan(z_TD, z_TD[0], np.zeros(4), seed=1)
    assert command_KU.shape == (body.command.frame_skip, body.command.dim)
    assert (command_KU >= body.command.low).all() and (command_KU <= body.command.high).all()
    assert np.array_equal(command_KU, body.plan(z_TD, z_TD[0], np.zeros(4), np.zeros(2), seed=1))
    assert not np.array_equal(command_KU, body.plan(z_TD, z_TD[0], np.zeros(4), seed=2))
    future_HD = body.predict(z_TD, np.stack([command_KU, command_KU]), np.zeros(4))
    assert future_HD.shape == (2, z_TD.shape[1])
    with pytest.raises(UserError, match="left_position"):
        body.plan(z_TD, z_TD[0], np.zeros(3))
