"""The tasks as Gymnasium environments with goals, for any body.

    import gymnasium
    env = gymnasium.make("sims.env:robot_wm/Push-v0", robot="procedural/3", pixels=True)

`robot` is what `sims.robots.load` takes: a name, `procedural/SEED`, `menagerie/NAME`, a yaml, a MJCF or URDF file.
Many at once: `gymnasium.make_vec("sims.env:robot_wm/Push-v0", num_envs=8)` steps them in turn in this process; add
`vectorization_mode="async"` for a process each and, with pixels after the program has drawn something itself, also
`vector_kwargs={"context": "spawn"}`. `robot-wm bench sims` measures both ways on your machine.
"""

from typing import Any, ClassVar

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from robot_wm.contracts.embodiment import Embodiment
from sims import robots, tasks
from sims.fetch import MAX_EPISODE_STEPS
from sims.pairs import distance_m

NAMESPACE = "robot_wm"
_SEEDS = 2**31


class TaskEnv(gymnasium.Env[dict[str, NDArray[Any]], NDArray[np.float64]]):
    """One body and one task, with GoalEnv's observation: `observation`, `achieved_goal`, `desired_goal`.

    `observation` is the body's proprio, then the object's place where there is one [m]; goals are places in the world
    [m] of the end effector, of the object, or of both hands. With `pixels` the observation also has `image`, what the
    camera sees, and `goal_image`, what it saw at the goal. Actions are plans in [-1, 1], as the planners' are: of the
    largest velocity or torque, or of the largest change of a position target. The reward is 0 at the goal and -1
    elsewhere. `info` carries the truth for evaluation: `is_success`, `distance_m`, and `state`, from which
    `env.unwrapped.task.simulation.restore` goes on.

    Args:
        robot: an embodiment, or what `sims.robots.load` takes.
        task: name of the task; None: the one the body's environment is made for, or reach.
        pixels: whether images are among the observations; without them nothing is drawn.
        render_mode: rgb_array, or None.

    Raises:
        UserError: no such body or task, or the task is impossible for the body.
    """

    metadata: ClassVar[dict[str, Any]] = {"render_modes": ["rgb_array"], "render_fps": 25}

    def __init__(
        self,
        robot: Embodiment | str = "fetch",
        task: str | None = None,
        pixels: bool = False,
        render_mode: str | None = None,
    ):
        simulation = robots.load(robot)
        try:
            self.task = tasks.make(simulation, task)
        except Exception:
            simulation.close()
            raise
        self.render_mode, self._pixels = render_mode, pixels
        self.action_space = spaces.Box(-1.0, 1.0, (simulation.command.dim,), np.float64)
        everywhere = {"low": -np.inf, "high": np.inf, "dtype": np.float64}
        goal = self.task.achieved().shape
        found: dict[str, spaces.Space[Any]] = {
            "observation": spaces.Box(shape=self._measured().shape, **everywhere),
            "achieved_goal": spaces.Box(shape=goal, **everywhere),
            "desired_goal": spaces.Box(shape=goal, **everywhere),
        }
        if pixels:
            shape = (simulation.camera.height, simulation.camera.width, 3)
            found |= {key: spaces.Box(0, 255, shape, np.uint8) for key in ("image", "goal_image")}
        self.observation_space = spaces.Dict(found)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, NDArray[Any]], dict[str, Any]]:
        """A start and a goal that is not reached there, both from the seed."""
        super().reset(seed=seed, options=options)
        self.pair = self.task.pairs(1, int(self.np_random.integers(_SEEDS)), pictures=self._pixels)[0]
        self.task.start(self.pair)
        return self._observation(), self._info()

    def step(self, action: NDArray[np.float64]) -> tuple[dict[str, NDArray[Any]], float, bool, bool, dict[str, Any]]:
        """One control period; no episode ends by itself, the time limit cuts it."""
        simulation = self.task.simulation
        plan_KU = np.clip(np.asarray(action, np.float64), -1.0, 1.0)[None]
        simulation.step(simulation.command.denormalize(plan_KU, simulation.reference())[0])
        observation, info = self._observation(), self._info()
        reward = self.compute_reward(observation["achieved_goal"], observation["desired_goal"], info)
        return observation, float(reward), False, False, info

    def compute_reward(
        self, achieved_goal: NDArray[np.float64], desired_goal: NDArray[np.float64], info: Any
    ) -> NDArray[np.float64]:
        """GoalEnv's: 0 where the goal is reached, else -1; for one pair of goals or for many, as relabelling needs."""
        return -(distance_m(achieved_goal, desired_goal) >= self.task.threshold_m).astype(np.float64)

    def compute_terminated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """GoalEnv's: never."""
        return False

    def compute_truncated(self, achieved_goal: Any, desired_goal: Any, info: Any) -> bool:
        """GoalEnv's: only by the time limit."""
        return False

    def render(self) -> NDArray[np.uint8] | None:
        """What the camera sees."""
        return self.task.simulation.frame() if self.render_mode == "rgb_array" else None

    def close(self) -> None:
        """Free the renderer."""
        self.task.simulation.close()

    def _measured(self) -> NDArray[np.float64]:
        simulation = self.task.simulation
        thing = simulation.object() if simulation.has_object else np.zeros(0)
        return np.concatenate([simulation.proprio().astype(np.float64), thing])

    def _observation(self) -> dict[str, NDArray[Any]]:
        found: dict[str, NDArray[Any]] = {
            "observation": self._measured(),
            "achieved_goal": self.task.achieved(),
            "desired_goal": self.pair.goal_position_m.copy(),
        }
        if self._pixels:
            found |= {"image": self.task.simulation.frame(), "goal_image": self.pair.goal_frame.copy()}
        return found

    def _info(self) -> dict[str, Any]:
        return {
            "is_success": self.task.success(self.pair),
            "distance_m": self.task.distance_m(self.pair),
            "state": self.task.simulation.state(),
        }


_ROBOTS = {
    "reach": "fetch",
    "push": "fetch_push",
    "pick_and_place": "fetch_pick_and_place",
    "whole_body_reach": "humanoid",
}


def environment_id(task: str) -> str:
    """`robot_wm/PickAndPlace-v0` for `pick_and_place`."""
    return f"{NAMESPACE}/{''.join(word.capitalize() for word in task.split('_'))}-v0"


for _task, _robot in _ROBOTS.items():
    gymnasium.register(
        environment_id(_task),
        "sims.env:TaskEnv",
        max_episode_steps=MAX_EPISODE_STEPS,
        kwargs={"robot": _robot, "task": _task},
    )
