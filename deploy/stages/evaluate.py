"""Closed-loop success of a controller from goal images, beside references on the same starts and goals."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from deploy.drivers.twin import check_embodiment
from deploy.evaluation import entrants, references
from deploy.evaluation.entrants import Entrant
from deploy.evaluation.episodes import Attempt, Stage, attempt, film
from deploy.evaluation.references import Decider, OracleConfig
from robot_wm import console
from robot_wm.contracts import config as contract_config
from robot_wm.contracts import files
from robot_wm.contracts.bundle import HEAD_FILE, Bundle, read_bundle
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Run, machine, open_run
from robot_wm.data import video
from robot_wm.evaluation import results
from robot_wm.evaluation.results import EVALUATION_FILE, ControllerResult, Evaluation, Video
from sims.pairs import Pair, Task
from sims.robots import load, model_inputs
from sims.tasks import make
from sims.twin import Twin

# Every goal of an evaluation lies beyond every seed that recording counts up from zero, and each evaluation seed has
# a range of its own: neither a calibration log nor another evaluation shares a pair with it.
HELD_OUT_OFFSET = 1_000_000
SEED_STRIDE = 10_000
VIDEO_CRF = 28  # videos are for people, and go into a report by the dozen


@dataclass(frozen=True)
class EvaluateConfig:
    """Configuration of `robot-wm evaluate`.

    Attributes:
        bundle: export run or bundle folder of the controller.
        embodiment: the body; the bundle must have been made for it.
        scratch_bundle: a controller of the same architecture without pretraining, to be measured beside it.
        task: what the goals are about; None: what the body's environment is made for, else reach.
        goals: pairs of start and goal; pairs that are solved at the start are not among them.
        references: any of random, hold, oracle.
        oracle: size of the oracle's search.
        severity: how far the twin is from its model (0: it is the model); the truth stands in truth.json.
        preset: which faults the severity turns up.
        videos_reached, videos_missed: most attempts of each learned controller that are filmed.
        video_px: height of the camera's picture in the videos [px].
        num_threads: threads of ONNX Runtime; 0 is one per core.
    """

    bundle: str
    embodiment: Embodiment
    scratch_bundle: str | None = None
    task: str | None = None
    goals: int = 25
    references: tuple[str, ...] = references.NAMES
    oracle: OracleConfig = field(default_factory=OracleConfig)
    severity: float = 0.0
    preset: str = "all"
    videos_reached: int = 3
    videos_missed: int = 6
    video_px: int = 288
    num_threads: int = 0
    name: str = "evaluate"
    out: str = "runs"
    seed: int = 0


@dataclass(frozen=True)
class Saved:
    """All that one controller contributed, as it is kept until all are done."""

    result: ControllerResult
    videos: tuple[Video, ...]


def evaluate(config: EvaluateConfig) -> Path:
    """Measure; returns the run folder with `evaluation.json` and `videos/`.

    Each controller's attempts are saved when it is done: a restarted evaluation goes on with the next one.

    Raises:
        UserError: a bundle of another body, an unknown reference, a task that is impossible for the body, or a body
            that reaches too few goals.
    """
    _check(config)
    bundles = {"model": _bundle(config.bundle, config.embodiment)}
    inputs = {"bundle": Path(config.bundle)} | model_inputs(config.embodiment)
    if config.scratch_bundle is not None:
        bundles["scratch"] = _bundle(config.scratch_bundle, config.embodiment)
        inputs["scratch_bundle"] = Path(config.scratch_bundle)
    simulation = load(config.embodiment)
    try:
        task = make(simulation, config.task)  # one that is impossible is refused before a run folder appears
        with open_run(Path(config.out), "evaluate", config.name, config, inputs) as run:
            if run.complete:
                console.say(f"evaluate: already done with the same inputs: {run.path}")
            else:
                _measure(run, config, task, bundles)
            return run.path
    finally:
        simulation.close()


def _check(config: EvaluateConfig) -> None:
    unknown = [name for name in config.references if name not in references.NAMES]
    if unknown:
        raise UserError(f"reference {unknown[0]!r} is not known", f"Choose among: {', '.join(references.NAMES)}")
    for name, value, low in (("goals", config.goals, 1), ("video_px", config.video_px, 16), ("seed", config.seed, 0)):
        if value < low:
            raise UserError(f"{name} is {value}", f"Give {low} or more")
    if config.goals > SEED_STRIDE // 2:
        raise UserError(f"goals is {config.goals}", f"Give {SEED_STRIDE // 2} or fewer")


def _bundle(path: str, embodiment: Embodiment) -> Bundle:
    bundle = read_bundle(Path(path))
    check_embodiment(embodiment, bundle.spec, path)
    return bundle


def goal_seed(seed: int) -> int:
    """The first seed of the held-out pairs that belong to an evaluation's `seed`."""
    return HELD_OUT_OFFSET + SEED_STRIDE * seed


def _measure(run: Run, config: EvaluateConfig, task: Task, bundles: dict[str, Bundle]) -> None:
    simulation = task.simulation
    twin = Twin(simulation, config.severity, config.seed, config.preset)
    stage = Stage(simulation, twin, task)
    if config.severity:
        twin.truth.save(run.path)
    pairs = task.pairs(config.goals, goal_seed(config.seed))
    saved = [_controller(run, config, stage, pairs, e) for e in _entrants(config, task, bundles)]
    found = tuple(item.result for item in saved)
    evaluation = Evaluation(
        schema=results.SCHEMA,
        embodiment=config.embodiment.name,
        embodiment_sha256=config.embodiment.digest(),
        task=task.name,
        threshold_m=task.threshold_m,
        step_s=1 / config.embodiment.control_rate_hz,
        ticks=task.max_steps,
        goal_seed=goal_seed(config.seed),
        controllers=found,
        differences=results.differences(found),
        videos=tuple(v for item in saved for v in item.videos),
        machine=machine(),
    )
    results.write_evaluation(run.path, evaluation)
    outputs = [EVALUATION_FILE, *(["videos"] if evaluation.videos else [])]
    run.finish(outputs, metrics=_figures(evaluation), embodiment_sha256=evaluation.embodiment_sha256)
    _show(evaluation)


def _entrants(config: EvaluateConfig, task: Task, bundles: dict[str, Bundle]) -> list[Entrant]:
    """Learned controllers, the first one's head alone, then the references asked for, which obey the first's limits."""
    spec, threads = bundles["model"].spec, config.num_threads or None
    head = [entrants.learned("head", bundles["model"], threads, "head")] if HEAD_FILE in spec.files else []
    return [
        *(entrants.learned(name, bundle, threads) for name, bundle in bundles.items()),
        *head,
        *(entrants.reference(n, spec, task, config.seed, config.oracle) for n in config.references),
    ]


def _controller(run: Run, config: EvaluateConfig, stage: Stage, pairs: Sequence[Pair], entrant: Entrant) -> Saved:
    """Attempt all pairs with one controller, or read what an interrupted run had saved."""
    folder = run.path / "controllers"
    folder.mkdir(exist_ok=True)
    file = folder / f"{entrant.name}.json"
    if file.is_file():
        console.say(f"{entrant.name}: its attempts were saved by an earlier run")
        return contract_config.from_mapping(Saved, files.read_json(file), str(file))
    learned = entrant.kind == "model"
    if learned:
        _warm_up(stage, entrant.decider(pairs[0]), pairs[0])
    tracked = console.track(pairs, f"evaluate {entrant.name}", len(pairs))
    found = [attempt(stage, entrant.decider(pair), pair, learned) for pair in tracked]
    result = results.summarize(entrant.name, entrant.kind, [a.episode for a in found])
    videos = (
        _film(run.path, config, stage, list(zip(found, pairs, strict=True)), entrant.name) if entrant.filmed else ()
    )
    saved = Saved(result, videos)
    files.write_json(file, contract_config.to_mapping(saved))
    return saved


def _warm_up(stage: Stage, decider: Decider, pair: Pair) -> None:
    """The first call of a graph allocates its memory; a robot's controller has long done so when it is needed."""
    stage.task.start(pair)
    stage.twin.reset()
    decider.set_goal(pair.goal_frame)
    observation, spec = stage.twin.read(), decider.spec
    held_U = spec.command.hold(np.zeros(spec.command.dim))
    pending = (np.tile(held_U, (spec.ahead, spec.command.frame_skip, 1)),) if spec.ahead else ()
    for _ in range(2):
        decider.step(observation.frame_YXC, observation.proprio_P, *pending)


def _film(
    root: Path, config: EvaluateConfig, stage: Stage, attempts: Sequence[tuple[Attempt, Pair]], name: str
) -> tuple[Video, ...]:
    reached = [pair for pair in attempts if pair[0].episode.success_last][: config.videos_reached]
    missed = [pair for pair in attempts if not pair[0].episode.success_last][: config.videos_missed]
    camera = config.embodiment.camera
    size = (config.video_px, round(config.video_px * camera.width / camera.height))
    rate_hz = config.embodiment.control_rate_hz
    (root / "videos").mkdir(exist_ok=True)
    made = []
    for found, pair in console.track([*reached, *missed], f"film {name}"):
        outcome = "reached" if found.episode.success_last else "missed"
        path = f"videos/{name}-{pair.seed}-{outcome}.mp4"
        video.encode(root / path, film(stage, found, pair, 1 / rate_hz, size), rate_hz, crf=VIDEO_CRF)
        made.append(Video(path, name, pair.seed, found.episode.success_last))
    return tuple(made)


def _figures(evaluation: Evaluation) -> dict[str, dict[str, float]]:
    """What the manifest keeps, by controller: shares of success and latencies."""
    found = {}
    for controller in evaluation.controllers:
        figures = {
            "success_last": controller.success_last.interval.value,
            "success_any": controller.success_any.interval.value,
            "final_distance_m": controller.final_distance_m.median,
        }
        if (latency := controller.latency) is not None:
            figures |= {k: getattr(latency, k).value for k in ("p50_ms", "p95_ms", "p99_ms")}
        found[controller.name] = figures
    return found


def _show(evaluation: Evaluation) -> None:
    rows = []
    for controller in evaluation.controllers:
        last, spread, latency = controller.success_last, controller.final_distance_m, controller.latency
        rows.append(
            (
                controller.name,
                f"{last.successes}/{last.trials}",
                f"{100 * last.interval.low:.0f} to {100 * last.interval.high:.0f} %",
                f"{controller.success_any.successes}/{last.trials}",
                f"{100 * spread.median:.1f} ({100 * spread.q1:.1f} to {100 * spread.q3:.1f})",
                f"{latency.p50_ms.value:.0f} / {latency.p95_ms.value:.0f} / {latency.p99_ms.value:.0f}"
                if latency
                else "",
            )
        )
    columns = ("controller", "at the end", "95 % interval", "at any tick", "distance left [cm]", "p50 / p95 / p99 [ms]")
    console.table(f"{evaluation.task} within {100 * evaluation.threshold_m:g} cm from goal images", columns, rows)
