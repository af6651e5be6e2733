"""Which adapter a body gets: short fits of each kind, judged on episodes that they have not seen."""

import contextlib
from collections.abc import Callable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from calibration.adapter_fit import make_windows
from calibration.candidate import Candidate, Ground, Kind, fit_candidate, with_fitted_encoder
from calibration.time_left import TimeLeft
from robot_wm import console

_TRIAL = 8  # a fit that only chooses has an eighth of the steps


def steps_to_choose(ground: Ground, asked: Kind | Literal["auto"]) -> int:
    """Optimizer steps that `choose` takes on latents known before."""
    tried = len(_kinds(ground, asked))
    return ground.fit.steps + (tried * _steps_of_trial(ground) if tried > 1 else 0)


def choose(
    ground: Ground,
    asked: Kind | Literal["auto"],
    used: NDArray[np.int64],
    held_out: NDArray[np.int64],
    log: Callable[..., None],
    left: TimeLeft,
) -> tuple[Candidate, dict[str, float]]:
    """The adapter that is asked for, or the one that predicts unseen episodes better; and the error of each.

    Args:
        ground: what every fit starts from.
        asked: a kind, or `auto`: short fits choose.
        used, held_out: episodes fitted to, and judged on.
        log: takes losses.
        left: is told how long steps take.
    """
    unseen, kinds = make_windows(ground.transitions, ground.window, held_out), _kinds(ground, asked)
    errors: dict[Kind, float] = {}
    steps = _steps_of_trial(ground)
    if ground.fit.encoder_steps and (len(kinds) > 1 or ground.practice is not None):
        with left.spending("encoder", ground.fit.encoder_steps):  # once: it takes many times as long as all the rest
            ground = with_fitted_encoder(ground, used, log)
    if ground.fit.encoder_steps == 0:
        _ = ground.latents  # the frames are encoded once, which is no part of a step's time
    for kind in kinds if len(kinds) > 1 else ():
        with left.spending("fit", steps):
            errors[kind] = _error(fit_candidate(ground, kind, used, log, steps, unseen))
    best = min(errors, key=lambda kind: errors[kind]) if errors else kinds[0]
    if errors:
        found = ", ".join(f"{kind} {error:.4f}" for kind, error in errors.items())
        console.say(f"adapter: {best} (held-out error after a short fit: {found})")
    with left.spending("fit", ground.fit.steps) if ground.fit.encoder_steps == 0 else contextlib.nullcontext():
        chosen = fit_candidate(ground, best, used, log, unseen=unseen)
    if not errors:
        errors[best] = _error(chosen)
    return chosen, {str(kind): error for kind, error in errors.items()}


def _steps_of_trial(ground: Ground) -> int:
    return max(1, ground.fit.steps // _TRIAL)


def _kinds(ground: Ground, asked: Kind | Literal["auto"]) -> tuple[Kind, ...]:
    """The adapters to be tried; without pretraining nothing ties latent actions to motion, and one is learned."""
    if asked != "auto":
        return (asked,)
    return ("learned", "kinematic") if ground.body.kinematics is not None and ground.pretrained else ("learned",)


def _error(candidate: Candidate) -> float:
    assert candidate.error is not None  # it was fitted with episodes held out
    return candidate.error
