"""view: every kind of thing becomes one page that holds to the rules of pages, and says what is in the thing."""

import json
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from deploy import cli
from deploy.runtime.controller import Controller, Plan
from deploy.runtime.recorder import FlightLog, keep_goal, read_goal
from deploy.stages.view import ViewConfig, view
from deploy.view import flight, follow, timeline
from robot_wm.contracts.bundle import read_bundle
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.robot import Observation
from robot_wm.contracts.run import open_run
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests.handmade_bundle import IMAGINING_PLAN, SIDE, make_spec, write_bundle
from tests.html_page import Page, complaints, width_needed

FRONT = image_key("front")
MALICIOUS = "</script><script>alert(1)</script>"
MJCF = """
<mujoco><compiler angle="radian"/><worldbody><light pos="0 0 2"/><camera name="above" pos="0.2 0 1.2"/>
  <body pos="0 0 0.2"><joint name="turn" axis="0 0 1" range="-1 1"/>
      <geom type="capsule" size="0.03" fromto="0 0 0 0.3 0 0"/>
    <body pos="0.3 0 0"><joint name="slide" type="slide" axis="1 0 0"/><geom type="box" size="0.05 0.03 0.03"/>
      <site name="tip"/></body></body></worldbody>
  <actuator><position name="turn" joint="turn" kp="20"/>
    <position name="slide" joint="slide" kp="20"/></actuator></mujoco>
"""


def fly(folder: Path) -> Path:
    """A run with two episodes: one that a guard held for a while, one cut short; with its bundle and its goals."""
    bundle = read_bundle(write_bundle(folder / "bundle", make_spec(schema=3), plan=IMAGINING_PLAN))
    random, spec = np.random.default_rng(0), bundle.spec
    with open_run(folder / "runs", "run", "flight", {"seed": 0}, {"bundle": bundle.path}) as run:
        log = FlightLog(run.path / "flight", spec)
        for episode in range(2):
            keep_goal(log.begin(), np.full((SIDE, SIDE, 3), 200, np.uint8))
            for tick in range(24):
                frame = random.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)
                command = random.normal(size=2)
                imagined_HD = np.linspace(0.5, 200 / 255, 3)[:, None].repeat(3, 1)  # from grey to the goal's colour
                plan = Plan(command[None], 0.5 / (tick + 1), 0.1, 0.0, 0.0, np.zeros(3, np.float32), None, imagined_HD)
                plan = plan if tick % 4 == 0 else None
                held = "stale_frame" if 8 <= tick < 12 else None
                observation = Observation(frame, random.normal(size=4).astype(np.float32), tick / 20)
                log.append(observation, command, command, plan, 0.01 if plan else float("nan"), held)
            if episode == 0:
                log.end({"episode": 0, "success": True, "distance_m": 0.02, "guards": {"stale_frame": 4}})
        log.close()
        run.finish(["flight"], metrics={"episodes": 2})
    return run.path


def record(folder: Path, film: Callable[..., np.ndarray]) -> Path:
    features = {
        FRONT: Feature("video", (64, 64, 3)),
        STATE: Feature("float32", (7,)),
        ACTION: Feature("float32", (2,), ("a", "b")),
    }
    with LeRobotWriter(folder / "set", 5.0, features, "arm") as writer:
        for episode in range(5):
            columns = {STATE: np.cumsum(np.ones((12, 7)), 0), ACTION: np.zeros((12, 2))}
            writer.add_episode(columns, {FRONT: film(12, seed=episode)}, MALICIOUS)
    return folder / "set"


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory, film) -> dict[str, Path]:
    """A page of each kind, by name."""
    folder = tmp_path_factory.mktemp("view")
    (folder / "arm.xml").write_text(MJCF)
    data = record(folder, film)
    with open_run(folder / "runs", "identify", "any", {"seed": 0, "text": MALICIOUS}) as run:
        run.log(step=0, loss=2.0), run.log(step=1, loss=1.0)
        (run.path / "found.txt").write_text("x")
        run.finish(["found.txt"], metrics={"error": 0.01}, gates={"enough": True})
    targets = {
        "flight": (fly(folder), {}), "dataset": (data, {}), "controller": (folder / "bundle", {}),
        "world model": ("shipped", {"data": str(data)}), "robot": (folder / "arm.xml", {}), "run": (run.path, {}),
    }  # fmt: skip
    out = str(folder / "views")
    made = {name: view(ViewConfig(str(target), out=out, **more)) for name, (target, more) in targets.items()}
    return {name: page for name, page in made.items() if page is not None}


KINDS = ("flight", "dataset", "controller", "world model", "robot", "run")
SAID = {
    "flight": (
        "It reached its goal in 1 of 1", "It was cut short", "The goal image", "Latent distance to the goal",
        "Shaded: a guard", "as each plan imagined it", "Where the plan is meant to lead",
    ),
    "dataset": ("5 episodes, 60 rows at 5 Hz", "observation.state, 1 to 6", "action"),
    "controller": ("candidates", "plans", "encode.onnx"),
    "world model": ("shipped with the package", "what came", "R²", "entry"),
    "robot": ("turn", "slide", "-1.00 to 1.00", "-0.30 to 0.30"),
    "run": ("An identify run", "stray from the real ones", "enough", "0.01", "found.txt"),
}  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_page_holds_to_the_rules_of_pages(pages: dict[str, Path], kind: str) -> None:
    text = pages[kind].read_text(encoding="utf-8")
    page = Page(text)
    page.check_well_formed()
    page.check_offline()
    assert all(a["alt"].strip() for tag, a in page.elements if tag == "img")
    assert all(a.get("aria-label", "").strip() for tag, a in page.elements if a.get("role") == "img")
    assert all(a.get("aria-label", "").strip() for tag, a in page.elements if tag in ("input", "button"))
    assert "alert(1)</script>" not in text
    for said in SAID[kind]:
        assert said in text, said


def scripts_data(text: str) -> Iterator[dict]:
    for block in re.findall(r'<script type="application/json">(.*?)</script>', text, re.DOTALL):
        yield json.loads(block)


def test_flight_page_carries_what_was_logged(pages: dict[str, Path]) -> None:
    first, second = scripts_data(pages["flight"].read_text())
    assert len(first["times"]) == 24
    assert first["times"][-1] == pytest.approx(23 / 20)
    assert len(first["films"][0]) == 24  # what the camera saw
    assert len(first["films"][1]) == 1  # the goal
    costs = [curve for curves in first["curves"] for curve in curves if curve.count(None) == 18]
    assert [v for v in costs[0] if v is not None] == pytest.approx([0.5 / (t + 1) for t in range(0, 24, 4)], rel=1e-3)
    assert second["shown"] == list(range(24))


def test_imagined_ways_start_at_what_was_seen_and_end_where_the_plan_does(tmp_path: Path) -> None:
    run = fly(tmp_path)
    (first, second), behind = flight.read_episodes(run / "flight"), flight._behind(run)
    track = flight._episode(0, first, behind).tracks[0]
    assert track.title == "Latent distance to the goal" and len(track.branches) == 6
    for tick, branch in zip(range(0, 24, 4), track.branches, strict=True):
        assert branch.times_H == pytest.approx(tick / 20 + np.arange(4) * 0.2)
        assert branch.values_H[0] == pytest.approx(track.curves[0].values_L[tick])
        assert branch.values_H[1:] == pytest.approx([(200 / 255 - 0.5) ** 2, (100 / 255 - 0.25) ** 2, 0], abs=2e-4)
    shown = timeline._shown(flight._episode(1, second, behind))
    assert json.loads(shown["data"])["span"] == pytest.approx(20 / 20 + 0.6), "the last plan's future is on the page"
    assert len(shown["tracks"][0]["branches"]) == 6


def test_a_flight_of_a_bundle_that_does_not_tell_is_shown_without(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle", make_spec()))
    log = FlightLog(tmp_path / "log", bundle.spec)
    log.begin()
    observation = Observation(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros(4, np.float32), 0.0)
    log.append(observation, np.zeros(2), np.zeros(2))
    log.close()
    (episode,) = flight.read_episodes(tmp_path / "log")
    shown = flight._episode(0, episode, flight._Behind(bundle.spec, Controller(bundle, num_threads=1)))
    assert not any(track.branches for track in shown.tracks)
    assert [film.caption for film in shown.films] == ["What the camera saw"]


def test_slider_finds_the_picture_of_every_row() -> None:
    film = timeline.Film("film", np.zeros((3, 8, 8, 3), np.uint8), "film")
    episode = timeline.Episode("e", "", np.arange(10) / 10, np.array([0, 4, 9]), (film,))
    data = json.loads(timeline._shown(episode)["data"])
    assert data["shown"] == [0, 0, 0, 0, 1, 1, 1, 1, 1, 2]


@pytest.mark.parametrize("span_s", [0.04, 0.3, 1.96, 9.99, 10.0, 33.0, 3600.0])
def test_times_below_a_plot_are_round_and_within_it(span_s: float) -> None:
    episode = timeline.Episode("e", "", np.linspace(5, 5 + span_s, 7), np.array([], int))
    ticks = timeline._shown(episode)["ticks"]
    assert 2 <= len(ticks) <= 6
    assert ticks[0] == (0, "0 s")
    for percent, words in ticks:
        assert 0 <= percent <= 100.001
        assert float(words.removesuffix(" s")) == pytest.approx(percent / 100 * span_s, rel=1e-6)
        assert len(words) <= len("0.02 s")


def test_a_curve_that_never_changes_lies_in_the_middle_and_says_so() -> None:
    track = timeline.Track("t", "", (timeline.Curve("c", np.full(3, 1.9)),))
    drawn = timeline._drawn(track, np.arange(3.0))
    assert drawn["extent"] == "always 1.9"
    assert all(point.endswith(",50.0") for point in drawn["lines"][0]["points"].split())


def test_positions_and_velocities_do_not_share_a_scale() -> None:
    names = ("lift_position", "yaw_position", "lift_velocity", "yaw_velocity", "current")
    found = list(flight._proprio(names, np.arange(10.0).reshape(2, 5)))
    assert [(t.title, t.unit, [c.name for c in t.curves]) for t in found] == [
        ("Proprio, position", "rad or m", ["lift", "yaw"]),
        ("Proprio, velocity", "rad/s or m/s", ["lift", "yaw"]),
        ("Proprio", "", ["current"]),
    ]
    assert [c.values_L.tolist() for t in found for c in t.curves] == [[0, 5], [1, 6], [2, 7], [3, 8], [4, 9]]


def test_damaged_goal_is_no_goal(tmp_path: Path) -> None:
    episode = tmp_path / "episode_000000.flight"
    assert read_goal(episode) is None
    keep_goal(episode, np.zeros((4, 4, 3), np.uint8))
    assert read_goal(episode) is not None
    (tmp_path / "episode_000000.goal.npy").write_bytes(b"\x93NUMPY torn")
    assert read_goal(episode) is None


def test_command_line_takes_the_target_as_a_word_and_refuses_what_is_nothing(
    pages: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    assert cli.main(["view", "empty"]) == 2
    assert "no run, dataset" in capsys.readouterr().err
    assert cli.main(["view", "nonsense"]) == 2
    assert "robot 'nonsense' is not known" in capsys.readouterr().err
    assert cli.main(["view", "runs/run/nothing"]) == 2
    assert "runs/run/nothing does not exist" in capsys.readouterr().err
    source = pages["controller"].parents[1] / "bundle"
    assert cli.main(["view", str(source)]) == 0
    assert capsys.readouterr().out.strip() == "views/bundle.html"


def test_a_flight_under_way_is_followed_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follow, "REFRESH_S", 1)
    bundle, page = read_bundle(write_bundle(tmp_path / "bundle", make_spec())), Path("unset")
    config = {"seed": 0, "bundle": str(bundle.path)}
    with open_run(tmp_path / "runs", "run", "flight", config, {"bundle": bundle.path}) as run:
        page = tmp_path / "views" / f"{run.path.name}.html"
        log = FlightLog(run.path / "flight", bundle.spec)
        keep_goal(log.begin(), np.full((SIDE, SIDE, 3), 200, np.uint8))
        viewing = ViewConfig(str(run.path), follow=True, out=str(page.parent))
        thread = threading.Thread(target=view, args=(viewing,), daemon=True)
        thread.start()
        for tick in range(4):
            observation = Observation(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros(4, np.float32), tick / 20)
            log.append(observation, np.zeros(2), np.zeros(2), None, float("nan"), None)
        wait_until(lambda: page.is_file() and 'http-equiv="refresh"' in page.read_text())
        text = page.read_text()
        assert "Flight 1, under way" in text and "Latent distance to the goal" in text and 'value="3"' in text
        Page(text).check_offline()
        log.end({"episode": 0, "success": True, "distance_m": 0.02, "guards": {}})
        log.close()
        run.finish(["flight"])
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert 'http-equiv="refresh"' not in page.read_text() and "It reached its goal in 1 of 1" in page.read_text()


@pytest.mark.slow
def test_a_process_beside_a_run_keeps_its_page_and_whole_flights_are_left(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path / "bundle", make_spec()))
    config = {"seed": 0, "bundle": str(bundle.path)}
    with open_run(tmp_path / "runs", "run", "flight", config, {"bundle": bundle.path}) as run:
        page, log = run.path / follow.PAGE, FlightLog(run.path / "flight", bundle.spec)
        with follow.page_beside(run.path):
            log.begin()
            observation = Observation(np.zeros((SIDE, SIDE, 3), np.uint8), np.zeros(4, np.float32), 0.0)
            log.append(observation, np.zeros(2), np.zeros(2))
            wait_until(page.is_file, 60)
            assert "Flight 1, under way" in page.read_text(), (run.path / follow.LOG).read_text()
            log.end({"episode": 0, "success": True, "distance_m": 0.02, "guards": {}})
        assert "It reached its goal in 1 of 1" in page.read_text()
        run.finish(["flight"])


def wait_until(holds: Callable[[], bool], longest_s: float = 30.0) -> None:
    end_s = time.monotonic() + longest_s
    while not holds():
        assert time.monotonic() < end_s, "it did not come to hold"
        time.sleep(0.05)


def test_shipped_model_without_data_says_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="data=DATASET"):
        view(ViewConfig("shipped", out=str(tmp_path)))


def test_live_robot_moves_with_its_slider(tmp_path: Path) -> None:
    pytest.importorskip("viser", reason="viser is not installed (the extra view)")
    from deploy.view.live import LiveRobot
    from sims import catalog

    (tmp_path / "arm.xml").write_text(MJCF)
    live = LiveRobot(catalog.find(str(tmp_path / "arm.xml")), port=0)
    try:
        assert set(live.sliders) == {"turn", "slide"}
        before_m = live.place_of(1).copy()
        live.sliders["turn"].value = 0.8
        assert np.linalg.norm(live.place_of(1) - before_m) > 0.1
    finally:
        live.close()


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_page_fits_telephone_and_wall_and_a_browser_does_not_complain(
    pages: dict[str, Path], kind: str, tmp_path: Path
) -> None:
    page = shutil.copy(pages[kind], tmp_path / "page.html")
    assert complaints(page, tmp_path, 1920, dark=kind in ("flight", "robot", "run")) == []
    text = page.read_text(encoding="utf-8")
    for width in (360, 1920) if kind == "flight" else (360,):
        assert width_needed(text, tmp_path, width) <= width
