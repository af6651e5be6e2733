"""The whole path: success of the demo's controller beside its references, its latency, and where the time goes."""

from datetime import UTC, datetime
from pathlib import Path

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from deploy.cli import run_stage
from deploy.lineage import locate
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Manifest, read_run
from robot_wm.evaluation.results import ControllerResult, Evaluation, read_evaluation

_QUICK = (  # shows that everything works, in a minute or two; far too little data and training to control well
    "calibrate.transitions=100",
    "calibrate.fit.steps=200",
    "calibrate.head.steps=50",
    "calibrate.curve_steps=0",
    "scratch.fit.encoder_steps=20",
    "evaluate.goals=3",
)
_TARGETS = {"success": 0.5, "total_s": 300.0, "p95_ms": 200.0}  # full size on 2 cores; 200 ms is one model step


def pipeline(config: BenchConfig) -> list[Row]:
    """Run the demo (or read the finished run `config.demo`) and turn its evaluation and manifests into rows.

    Raises:
        UserError: `config.demo` is not a finished demo run, or a stage refuses.
    """
    demo = Path(config.demo) if config.demo else _run(config)
    manifest = read_run(demo, "demo")
    evaluated = locate(Path(manifest.inputs["evaluate"].path), demo)
    if evaluated is None:
        raise UserError(f"{manifest.inputs['evaluate'].path} of {demo} does not exist", "Run robot-wm demo again")
    evaluation = read_evaluation(evaluated)
    targets = _TARGETS if config.size == "full" else {}
    return [*_success(evaluation, targets), *_latency(evaluation, targets), *_times(manifest, targets)]


def _run(config: BenchConfig) -> Path:
    """A demo in a folder of its own: a measurement must not find the runs of an earlier one."""
    out = Path(config.out) / "bench" / f"{datetime.now(UTC):%Y%m%dT%H%M%S}"
    sizes = _QUICK if config.size == "quick" else ()
    caches = [f"{stage}.cache={out / 'cache'}" for stage in ("pretrain", "calibrate")]
    demo = run_stage("demo", [f"out={out}", f"seed={config.seed}", *sizes, *caches])
    assert demo is not None
    return demo


def _success(evaluation: Evaluation, targets: dict[str, float]) -> list[Row]:
    random = evaluation.controller("random")
    reference = random.success_last.interval.value if random else None
    rows = [
        _share(controller, reference, targets.get("success") if controller.name == "model" else None)
        for controller in evaluation.controllers
    ]
    for found in evaluation.differences:
        claimed = found.b in ("random", "hold")  # that it beats these two, beyond chance, is what the demo claims
        rows.append(
            Row(
                f"success: {found.a} minus {found.b}, lower end of 95 %",
                found.interval.low,
                n=len(evaluation.controllers[0].episodes),
                reference=found.interval.value,
                target=0.0 if claimed and targets else None,
            )
        )
    return rows


def _share(controller: ControllerResult, reference: float | None, target: float | None) -> Row:
    share = controller.success_last
    return Row(
        f"success at the last step: {controller.name}",
        share.interval.value,
        n=share.trials,
        low=share.interval.low,
        high=share.interval.high,
        reference=None if controller.name == "random" else reference,
        target=target,
    )


def _latency(evaluation: Evaluation, targets: dict[str, float]) -> list[Row]:
    model = evaluation.controller("model")
    if model is None or model.latency is None:
        return []
    return [
        Row(
            f"decision, image in to commands out: {name.removesuffix('_ms')}",
            found.value,
            unit="ms",
            n=model.latency.decisions,
            low=found.low,
            high=found.high,
            target=targets.get(name),
            better="lower",
        )
        for name in ("p50_ms", "p95_ms", "p99_ms")
        for found in (getattr(model.latency, name),)
    ]


def _times(demo: Manifest, targets: dict[str, float]) -> list[Row]:
    walls = {name.removesuffix("_s"): float(value) for name, value in demo.metrics.items() if name.endswith("_s")}
    rows = [Row(f"wall time: {name}", value, unit="s") for name, value in walls.items()]
    return [
        *rows,
        Row("wall time: all stages", sum(walls.values()), unit="s", target=targets.get("total_s"), better="lower"),
    ]
