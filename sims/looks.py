"""What makes two pictures of the same motion differ: colours, textures, lights, background."""

import colorsys
from bisect import bisect
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, TypeVar

import mujoco
import numpy as np
from numpy.typing import NDArray

_NAMED = {  # what robots, tables and laboratories are mostly painted with
    "white": (0.93, 0.93, 0.93), "light": (0.75, 0.76, 0.78), "grey": (0.45, 0.46, 0.48), "dark": (0.2, 0.2, 0.22),
    "black": (0.07, 0.07, 0.08), "blue": (0.09, 0.4, 0.75), "orange": (0.95, 0.45, 0.08), "yellow": (0.92, 0.78, 0.1),
    "red": (0.75, 0.12, 0.12), "green": (0.15, 0.5, 0.25), "wood": (0.65, 0.48, 0.3),
}  # fmt: skip
_PAINT_ODDS = (0.5, 0.35, 0.15)  # of an arm's main, second and third colour
_TEXTURE_KINDS, _TEXTURE_ODDS = ("plain", "checker", "gradient", "speckled"), (0.5, 0.22, 0.16, 0.12)
_TEXTURE_PX = 64
_BUILTINS = {
    "checker": mujoco.mjtBuiltin.mjBUILTIN_CHECKER,
    "gradient": mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
    "speckled": mujoco.mjtBuiltin.mjBUILTIN_FLAT,
}
T = TypeVar("T")


def pick(rng: np.random.Generator, options: Sequence[T], odds: Sequence[float] = ()) -> T:
    """One of the options, by their odds where given; `Generator.choice` takes twenty times as long."""
    if not odds:
        return options[int(rng.random() * len(options))]
    return options[bisect([*accumulate(odds)], rng.random() * sum(odds), hi=len(options) - 1)]


def rgb(rng: np.random.Generator, *names: str, own: float = 0.4) -> NDArray[np.float64]:
    """One of the named colours, slightly varied, or (with probability `own`) any colour; (3,) in 0..1."""
    if rng.random() < own:
        hue, saturation, value = rng.random(), rng.uniform(0.1, 0.95), rng.uniform(0.25, 1.0)
        return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    return _in_range(_NAMED[pick(rng, names)] + rng.normal(0, 0.04, 3))


def _in_range(colour: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.minimum(np.maximum(colour, 0.0), 1.0)


@dataclass(frozen=True)
class Colours:
    """The paint of one arm: two or three colours that its parts share."""

    paints: tuple[NDArray[np.float64], ...]

    @classmethod
    def of_arm(cls, rng: np.random.Generator) -> "Colours":
        main = rgb(rng, "white", "white", "light", "grey", "dark", "black", "blue", "orange", "yellow", own=0.2)
        second = rgb(rng, "blue", "grey", "dark", "black", "light", "white", "orange", "red", own=0.3)
        third = rgb(rng, "grey", "dark", "black", "white", own=0.3)
        return cls((main, second, third))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """RGBA of one part."""
        return np.array([*pick(rng, self.paints, _PAINT_ODDS), 1.0])

    def draw_tip(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """RGBA of a finger or a tip: mostly dark."""
        return np.array([*rgb(rng, "dark", "black", "grey", own=0.3), 1.0])


def add_material(spec: mujoco.MjSpec, name: str, base: NDArray[np.float64], rng: np.random.Generator) -> str:
    """A matt material in the given colour: plain, checked, speckled, or with a fading towards another colour."""
    material = spec.add_material(name=name, specular=rng.uniform(0, 0.3), shininess=rng.uniform(0, 0.4), reflectance=0)
    kind = pick(rng, _TEXTURE_KINDS, _TEXTURE_ODDS)
    if kind == "plain":
        material.rgba = [*base, 1.0]
        return name
    other = _in_range(base + rng.normal(0, 0.15, 3))
    texture = spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=_BUILTINS[kind], rgb1=base, rgb2=other,
        width=_TEXTURE_PX, height=_TEXTURE_PX,
    )  # fmt: skip
    if kind == "speckled":
        texture.mark, texture.markrgb, texture.random = mujoco.mjtMark.mjMARK_RANDOM, other, rng.uniform(0.02, 0.2)
    material.textures[mujoco.mjtTextureRole.mjTEXROLE_RGB] = name
    material.texrepeat = [rng.uniform(1, 6)] * 2
    return name


def add_background(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """A sky of one or two colours all around."""
    first = rgb(rng, "white", "light", "grey", "green", "wood", "blue", own=0.5)
    second = first if rng.random() < 0.4 else rgb(rng, "white", "light", "grey", "dark", own=0.4)
    spec.add_texture(
        name="sky", type=mujoco.mjtTexture.mjTEXTURE_SKYBOX, builtin=mujoco.mjtBuiltin.mjBUILTIN_GRADIENT,
        rgb1=first, rgb2=second, width=16, height=16 * 6,
    )  # fmt: skip


def add_lights(spec: mujoco.MjSpec, rng: np.random.Generator) -> None:
    """One to three lamps without shadows, and the camera's own light."""
    headlight = spec.visual.headlight
    ambient, diffuse = rng.uniform(0.1, 0.4), rng.uniform(0.0, 0.45)
    headlight.ambient, headlight.diffuse, headlight.specular = [ambient] * 3, [diffuse] * 3, [0.0] * 3
    for _ in range(1 + int(3 * rng.random())):
        angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 3.0)
        position = np.array([2 * np.cos(angle), 2 * np.sin(angle), height])
        tint = np.minimum(np.maximum(1 + rng.normal(0, 0.06, 3), 0.7), 1.2)
        _add_lamp(spec.worldbody, position, tint * rng.uniform(0.25, 0.7))


def _add_lamp(world: Any, position: NDArray[np.float64], diffuse: NDArray[np.float64]) -> None:
    direction = -position / np.linalg.norm(position)
    world.add_light(
        pos=position, dir=direction, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False,
        diffuse=diffuse, ambient=[0, 0, 0], specular=[0.2] * 3,
    )  # fmt: skip
