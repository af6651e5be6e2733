"""A calibration log recorded live, through the protocol that a real robot's driver implements too."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from robot_wm import console
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.run import open_run
from robot_wm.data.lerobot_writer import LeRobotWriter
from sims import gl
from sims.behaviours import babble
from sims.robots import load, model_inputs
from sims.twin import Twin

_EPISODE = 25  # transitions of one


@dataclass(frozen=True)
class TwinConfig:
    """The twin that stands in for the robot: how far it is from its model, in which respects, and which one it is."""

    severity: float = 0.0
    preset: str = "all"
    seed: int = 0


@dataclass(frozen=True)
class _Recording:
    """What makes one recording the same as another."""

    embodiment: Embodiment
    twin: TwinConfig
    transitions: int
    seed: int


def record_twin(out: Path, embodiment: Embodiment, config: TwinConfig, transitions: int, seed: int) -> Path:
    """Record a log of the twin as a run of its own; returns its folder. An interrupted one goes on where it stopped.

    The commands are planned in the body's own model, as for a real robot, and played to the twin, which answers with
    its hidden faults: it may end up elsewhere, and with a wide margin to its limits it should.

    Raises:
        UserError: a severity or preset that there is not, or a body that does not load.
    """
    identity = _Recording(embodiment, config, transitions, seed)
    with open_run(Path(out), "record", "twin-log", identity, model_inputs(embodiment)) as run:
        if run.complete:
            return run.path
        gl.choose_backend()
        with load(embodiment, seed) as planned, load(embodiment, seed) as simulation:
            twin = Twin(simulation, config.severity, config.seed, config.preset)
            camera, command, names = embodiment.camera, planned.command, planned.proprio_names
            picture = image_key(camera.name)
            features = {
                picture: Feature("video", (camera.height, camera.width, 3), ("height", "width", "channels")),
                STATE: Feature("float32", (len(names),), names),
                ACTION: Feature("float32", (command.dim,), command.names),
            }
            rows = _EPISODE * embodiment.frame_skip + 1
            with LeRobotWriter(run.path / "dataset", embodiment.control_rate_hz, features, embodiment.name) as writer:
                count = -(-transitions // _EPISODE)
                with console.progress("record the twin", count * rows, writer.num_episodes * rows) as bar:
                    for episode in range(writer.num_episodes, count):
                        rng = np.random.default_rng([seed, episode])
                        start = int(rng.integers(2**31))
                        planned.reset(start)
                        simulation.reset(start)
                        twin.reset()
                        frames, states, actions = [], [], []
                        for command_U in babble(planned, rows, rng):
                            seen = twin.read()
                            frames.append(seen.frame_YXC)
                            states.append(seen.proprio_P)
                            actions.append(twin.write(planned.step(command_U)))
                        columns = {STATE: np.asarray(states, np.float32), ACTION: np.asarray(actions, np.float32)}
                        writer.add_episode(columns, {picture: np.stack(frames)}, "babble")
                        bar.advance(rows)
            twin.close()
        run.finish(["dataset"], metrics={**asdict(config)}, embodiment_sha256=embodiment.digest())
        return run.path
