"""Mappings to dataclasses: what is understood, and refusals that name the field, the value and what is valid."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pytest

from robot_wm.contracts.config import from_mapping, to_mapping
from robot_wm.contracts.errors import UserError


@dataclass(frozen=True)
class Crust:
    colour: Literal["brown", "black"] = "brown"
    salt_g: float = 1.0


@dataclass(frozen=True)
class Loaf:
    name: str
    count: int
    sliced: bool = False
    size_m: tuple[float, float] = (0.1, 0.2)
    flour: tuple[str, ...] = ()
    crust: Crust = field(default_factory=Crust)
    topping: str | None = None
    spare: Crust | None = None
    minutes: dict[str, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


WHOLE: dict[str, Any] = {
    "name": "rye",
    "count": 2,
    "sliced": True,
    "size_m": [1, 0.25],
    "flour": ["rye", "wheat"],
    "crust": {"colour": "black"},
    "topping": None,
    "spare": {"salt_g": 3},
    "minutes": {"rise": 60, "bake": 45.5},
    "notes": {"any": [1, {"deep": None}]},
}


def test_everything_is_built_and_turned_back() -> None:
    loaf = from_mapping(Loaf, WHOLE)
    assert loaf.size_m == (1.0, 0.25)
    assert isinstance(loaf.size_m[0], float)
    assert loaf.crust == Crust("black")
    assert loaf.spare == Crust(salt_g=3.0)
    assert from_mapping(Loaf, to_mapping(loaf)) == loaf


def test_defaults_stand_in_and_built_parts_are_taken() -> None:
    assert from_mapping(Loaf, {"name": "a", "count": 1, "crust": Crust("black")}) == Loaf("a", 1, crust=Crust("black"))


def test_numpy_scalars_become_plain() -> None:
    assert to_mapping({"a": np.float64(0.5), "b": (np.int64(3),)}) == {"a": 0.5, "b": [3]}
    assert type(to_mapping(np.bool_(True))) is bool


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"colour": "red"}, ["loaf: unknown key 'colour'", "Valid keys: name, count, sliced"]),
        ({1: "x", "a": "y"}, ["unknown key"]),
        ({"crust": {"sugar": 1}}, ["loaf.crust: unknown key 'sugar'", "colour, salt_g"]),
        ({"count": "???"}, ["loaf: 'count' is missing", "count=VALUE"]),
        ({"count": "two"}, ["loaf.count is 'two' (str)", "type int"]),
        ({"count": True}, ["loaf.count is True (bool)", "type int"]),
        ({"count": 2.0}, ["loaf.count is 2.0 (float)", "type int"]),
        ({"count": None}, ["loaf.count is None"]),
        ({"name": 7}, ["loaf.name is 7 (int)", "type str"]),
        ({"sliced": 1}, ["loaf.sliced is 1 (int)", "type bool"]),
        ({"crust": {"salt_g": True}}, ["loaf.crust.salt_g is True (bool)", "type float"]),
        ({"crust": {"salt_g": math.nan}}, ["loaf.crust.salt_g is nan", "finite"]),
        ({"crust": {"salt_g": -math.inf}}, ["loaf.crust.salt_g is -inf", "finite"]),
        ({"size_m": [0.1, math.inf]}, ["loaf.size_m[1] is inf", "finite"]),
        ({"minutes": {"bake": math.nan}}, ["loaf.minutes.bake is nan", "finite"]),
        ({"crust": {"colour": "red"}}, ["loaf.crust.colour is 'red'", "brown, black"]),
        ({"crust": {"colour": ["brown"]}}, ["loaf.crust.colour is ['brown']", "brown, black"]),
        ({"crust": "brown"}, ["loaf.crust is 'brown'", "keys of Crust"]),
        ({"spare": {"sugar": 1}}, ["loaf.spare: unknown key 'sugar'"]),
        ({"size_m": [1, 2, 3]}, ["loaf.size_m has 3 values", "Give 2"]),
        ({"size_m": 1}, ["loaf.size_m is 1", "list"]),
        ({"flour": "rye"}, ["loaf.flour is 'rye'", "list"]),
        ({"flour": ["rye", 1]}, ["loaf.flour[1] is 1 (int)"]),
        ({"minutes": [1]}, ["loaf.minutes is [1]", "mapping"]),
        ({"topping": 5}, ["loaf.topping is 5 (int)"]),
    ],
)
def test_refusal_names_field_value_and_what_is_valid(changes: dict[Any, Any], words: list[str]) -> None:
    with pytest.raises(UserError) as caught:
        from_mapping(Loaf, {"name": "rye", "count": 2, **changes}, "loaf")
    for word in words:
        assert word in str(caught.value)
    assert "\n" not in str(caught.value)


def test_missing_key_and_no_mapping() -> None:
    with pytest.raises(UserError, match=r"loaf: 'name' is missing.*valid keys: name, count"):
        from_mapping(Loaf, {"count": 1}, "loaf")
    with pytest.raises(UserError, match=r"loaf is \[1\].*keys of Loaf"):
        from_mapping(Loaf, [1], "loaf")  # type: ignore[arg-type]
