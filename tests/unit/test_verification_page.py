"""The page about a verification: whole, offline, read on a telephone, and clear about what a guard stopped."""

import html
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from deploy.report.verification_page import write_verification_page
from deploy.verification.results import Breaking, Tried, Verification
from deploy.verification.scenario import Ranges, Scenario
from robot_wm.data import video
from robot_wm.evaluation.statistics import wilson
from tests.html_page import Page, complaints, width_needed

AXES = asdict(Ranges())
BREAKING = tuple(Breaking(axis, 0.5 * limit if i % 3 else None, limit) for i, (axis, limit) in enumerate(AXES.items()))
WORST = (
    Tried(Scenario(0, {axis: 0.7 * limit for axis, limit in AXES.items()}), True, 3.2, "worst.mp4"),
    Tried(Scenario(1, {}), True, 2.0, "worst.mp4", held="unfamiliar_image"),
)
FOUND = Verification(
    1, "fetch", "reach", 0.05, 7, 6, Ranges(), wilson(0, 6), wilson(11, 24), wilson(33, 72), 72, 34, BREAKING, WORST,
    (), "a machine", held=33,
)  # fmt: skip


def page_of(folder: Path, found: Verification, film) -> Path:
    video.encode(folder / "worst.mp4", film(4, 48, 96), 5.0)
    return write_verification_page(folder / "verification.html", found, folder)


def words(page: Path) -> str:
    return re.sub(r"\s+", " ", html.unescape(re.sub(r"<[^>]*>", " ", page.read_text(encoding="utf-8"))))


def test_page_is_whole_offline_and_says_what_failed_and_what_a_guard_stopped(tmp_path: Path, film) -> None:
    page = page_of(tmp_path, FOUND, film)
    parsed = Page(page.read_text(encoding="utf-8"))
    parsed.check_well_formed()
    parsed.check_offline()
    said = words(page)
    for expected in (
        "It fails under 46 % of disturbances drawn at random", "In 33 of the 34 failures a guard stopped the robot",
        "in 1 it moved on and missed", "held by the guard “unfamiliar image”", "nothing in the range", "16.0 cm left",
    ):  # fmt: skip
        assert expected in said, expected
    assert "In none of the 34 failures did a guard stop" in words(page_of(tmp_path, replace(FOUND, held=0), film))


@pytest.mark.slow
def test_page_fits_telephone_and_wall_and_a_browser_does_not_complain(tmp_path: Path, film) -> None:
    page = page_of(tmp_path, FOUND, film)
    for width, dark in ((360, False), (1920, True)):
        assert complaints(page, tmp_path, width, dark) == []
        assert width_needed(page.read_text(encoding="utf-8"), tmp_path, width) <= width
