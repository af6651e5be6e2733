"""calibrate: as calibration does it from a log; with source=robot the log is recorded live first."""

from dataclasses import dataclass, field, fields
from pathlib import Path

from calibration.stages import calibrate as from_log
from calibration.stages.calibrate import CalibrateConfig
from deploy.live_log import LiveConfig, record_robot
from robot_wm.contracts.errors import UserError


@dataclass(frozen=True)
class LiveCalibrateConfig(CalibrateConfig):
    """Configuration of `robot-wm calibrate`: that of calibration, and which robot source=robot records.

    Attributes:
        live: of source=robot.
    """

    live: LiveConfig = field(default_factory=LiveConfig)


def calibrate(config: LiveCalibrateConfig) -> Path | None:
    """Fit adapter, proprio head and dynamics; returns the run folder.

    With source=robot a log is recorded live before that, a run of its own, under all guards of the runtime; without
    live.execute=true nothing is sent, and the command ends (None) when it has said what it would do.

    Raises:
        UserError: a log that does not fit the body, a model that predicts no better than holding still, or a robot
            that cannot be driven.
    """
    values = {each.name: getattr(config, each.name) for each in fields(CalibrateConfig)}
    if config.source == "robot":
        if config.data is not None:
            raise UserError(f"source=robot with data={config.data}", "Give one of the two")
        log = record_robot(
            Path(config.out), config.embodiment, config.live, config.twin, config.transitions, config.seed
        )
        if log is None:
            return None
        values |= {"source": "data", "data": str(log)}
    return from_log.calibrate(CalibrateConfig(**values))
