"""The gate of a controller in smaller arithmetic: it reaches goals as often as the one that it was made from."""

from deploy.evaluation import entrants
from deploy.evaluation.episodes import Stage, attempt
from robot_wm import console
from robot_wm.contracts.bundle import Bundle
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.evaluation.statistics import wilson

# Pairs of start and goal that no recording counts up to from zero and that no evaluation draws.
VALIDATION_OFFSET, SEED_STRIDE = 500_000, 1_000
FEWEST_PAIRS, MOST_PAIRS = 8, SEED_STRIDE // 2


def closed_loop(embodiment: Embodiment, bundles: dict[str, Bundle], pairs: int, seed: int) -> dict[str, int]:
    """Let each bundle try the same validation pairs in the twin; returns how many each had reached at the end.

    Raises:
        UserError: MuJoCo is not installed, the model file does not load, or nothing can render.
    """
    try:
        from sims import gl
        from sims.robots import load
        from sims.tasks import make
        from sims.twin import Twin
    except ImportError as error:
        raise UserError(
            f"another precision is judged in closed loop, which takes the simulator ({error})",
            "pip install 'robot-wm[sim]', or export with precision=fp32",
        ) from error
    gl.choose_backend()
    simulation = load(embodiment)
    try:
        task = make(simulation)
        stage = Stage(simulation, Twin(simulation, 0.0, seed), task)
        drawn = task.pairs(pairs, VALIDATION_OFFSET + SEED_STRIDE * seed)
        reached = {}
        for name, bundle in bundles.items():
            decider = entrants.learned(name, bundle, None).decider(drawn[0])
            found = [
                attempt(stage, decider, pair, True).episode for pair in console.track(drawn, f"gate {name}", pairs)
            ]
            reached[name] = sum(episode.success_last for episode in found)
        return reached
    finally:
        simulation.close()


def check_closed_loop(reached: dict[str, int], pairs: int, reference: str = "fp32") -> None:
    """Raise UserError when a bundle reaches fewer pairs than the reference's 95 % interval (Wilson) allows."""
    interval = wilson(reached[reference], pairs)
    for name, count in reached.items():
        if count / pairs < interval.low:
            raise UserError(
                f"in {name} the controller reaches {count} of {pairs} validation goals, in {reference}"
                f" {reached[reference]} ({100 * interval.low:.0f} to {100 * interval.high:.0f} %)",
                f"No bundle was written; export with precision={reference}",
            )
