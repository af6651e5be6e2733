"""The whole program of a robot: a bundle, a goal picture, a driver, the loop. See docs/howto/driver.md.

    python examples/real_so101/fly.py BUNDLE GOAL.png

Here the driver is a stand-in that shows the goal's own picture and forgets its commands, so that the program can be
tried on any computer, the small one of your robot included: it prints how long a decision takes there.
"""

import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from deploy.runtime.controller import Controller
from deploy.runtime.loop import latency_percentiles_ms, run_loop
from deploy.runtime.safety import Safety
from robot_wm.contracts.robot import Observation

TICKS = 50


class StandIn:
    """Put your driver here: read, write, now."""

    def __init__(self, frame_YXC: np.ndarray, num_proprio: int):
        self.frame_YXC, self.num_proprio = frame_YXC, num_proprio

    def read(self) -> Observation:
        return Observation(self.frame_YXC, np.zeros(self.num_proprio, np.float32), self.now())

    def write(self, command_U: np.ndarray) -> np.ndarray:
        return command_U

    def now(self) -> float:
        return time.monotonic()


def main(bundle: Path, goal: Path) -> None:
    controller = Controller(bundle)
    spec = controller.spec
    frame_YXC = np.asarray(Image.open(goal).convert("RGB").resize((spec.width, spec.height)))
    controller.set_goal(frame_YXC)
    robot = StandIn(frame_YXC, len(spec.proprio))
    rest_U = spec.command.hold(np.zeros(spec.command.dim))
    result = run_loop(controller, robot, TICKS, Safety(spec), reference_U=rest_U)
    told = ", ".join(f"{name} {value:.1f}" for name, value in latency_percentiles_ms(result.latencies_s).items())
    print(f"{result.num_plans} decisions: {told}; {result.late_plans} of them late; guards {result.interventions}")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: fly.py BUNDLE GOAL.png")
    main(Path(sys.argv[1]), Path(sys.argv[2]))
