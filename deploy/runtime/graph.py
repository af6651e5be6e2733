"""ONNX graphs as the runtime sees them: named tensors of fixed shape, bound once, run in place."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError

CPU = "CPUExecutionProvider"
_CUDA = "CUDAExecutionProvider"
_TYPES = {"tensor(uint8)": np.dtype(np.uint8), "tensor(float)": np.dtype(np.float32)}

Signature = Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]]


def _float(*shape: int) -> tuple[np.dtype[Any], tuple[int, ...]]:
    return np.dtype(np.float32), shape


def encode_signature(spec: ControllerSpec) -> tuple[Signature, Signature]:
    """Inputs and outputs of `encode.onnx`: name to (dtype, shape)."""
    frame = {"frame": (np.dtype(np.uint8), (1, spec.height, spec.width, 3))}
    return frame, {"latent": _float(1, spec.latent_dim)}


def plan_signature(spec: ControllerSpec) -> tuple[Signature, Signature]:
    """Inputs and outputs of `plan.onnx`: name to (dtype, shape)."""
    U, H, D = spec.command.dim, spec.horizon, spec.latent_dim
    inputs = {
        "history": _float(1, spec.history, D),
        "goal": _float(1, D),
        "proprio": _float(1, len(spec.proprio)),
        "reference": _float(1, U),
        "warm": _float(1, H, U),
        "noise": _float(1, spec.iterations, spec.candidates, H, U),
    }
    if spec.schema > 1:
        inputs["target"] = _float(1, len(spec.proprio))
    if spec.ahead:
        inputs["pending"] = _float(1, spec.ahead, spec.command.frame_skip, U)
    outputs = {
        "command": _float(1, spec.command.frame_skip, U),
        "cost": _float(1),
        "uncertainty": _float(1),
        "next_warm": _float(1, H, U),
    }
    return inputs, outputs


def head_signature(spec: ControllerSpec) -> tuple[Signature, Signature]:
    """Inputs and outputs of `head.onnx`: name to (dtype, shape); it needs no noise and no start."""
    inputs, outputs = plan_signature(spec)
    kept = {name: kind for name, kind in inputs.items() if name not in ("warm", "noise")}
    return kept, {**{n: k for n, k in outputs.items() if n != "next_warm"}, "plan": outputs["next_warm"]}


def choose_providers(wanted: Sequence[str] | None = None) -> list[str]:
    """Execution providers to try, best first: CUDA where there is a GPU, and the CPU always.

    Raises:
        UserError: a wanted provider is not in this build of ONNX Runtime.
    """
    available = onnxruntime.get_available_providers()
    if wanted is None:
        has_gpu = any(Path("/dev").glob("nvidia[0-9]*"))
        return [_CUDA, CPU] if has_gpu and _CUDA in available else [CPU]
    for name in wanted:
        if name not in available:
            raise UserError(f"execution provider {name!r} is not installed", f"Choose among {', '.join(available)}")
    return [*wanted, *([] if CPU in wanted else [CPU])]


class Graph:
    """One ONNX graph with its buffers; nothing but the graph's own scratch memory is allocated after construction.

    Attributes:
        inputs: name to buffer; write into these arrays, then call `run`.
        outputs: name to buffer; overwritten by the next `run`.
        providers: the execution providers in use, best first.
    """

    def __init__(
        self,
        path: Path,
        signature: tuple[Signature, Signature],
        providers: Sequence[str] | None = None,
        num_threads: int | None = None,
    ):
        """Load `path`.

        Args:
            path: the .onnx file.
            signature: inputs and outputs that the graph must have.
            providers: execution providers wanted; None chooses (see choose_providers).
            num_threads: threads of one operator; None leaves the choice to ONNX Runtime (one per core).

        Raises:
            UserError: the file is not a graph, has another signature, or a wanted provider does not start.
        """
        if num_threads is not None and num_threads < 1:
            raise UserError(f"threads is {num_threads}", "Give a positive number, or leave it out for one per core")
        self._session = _open(path, choose_providers(providers), num_threads)
        self.providers: list[str] = self._session.get_providers()
        if providers and providers[0] not in self.providers:
            raise UserError(f"execution provider {providers[0]!r} does not start here", f"Use {CPU}, or mend its setup")
        _check(path, signature[0], self._session.get_inputs())
        _check(path, signature[1], self._session.get_outputs())
        self.inputs: dict[str, NDArray[Any]] = {n: np.zeros(s, d) for n, (d, s) in signature[0].items()}
        self.outputs: dict[str, NDArray[Any]] = {n: np.zeros(s, d) for n, (d, s) in signature[1].items()}
        self._binding = self._session.io_binding()
        for name, array in self.inputs.items():
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        for name, array in self.outputs.items():
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)

    def run(self) -> None:
        """Compute `outputs` from `inputs`."""
        self._session.run_with_iobinding(self._binding)


def _open(path: Path, providers: Sequence[str], num_threads: int | None) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Two graphs take turns on the same cores: the threads of one must not spin while the other works.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:  # ONNX Runtime's exceptions share no base class of their own
        reason = str(error).splitlines()[0]
        raise UserError(f"{path} is not a graph that ONNX Runtime can load ({reason})", "Export it again") from error


def _check(path: Path, expected: Signature, found: Sequence[Any]) -> None:
    actual = {node.name: (_TYPES.get(node.type), tuple(node.shape)) for node in found}
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            found_as, promised = _describe(actual.get(name)), _describe(expected.get(name))
            raise UserError(
                f"{path}: {name} is {found_as}, controller.json says {promised}",
                "The files are of different exports; copy the whole bundle, or export again",
            )


def _describe(value: tuple[Any, tuple[Any, ...]] | None) -> str:
    return "absent" if value is None else f"{value[0]} {value[1]}"
