"""Colours of the pages, computed: text that can be read, and series that colour-blind readers can tell apart."""

import itertools
import re

import numpy as np
import pytest
from numpy.typing import NDArray

from robot_wm.page.page import STYLE
from robot_wm.page.plot import COLOURS, DASHES, MARKERS

GROUNDS, TEXT = ("page", "card"), ("ink", "soft", "accent", "good", "bad")
TEXT_CONTRAST, SHAPE_CONTRAST = 4.5, 3.0  # WCAG 2.2: 1.4.3 (AA) and 1.4.11
APART = 15.0  # CIE 1976 distance; about 2.3 is the least that is noticed side by side
# Machado, Oliveira, Fernandes 2009, severity 1: what is left of a linear RGB colour.
BLIND = {
    "none": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def palettes() -> dict[str, dict[str, str]]:
    """The style sheet's variables, light and dark."""
    blocks = re.findall(r":root \{(.*?)\}", STYLE.read_text(encoding="utf-8"), re.DOTALL)
    light, dark = (dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", block)) for block in blocks)
    assert light.keys() == dark.keys() > {*GROUNDS, *TEXT, *COLOURS}
    return {"light": light, "dark": dark}


def linear(colour: str) -> NDArray[np.float64]:
    """sRGB as #rrggbb to linear light in 0 … 1."""
    share = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)


def contrast(one: str, other: str) -> float:
    """WCAG 2: (L1 + 0.05) / (L2 + 0.05)."""
    low, high = sorted(float(linear(c) @ [0.2126, 0.7152, 0.0722]) for c in (one, other))
    return (high + 0.05) / (low + 0.05)


def lab(linear_3: NDArray[np.float64]) -> NDArray[np.float64]:
    """CIE L*a*b* under D65."""
    x, y, z = np.cbrt(_XYZ @ linear_3.clip(0, 1) / _XYZ.sum(1))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_contrast_is_that_of_the_standard() -> None:
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    assert contrast("#777777", "#ffffff") == pytest.approx(4.48, abs=0.01)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_and_shapes_stand_out_from_their_ground(scheme: str) -> None:
    palette = palettes()[scheme]
    for ground in GROUNDS:
        for name in (*TEXT, *COLOURS):
            least = TEXT_CONTRAST if name in TEXT else SHAPE_CONTRAST
            assert contrast(palette[name], palette[ground]) >= least, (name, ground)


@pytest.mark.parametrize("sight", BLIND)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_two_series_look_the_same(scheme: str, sight: str) -> None:
    palette, seen = palettes()[scheme], np.array(BLIND[sight])
    shown = {name: lab(seen @ linear(palette[name])) for name in COLOURS}
    for one, other in itertools.combinations(COLOURS, 2):
        assert np.linalg.norm(shown[one] - shown[other]) >= APART, (one, other)


def test_series_differ_by_more_than_colour() -> None:
    assert len({str(dash) for dash in DASHES.values()}) == len(DASHES) == len(COLOURS)
    assert len(set(MARKERS.values())) == len(COLOURS)
