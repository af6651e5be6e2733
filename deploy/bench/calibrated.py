"""Bodies that were calibrated for a benchmark: recorded once, calibrated once, found again by every part that asks."""

import fcntl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from deploy.cli import run_stage

BODIES = Path(__file__).parent / "bodies"  # of the benchmarks alone, as a user's own would be
FROM_SCRATCH = ("pretrained=false", "fit.encoder_steps=300", "fit.encoder_learning_rate=0.001")
_WORKERS = 2


def stage(name: str, folder: Path, seed: int, *overrides: str) -> Path:
    """Run a stage whose results stay in `folder`; one that is finished is found again.

    Raises:
        UserError: whatever the stage refuses.
    """
    found = run_stage(name, [f"out={folder}", f"seed={seed}", *overrides], [BODIES])
    assert found is not None
    return found


def recorded(folder: Path, body: str, transitions: int, seed: int) -> Path:
    """A log of the body as its model says."""
    with _alone(folder / f"record-{body}-{transitions}-{seed}.lock"):
        return stage(
            "record", folder, seed, f"embodiment={body}", f"transitions={transitions}", f"workers={_WORKERS}"
        )  # fmt: skip


def calibrated(
    folder: Path, body: str, transitions: int, seed: int, source: Sequence[str], pretrained: bool = True,
    more: Sequence[str] = (),
) -> Path:  # fmt: skip
    """The body calibrated to the first `transitions` of a log, without what success does not depend on.

    Args:
        folder: of the benchmark.
        body: its embodiment.
        transitions: labelled ones.
        seed: of everything random.
        source: where they come from: `data=LOG`, or a twin.
        pretrained: false: from random weights.
        more: further overrides.
    """
    form = "pretrained" if pretrained else "scratch"
    label = "-".join((body, str(transitions), form, str(seed), *(word for word in source if "data=" not in word)))
    with _alone(folder / f"calibrate-{label}.lock"):
        return stage(
            "calibrate", folder, seed, f"embodiment={body}", f"cache={folder / 'cache' / label}",
            f"transitions={transitions}", "body.identify=false", "curve_steps=0", *source,
            *(() if pretrained else FROM_SCRATCH), *more,
        )  # fmt: skip


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """One process at a time; those that come later wait."""
    with path.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
