"""How many cores a computation takes."""

import contextlib
from collections.abc import Iterator

import torch


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """One core for products too small to be shared.

    On two idle cores a step of the fit took as long with two threads as with one, and ten times as long where another
    process wanted one of them: each waits for the other at every product.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
