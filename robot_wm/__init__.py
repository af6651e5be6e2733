"""World models for robots: pretrained on action-free video, calibrated to one body, exported to ONNX.

`robot_wm.load_pretrained`, `load_calibrated` and `open_dataset` are loaded when first used: a robot that runs a
controller has no PyTorch.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from robot_wm.api import CalibratedModel, PretrainedModel, UserError, load_calibrated, load_pretrained, open_dataset

__version__ = "0.1.0"
__all__ = ["CalibratedModel", "PretrainedModel", "UserError", "load_calibrated", "load_pretrained", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name in __all__:
        return getattr(importlib.import_module("robot_wm.api"), name)
    raise AttributeError(f"module 'robot_wm' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
