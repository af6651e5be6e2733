"""A search for failures finds them, tells how frequent they are, and is not made twice."""

import json
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.verification.results import SCENARIOS_FILE, read_scenarios
from deploy.verification.scenario import Occluded, Ranges, Scenario
from deploy.verification.search import breaking_point, failure_rate, search
from deploy.verification.trials import _held
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from sims import catalog, gl
from sims.robots import load
from sims.truth import Truth
from sims.twin import Twin
from tests.faults.test_command_line_refusals import Workshop
from tests.faults.test_command_line_refusals import made as made
from tests.faults.test_command_line_refusals import workshop as workshop
from tests.html_page import Page

CORNER = 0.6  # fails where both of the first two axes are above it: 4 % of the cube


def corner(pair: int, point_A: np.ndarray) -> tuple[bool, float]:
    worst = float(point_A[:2].min())
    return worst > CORNER, worst


def test_rare_failures_are_found_and_their_rate_is_right() -> None:
    rates, found = [], []
    for seed in range(20):
        draws, proposals = search(corner, 6, 3, 5, 40, seed)
        found.append(sum(draw.failed for draw in draws))
        rate = failure_rate(draws, proposals)
        rates.append(rate)
    true = ((1 - CORNER) / 2) ** 2
    assert np.mean(found) > 4 * true * 200  # many more than chance would
    assert abs(np.mean([rate.value for rate in rates]) - true) < 0.3 * true
    assert np.mean([rate.low <= true <= rate.high for rate in rates]) >= 0.9


def test_nothing_and_everything_failing_leave_an_interval() -> None:
    for failed in (False, True):
        draws, proposals = search(lambda pair, point_A, failed=failed: (failed, 0.0), 2, 2, 2, 30, 0)
        rate = failure_rate(draws, proposals)
        assert rate.value == pytest.approx(float(failed), abs=0.05)
        assert 0.05 < rate.high - rate.low < 0.7


@pytest.mark.parametrize("threshold", [0.07, 0.5, 0.93])
def test_breaking_point_is_enclosed(threshold: float) -> None:
    found = breaking_point(lambda share: share >= threshold, 6)
    assert found is not None
    assert threshold <= found <= threshold + 2**-6
    assert breaking_point(lambda _: False, 6) is None


def test_an_undisturbed_scenario_is_the_twin_itself() -> None:
    assert Scenario(0, {}).truth(5, 2) == Truth()
    point_A = np.full(len(Ranges().axes()), -1.0)
    disturbed = Scenario.at(0, point_A, Ranges(), 0).disturbance
    assert "delay_s" not in disturbed  # there is no negative delay
    assert disturbed["friction"] == -Ranges().friction


def test_what_is_hidden_is_a_share_of_the_picture() -> None:
    class Still:
        def reset(self) -> None: ...

        def read(self) -> Observation:
            return Observation(np.zeros((40, 60, 3), np.uint8), np.zeros(1, np.float32), 0.0)

    frame = Occluded(Still(), 0.15, 3).read().frame_YXC
    assert abs((frame[..., 0] > 0).mean() - 0.15) < 0.02


def test_distractors_are_seen_touch_nothing_and_go() -> None:
    gl.choose_backend()
    with load(catalog.find("procedural/3")) as arm:
        arm.reset(0)
        still, state, num = arm.frame(), arm.state(), arm.command.dim
        shown = []
        for number in (3.0, 3.4, 6.0):
            twin = Twin(arm, seed=1, truth=Scenario(0, {"distractors": number}).truth(arm.model.nbody, num))
            shown.append(arm.frame())
            twin.close()
            assert np.array_equal(arm.frame(), still)
        assert np.array_equal(shown[0], shown[1])
        changed = [(frame != still).any(-1).mean() for frame in shown]
        assert 0.005 < changed[0] < changed[2] < 0.5
        assert np.array_equal(arm.state(), state)
        twin = Twin(arm, seed=1, truth=Truth(distractors=3))
        for _ in range(6):
            twin.write(arm.reference())
        moved = arm.frame()
        twin.close()
        there = (shown[0] != still).any(-1) & (arm.frame() == still).all(-1)  # where nothing else moved
        assert (moved != shown[0]).any(-1)[there].any()


def test_a_robot_that_its_guard_held_is_told_from_one_that_missed() -> None:
    assert _held({"unfamiliar_image": 30, "unchanged_frame": 4, "rate": 90}) == "unfamiliar_image"
    assert _held({"rate": 3}) is None


def test_ranges_that_cannot_be() -> None:
    for wrong in ({"noise": -1.0}, {"occlusion": 0.95}, dict.fromkeys(Ranges.__dataclass_fields__, 0.0)):
        with pytest.raises(UserError):
            Ranges(**wrong)


SMALL = (
    "verify", "embodiment=crane", "bundle=bundle", "pairs=2", "rounds=2", "draws=2", "break_pairs=1", "break_steps=0",
    "videos=2", "video_px=32", "threads=1", "--config-dir=mine",
)  # fmt: skip


@pytest.mark.slow
def test_from_search_to_page_and_replay(workshop: Workshop, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([*SMALL]) == 0, capsys.readouterr().err
    run = Path(workshop.only("verify"))
    found = json.loads((run / "verification.json").read_text())
    assert found["draws"] == 4
    assert len(found["worst"]) == 2
    assert all((run / item["video"]).is_file() for item in found["worst"])
    assert found["held"] == 0, "this bundle does not know its log"
    page = Page((run / "verification.html").read_text())
    page.check_well_formed()
    page.check_offline()
    known = read_scenarios(run / SCENARIOS_FILE)
    assert len(known.scenarios) >= 2

    trials = (run / "trials.jsonl").read_text()
    (run / "manifest.json").unlink()  # as if it had been killed at the end: nothing is tried again
    assert cli.main([*SMALL]) == 0
    assert (run / "trials.jsonl").read_text() == trials
    assert json.loads((run / "verification.json").read_text()) == found

    assert cli.main(["rebuild", str(run)]) == 0, capsys.readouterr().err
    capsys.readouterr()
    assert cli.main([*SMALL, f"scenarios={run / SCENARIOS_FILE}", "search=false", "name=replay"]) == 0
    again = json.loads((Path(capsys.readouterr().out.strip()) / "verification.json").read_text())
    before = {str(item["scenario"]): item["failed"] for item in found["worst"]}
    after = {str(item["scenario"]): item["failed"] for item in again["replayed"]}
    assert before.items() <= after.items()


def test_scenarios_that_are_none(tmp_path: Path) -> None:
    path = tmp_path / "scenarios.json"
    sound = {"schema": 1, "embodiment": "a", "task": "reach", "goal_seed": 0, "pairs": 1}
    for scenario in ({"pair": 3, "disturbance": {}}, {"pair": 0, "disturbance": {"wind": 1.0}}):
        path.write_text(json.dumps({**sound, "scenarios": [scenario]}))
        with pytest.raises(UserError, match="is no scenario"):
            read_scenarios(path)
