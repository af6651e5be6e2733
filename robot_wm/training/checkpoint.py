"""Weights as safetensors beside their configuration as JSON; nothing is ever unpickled."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from robot_wm.contracts import config, files
from robot_wm.contracts.errors import UserError
from robot_wm.data.loader import Scales
from robot_wm.models.world_model import WorldModel, WorldModelConfig

WEIGHTS = "model.safetensors"
CONFIG = "model.json"
SHIPPED = "shipped"  # the name under which the world model that comes with the package is asked for


@dataclass(frozen=True)
class ModelFile:
    """Content of `model.json`."""

    model: WorldModelConfig
    scales: Scales
    step_s: float


def model_run(name: str) -> Path:
    """The pretrain run that `model=` names: a path, or `shipped` for the one that comes with the package."""
    return Path(__file__).resolve().parents[1] / "pretrained" if name == SHIPPED else Path(name)


def save_weights(path: Path, tensors: dict[str, Tensor]) -> None:
    """Write tensors atomically."""
    files.write_atomic(path, save({k: v.detach().cpu().contiguous() for k, v in tensors.items()}))


def load_weights(path: Path, device: str = "cpu") -> dict[str, Tensor]:
    """Read tensors; raises UserError when the file is missing or truncated."""
    if not path.is_file():
        raise UserError(f"{path} does not exist", "Run the stage that writes it")
    try:
        return load_file(path, device=device)
    except SafetensorError as error:
        raise UserError(f"{path} is truncated or not a safetensors file ({error})", "Run its stage again") from None


def load_into(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Load weights that must fit exactly; the first one that does not is named."""
    refuse_misfit(module, tensors, where)
    module.load_state_dict(tensors)


def refuse_misfit(module: nn.Module, tensors: dict[str, Tensor], where: Path) -> None:
    """Raise UserError that names the first weight that is missing, unknown, or of another shape."""
    expected = module.state_dict()
    for name in [*expected, *tensors]:
        found, wanted = tensors.get(name), expected.get(name)
        if found is None or wanted is None or found.shape != wanted.shape:
            shapes = [tuple(t.shape) if t is not None else "absent" for t in (found, wanted)]
            raise UserError(f"{where}: weight {name} is {shapes[0]}, not {shapes[1]}", "Give a run of this model")


def save_world_model(folder: Path, model: WorldModel, scales: Scales, step_s: float) -> list[str]:
    """Write both files; returns their names."""
    save_weights(folder / WEIGHTS, model.state_dict())
    files.write_json(folder / CONFIG, config.to_mapping(ModelFile(model.config, scales, step_s)))
    return [WEIGHTS, CONFIG]


def load_world_model(folder: Path) -> tuple[WorldModel, ModelFile]:
    """A world model in evaluation mode, on the CPU, and what is known about it."""
    described = config.from_mapping(ModelFile, files.read_json(folder / CONFIG), str(folder / CONFIG))
    tensors = load_weights(folder / WEIGHTS)
    with torch.device("meta"):  # shapes without memory: a small file cannot ask for a large model
        refuse_misfit(WorldModel(described.model), tensors, folder / WEIGHTS)
    model = WorldModel(described.model)
    load_into(model, tensors, folder / WEIGHTS)
    return model.eval(), described


def save_progress(path: Path, step: int, module: nn.Module, optimizer: torch.optim.Optimizer, generators: Any) -> None:
    """Everything that exact resumption needs, in one atomic file."""
    tensors = {f"model.{k}": v for k, v in module.state_dict().items()}
    for index, state in optimizer.state_dict()["state"].items():
        tensors |= {f"optimizer.{index}.{k}": torch.as_tensor(v) for k, v in state.items()}
    tensors |= {f"generator.{i}": g for i, g in enumerate(generators)}
    save_weights(path, tensors | {"step": torch.tensor(step)})


def load_progress(path: Path, module: nn.Module, optimizer: torch.optim.Optimizer) -> tuple[int, list[Tensor]]:
    """Restore what save_progress wrote; returns the step and the generator states."""
    tensors = load_weights(path)
    load_into(module, {k.removeprefix("model."): v for k, v in tensors.items() if k.startswith("model.")}, path)
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer."):
            _, index, name = key.split(".", 2)
            state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(tensors["step"]), [tensors[f"generator.{i}"] for i in range(_count(tensors))]


def _count(tensors: dict[str, Tensor]) -> int:
    return sum(key.startswith("generator.") for key in tensors)
