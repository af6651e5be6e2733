"""The controller bundle: one folder with ONNX graphs and the JSON that says how to use them."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from robot_wm.contracts import config, files, limits
from robot_wm.contracts.embodiment import LONGEST_DELAY_S, CommandSpace, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.familiar import Familiar
from robot_wm.contracts.solids import Solids

SCHEMA = 3
_READ = (1, 2, 3)  # schema 1 has no `target` among its inputs, and no head; 1 and 2 do not give `imagined`
SPEC_FILE = "controller.json"
ENCODE_FILE = "encode.onnx"
PLAN_FILE = "plan.onnx"
HEAD_FILE = "head.onnx"
TIPPED = "tipped"  # among the parity figures: share of the plans that rounding alone can tip


@dataclass(frozen=True)
class ControllerSpec:
    """Everything that a runtime must know beside the graphs (units SI, full precision).

    `encode.onnx`: frame (1, height, width, 3) uint8 → latent (1, D).
    `plan.onnx`: history (1, T, D), goal (1, D), proprio (1, P), reference (1, U), warm (1, H, U),
    noise (1, I, N, H, U) standard normal → command (1, K, U) in `command.unit`, cost (1,), uncertainty (1,),
    next_warm (1, H, U). `warm` and `next_warm` are in plan units and start at zero. From schema 2 on it also takes
    target (1, P): proprio to reach, in its own units, NaN where only the goal's picture says. From schema 3 on it gives
    imagined (1, H, D) as well: the latents that are expected after each model step of the plan.
    Where `ahead` is S > 0, plan.onnx has one more input, pending (1, S, K, U) in `command.unit`: the commands already
    sent or committed whose effect lies between the frame and the first command of the new plan. `reference` is then
    the command just before them, and the plan goes on from the last of them.
    `head.onnx`, where calibration trained a command head: history, goal, proprio, reference, target [, pending] →
    command, cost, uncertainty, plan (1, H, U), its whole plan in plan units [, imagined].

    Attributes:
        embodiment, embodiment_sha256: the body, by name and digest.
        camera, height, width: the image that `encode.onnx` takes.
        proprio: names of the proprio vector, in order.
        command: the command space; its limits are inside the graph as well.
        safety: limits of the runtime loop.
        latent_dim, history: D and T.
        horizon, candidates, iterations: H, N and I.
        delay_s: of the body, from a command to the first frame that shows its effect.
        familiar: what the calibration log looked like, so that the runtime notices what it did not; None: unknown.
        solids: the body's parts, of which some must stay apart; there where safety has self_clearance_m or
            workspace_m.
        ahead: S, the model steps that plan.onnx predicts from `pending` before its search starts.
        opset: of both graphs.
        files: SHA-256 of each graph.
        parity: largest absolute difference from PyTorch, per output, on recorded inputs; under `tipped`
            the share of plans set aside because rounding alone can tip them.
        precision: of the graphs' arithmetic; their inputs and outputs are fp32 (and uint8) in each.
        closed_loop: where `precision` is not fp32, the share of validation goals that it and fp32 reached, by name.
        lineage: SHA-256 of the calibrate run, and of what went into it by the name of that input.
    """

    schema: int
    embodiment: str
    embodiment_sha256: str
    camera: str
    height: int
    width: int
    proprio: tuple[str, ...]
    command: CommandSpace
    safety: Safety
    latent_dim: int
    history: int
    horizon: int
    candidates: int
    iterations: int
    opset: int
    files: dict[str, str]
    parity: dict[str, float]
    lineage: dict[str, str]
    ahead: int = 0
    precision: Literal["fp32", "fp16", "int8"] = "fp32"
    closed_loop: dict[str, float] = field(default_factory=dict)
    delay_s: float = 0.0
    familiar: Familiar | None = None
    solids: Solids | None = None

    def __post_init__(self) -> None:
        if self.ahead < 0:
            raise UserError(f"bundle: ahead is {self.ahead}", "It is the number of model steps to predict, 0 or more")
        if not 0 <= self.delay_s <= LONGEST_DELAY_S:
            raise UserError(f"bundle: delay_s is {self.delay_s}", f"It must be between 0 and {LONGEST_DELAY_S:g} s")
        if self.schema not in _READ:
            known = ", ".join(map(str, _READ))
            raise UserError(f"bundle schema is {self.schema}", f"This version reads schema {known}; export again")
        sizes = ("height", "width", "latent_dim", "history", "horizon", "candidates", "iterations")
        for name in sizes:
            if getattr(self, name) < 1:
                raise UserError(f"{SPEC_FILE}: {name} is {getattr(self, name)}", "Export the controller again")
        limits.refuse_over(f"{SPEC_FILE}: height x width", self.height * self.width, limits.PIXELS)
        noise = self.iterations * self.candidates * self.horizon * self.command.dim
        limits.refuse_over(f"{SPEC_FILE}: iterations x candidates x horizon x commands", noise, limits.TENSOR_VALUES)
        history = self.history * self.latent_dim
        limits.refuse_over(f"{SPEC_FILE}: history x latent_dim", history, limits.TENSOR_VALUES)
        if self.opset < 1 or not self.proprio:
            raise UserError(
                f"{SPEC_FILE}: opset {self.opset}, {len(self.proprio)} entries of proprio",
                "Export the controller again",
            )
        shares = self.closed_loop | {k: v for k, v in self.parity.items() if k == TIPPED}
        for name, value in (self.parity | shares).items():
            if value < 0 or (name in shares and value > 1):
                raise UserError(f"{SPEC_FILE}: {name} is {value}", "A difference is not negative, a share at most 1")
        if self.familiar is not None:
            size = self.command.frame_skip * self.command.dim
            self.familiar.check(self.latent_dim, len(self.proprio), size)
        if self.solids is not None:
            self.solids.check(len(self.proprio))

    @property
    def tells_imagined(self) -> bool:
        """Whether `plan.onnx` gives the latents that it expects."""
        return self.schema > 2


@dataclass(frozen=True)
class Bundle:
    """A bundle whose files are all there and whole."""

    path: Path
    spec: ControllerSpec

    @property
    def encode(self) -> Path:
        return self.path / ENCODE_FILE

    @property
    def plan(self) -> Path:
        return self.path / PLAN_FILE

    @property
    def head(self) -> Path:
        """The command head's graph.

        Raises:
            UserError: the bundle has none.
        """
        if HEAD_FILE not in self.spec.files:
            raise UserError(f"{self.path} holds no {HEAD_FILE}", "Calibrate again with head.steps above 0, and export")
        return self.path / HEAD_FILE


def read_bundle(path: Path) -> Bundle:
    """Read and check a bundle.

    Raises:
        UserError: no bundle there, another schema, or a graph that is missing or not the one that was exported.
    """
    if (path / "bundle").is_dir():  # an export run folder holds its bundle under this name
        path = path / "bundle"
    if not (path / SPEC_FILE).is_file():
        raise UserError(f"{path} holds no {SPEC_FILE}", "Give an export run or a bundle folder")
    spec = config.from_mapping(ControllerSpec, files.read_json(path / SPEC_FILE), SPEC_FILE)
    for name in (ENCODE_FILE, PLAN_FILE):
        if name not in spec.files:
            raise UserError(f"{path / SPEC_FILE} does not list {name}", "Export the controller again")
    for name, expected in spec.files.items():
        file = files.confine(path, name)
        if not file.is_file():
            raise UserError(f"{file} is missing", "Copy the whole bundle folder, or export again")
        if files.sha256(file) != expected:
            raise UserError(f"{file} is truncated or altered (SHA-256 differs)", "Copy the bundle again, or export it")
    return Bundle(path, spec)
