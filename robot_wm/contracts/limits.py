"""How large things in files from strangers may be: each size is checked before memory is taken for it."""

import json
from typing import Any

from robot_wm.contracts.errors import UserError

JSON_BYTES = 1 << 26  # of one JSON file
YAML_BYTES = 1 << 16  # of one yaml
PIXELS = 1 << 26  # of one picture or frame of video: 8192 x 8192
TABLE_VALUES = 1 << 28  # of one parquet file, lists counted by their entries: 2 GiB as float64
TENSOR_VALUES = 1 << 26  # of one input or output of a controller's graph: 256 MiB as float32
ROW_BYTES = 1 << 28  # of one row of a flight log
LAYER_WIDTH, LAYERS = 1 << 14, 256  # of a network


def refuse_over(what: str, found: int, most: int) -> None:
    """Raise UserError, naming `what`, when `found` is over the limit."""
    if found > most:
        raise UserError(f"{what} is {found:,}", f"At most {most:,} are read; check where the file comes from")


def parse_json(text: str | bytes) -> Any:
    """`json.loads` whose every failure is a ValueError: nesting too deep and numbers too long are not JSON to us."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
