"""What is wrong with a log is found and named by calibrate itself: on the terminal, in the report, or as a refusal."""

import html
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from calibration.adapter_fit import FitConfig
from calibration.body_model import BodyModelConfig
from calibration.head_fit import HeadFitConfig
from calibration.reading_fit import ReadingConfig
from calibration.stages.calibrate import CalibrateConfig, calibrate
from calibration.summary import SUMMARY
from robot_wm.contracts import files
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.scales import Scales
from robot_wm.models.adapter import AdapterConfig
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModelConfig
from tests.html_page import Page
from tests.small_bodies import planar_arm
from tests.tiny_pretrained import write_untrained

EPISODES, ROWS, RATE_HZ = 4, 81, 20.0
TINY = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1), DynamicsConfig(16, 1), 3
)
SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (0.1, 0.1, 0.1), 1.5)
Columns = tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.uint8]]


@pytest.fixture(scope="module")
def arm(tmp_path_factory: pytest.TempPathFactory) -> Embodiment:
    return planar_arm(tmp_path_factory.mktemp("arm"))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, film: Callable) -> Path:
    """A pretrain run with random weights."""
    return write_untrained(tmp_path_factory.mktemp("model"), TINY, film(16, 32, 32), SCALES)


def swing(episode: int) -> Columns:
    """Commands, positions that follow them a tick later, and pictures in which a square moves as the joints do."""
    time_s = np.arange(ROWS) / RATE_HZ
    rate_hz = np.array([0.37, 0.61]) + 0.05 * episode
    command = 1.2 * np.sin(2 * np.pi * rate_hz * time_s[:, None] + episode)
    position = np.vstack([command[:1], command[:-1]])
    frames = np.full((ROWS, 32, 48, 3), 40, np.uint8)
    for row, (x, y) in enumerate(position):
        left, top = round(20 + 12 * x), round(12 + 6 * y)
        frames[row, top : top + 8, left : left + 8] = 220
    return command, position, frames


def write(path: Path, arm: Embodiment, change: Callable[[int, Columns], Columns]) -> Path:
    joints = ("shoulder", "elbow")
    names = (*(f"{j}_position" for j in joints), *(f"{j}_velocity" for j in joints))
    features = {
        image_key("above"): Feature("video", (32, 48, 3), ("height", "width", "channels")),
        STATE: Feature("float32", (4,), names),
        ACTION: Feature("float32", (2,), joints),
    }
    with LeRobotWriter(path, RATE_HZ, features, arm.name) as writer:
        for episode in range(EPISODES):
            command, position, frames = change(episode, swing(episode))
            state = np.hstack([position, np.gradient(position, 1 / RATE_HZ, axis=0)]).astype(np.float32)
            columns = {STATE: state, ACTION: command.astype(np.float32)}
            writer.add_episode(columns, {image_key("above"): frames}, "swing")
    return path


def stall(dataset: Path, episode: int, first: int, count: int) -> None:
    """A recorder that stalled: rows that carry the stamp of an earlier one, and what they should have held is lost."""
    path = dataset / "data" / "chunk-000" / f"file-{episode:03d}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    for row in range(first, first + count):
        rows[row]["timestamp"] = rows[first - 1]["timestamp"]
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


def config(arm: Embodiment, log: Path, model: Path, folder: Path) -> CalibrateConfig:
    return CalibrateConfig(
        arm, str(model), str(log), pretrained=False, adapter=AdapterConfig(8, 4), timing=False, validation=0.3,
        fit=FitConfig(steps=2, batch=4, encoder_steps=1, encoder_batch=2), head=HeadFitConfig(steps=0),
        body=BodyModelConfig(identify=False), cache=str(folder / "cache"), curve_steps=0, out=str(folder / "runs"),
        reading=ReadingConfig(steps=0),
    )  # fmt: skip


def saturate(episode: int, of: Columns) -> Columns:
    command = of[0].copy()
    command[20:60, 0] = 2.4
    return command, of[1], of[2]


def jam(episode: int, of: Columns) -> Columns:
    return of[0], np.column_stack([of[1][:, 0], np.full(ROWS, 0.3)]), of[2]


def unplug(episode: int, of: Columns) -> Columns:
    return of[0], of[1], np.repeat(of[2][:1], ROWS, axis=0) if episode == 2 else of[2]


def good(episode: int, of: Columns) -> Columns:
    return of


@pytest.mark.parametrize(
    ("change", "stalled", "named"),
    [
        (good, 0, ()),
        (good, 6, ("repeated time stamps: 6 of 324 rows", "dropped samples: about 6 samples in 1 gaps")),
        (saturate, 0, ("saturated commands (shoulder): ",)),
        (jam, 0, ("a joint that never moves (elbow): its range in the log is 0 although its command spans",)),
        (
            unplug,
            0,
            ("unplugged camera (above): the pictures of 'above' never change while the robot moves, in 1 of 4",),
        ),
    ],
    ids=("nothing", "stalled", "saturated", "never moves", "unplugged"),
)
def test_what_can_be_lived_with_is_named_on_the_terminal_and_in_the_report(
    arm: Embodiment,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    change: Callable[[int, Columns], Columns],
    stalled: int,
    named: tuple[str, ...],
) -> None:
    """And nothing else is."""
    log = write(tmp_path / "log", arm, change)
    if stalled:
        stall(log, 1, 30, stalled)
    run = calibrate(config(arm, log, model, tmp_path))
    said = " ".join(capsys.readouterr().err.split())
    told = files.read_json(run / SUMMARY)["faults"]
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert len(told) == len(named) == said.count("log: "), said
    for words in named:
        assert words in said and words in page and any(words in line for line in told), words


@pytest.mark.parametrize(
    ("fault", "change"),
    [
        ("degrees instead of radians", lambda e, of: (np.rad2deg(of[0]), np.rad2deg(of[1]), of[2])),
        ("swapped joints", lambda e, of: (of[0], of[1][:, ::-1], of[2])),
        ("unplugged camera", lambda e, of: (of[0], of[1], np.repeat(of[2][:1], ROWS, axis=0))),
    ],
)
def test_what_makes_a_fit_meaningless_is_refused(
    arm: Embodiment,
    model: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    fault: str,
    change: Callable[[int, Columns], Columns],
) -> None:
    log = write(tmp_path / "log", arm, change)
    stall(log, 1, 30, 6)
    with pytest.raises(UserError, match=fault) as refused:
        calibrate(config(arm, log, model, tmp_path))
    assert not list((tmp_path / "runs" / "calibrate").iterdir())
    page = tmp_path / "runs" / "refused.html"
    said, shown = capsys.readouterr().err + str(refused.value), html.unescape(page.read_text(encoding="utf-8"))
    said = " ".join(said.split())
    for words in (fault, "repeated time stamps: 6 of 324 rows"):
        assert words in said and words in shown, words
    assert page.name in said
    Page(shown).check_offline()


def test_swapped_joints_are_seen_behind_rates_too(arm: Embodiment, model: Path, tmp_path: Path) -> None:
    """Commands that are velocities: the motion of each joint is compared with them, not its place."""
    rates = planar_arm(tmp_path, "joint_velocity")

    def change(swap: bool) -> Callable[[int, Columns], Columns]:
        def changed(episode: int, of: Columns) -> Columns:
            _, position, frames = of
            velocity = np.gradient(position, 1 / RATE_HZ, axis=0)
            return velocity.clip(-3, 3), position[:, ::-1] if swap else position, frames

        return changed

    good = write(tmp_path / "good", rates, change(False))
    bad = write(tmp_path / "bad", rates, change(True))
    calibrate(config(rates, good, model, tmp_path))
    with pytest.raises(UserError, match="swapped joints"):
        calibrate(replace(config(rates, bad, model, tmp_path), seed=1))


def test_a_calibration_that_predicts_no_better_than_holding_still_is_refused(
    arm: Embodiment, model: Path, tmp_path: Path
) -> None:
    """One step of a fit over random weights: nothing was learned."""
    asked = config(arm, write(tmp_path / "log", arm, good), model, tmp_path)
    hopeless = replace(asked, pretrained=True, fit=FitConfig(steps=1, batch=4))
    with pytest.raises(UserError, match="predicts no better than holding still"):
        calibrate(hopeless)
    assert not list((tmp_path / "runs").glob("calibrate/*/manifest.json"))
