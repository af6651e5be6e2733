"""Batches prepared in threads before they are asked for, without a trace in what is drawn."""

from collections import deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

import torch
from torch import Tensor

Request = TypeVar("Request", bound=Hashable)
Draw = TypeVar("Draw")
Ready = TypeVar("Ready")


@dataclass(frozen=True)
class _Guess(Generic[Request, Ready]):
    """A batch in preparation: what was asked, and the generator's state before and after the draw."""

    request: Request
    before: Tensor
    after: Tensor
    ready: Future[Ready]


class Ahead(Generic[Request, Draw, Ready]):
    """Guesses that the next batch is asked for like the last one, from where the generator then stands.

    A guess is used only if request and state are exactly those that come; otherwise the batch is drawn when it is
    asked for. So the generator passes through the same states with and without guesses, and a training that saves its
    state resumes with the same clips. Guessing starts with the second of two batches in a row.

    Args:
        draw: what a request takes from a generator; quick.
        fetch: the batch of a draw; slow, runs in a thread.
        depth: batches in preparation, each in a thread of its own.
    """

    def __init__(
        self, draw: Callable[[Request, torch.Generator], Draw], fetch: Callable[[Draw], Ready], depth: int = 2
    ):
        self._draw, self._fetch, self._depth = draw, fetch, depth
        self._threads = ThreadPoolExecutor(depth, thread_name_prefix="batches")
        self._guesses: deque[_Guess[Request, Ready]] = deque()
        self._last: Tensor | None = None
        self.hits = 0

    def next(self, request: Request, generator: torch.Generator) -> Ready:
        """The batch of a request; leaves the generator where drawing it leaves it."""
        before = generator.get_state()
        if self._guesses and self._guesses[0].request == request and torch.equal(self._guesses[0].before, before):
            found = self._guesses.popleft()
            self.hits += 1
        else:
            self._forget()
            found = self._prepare(request, before)
        generator.set_state(found.after)
        if self._last is not None and torch.equal(self._last, before):
            while len(self._guesses) < self._depth:
                self._guesses.append(self._prepare(request, (self._guesses or [found])[-1].after))
        self._last = found.after
        return found.ready.result()

    def _prepare(self, request: Request, state: Tensor) -> _Guess[Request, Ready]:
        generator = torch.Generator()
        generator.set_state(state)
        draw = self._draw(request, generator)
        return _Guess(request, state, generator.get_state(), self._threads.submit(self._fetch, draw))

    def _forget(self) -> None:
        for guess in self._guesses:
            guess.ready.cancel()
        self._guesses.clear()
