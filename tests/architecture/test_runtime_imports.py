"""The runtime on a machine that has numpy and onnxruntime and nothing else of ours: it loads a bundle and controls."""

import subprocess
import sys
from pathlib import Path

from tests.handmade_bundle import write_bundle

FORBIDDEN = (
    "torch", "mujoco", "gymnasium", "hydra", "omegaconf", "yaml", "rich", "cv2", "av", "pyarrow", "scipy", "matplotlib",
    "onnx", "onnxscript", "safetensors", "lightning_fabric", "sims", "calibration", "robot_wm.data", "robot_wm.models",
    "robot_wm.console", "deploy.drivers", "deploy.export", "deploy.stages",
)  # fmt: skip
STEP_A_CONTROLLER = """
import sys
from importlib.abc import MetaPathFinder

class Blocker(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if any(name == banned or name.startswith(banned + ".") for banned in sys.argv[2:]):
            raise ImportError(f"{name} is not on a robot")

sys.meta_path.insert(0, Blocker())

from pathlib import Path
import numpy as np
from deploy.runtime.controller import Controller
from deploy.runtime.loop import run_loop
from deploy.runtime.recorder import FlightLog
from deploy.runtime.safety import Safety
from robot_wm.contracts.robot import Observation

class Still:
    ticks = 0
    def read(self):
        return Observation(np.zeros((8, 8, 3), np.uint8), np.zeros(4, np.float32), self.now())
    def write(self, command):
        self.ticks += 1
        return command
    def now(self):
        return self.ticks / 20

controller = Controller(Path(sys.argv[1]), num_threads=1)
controller.set_goal(np.full((8, 8, 3), 255, np.uint8))
log = FlightLog(Path(sys.argv[1]).parent / "flight", controller.spec)
log.begin()
result = run_loop(controller, Still(), 8, Safety(controller.spec), log)
assert result.num_plans == 2, result
print("stepped", sorted(set(sys.argv[2:]) & set(sys.modules)))
"""


def test_runtime_steps_a_controller_without_torch_mujoco_and_hydra(repository: Path, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    command = [sys.executable, "-c", STEP_A_CONTROLLER, str(bundle), *FORBIDDEN]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "stepped []"
