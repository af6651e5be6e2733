"""A yaml from a stranger: read as plain values, or refused before it grows."""

import re
from collections import Counter
from pathlib import Path
from typing import Any

import yaml

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError

_NODES = 20_000  # with every alias written out
_DEPTH = 32  # with every alias written out: no config has ten levels, and what copies configs recurses
_REFERENCES = 8  # `${key}` in one file: each can stand for all that others stand for
_REFERENCE = re.compile(r"\$\{\w+(\.\w+)*\}")
_FLOAT, _TIMESTAMP = "tag:yaml.org,2002:float", "tag:yaml.org,2002:timestamp"


class _Loader(yaml.SafeLoader):
    """Plain values only. As Hydra reads them: `1e-3` is a number and a date is text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regex) for tag, regex in resolvers if tag != _TIMESTAMP]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_FLOAT, re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789"))


def read(path: Path) -> Any:
    """The values in a yaml: mappings, lists, text, numbers, truths and null, nested no deeper than they are useful.

    Raises:
        UserError: it is no yaml, too large, nested too deeply, grows with its aliases or references, holds a tag
            (`!!x`), a key twice, or something like `${oc.env:HOME}` that is more than the name of another key.
    """
    limits.refuse_over(f"the size of {path} in bytes", path.stat().st_size, limits.YAML_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
        _refuse_references(path, text)
        tagged = next((event.tag for event in yaml.parse(text, _Loader) if getattr(event, "tag", None)), None)
        if tagged is not None:
            raise ValueError(f"the tag {tagged!r} is none of plain values")
        loader = _Loader(text)
        node = loader.get_single_node()
        nodes, depth = _extent(node, {})
        limits.refuse_over(f"the number of values in {path}", nodes, _NODES)
        limits.refuse_over(f"the depth of nesting in {path}", depth, _DEPTH)
        return None if node is None else loader.construct_document(node)
    except (yaml.YAMLError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason})", "Mend the yaml") from None


def _refuse_references(path: Path, text: str) -> None:
    found = text.count("${")
    limits.refuse_over(f"the number of references in {path}", found, _REFERENCES)
    if found != sum(1 for _ in _REFERENCE.finditer(text)):
        raise UserError(f"{path} holds a ${{…}} that is not the name of a key", "Write the value itself")


def _extent(node: yaml.Node | None, known: dict[int, tuple[int, int] | None]) -> tuple[int, int]:
    """Nodes below and with `node`, and levels; what an alias repeats counts each time, but is walked once."""
    if id(node) in known:
        extent = known[id(node)]
        if extent is None:
            raise ValueError("an alias stands inside of what it repeats")
        return extent
    known[id(node)] = None
    below: list[yaml.Node] = node.value if isinstance(node, yaml.SequenceNode) else []
    if isinstance(node, yaml.MappingNode):
        keys = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode))
        if twice := [key for key, times in keys.items() if times > 1]:
            raise ValueError(f"the key {twice[0]!r} stands there twice")
        below = [child for pair in node.value for child in pair]
    extents = [_extent(child, known) for child in below]
    known[id(node)] = found = (1 + sum(n for n, _ in extents), 1 + max((depth for _, depth in extents), default=0))
    return found
