"""What a calibration found, beside its weights: the content of `summary.json`, which the report is made of."""

from dataclasses import dataclass

from calibration.body_model import FoundCamera, FoundModel
from calibration.learning_curve import LearningCurve
from calibration.log_timing import LogTiming
from calibration.posterior_fit import Certainty
from calibration.reading_fit import Reading

SUMMARY = "summary.json"


@dataclass(frozen=True)
class Summary:
    """Figures of one calibration; errors in proprio's own units [m or rad], mean over the steps ahead.

    Attributes:
        transitions, episodes, held_out_episodes: used in all; fitted to; judged on.
        position_units: rad or m, of each entry of proprio that measures a position.
        told_by_commands: the entries of proprio that their commands tell better than predicted latents show them.
        adapter: the kind that was kept.
        error_by_adapter: on the held-out episodes, after short fits where several kinds were tried.
        timing: None where it was not measured.
        curve: None where it was not asked for, or the log is too short.
        certainty: whether the errors that the model expects are the ones that come.
        faults: of the log, each as a line.
        model, camera: what was identified and placed beside; None where it was not.
        reading: what learning to read the body brought; None where it was not tried.
        notes: why the model was not identified, where that was tried in vain.
    """

    transitions: int
    episodes: int
    held_out_episodes: int
    position_units: tuple[str, ...]
    told_by_commands: tuple[str, ...]
    adapter: str
    error_by_adapter: dict[str, float]
    timing: LogTiming | None
    curve: LearningCurve | None
    certainty: Certainty
    faults: tuple[str, ...] = ()
    model: FoundModel | None = None
    camera: FoundCamera | None = None
    notes: tuple[str, ...] = ()
    reading: Reading | None = None
