"""Errors that are nobody's mistake in the code, in words: a package that is not there, a disk that is full."""

import errno
import re

from robot_wm.contracts.errors import UserError

_EXTRAS = {
    "huggingface_hub": "hub",
    "viser": "view",
    **dict.fromkeys(("mujoco", "gymnasium", "gymnasium_robotics"), "sim"),
    **dict.fromkeys(("torch", "lightning_fabric", "safetensors", "onnx", "onnxscript"), "train"),
    **dict.fromkeys(
        ("hydra", "omegaconf", "rich", "pyarrow", "av", "cv2", "scipy", "matplotlib", "jinja2", "PIL"), "train"
    ),
}

_NO_MEMORY = re.compile("alloc|out of memory|start new thread")
_OWN_ERRORS = ("cv2", "mujoco", "onnxruntime")  # packages whose errors are of no kind that Python has
_LOST_GPU = re.compile("(CUDA|CUDNN|cuDNN|CUBLAS|HIP)[ _]?(error|failure|status)", re.IGNORECASE)
_NO_ACCESS = (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.EEXIST)


def missing_package(error: ImportError) -> UserError:
    """What to install for `error`; an import that is no package of ours goes on as it is."""
    if "cannot open shared object file" in str(error):
        return UserError(
            f"a system library is missing ({error})",
            "Run sudo apt-get install -y libgl1 libglib2.0-0 libegl1 libosmesa6",
        )
    package = (error.name or "").partition(".")[0]
    if package not in _EXTRAS:
        raise error
    extra = _EXTRAS[package]
    of_all = "" if extra in ("hub", "view") else " (or [all])"
    return UserError(f"{package} is not installed", f"Run pip install 'robot-wm[{extra}]'{of_all}")


def failed_access(error: OSError) -> UserError:
    """What to do about `error`, where disk, permissions or memory are at fault; any other goes on as it is."""
    place = f" while writing {error.filename}" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"disk full{place}", "Free some space and run the same command again to resume")
    if error.filename and error.errno in _NO_ACCESS:
        return UserError(
            f"{error.filename}: {error.strerror}", "Check the path and its permissions, or give another (out=FOLDER)"
        )
    return failed_machine(error)


def failed_machine(error: Exception) -> UserError:
    """What to do about `error`, where memory ran out or a GPU was lost; any other goes on as it is.

    Torch, OpenCV, MuJoCo and ONNX Runtime share nothing but what they say.
    """
    said = (str(error).splitlines() or [""])[0]
    speaks = isinstance(error, RuntimeError) or type(error).__module__.partition(".")[0] in _OWN_ERRORS
    starved = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if starved or (speaks and _NO_MEMORY.search(said)):
        return UserError("out of memory", "Give smaller sizes or fewer workers, or more memory, and run it again")
    if _LOST_GPU.search(said):
        return UserError(
            f"the GPU was lost ({said})",
            "See that nvidia-smi lists it, then run the same command again: it goes on from what was saved (with"
            " accelerator=auto on the CPU, if need be)",
        )
    raise error
