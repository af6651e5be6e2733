"""The reference of commands and keys, as Markdown: read from the yamls and the config dataclasses, never typed."""

import dataclasses
import inspect
import re
import types
from collections.abc import Iterator, Mapping
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from deploy import cli, command_help
from deploy.request import OPTIONS, typed
from robot_wm.contracts.embodiment import Embodiment

_UNIT = re.compile(r"\[([^\[\]]+)\]")
_ATTRIBUTES = re.compile(r"^\s*Attributes:\s*$")
_PLAIN = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null", Any: "anything"}
_FREE = ("embodiment", "folders")  # keys with a page to themselves, or given by --config-dir


class Entry(NamedTuple):
    """One key as the reference shows it; `default` is empty where it must be given."""

    name: str
    kind: str
    unit: str
    default: str
    meaning: str


def pages() -> dict[str, str]:
    """Every generated page: its path under docs/ and its text."""
    found = {f"reference/commands/{name}.md": command(name) for name in (*cli.STAGES, *cli.OTHERS)}
    return found | {"reference/commands/index.md": overview(), "reference/embodiment.md": embodiment()}


def overview() -> str:
    """All commands, options and exit codes."""
    does = {name: stage.does for name, stage in cli.STAGES.items()} | cli.OTHERS
    lines = [
        "# Commands",
        "",
        "`robot-wm COMMAND [key=value ...] [options]`",
        "",
        "| command | what it does |",
        "|---|---|",
    ]
    lines += [f"| [`{typed(name)}`]({name}.md) | {_cell(what)} |" for name, what in does.items()]
    lines += ["", "## Options of every command", "", "| option | meaning |", "|---|---|"]
    lines += [f"| `{name}` | {_cell(means)} |" for name, means in OPTIONS.items()]
    lines += ["", "`-h`, `-m` and `-q` are short for `--help`, `--multirun` and `--quiet`.", ""]
    lines += ["## Exit codes", "", "| code | meaning |", "|---|---|"]
    lines += [f"| {code} | {_cell(means)} |" for code, means in cli.EXIT_CODES.items()]
    return "\n".join(lines) + "\n"


def command(name: str) -> str:
    """The page of one command."""
    if name in cli.OTHERS:
        return f"# robot-wm {name}\n\n```\n{command_help.other(name, cli.OTHERS[name])}\n```\n"
    stage = cli.STAGES[name]
    function, config = cli.load(stage)
    head = command_help.head(command_help.yaml_of(name)) or f"{stage.does}."
    lines = [f"# robot-wm {typed(name)}", "", _cell(head), "", "```", stage.example, "```", ""]
    lines += ["## Keys", "", *_table(list(entries(name, config))), ""]
    told = inspect.getdoc(function) or ""
    lines += [
        "## What it does",
        "",
        f"Function `{function.__name__}` of `{stage.module}`, with `{config.__name__}`:",
        "",
    ]
    lines += ["```text", told, "```", ""]
    return "\n".join(lines)


def embodiment() -> str:
    """Every key of a robot's yaml."""
    lines = ["# Keys of a robot's yaml", "", "One file `FOLDER/embodiment/NAME.yaml` per body, found by `--config-dir"]
    lines[-1] += (
        " FOLDER` and `embodiment=NAME`; [how to write one](../howto/robot.md). What the MJCF knows is not repeated."
    )
    return "\n".join([*lines, "", *_table(list(_fields(Embodiment))), ""])


def entries(name: str, config: type[Any]) -> Iterator[Entry]:
    """The keys of a stage: those of its yaml, in order, then those that only its dataclass knows."""
    known = {entry.name: entry for entry in _fields(config)}
    groups = command_help.groups(command_help.yaml_of(name))
    seen = set()
    for key in command_help.read_keys(command_help.yaml_of(name)):
        seen.add(key.name)
        typed = known.get(key.name)
        kind = (
            f"name of a yaml in {groups[key.name]}/"
            if key.name in groups
            else typed.kind
            if typed
            else "keys of that command"
        )
        default = "" if key.default == "???" else key.default or "null"
        unit = _UNIT.search(key.comment)
        measured = unit.group(1) if unit else _unit_of(key.name.rpartition(".")[2])
        yield Entry(key.name, kind, measured, default, key.comment or (typed.meaning if typed else ""))
    for entry in known.values():
        if entry.name not in seen and entry.name.partition(".")[0] not in _FREE:
            nested = any(other.startswith(f"{entry.name}.") for other in seen)
            if not nested:
                yield entry


def _fields(config: type[Any], prefix: str = "") -> Iterator[Entry]:
    """The fields of a dataclass, nested ones as `outer.inner`."""
    hints, told = get_type_hints(config), attributes(config)
    for field in dataclasses.fields(config):
        kind, meaning = hints[field.name], told.get(field.name, "")
        inner = _dataclass_of(kind)
        if inner is not None and prefix.count(".") < 3 and field.name not in _FREE:
            yield from _fields(inner, f"{prefix}{field.name}.")
            continue
        unit = _UNIT.search(meaning)
        yield Entry(
            prefix + field.name,
            kind_of(kind),
            unit.group(1) if unit else _unit_of(field.name),
            _default(field),
            meaning,
        )


def attributes(config: type[Any]) -> dict[str, str]:
    """What a dataclass's docstring says of each field (Google style; `a, b: text` counts for both)."""
    found: dict[str, str] = {}
    lines = iter((inspect.getdoc(config) or "").splitlines())
    if not any(_ATTRIBUTES.match(line) for line in lines):
        return found
    names: list[str] = []
    for line in lines:
        start = re.match(r"^ {4}(\w+(?:, \w+)*): (.*)$", line)
        if start:
            names = start.group(1).split(", ")
            found |= dict.fromkeys(names, start.group(2))
        elif line.startswith(" " * 8) and names:
            found |= {name: f"{found[name]} {line.strip()}" for name in names}
        elif line.strip():
            break
    return found


def kind_of(kind: Any) -> str:
    """A type in words that fit a yaml."""
    origin, inner = get_origin(kind), get_args(kind)
    if kind in _PLAIN:
        return _PLAIN[kind]
    if origin is Literal:
        return " or ".join(f"`{choice}`" for choice in inner)
    if origin in (Union, types.UnionType):
        return " or ".join(dict.fromkeys(kind_of(option) for option in inner))
    if origin is tuple:
        if inner[-1] is Ellipsis:
            return f"list of {kind_of(inner[0])}"
        return f"list of {len(inner)}: {', '.join(dict.fromkeys(kind_of(option) for option in inner))}"
    if origin in (dict, Mapping):
        return f"mapping of names to {kind_of(inner[1])}"
    if dataclasses.is_dataclass(kind):
        return f"keys of {kind.__name__}" if isinstance(kind, type) else "keys"
    return getattr(kind, "__name__", str(kind))


def _dataclass_of(kind: Any) -> type[Any] | None:
    options = [kind, *get_args(kind)] if get_origin(kind) in (Union, types.UnionType) else [kind]
    return next((option for option in options if isinstance(option, type) and dataclasses.is_dataclass(option)), None)


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return (
            "null"
            if field.default is None
            else str(field.default).lower()
            if isinstance(field.default, bool)
            else str(field.default)
        )
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return str(made) if not dataclasses.is_dataclass(made) else "its own defaults"
    return ""


def _unit_of(name: str) -> str:
    """The unit that a name carries as its suffix."""
    units = {"_s": "s", "_ms": "ms", "_hz": "Hz", "_rad": "rad", "_m": "m", "_deg": "deg", "_m_s": "m/s", "_px": "px"}
    return next((unit for suffix, unit in sorted(units.items(), key=lambda u: -len(u[0])) if name.endswith(suffix)), "")


def _table(found: list[Entry]) -> list[str]:
    lines = ["| key | type | unit | default | meaning |", "|---|---|---|---|---|"]
    for entry in found:
        default = f"`{_cell(entry.default)}`" if entry.default else "must be given"
        lines.append(
            f"| `{entry.name}` | {_cell(entry.kind)} | {_cell(entry.unit)} | {default} | {_cell(entry.meaning)} |"
        )
    return lines


def _cell(text: str) -> str:
    """Text inside a Markdown table: no bar ends the cell, no bracket starts a tag or a link."""
    return text.replace("|", "\\|").replace("<", "&lt;").replace("[", "\\[")
