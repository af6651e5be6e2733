"""Episodes of a simulated body: what it saw, measured and was told, row by row."""

import numpy as np

from robot_wm.contracts.dataset import ACTION, FOCAL, HAND, OBJECT, STATE, Feature, depth_key, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.data.lerobot_files import Episode
from sims import robots
from sims.behaviours import babble
from sims.render import focal

FOCAL_FEATURE = Feature("float32", (1,), ("half_heights",))


def image_feature(height: int, width: int) -> Feature:
    """The feature of a camera's video."""
    return Feature("video", (height, width, 3), ("height", "width", "channels"))


def depth_feature(height: int, width: int) -> Feature:
    """The feature of a camera's depth: an array in every row, which LeRobot's tools open as they open any."""
    return Feature("uint16", (height, width), ("height", "width"))


class BodyLog:
    """Calibration logs of one embodiment: rows at the control rate, commands included.

    An episode of T transitions has T·frame_skip + 1 rows, so that its last model step is seen to its end.

    Attributes:
        simulation: the body.
        tasks: what it can be told to do, in words.
    """

    tasks = ("babble",)

    def __init__(self, embodiment: Embodiment, seed: int, depth: bool = False):
        self.simulation = robots.load(embodiment, seed)
        self._embodiment = embodiment
        self._seed, self._depth = seed, depth

    @property
    def fps(self) -> float:
        return self._embodiment.control_rate_hz

    @property
    def features(self) -> dict[str, Feature]:
        camera, command = self._embodiment.camera, self.simulation.command
        proprio = self.simulation.proprio_names
        position = Feature("float32", (3,), ("x", "y", "z"))
        return {
            image_key(camera.name): image_feature(camera.height, camera.width),
            STATE: Feature("float32", (len(proprio),), proprio),
            ACTION: Feature("float32", (command.dim,), command.names),
            HAND: position,
            FOCAL: FOCAL_FEATURE,
            **({OBJECT: position} if self.simulation.has_object else {}),
            **({depth_key(camera.name): depth_feature(camera.height, camera.width)} if self._depth else {}),
        }

    def rows(self, transitions: int) -> int:
        """Rows of an episode of that many model steps."""
        return transitions * self._embodiment.frame_skip + 1

    def episode(self, index: int, transitions: int) -> Episode:
        """Babbling from the home pose; the same for the same seed and index, whoever records it."""
        simulation = self.simulation
        rng = np.random.default_rng([self._seed, index])
        simulation.reset(int(rng.integers(2**31)))
        rows = self.rows(transitions)
        frames, depths, states, commands, hands, things = [], [], [], [], [], []
        for command_U in babble(simulation, rows, rng):
            frames.append(simulation.frame())
            if self._depth:
                depths.append(simulation.depth_mm())
            states.append(simulation.proprio())
            hands.append(simulation.to_camera(simulation.end_effector()))
            if simulation.has_object:
                things.append(simulation.to_camera(simulation.object()))
            commands.append(simulation.step(command_U))
        lengths = [[focal(simulation.model, self._embodiment.camera)]] * rows
        columns = {STATE: states, ACTION: commands, HAND: hands, FOCAL: lengths} | ({OBJECT: things} if things else {})
        return Episode(
            columns={key: np.asarray(rows, dtype=np.float32) for key, rows in columns.items()}
            | ({depth_key(self._embodiment.camera.name): np.stack(depths)} if depths else {}),
            videos={image_key(self._embodiment.camera.name): np.stack(frames)},
            task=self.tasks[0],
        )
