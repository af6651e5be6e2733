"""Messages over a local socket: a length, a JSON header, and the bytes of the arrays that it names.

`4 bytes length of the header, big-endian · header · arrays one after the other`. The header is a mapping with `kind`,
any JSON values, and `arrays`: name, dtype and shape of each. Sizes are bounded, dtypes are those listed here, and
nothing that arrives is ever executed or unpickled.
"""

import json
import math
import socket
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError

VERSION = 1
LOOPBACK = ("127.0.0.1", "localhost", "::1")
_MOST_HEADER = 1 << 16
_MOST_ARRAYS = 16
_MOST_BYTES = 1 << 26  # 64 MiB: a 4k picture is 25
_DTYPES = ("uint8", "float32", "float64")
_LENGTH = struct.Struct(">I")


class WireError(ConnectionError):
    """The other side is gone, silent, or speaks something else."""


def send(connection: socket.socket, kind: str, values: dict[str, Any] | None = None, **arrays: NDArray[Any]) -> None:
    """Send one message.

    Raises:
        WireError: the other side is gone.
    """
    named = [[name, str(array.dtype), list(array.shape)] for name, array in arrays.items()]
    header = json.dumps({"kind": kind, **(values or {}), "arrays": named}).encode()
    if len(header) > _MOST_HEADER:
        raise WireError(f"a header of {len(header)} bytes is too long")
    try:
        connection.sendall(_LENGTH.pack(len(header)) + header + b"".join(a.tobytes() for a in arrays.values()))
    except OSError as error:
        raise WireError(f"nothing can be sent ({error})") from error


def receive(connection: socket.socket) -> tuple[str, dict[str, Any], dict[str, NDArray[Any]]]:
    """The next message: its kind, its values, its arrays. The socket's timeout bounds the wait.

    Raises:
        WireError: the other side is gone, silent for longer than the timeout, or what it says is not a message.
    """
    (length,) = _LENGTH.unpack(_exactly(connection, _LENGTH.size))
    if not 0 < length <= _MOST_HEADER:
        raise WireError(f"a header of {length} bytes was announced")
    try:
        header = limits.parse_json(_exactly(connection, length))
        kind, described = str(header.pop("kind")), list(header.pop("arrays"))
        if len(described) > _MOST_ARRAYS:
            raise ValueError(f"{len(described)} arrays")
        shapes = [(str(name), _dtype(dtype), _shape(shape)) for name, dtype, shape in described]
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError) as error:
        raise WireError(f"what arrived is not a message ({error})") from error
    arrays = {}
    for name, dtype, shape in shapes:
        size = dtype.itemsize * math.prod(shape)
        if size > _MOST_BYTES:
            raise WireError(f"{name} of {size} bytes was announced")
        data = _exactly(connection, size)
        arrays[name] = np.frombuffer(data, dtype).reshape(shape).copy()
    return kind, header, arrays


def check_loopback(host: str) -> None:
    """Raise UserError for a host that others could reach: messages carry no proof of who sent them."""
    if host not in LOOPBACK:
        raise UserError(
            f"{host} is not this computer", f"Give one of {', '.join(LOOPBACK)}; to go further, tunnel it (ssh -L)"
        )


def _exactly(connection: socket.socket, size: int) -> bytes:
    parts, left = [], size
    while left:
        try:
            part = connection.recv(min(left, 1 << 20))
        except OSError as error:
            raise WireError(f"nothing arrives ({error})") from error
        if not part:
            raise WireError("the other side has closed the connection")
        parts.append(part)
        left -= len(part)
    return b"".join(parts)


def _dtype(name: Any) -> np.dtype[Any]:
    if name not in _DTYPES:
        raise ValueError(f"dtype {name!r}")
    return np.dtype(name)


def _shape(sizes: Any) -> tuple[int, ...]:
    shape = tuple(int(size) for size in sizes)
    if len(shape) > 4 or any(size < 0 for size in shape):
        raise ValueError(f"shape {shape}")
    return shape
