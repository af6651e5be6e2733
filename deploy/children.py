"""Processes that run beside ours."""

import subprocess

_PATIENCE_S = 10.0  # to end by itself once it was told to


def end(child: "subprocess.Popen[bytes]") -> None:
    """Tell a child to end, and end it where it does not."""
    child.terminate()
    try:
        child.wait(_PATIENCE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait(_PATIENCE_S)
