"""stable-worldmodel as it imports beside a torch without CUDA: import this module before it."""

import functools

import torch

from robot_wm.contracts.errors import UserError


@functools.cache
def prepare() -> None:
    """Name the operators that torchvision's wheel registers only beside a CUDA build; the models here use none of them.

    Without that, `import torchvision` from PyPI ends in "operator torchvision::nms does not exist" beside a CPU build.

    Raises:
        UserError: the packages do not import.
    """
    if torch.version.cuda is None:
        for name in ("nms", "qnms"):
            torch.library.define(f"torchvision::{name}", "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    try:
        import stable_worldmodel  # type: ignore[import-not-found]  # noqa: F401
    except Exception as error:
        raise UserError(f"stable-worldmodel does not import: {error}", "Its environment may be incomplete") from error
