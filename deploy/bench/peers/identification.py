"""mujoco.sysid alone, beside ours: the same simulated arm, the same log, the same parameters."""

from deploy.bench.calibration import against_plain
from deploy.bench.peers.contest import Outcome, memory_mib
from robot_wm.contracts import run

_LOG_S = 6.0


def measure(seed: int) -> Outcome:
    """Time and median errors of the library as its documentation uses it; ours stand in `bench calibration`."""
    rows = against_plain(False, _LOG_S, seed)
    numbers = {}
    for row in rows:
        if row.value is not None:
            numbers[f"ours: {row.metric}"] = (row.value, row.unit)
        if row.reference is not None:
            numbers[f"mujoco.sysid: {row.metric}"] = (row.reference, row.unit)
    return Outcome(memory_mib=memory_mib(), numbers=numbers, revision=run.git_revision())
