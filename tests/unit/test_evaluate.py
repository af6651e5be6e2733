"""Evaluation on a point that moves in a plane: judged from outside, fair to everyone, and never done twice."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from deploy.evaluation import footage, references
from deploy.evaluation.episodes import Stage, attempt, film
from deploy.evaluation.references import Reference
from deploy.stages import evaluate as stage_module
from deploy.stages.evaluate import EvaluateConfig, evaluate, goal_seed
from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from robot_wm.data import video
from robot_wm.evaluation.results import read_evaluation
from tests.small_bodies import planar_arm

LIMITS = Safety(max_step=10.0)
BODY = Embodiment("point", Mjcf("point.xml", "points"), "joint_velocity", "point", Camera("top", 16, 24), 10, 2, LIMITS)
SPACE = CommandSpace("joint_velocity", ("x", "y"), "m/s", (-1.0, -1.0), (1.0, 1.0), (10.0, 10.0), 2, 10.0)
SPEC = ControllerSpec(
    1, "point", BODY.digest(), "top", 16, 24, ("x", "y"), SPACE, LIMITS, 4, 2, 2, 8, 2, 18, {}, {}, {}
)  # fmt: skip


class Point:
    """Position follows velocity; the last command is part of the state."""

    command = SPACE

    def __init__(self):
        self.position = np.zeros(2)
        self.last = np.zeros(2)
        self.time_s = 0.0
        self.closed = False

    def state(self):
        return np.concatenate([self.position, self.last])

    def restore(self, state):
        self.position, self.last = state[:2].copy(), state[2:].copy()

    def reference(self):
        return self.last.copy()

    def step(self, command):
        self.last = np.clip(command, -1, 1)
        self.position = self.position + self.last / 10
        self.time_s += 0.1
        return self.last

    def frame(self, height=None, width=None):
        image = np.zeros((height or 16, width or 24, 3), dtype=np.uint8)
        image[..., 0] = np.uint8(np.clip(100 + 100 * self.position[0], 0, 255))
        return image

    def close(self):
        self.closed = True


class PointTwin:
    """The point as a live robot."""

    def __init__(self, simulation, severity=0.0, seed=0, preset="all"):
        self.simulation = simulation
        self.resets = 0

    def reset(self):
        self.resets += 1

    def read(self):
        return Observation(self.simulation.frame(), self.simulation.position.astype(np.float32), self.now())

    def write(self, command):
        return self.simulation.step(command)

    def now(self):
        return self.simulation.time_s


@dataclass(frozen=True)
class PointPair:
    seed: int
    goal_position_m: np.ndarray
    goal_frame: np.ndarray


class PointTask:
    """Be near the goal; starts at the origin."""

    name = "reach"
    threshold_m = 0.05
    max_steps = 20

    def __init__(self, simulation):
        self.simulation = simulation

    def pairs(self, num, seed):
        rng = np.random.default_rng(seed)
        goals = rng.uniform(0.3, 0.9, (num, 2)) * rng.choice([-1, 1], (num, 2))
        frame = np.zeros((16, 24, 3), np.uint8)
        return [PointPair(seed + i, goal, frame) for i, goal in enumerate(goals)]

    def start(self, pair):
        self.simulation.restore(np.zeros(4))

    def distance_m(self, pair):
        return float(np.linalg.norm(self.simulation.position - pair.goal_position_m))

    def success(self, pair):
        return self.distance_m(pair) < self.threshold_m


def knowing(simulation: Point, pair: PointPair) -> Reference:
    """Goes straight to the goal: stands in for a controller."""

    def choose(_):
        step = (pair.goal_position_m - simulation.position) / 0.2
        return np.tile(np.clip(step, -1, 1), (2, 1))

    return Reference(SPEC, choose)


@pytest.fixture
def place() -> Stage:
    point = Point()
    return Stage(point, PointTwin(point), PointTask(point))


def test_attempt_is_judged_at_every_tick_and_at_the_end(place):
    pair = place.task.pairs(1, 3)[0]
    found = attempt(place, knowing(place.simulation, pair), pair, sees=True)
    assert len(found.episode.distances_m) == len(found.states) == PointTask.max_steps + 1
    assert found.episode.distances_m[0] == pytest.approx(np.linalg.norm(pair.goal_position_m))
    assert found.episode.success_last
    assert found.episode.distances_m[-1] < 0.05
    assert len(found.episode.latencies_s) == PointTask.max_steps // SPACE.frame_skip
    assert place.twin.resets == 1


def test_passing_through_is_not_staying(place):
    pair = PointPair(0, np.array([0.5, 0.0]), np.zeros((16, 24, 3), np.uint8))
    onward = Reference(SPEC, lambda _: np.tile([1.0, 0.0], (2, 1)))
    episode = attempt(place, onward, pair, sees=False).episode
    assert episode.success_any
    assert not episode.success_last
    assert episode.latencies_s == ()


def test_hold_stays_and_random_moves_within_limits(place):
    pair = place.task.pairs(1, 0)[0]
    still = attempt(place, references.hold(SPEC), pair, sees=False).episode
    assert set(still.distances_m) == {still.distances_m[0]}
    chunk = references.random(SPEC, np.random.default_rng(0)).step(np.zeros(0, np.uint8), np.zeros(0, np.float32))
    assert chunk.command_KU.shape == (2, 2)
    assert (np.abs(chunk.command_KU) <= 1).all()
    assert np.abs(chunk.command_KU).max() > 0.1


def test_hold_of_a_position_interface_keeps_the_target():
    space = replace(SPACE, interface="joint_position", unit="rad")
    decider = references.hold(replace(SPEC, command=space))
    decider.sent(np.array([0.3, -0.2]))
    chunk = decider.step(np.zeros(0, np.uint8), np.zeros(0, np.float32)).command_KU
    assert chunk == pytest.approx(np.tile([0.3, -0.2], (2, 1)))


def test_film_shows_every_tick_and_lingers_on_the_end(place):
    pair = place.task.pairs(1, 1)[0]
    found = attempt(place, knowing(place.simulation, pair), pair, sees=False)
    frames = film(place, found, pair, 0.1, (32, 48))
    assert frames.shape == (21 + 10, 32 + footage.STRIP, 2 * 48 + footage.GAP, 3)
    assert (frames[-1] == frames[20]).all()
    assert (frames[0] != frames[20]).any()


@pytest.fixture
def world(monkeypatch):
    """The stage over the point instead of MuJoCo; counts how often a learned controller was asked for."""
    points: list[Point] = []
    asked: list[int] = []

    def load(_):
        points.append(Point())
        return points[-1]

    def learned(name, bundle, threads):
        def decider(pair):
            asked.append(pair.seed)
            return knowing(points[-1], pair)

        return stage_module.Entrant(name, "model", decider, filmed=True)

    monkeypatch.setattr(stage_module, "load", load)
    monkeypatch.setattr(stage_module, "Twin", PointTwin)
    monkeypatch.setattr(stage_module, "make", lambda simulation, name: PointTask(simulation))
    monkeypatch.setattr(stage_module.entrants, "learned", learned)
    monkeypatch.setattr(stage_module, "_bundle", lambda path, body: type("B", (), {"spec": SPEC})())
    return points, asked


def _config(folder: Path, **changes) -> EvaluateConfig:
    (folder / "bundle").mkdir(exist_ok=True)
    values = {"goals": 6, "references": ("random", "hold"), "video_px": 32, "out": str(folder / "runs")}
    return EvaluateConfig(str(folder / "bundle"), BODY, **(values | changes))


def test_everyone_gets_the_same_held_out_pairs(world, tmp_path):
    path = evaluate(_config(tmp_path))
    found = read_evaluation(path)
    assert [c.name for c in found.controllers] == ["model", "random", "hold"]
    assert {tuple(e.pair_seed for e in c.episodes) for c in found.controllers} == {
        tuple(range(goal_seed(0), goal_seed(0) + 6))
    }
    assert found.controllers[0].success_last.successes == 6
    assert found.controllers[2].success_last.successes == 0
    assert [d.b for d in found.differences] == ["random", "hold"]
    assert found.controllers[0].latency is not None
    assert found.controllers[1].latency is None
    assert len(found.videos) == 3
    assert all(video.probe(path / v.path).frames == 31 for v in found.videos)
    assert world[0][0].closed


def test_a_controller_that_looks_ahead_is_always_told_what_is_under_way(world, tmp_path, monkeypatch):
    spec, told = replace(SPEC, ahead=1, delay_s=0.1), []

    class LooksAhead(Reference):
        def step(self, frame_YXC, proprio_P, pending_SKU):
            told.append(pending_SKU.shape)
            return super().step(frame_YXC, proprio_P)

    def learned(name, bundle, threads):
        return stage_module.Entrant(name, "model", lambda _: LooksAhead(spec, lambda u: np.tile(u, (2, 1))))

    monkeypatch.setattr(stage_module.entrants, "learned", learned)
    monkeypatch.setattr(stage_module, "_bundle", lambda path, body: type("B", (), {"spec": spec})())
    found = read_evaluation(evaluate(_config(tmp_path)))
    assert set(told) == {(1, 2, 2)}
    assert all(len(found.controller(name).episodes) == 6 for name in ("model", "random", "hold"))


def test_a_second_run_says_so_and_does_nothing(world, tmp_path):
    path = evaluate(_config(tmp_path))
    before = len(world[1])
    assert evaluate(_config(tmp_path)) == path
    assert len(world[1]) == before


def test_an_interrupted_evaluation_keeps_what_was_done(world, tmp_path, monkeypatch):
    def broken(*_):
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(references, "hold", broken)
        with pytest.raises(OSError, match="no space"):
            evaluate(_config(tmp_path))
    (folder,) = (tmp_path / "runs" / "evaluate").iterdir()
    assert sorted(p.name for p in (folder / "controllers").iterdir()) == ["model.json", "random.json"]
    asked = len(world[1])
    assert evaluate(_config(tmp_path)) == folder
    assert len(world[1]) == asked  # the learned controller was not asked again
    assert len(read_evaluation(folder).controllers) == 3


def test_random_depends_on_the_pair_and_not_on_who_ran_before(world, tmp_path):
    first = read_evaluation(evaluate(_config(tmp_path, references=("random",))))
    second = read_evaluation(evaluate(_config(tmp_path, references=("hold", "random"))))
    assert first.controller("random").episodes == second.controller("random").episodes


def test_seeds_of_evaluations_do_not_overlap():
    assert goal_seed(1) - goal_seed(0) >= 2 * 25
    assert goal_seed(0) > 100_000


@pytest.mark.parametrize(
    ("changes", "said"),
    [({"references": ("luck",)}, "'luck' is not known"), ({"goals": 0}, "goals is 0"), ({"seed": -1}, "seed is -1")],
)
def test_bad_settings_are_refused_before_anything_is_written(world, tmp_path, changes, said):
    with pytest.raises(UserError, match=said):
        evaluate(_config(tmp_path, **changes))
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("task", "names"), [("push", "no object"), ("juggle", "juggle")])
def test_a_task_that_is_impossible_for_the_body_is_refused_before_a_run_exists(tmp_path, monkeypatch, task, names):
    body = planar_arm(tmp_path)
    monkeypatch.setattr(stage_module, "_bundle", lambda path, body: type("B", (), {"spec": SPEC})())
    with pytest.raises(UserError, match=names):
        evaluate(replace(_config(tmp_path), embodiment=body, task=task))
    assert not (tmp_path / "runs").exists()
