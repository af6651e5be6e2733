"""What makes two pictures of the same motion differ: colours, textures, lights, background."""

import colorsys
from dataclasses import dataclass
from typing import Any

import mujoco
import numpy as np
from numpy.typing import NDArray

_NAMED = {  # what robots, tables and laboratories are mostly painted with
    "white": (0.93, 0.93, 0.93), "light": (0.75, 0.76, 0.78), "grey": (0.45, 0.46, 0.48), "dark": (0.2, 0.2, 0.22),
    "black": (0.07, 0.07, 0.08), "blue": (0.09, 0.4, 0.75), "orange": (0.95, 0.45, 0.08), "yellow": (0.92, 0.78, 0.1),
    "red": (0.75, 0.12, 0.12), "green": (0.15, 0.5, 0.25), "wood": (0.65, 0.48, 0.3),
}  # fmt: skip
_TEXTURE_PX = 64


def rgb(rng: np.random.Generator, *names: str, own: float = 0.4) -> NDArray[np.float64]:
    """One of the named colours, slightly varied, or (with probability `own`) any colour; (3,) in 0..1."""
    if rng.random() < own:
        hue, saturation, value = rng.random(), rng.uniform(0.1, 0.95), rng.uniform(0.25, 1.0)
        return np.array(colorsys.hsv_to_rgb(hue, saturation, value))
    name = names[rng.integers(len(names))]
    return np.clip(np.array(_NAMED[name]) + rng.normal(0, 0.04, 3), 0, 1)


@dataclass(frozen=True)
class Colours:
    """The paint of one arm: two or three colours that its parts share."""

    paints: NDArray[np.float64]
    odds: NDArray[np.float64]

    @classmethod
    def of_arm(cls, rng: np.random.Generator) -> "Colours":
        main = rgb(rng, "white", "white", "light", "grey", "dark", "black", "blue", "orange", "yellow", own=0.2)
        second = rgb(rng, "blue", "grey", "dark", "black", "light", "white", "orange", "red", own=0.3)
        third = rgb(rng, "grey", "dark", "black", "white", own=0.3)
        return cls(np.stack([main, second, third]), np.array([0.5, 0.35, 0.15]))

    def draw(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """RGBA of one part."""
        return np.append(self.paints[rng.choice(3, p=self.odds)], 1.0)

    def draw_tip(self, rng: np.random.Generator) -> NDArray[np.float64]:
        """RGBA of a finger or a tip: mostly dark."""
        return np.append(rgb(rng, "dark", "black", "grey", own=0.3), 1.0)


def add_material(spec: mujoco.MjSpec, name: str, base: NDArray[np.float64], rng: np.random.Generator) -> str:
    """A matt material in the given colour: plain, checked, or with a fading towards another colour."""
    material = spec.add_material(name=name, specular=rng.uniform(0, 0.3), shininess=rng.uniform(0, 0.4), reflectance=0)
    kind = rng.choice(["plain", "checker", "gradient"], p=[0.55, 0.25, 0.2])
    if kind == "plain":
        material.rgba = [*base, 1.0]
        return name
    other = np.clip(base + rng.normal(0, 0.15, 3), 0, 1)
    builtin = mujoco.mjtBuiltin.mjBUILTIN_CHECKER if kind == "checker" else mujoco.mjtBuiltin.mjBUILTIN_GRADIENT
    spec.add_texture(
        name=name, type=mujoco.mjtTexture.mjTEXTURE_2D, builtin=builtin, rgb1=base, rgb2=other,
        width=_TEXTURE_PX, height=_TEXTURE_PX,
    )  # fmt: skip
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
    for _ in range(rng.integers(1, 4)):
        angle, height = rng.uniform(-np.pi, np.pi), rng.uniform(0.8, 3.0)
        position = np.array([2 * np.cos(angle), 2 * np.sin(angle), height])
        tint = np.clip(1 + rng.normal(0, 0.06, 3), 0.7, 1.2)
        _add_lamp(spec.worldbody, position, tint * rng.uniform(0.25, 0.7))


def _add_lamp(world: Any, position: NDArray[np.float64], diffuse: NDArray[np.float64]) -> None:
    direction = -position / np.linalg.norm(position)
    world.add_light(
        pos=position, dir=direction, type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL, castshadow=False,
        diffuse=diffuse, ambient=[0, 0, 0], specular=[0.2] * 3,
    )  # fmt: skip
