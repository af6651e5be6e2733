"""Whether a simulation still means anything."""

import mujoco

_WARNING = mujoco.mjtWarning
_DIVERGED = [int(w) for w in (_WARNING.mjWARN_BADQPOS, _WARNING.mjWARN_BADQVEL, _WARNING.mjWARN_BADQACC)]


def has_diverged(data: mujoco.MjData) -> bool:
    """Whether MuJoCo met a state that is not finite or too large: it then starts over from the model's own."""
    return bool(data.warning.number[_DIVERGED].any())
