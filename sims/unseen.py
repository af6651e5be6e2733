"""What a camera may see otherwise than when a body was calibrated: another light, other colours, another place, more.

The body moves as before; only pictures change, the goal's among them when it is taken meanwhile.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from robot_wm.contracts.errors import UserError
from sims.simulation import Simulation
from sims.truth import Hidden, Truth

SHIFT_M, TURN_RAD = 0.05, np.radians(5.0)  # of a camera that was moved, in a direction drawn at random
_THINGS = 4  # that swing about
_LAMPS, _TINT, _SWING_RAD = (
    (0.5, 1.4),
    0.15,
    np.pi / 3,
)  # of lamps: brightness, colour, and direction about the vertical
_PAINT = 0.3  # of every surface, to both sides in red, green and blue, of 1

_Change = Callable[[Simulation, np.random.Generator], None]


@contextmanager
def unseen(simulation: Simulation, condition: str, seed: int) -> Iterator[None]:
    """The simulation's pictures under one of CONDITIONS; as before afterwards.

    Raises:
        UserError: an unknown condition.
    """
    if condition not in CONDITIONS:
        raise UserError(f"condition {condition!r} is not known", f"Choose among: {', '.join(CONDITIONS)}")
    rng, model = np.random.default_rng([seed, 17]), simulation.model
    if condition in _TRUTHS:
        hidden = Hidden(simulation, _TRUTHS[condition](rng), seed)
        try:
            yield
        finally:
            hidden.remove()
        return
    looks = (model.geom_rgba, model.mat_rgba, model.light_diffuse, model.light_dir, model.light_pos)
    head = model.vis.headlight
    before, ambient, diffuse = [field.copy() for field in looks], head.ambient.copy(), head.diffuse.copy()
    try:
        _LOOKS[condition](simulation, rng)
        yield
    finally:
        for field, values in zip(looks, before, strict=True):
            field[:] = values
        head.ambient[:], head.diffuse[:] = ambient, diffuse


def _light(simulation: Simulation, rng: np.random.Generator) -> None:
    """Lamps are brighter or darker, tinted, and stand elsewhere; so is the light that comes with the camera."""
    model = simulation.model
    tint = 1 + rng.uniform(-_TINT, _TINT, 3)
    angle = rng.uniform(-_SWING_RAD, _SWING_RAD)
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    model.light_diffuse *= tint * rng.uniform(*_LAMPS, (model.nlight, 1))
    model.light_dir[:] = (model.light_dir + np.append(rng.uniform(-0.3, 0.3, 2), 0.0)) @ turn.T
    model.light_dir[:] /= np.linalg.norm(model.light_dir, axis=1, keepdims=True)
    model.light_pos[:] = model.light_pos @ turn.T
    head = model.vis.headlight
    head.ambient[:] *= tint * rng.uniform(*_LAMPS)
    head.diffuse[:] *= tint * rng.uniform(*_LAMPS)


def _colours(simulation: Simulation, rng: np.random.Generator) -> None:
    """Every surface is painted anew, somewhere around the colour that it had."""
    for paints in (simulation.model.geom_rgba, simulation.model.mat_rgba):
        paints[:, :3] = np.clip(paints[:, :3] + rng.uniform(-_PAINT, _PAINT, (len(paints), 3)), 0, 1)


def _moved(rng: np.random.Generator) -> Truth:
    way, angle = rng.normal(size=3), rng.uniform(-np.pi, np.pi)
    x, y, z = (SHIFT_M * way / np.linalg.norm(way)).tolist()
    return Truth(camera_shift_m=(x, y, z), camera_turn_rad=(TURN_RAD * np.cos(angle), TURN_RAD * np.sin(angle), 0.0))


_TRUTHS: dict[str, Callable[[np.random.Generator], Truth]] = {
    "camera": _moved,
    "distractors": lambda _: Truth(distractors=_THINGS),
}
_LOOKS: dict[str, _Change] = {"light": _light, "colours": _colours}
CONDITIONS = (*_LOOKS, *_TRUTHS)
