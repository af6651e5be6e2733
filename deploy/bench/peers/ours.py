"""Our own entries, and the references that stand beside everyone."""

from dataclasses import replace
from pathlib import Path

from deploy.bench.arena import Decide, at_once, drawn, holding, searching
from deploy.bench.budget import planner_named
from deploy.bench.peers.contest import Contest, Entrant, Outcome, count, digest, judge
from robot_wm.contracts import run
from robot_wm.planning.controllable import Controllable, load_controllable
from robot_wm.planning.planner import Planner, PlannerConfig


def search(contest: Contest) -> Outcome:
    """The controller as it ships: the search from the command head's plan."""
    return _fly(contest, planner_named("cem"))


def search_alone(contest: Contest) -> Outcome:
    """The same without the head: what other searches are to be compared with."""
    return _fly(contest, replace(planner_named("cem"), propose=0.0))


def head(contest: Contest) -> Outcome:
    """The command head alone, no search."""
    return _fly(contest, planner_named("cem"), head_alone=True)


def oracle(contest: Contest) -> Outcome:
    """Sampling in the true dynamics and the true state, as MuJoCo MPC and judo do: the upper reference."""
    with contest.arena() as arena:
        successes = int(arena.oracle(contest.seed).sum())
        return Outcome(
            pairs=digest(arena.pairs), successes=successes, trials=len(arena.pairs), labels=0,
            remark="is told state and goal, and plans in the simulator itself", revision=run.git_revision(),
        )  # fmt: skip


def random(contest: Contest) -> Outcome:
    """Random plans."""
    ground = parts(contest, planner_named("cem"))
    with contest.arena() as arena:
        drawing = Entrant(ground.encoder, lambda seed: drawn(ground.command, seed), ground.planner.body.history)
        return judge(arena, drawing, contest.seed)


def hold(contest: Contest) -> Outcome:
    """Stays where it is."""
    ground = parts(contest, planner_named("cem"))
    with contest.arena() as arena:
        still = Entrant(ground.encoder, lambda seed: holding(ground.command), ground.planner.body.history)
        return judge(arena, still, contest.seed)


def parts(contest: Contest, size: PlannerConfig) -> Controllable:
    """The calibrated model."""
    assert contest.calibration is not None
    return load_controllable(Path(contest.calibration), size, ahead=0)


def _fly(contest: Contest, size: PlannerConfig, head_alone: bool = False) -> Outcome:
    ready = parts(contest, size)
    body, one_shot = ready.planner.body, ready.one_shot
    planner = Planner(size, body, head=one_shot.head if one_shot else None).eval()
    if head_alone:
        assert one_shot is not None
        heads = one_shot

    def decide(seed: int) -> Decide:
        return at_once(heads) if head_alone else searching(planner, seed)

    learned = [ready.encoder, body, *([one_shot.head] if one_shot else [])]
    train_s = run.read_run(Path(contest.calibration or ""), "calibrate").wall_s
    entrant = Entrant(ready.encoder, decide, body.history, contest.transitions, train_s, 0, count(*learned))
    with contest.arena() as arena:
        return judge(arena, entrant, contest.seed)
