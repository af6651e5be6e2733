"""Mappings (from YAML or JSON) to frozen dataclasses, and errors that name the valid keys."""

import dataclasses
import math
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

from robot_wm.contracts.errors import UserError

T = TypeVar("T")


def configs_dir() -> Path:
    """The shipped configs: inside the package when installed from a wheel, beside it in a checkout."""
    package = Path(__file__).resolve().parents[1]
    return next((p for p in (package / "configs", package.parent / "configs") if p.is_dir()), package / "configs")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str = "config") -> T:
    """Build the dataclass `cls` from a nested mapping.

    Args:
        cls: a dataclass; nested dataclasses, tuples, optional values, literals and `dict[str, X]` are understood.
        values: the mapping; lists become tuples.
        where: the name of the mapping in error messages.

    Raises:
        UserError: an unknown or missing key, a value of the wrong type, or a number that is not finite.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"{where} is {values!r}", f"Give a mapping with the keys of {cls.__name__}")
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    valid = ", ".join(fields)
    unknown = sorted(set(values) - set(fields), key=str)
    if unknown:
        raise UserError(f"{where}: unknown key {unknown[0]!r}", f"Valid keys: {valid}")
    required = {
        name
        for name, f in fields.items()
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    }
    missing = [name for name in fields if name in required and (name not in values or values[name] == "???")]
    if missing:
        raise UserError(f"{where}: {missing[0]!r} is missing", f"Give {missing[0]}=VALUE (valid keys: {valid})")
    hints = get_type_hints(cls)
    built = {name: _convert(hints[name], value, f"{where}.{name}") for name, value in values.items()}
    return cls(**built)


def to_mapping(value: Any) -> Any:
    """The inverse of from_mapping: plain dicts, lists and scalars, ready for JSON."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: to_mapping(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_mapping(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_mapping(item) for item in value]
    return value.item() if isinstance(value, np.generic) else value


def _convert(kind: Any, value: Any, where: str) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in arguments:
            return None
        options = _of_kind([a for a in arguments if a is not type(None)], value, where)
        for option in options[:-1]:
            try:
                return _convert(option, value, where)
            except UserError:
                continue
        return _convert(options[-1], value, where)
    if origin is Literal:
        if value not in arguments:
            raise UserError(f"{where} is {value!r}", f"Choose one of: {', '.join(map(str, arguments))}")
        return value
    if origin is tuple:
        return _convert_tuple(arguments, value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise UserError(f"{where} is {value!r}", "Give a mapping")
        return {str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind):
        return value if isinstance(value, kind) else from_mapping(kind, value, where)  # type: ignore[arg-type]
    return _convert_scalar(kind, value, where)


def _of_kind(options: list[Any], value: Any, where: str) -> list[Any]:
    """Dataclasses that a union offers are told apart by their field `kind`; the first is meant where it is left out."""
    kinds = {
        f.default: o for o in options if dataclasses.is_dataclass(o) for f in dataclasses.fields(o) if f.name == "kind"
    }
    if not kinds or not isinstance(value, Mapping):
        return options
    kind = value.get("kind", next(iter(kinds)))
    if kind not in kinds:
        raise UserError(f"{where}.kind is {kind!r}", f"Choose one of: {', '.join(map(str, kinds))}")
    return [kinds[kind]]


def _convert_tuple(arguments: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if isinstance(value, str) or not isinstance(value, tuple | list):
        raise UserError(f"{where} is {value!r}", "Give a list, such as [1, 2]")
    if arguments[-1] is Ellipsis:
        return tuple(_convert(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(value) != len(arguments):
        raise UserError(f"{where} has {len(value)} values", f"Give {len(arguments)}")
    return tuple(_convert(a, item, f"{where}[{i}]") for i, (a, item) in enumerate(zip(arguments, value, strict=True)))


def _convert_scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            raise UserError(f"{where} is a number of {len(str(abs(value)))} digits", "Give a finite number") from None
    if kind is float and isinstance(value, float) and not math.isfinite(value):
        raise UserError(f"{where} is {value}", "Give a finite number")  # which is also all that JSON can hold
    if isinstance(value, kind) and not (kind in (int, float) and isinstance(value, bool)):
        return value
    raise UserError(f"{where} is {value!r} ({type(value).__name__})", f"Give a value of type {kind.__name__}")
