"""A yaml from a stranger: read as plain values, or refused before it grows."""

from pathlib import Path
from typing import Any

import yaml

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError

_NODES = 100_000  # with every alias written out
_DEPTH = 10  # what reads a config gives up long before Python does, and says so with a traceback
_REFERENCES = 16  # `${key}` in one file: each can stand for all that others stand for


def read(path: Path) -> Any:
    """The values in a yaml; tags other than those of plain values are refused.

    Raises:
        UserError: it is no yaml, too large, nested too deeply, or grows with its aliases or references.
    """
    limits.refuse_over(f"the size of {path} in bytes", path.stat().st_size, limits.YAML_BYTES)
    try:
        text = path.read_text(encoding="utf-8")
        limits.refuse_over(f"the number of references in {path}", text.count("${"), _REFERENCES)
        node = yaml.compose(text, yaml.SafeLoader)
        limits.refuse_over(f"the number of values in {path}", _size(node, {}), _NODES)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, TypeError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{path} cannot be read ({reason})", "Mend the yaml") from None


def _size(node: Any, known: dict[int, int], depth: int = 0) -> int:
    """Nodes below and with `node`; what an alias repeats counts each time, but is walked once."""
    limits.refuse_over("the depth of nesting in a yaml", depth, _DEPTH)
    if id(node) not in known:
        known[id(node)] = 0  # an alias to what it is inside of adds nothing, and is refused by the reader
        below = [child for pair in node.value for child in pair] if isinstance(node, yaml.MappingNode) else []
        below += node.value if isinstance(node, yaml.SequenceNode) else []
        known[id(node)] = 1 + sum(_size(child, known, depth + 1) for child in below)
    return known[id(node)]
