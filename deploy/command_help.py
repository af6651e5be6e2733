"""What `--help` prints: read from the comments in configs/, so that a key and its explanation cannot part."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from deploy.request import OPTIONS, PARTS, typed
from robot_wm.contracts.config import configs_dir

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w]*):(?: +(?P<value>[^#\s].*?))?(?:\s+#\s*(?P<comment>.*))?$")
_DEFAULT = re.compile(
    r"^\s*- /?(?P<group>[\w/]+)(?:@(?P<package>[\w.]+))?(?:: *(?P<choice>[\w.-]+))?\s*(?:#\s*(?P<comment>.*))?$"
)


ARGUMENT = {"lineage": "RUN", "doctor": "", "completion": "bash, zsh or fish"}  # of commands without a config
_MORE = {
    "lineage": "Exit code 1 when something is missing or altered.",
    "doctor": "Exit code 1 when something is wrong; each line that is not in order says what to do.",
    "completion": 'bash: eval "$(robot-wm completion bash)" in ~/.bashrc\n'
    "zsh:  robot-wm completion zsh > a folder of $fpath/_robot-wm\n"
    "fish: robot-wm completion fish > ~/.config/fish/completions/robot-wm.fish",
}


class Key(NamedTuple):
    """One key of a stage's yaml."""

    name: str
    default: str
    comment: str

    @property
    def shown(self) -> str:
        """As it would be typed; a group of keys has no value of its own."""
        return f"{self.name}={self.default}" if self.default else self.name


def choices(group: str, config_dirs: Sequence[Path] = ()) -> list[str]:
    """The names that a group such as `embodiment` can take."""
    return sorted({p.stem for root in (configs_dir(), *config_dirs) for p in (root / group).glob("*.yaml")})


def overview(commands: Mapping[str, str], exit_codes: Mapping[int, str]) -> str:
    """The list of commands, options and exit codes."""
    width = max(len(typed(name)) for name in (*commands, *OPTIONS)) + 2
    return "\n".join(
        [
            "usage: robot-wm COMMAND [key=value ...] [options]",
            "",
            "commands:",
            *(f"  {typed(name):<{width}}{does}" for name, does in commands.items()),
            "",
            "options of every command:",
            *(f"  {name:<{width}}{means}" for name, means in OPTIONS.items()),
            "",
            "exit codes:",
            *(f"  {code:<{width}}{means}" for code, means in exit_codes.items()),
            "",
            "Each command explains itself: robot-wm COMMAND --help. robot-wm --version prints the version.",
        ]
    )


def other(name: str, does: str) -> str:
    """What a command without a config does."""
    return f"usage: robot-wm {name} {ARGUMENT[name]}".rstrip() + f"\n\n{does}.\n{_MORE[name]}"


def stage(name: str, does: str, example: str, config_dirs: Sequence[Path] = ()) -> str:
    """What the stage does, each key with its default and explanation, and an example."""
    text = yaml_of(name)
    columns = min(shutil.get_terminal_size((120, 24)).columns, 120)
    keys = [key for key in read_keys(text, config_dirs) if not key.default.startswith("${")]  # those follow another
    width = min(max((len(k.shown) for k in keys), default=0), columns // 2) + 2
    lines = [f"usage: robot-wm {typed(name)} [key=value ...] [options]", ""]
    lines += [*textwrap.wrap(head(text) or f"{does}.", columns), "", "keys and their defaults (??? must be given):"]
    for key in keys:
        start = f"  {key.shown}".ljust(width + 2)
        wrapped = textwrap.wrap(key.comment, max(columns - width - 2, 30)) or [""]
        if len(start) > width + 2:
            lines.append(start)
            start = " " * (width + 2)
        lines += [start + wrapped[0], *(" " * (width + 2) + more for more in wrapped[1:])]
    if name == "calibrate":
        lines += ["", "parts that run alone: " + ", ".join(f"robot-wm {typed(part)}" for part in PARTS)]
    return "\n".join(line.rstrip() for line in [*lines, "", f"example: {example}"])


def yaml_of(stage: str) -> str:
    """The text of a stage's yaml; empty where it has none."""
    path = configs_dir() / "stage" / f"{stage}.yaml"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def groups(text: str) -> dict[str, str]:
    """The keys of a yaml whose value is the name of another yaml, and the folder of configs/ that it lies in."""
    found = (_DEFAULT.match(line) for line in text.partition("\ndefaults:")[2].splitlines())
    named = [match for match in found if match and match["group"] != "_self_" and "/" not in match["group"]]
    return {match["package"] or match["group"]: match["group"] for match in named}


def read_keys(text: str, config_dirs: Sequence[Path] = ()) -> Iterator[Key]:
    """The keys of a yaml in order, nested ones as `outer.inner`, groups with what they can be."""
    path: list[tuple[int, str]] = []
    in_defaults = False
    for line in text.splitlines():
        found = _KEY.match(line)
        if in_defaults and (group := _DEFAULT.match(line)):
            yield from _group(group, config_dirs)
        if not found:
            continue
        indent = len(found["indent"])
        in_defaults = indent == 0 and found["key"] == "defaults"
        path = [(i, k) for i, k in path if i < indent] + [(indent, found["key"])]
        if not in_defaults and (found["value"] or found["comment"]):
            yield Key(".".join(k for _, k in path), found["value"] or "", found["comment"] or "")


def _group(found: re.Match[str], config_dirs: Sequence[Path]) -> Iterator[Key]:
    group, package, choice = found["group"], found["package"], found["choice"]
    if group == "_self_":
        return
    if group.startswith("stage/"):
        yield Key(f"{package}.KEY", "...", f"any key of robot-wm {group.removeprefix('stage/')}")
        return
    comment = ". ".join(c for c in (found["comment"], f"One of: {', '.join(choices(group, config_dirs))}") if c)
    yield Key(package or group, choice or "", comment)
    path = configs_dir() / group / f"{choice}.yaml"
    if group != "embodiment" and path.is_file():  # a body's values are explained in its own file
        for key in read_keys(path.read_text(encoding="utf-8")):
            yield key._replace(name=f"{package or group}.{key.name}")


def head(text: str) -> str:
    """The comment block at the top of a yaml."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)
