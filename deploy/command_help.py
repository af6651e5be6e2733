"""What `--help` prints: read from the comments in configs/, so that a key and its explanation cannot part."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from robot_wm.contracts.config import configs_dir

_KEY = re.compile(r"^(?P<indent> *)(?P<key>[A-Za-z_][\w]*):(?: +(?P<value>[^#\s].*?))?(?:\s+#\s*(?P<comment>.*))?$")
_DEFAULT = re.compile(
    r"^\s*- /?(?P<group>[\w/]+)(?:@(?P<package>[\w.]+))?(?:: *(?P<choice>[\w.-]+))?\s*(?:#\s*(?P<comment>.*))?$"
)


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


def overview(commands: Mapping[str, str]) -> str:
    """The list of commands."""
    width = max(len(name) for name in commands) + 2
    lines = [f"  {name:<{width}}{does}" for name, does in commands.items()]
    usage = "usage: robot-wm COMMAND [key=value ...] [--config-dir FOLDER]"
    more = "Each command explains itself: robot-wm COMMAND --help. robot-wm --version prints the version."
    return "\n".join([usage, "", "commands:", *lines, "", more])


def stage(name: str, does: str, example: str, config_dirs: Sequence[Path] = ()) -> str:
    """What the stage does, each key with its default and explanation, and an example."""
    path = configs_dir() / "stage" / f"{name}.yaml"
    text = path.read_text(encoding="utf-8") if path.is_file() else ""
    columns = min(shutil.get_terminal_size((120, 24)).columns, 120)
    keys = [key for key in read_keys(text, config_dirs) if not key.default.startswith("${")]  # those follow another
    width = min(max((len(k.shown) for k in keys), default=0), columns // 2) + 2
    lines = [f"usage: robot-wm {name} [key=value ...] [--config-dir FOLDER]", ""]
    lines += [*textwrap.wrap(_head(text) or f"{does}.", columns), "", "keys and their defaults (??? must be given):"]
    for key in keys:
        start = f"  {key.shown}".ljust(width + 2)
        wrapped = textwrap.wrap(key.comment, max(columns - width - 2, 30)) or [""]
        if len(start) > width + 2:
            lines.append(start)
            start = " " * (width + 2)
        lines += [start + wrapped[0], *(" " * (width + 2) + more for more in wrapped[1:])]
    return "\n".join(line.rstrip() for line in [*lines, "", f"example: {example}"])


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


def _head(text: str) -> str:
    """The comment block at the top of a yaml."""
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.lstrip("# "))
    return " ".join(lines)
