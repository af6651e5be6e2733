"""The page about a calibration: whole, offline, and in words that follow from the numbers."""

import html
import itertools
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from calibration.body_model import FoundCamera, FoundModel, FoundParameter
from calibration.camera_placement import BEFORE, OVERLAY
from calibration.learning_curve import _curve
from calibration.log_timing import LogTiming
from calibration.posterior_fit import Certainty
from calibration.prediction import Prediction
from calibration.report import write_report
from calibration.summary import Summary
from calibration.timing import Clock, Delay
from robot_wm.contracts.config import from_mapping, to_mapping
from tests.html_page import Page, complaints, width_needed
from tests.small_bodies import fetch, planar_arm

NAMES = ("gripper_x_position", "gripper_y_position", "gripper_z_position")
NO_FRAMES = np.zeros((0, 4, 8, 8, 3), np.uint8)


def prediction(scale: float = 1.0) -> Prediction:
    error, copied = scale * np.array([0.012, 0.016, 0.019, 0.022]), np.array([0.08, 0.13, 0.16, 0.18])
    by_entry = scale * np.array([0.006, 0.008, 0.007]), np.array([0.05, 0.05, 0.04])
    return Prediction(error, copied, *by_entry, np.zeros((1, 4)), 0.01, NO_FRAMES, NO_FRAMES)


def summary(timing: LogTiming | None, with_curve: bool = True) -> Summary:
    rng = np.random.default_rng(0)
    num = np.array([125, 250, 500])
    squares = (0.4 / num)[:, None, None] * rng.lognormal(0, 0.3, (3, 60, 4)) * 0.4
    curve = _curve(num, squares, 200, 0) if with_curve else None
    errors = {"learned": 0.0187, "kinematic": 0.0172}
    units, told = ("m", "m", "m"), ("gripper_x_position", "gripper_z_velocity")
    return Summary(500, 18, 2, units, told, "kinematic", errors, timing, curve, Certainty(0.88, 0.84, 0.32, 0.2, 220))


TOLD = LogTiming(Clock(25.0, 4e-4, 3, 0.08), Delay(0.081, 0.004, 0.97), Delay(0.021, 0.001, 0.95), ())


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_report(tmp_path, fetch(), NAMES, prediction(), prediction(1.5), summary(TOLD))
    return (tmp_path / "report.html").read_text(encoding="utf-8")


def test_page_is_whole_and_offline(page: str) -> None:
    parsed = Page(page)
    parsed.check_well_formed()
    parsed.check_offline()


def test_names_of_lines_that_end_together_do_not_overlap(tmp_path: Path) -> None:
    write_report(tmp_path, fetch(), NAMES, prediction(), prediction(1.01), summary(TOLD))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    heights = [
        float(re.search(rf'<text[^>]* y="([\d.]+)"[^>]*>{name}</text>', text)[1])
        for name in ("predicted", "from pictures", "if nothing moved")
    ]
    assert all(below - above > 10 for below, above in itertools.pairwise(heights)), heights  # of a font of 10 px


def test_it_says_what_was_found(page: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", page))
    for words in (
        "0.8 s ahead the prediction of the hand is 2.2 cm off, of 18 cm of motion",
        "500 labelled transitions (1.7 minutes)",
        "knows the arm's kinematics", "Twice as much data would lower the error by about 29 %", "81.0 ms ± 4.0",
        "25 Hz", "3 lost", "errors were 1.6 times", "88 % did", "gripper_x",
        "0.8 s 2.2 cm 3.3 cm 18 cm", "the position of gripper_x and the velocity of gripper_z", "from pictures",
    ):  # fmt: skip
        assert words in text.replace("&#39;", "'"), words


def test_words_follow_the_numbers(tmp_path: Path) -> None:
    nothing = LogTiming(None, None, None, ("nothing moves in the log",))
    write_report(tmp_path, fetch(), NAMES, prediction(7), prediction(7), summary(nothing, with_curve=False))
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "hardly better than standing still" in text
    assert "does not tell the delay" in text and "nothing moves in the log" in text
    assert "curve_steps=100" in text and "predicted worse than if they stood still" in text


def test_joints_that_turn_and_joints_that_slide_each_have_their_unit(tmp_path: Path) -> None:
    body, names = planar_arm(tmp_path), ("shoulder_position", "elbow_position", "rail_position")
    mixed = replace(summary(None), position_units=("rad", "rad", "m"), told_by_commands=())
    write_report(tmp_path, body, names, prediction(), prediction(), mixed)
    text = re.sub(r"<[^>]*>", " ", (tmp_path / "report.html").read_text(encoding="utf-8"))
    rows = re.findall(r"(shoulder|elbow|rail)\s+([\d.]+ \w+)", text)
    assert rows == [("shoulder", "0.006 rad"), ("elbow", "0.008 rad"), ("rail", "0.7 cm")]
    assert "0.022 rad and m" in text and "Predicted pictures show everything" in text


MODEL = FoundModel(
    (
        FoundParameter("damping:shoulder", "N·m·s/rad", 0.3, 0.412, 0.011, 0.0, 3.0, "", True),
        FoundParameter("frictionloss:elbow", "N·m", 0.05, 0.5, None, 0.0, 0.5, "high", False),
    ),
    0.021, 0.0034, ("shoulder", "elbow"), (0.03, 0.012), (0.004, 0.0027),
    ("frictionloss:elbow ended on its high bound (0.5 N·m)",),
)  # fmt: skip


def test_it_shows_log_model_and_camera(tmp_path: Path) -> None:
    for name in (BEFORE, OVERLAY):
        Image.new("RGB", (8, 6)).save(tmp_path / name)
    fault = "swapped joints (elbow): it follows the command of shoulder. Put the log's columns in order."
    known = replace(
        summary(TOLD), faults=(fault,), model=MODEL, camera=FoundCamera(24, 0.21, 0.0009, 0.0011),
        position_units=("rad", "rad"),
    )  # fmt: skip
    two = replace(prediction(), error_by_entry=np.ones(2), copy_by_entry=np.ones(2))
    write_report(tmp_path, fetch(), ("shoulder_position", "elbow_position"), two, two, known)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    text = re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page)))
    for words in (
        fault, "stray by 21 mrad and 3.4 mrad", "damping:shoulder 0.3 N·m·s/rad 0.412 ± 0.011 N·m·s/rad 0 to 3",
        "on its high bound", "shoulder 30 mrad 4 mrad", "frictionloss:elbow ended on a bound: widen it",
        "From 24 pictures of the board: its corners are off by 0.21 px", "known to 0.9 mm", "0.06 degrees",
    ):  # fmt: skip
        assert words in text, words
    assert "data:image/png;base64," in page
    Page(page).check_offline()


def test_a_summary_comes_back_from_its_file() -> None:
    found = replace(summary(TOLD), model=MODEL, camera=FoundCamera(24, 0.21, 0.0009, 0.0011), faults=("a", "b"))
    assert from_mapping(Summary, to_mapping(found)) == found


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 1280])
def test_nothing_scrolls_sideways_and_a_browser_does_not_complain(page: str, tmp_path: Path, width: int) -> None:
    assert width_needed(page, tmp_path, width) <= width
    assert complaints(tmp_path / "report.html", tmp_path, width, dark=width == 360) == []


def test_a_model_that_was_right_is_kept_and_what_cannot_be_negative_is_not_to_be_widened(tmp_path: Path) -> None:
    none = FoundParameter("delay", "s", 0.0, 0.0, None, 0.0, 0.15, "low", False)
    right = replace(
        MODEL, parameters=(none,), error_before=2e-9, error_after=5e-5, before_by_joint=(2e-9, 3e-9),
        after_by_joint=(4e-5, 5e-5), warnings=(),
    )  # fmt: skip
    page = _page_of(tmp_path, right)
    for words in (
        "stray by less than 0.01 mrad and 0.05 mrad",
        "at least as well as it was.",
        "none found",
        "nothing to gain",
    ):
        assert words in page, words
    assert "widen it" not in page
    assert "at least as well" not in _page_of(tmp_path, MODEL)


def _page_of(folder: Path, model: FoundModel) -> str:
    known = replace(summary(TOLD), model=model, position_units=("rad", "rad"))
    two = replace(prediction(), error_by_entry=np.ones(2), copy_by_entry=np.ones(2))
    write_report(folder, fetch(), ("shoulder_position", "elbow_position"), two, two, known)
    return html.unescape((folder / "report.html").read_text(encoding="utf-8"))
