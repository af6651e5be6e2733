"""ONNX graphs as the runtime sees them: named tensors of fixed shape, bound once, run in place."""

import contextlib
import os
import tempfile
from collections.abc import Mapping, Sequence
from ctypes.util import find_library
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from robot_wm.contracts.bundle import ControllerSpec
from robot_wm.contracts.errors import UserError

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"
TENSORRT = "TensorrtExecutionProvider"
_ENGINES = str(Path(tempfile.gettempdir()) / "robot-wm-engines")  # TensorRT builds one per graph and machine
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
    if spec.tells_imagined:
        outputs["imagined"] = _float(1, H, D)
    return inputs, outputs


def head_signature(spec: ControllerSpec) -> tuple[Signature, Signature]:
    """Inputs and outputs of `head.onnx`: name to (dtype, shape); it needs no noise and no start."""
    inputs, outputs = plan_signature(spec)
    kept = {name: kind for name, kind in inputs.items() if name not in ("warm", "noise")}
    return kept, {"plan" if name == "next_warm" else name: kind for name, kind in outputs.items()}


@dataclass(frozen=True)
class Hardware:
    """What decides which execution providers can work here.

    Attributes:
        providers: those that this build of ONNX Runtime knows; the GPU's build names its own on any machine.
        has_gpu: an NVIDIA device is there.
        has_tensorrt: its library is installed.
    """

    providers: tuple[str, ...]
    has_gpu: bool
    has_tensorrt: bool

    @classmethod
    def here(cls) -> "Hardware":
        """This machine."""
        has_gpu = any(Path("/dev").glob("nvidia[0-9]*"))
        return cls(
            tuple(onnxruntime.get_available_providers()), has_gpu, has_gpu and find_library("nvinfer") is not None
        )


def choose_providers(wanted: Sequence[str] | None = None, hardware: Hardware | None = None) -> list[str]:
    """Execution providers to try, best first: TensorRT and CUDA where they can work, and the CPU always.

    Args:
        wanted: in place of that choice; the CPU is added.
        hardware: what there is; None looks.

    Raises:
        UserError: a wanted provider is not in this build of ONNX Runtime.
    """
    hardware = hardware or Hardware.here()
    if wanted is None:
        possible = ((TENSORRT, hardware.has_gpu and hardware.has_tensorrt), (CUDA, hardware.has_gpu), (CPU, True))
        return [name for name, works in possible if works and name in hardware.providers]
    for name in wanted:
        if name not in hardware.providers:
            known = ", ".join(hardware.providers)
            raise UserError(f"execution provider {name!r} is not installed", f"Choose among {known}")
    return [*wanted, *([] if CPU in wanted else [CPU])]


def provider_options(name: str) -> dict[str, str]:
    """How a provider is started: on a GPU all launches of a run become one CUDA graph."""
    return {
        CUDA: {"enable_cuda_graph": "1"},
        TENSORRT: {"trt_cuda_graph_enable": "1", "trt_engine_cache_enable": "1", "trt_engine_cache_path": _ENGINES},
    }.get(name, {})


def affinities(num_threads: int, processors: Sequence[int]) -> str:
    """Where ONNX Runtime's own threads stay: one processor each, the first left to the thread that calls.

    Returns:
        `num_threads - 1` processors, counted from 1 as ONNX Runtime does; empty where there are too few.
    """
    chosen = sorted(processors)[1:num_threads]
    return ";".join(str(p + 1) for p in chosen) if len(chosen) == num_threads - 1 else ""


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
        pinned: bool = False,
    ):
        """Load `path`.

        Args:
            path: the .onnx file.
            signature: inputs and outputs that the graph must have.
            providers: execution providers wanted; None chooses (see choose_providers).
            num_threads: threads of one operator; None leaves the choice to ONNX Runtime (one per core).
            pinned: each of those threads stays on a processor of its own; for a machine that does little else.

        Raises:
            UserError: the file is not a graph, has another signature, or a wanted provider does not start.
        """
        if num_threads is not None and num_threads < 1:
            raise UserError(f"threads is {num_threads}", "Give a positive number, or leave it out for one per core")
        self._session = _open(path, choose_providers(providers), num_threads, pinned)
        self.providers: list[str] = self._session.get_providers()
        if providers and providers[0] not in self.providers:
            raise UserError(f"execution provider {providers[0]!r} does not start here", f"Use {CPU}, or mend its setup")
        _check(path, signature[0], self._session.get_inputs())
        _check(path, signature[1], self._session.get_outputs())
        self.inputs: dict[str, NDArray[Any]] = {n: np.zeros(s, d) for n, (d, s) in signature[0].items()}
        self.outputs: dict[str, NDArray[Any]] = {n: np.zeros(s, d) for n, (d, s) in signature[1].items()}
        self._binding = self._session.io_binding()
        self._on_device: dict[str, Any] = {}
        for bind, buffers in ((self._bind_input, self.inputs), (self._bind_output, self.outputs)):
            for name, array in buffers.items():
                bind(name, array)

    def run(self) -> None:
        """Compute `outputs` from `inputs`."""
        for name, value in self._on_device.items():
            if name in self.inputs:
                value.update_inplace(self.inputs[name])
        self._session.run_with_iobinding(self._binding)
        for name, value in self._on_device.items():
            if name in self.outputs:
                np.copyto(self.outputs[name], value.numpy())

    def _bind_input(self, name: str, array: NDArray[Any]) -> None:
        if self.providers[0] == CPU:
            self._binding.bind_input(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        else:
            self._on_device[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
            self._binding.bind_ortvalue_input(name, self._on_device[name])

    def _bind_output(self, name: str, array: NDArray[Any]) -> None:
        if self.providers[0] == CPU:
            self._binding.bind_output(name, "cpu", 0, array.dtype, array.shape, array.ctypes.data)
        else:  # a CUDA graph replays on fixed addresses, which only buffers on the device have
            self._on_device[name] = onnxruntime.OrtValue.ortvalue_from_numpy(array, "cuda", 0)
            self._binding.bind_ortvalue_output(name, self._on_device[name])


def _open(path: Path, providers: Sequence[str], num_threads: int | None, pinned: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = num_threads or 0
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Two graphs take turns on the same cores: the threads of one must not spin while the other works.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    if pinned and hasattr(os, "sched_getaffinity"):
        processors = os.sched_getaffinity(0)
        if places := affinities(num_threads or len(processors), tuple(processors)):
            options.intra_op_num_threads = num_threads or len(processors)
            options.add_session_config_entry("session.intra_op_thread_affinities", places)
    started = [(name, provider_options(name)) for name in providers]
    if providers[0] != CPU:
        with contextlib.suppress(Exception):  # a graph of which a part stays on the CPU is no CUDA graph
            return onnxruntime.InferenceSession(str(path), options, providers=started)
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
