"""The report: whole, self-contained, honest about what is missing, and safe against names that hold markup."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from deploy.report import ReportInputs, write_report
from robot_wm.contracts.dataset import Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import open_run
from robot_wm.data import video
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.evaluation import results
from robot_wm.evaluation.results import Episode, Evaluation, Video
from tests.html_page import Page, browse, width_needed

MALICIOUS = "<script>alert(1)</script>\"'&"
EMBODIMENT = {"name": "arm", "interface": "end_effector_velocity", "control_rate_hz": 25, "frame_skip": 5}


def _episodes(share: float, num: int, rng: np.random.Generator, timed: bool) -> list[Episode]:
    found = []
    for i in range(num):
        end_m = 0.02 if i < share * num else 0.09
        path_m = np.linspace(0.15, end_m, 51) + rng.uniform(0, 0.01, 51)
        latencies = tuple(rng.gamma(30, 0.002, 10)) if timed else ()
        found.append(Episode(1000 + i, tuple(path_m), bool(path_m[-1] < 0.05), bool(path_m.min() < 0.05), latencies))
    return found


def _evaluation(shares: dict[str, float], num: int = 25) -> Evaluation:
    rng = np.random.default_rng(0)
    timed = ("model", "head", "scratch")
    controllers = tuple(
        results.summarize(name, "model" if name in timed else "reference", _episodes(share, num, rng, name in timed))
        for name, share in shares.items()
    )
    videos = (Video("videos/a.mp4", "model", 1000, True), Video("videos/b.mp4", "model", 1000 + num - 1, False))
    return Evaluation(
        1, "arm", "0" * 64, "reach", 0.05, 0.04, 50, 7, controllers, results.differences(controllers), videos,
        "A processor, 2 cores",
    )  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory) -> ReportInputs:
    """A chain of runs as the stages write them, at tiny size."""
    root: Path = tmp_path_factory.mktemp("runs")
    rng = np.random.default_rng(0)
    record, log = _recorded(root, "watch", rng), _recorded(root, "log", rng)
    with open_run(root, "pretrain", "tiny", {"seed": 0, "loss": {"state": 1.0}}, {"data0": record}) as run:
        for step in range(10, 200, 10):
            run.log(step=step, total=10.0 / step, predict=5.0 / step, nats=float(step))
        with (run.path / "metrics.jsonl").open("a") as file:
            file.write('{"step": 300, "tot')  # torn by a power cut
        run.finish([])
        pretrain = run.path
    values = {"seed": 0, "transitions": 500, "embodiment": EMBODIMENT}
    with open_run(root, "calibrate", "tiny", values, {"model": pretrain, "data": log}) as run:
        np.savez(
            run.path / "prediction.npz",
            truth_frames=rng.integers(0, 255, (2, 4, 32, 32, 3), dtype=np.uint8),
            nearest_frames=rng.integers(0, 255, (2, 4, 32, 32, 3), dtype=np.uint8),
            error_by_step=np.array([0.01, 0.015, 0.02, 0.03]),
            pictures_error_by_step=np.array([0.015, 0.018, 0.022, 0.03]),
            copy_error_by_step=np.array([0.02, 0.04, 0.06, 0.07]),
        )
        run.finish(["prediction.npz"])
    calibrate = run.path.rename(run.path.with_name(MALICIOUS.replace("/", "")))  # as a stranger may send it
    with open_run(root, "evaluate", "tiny", {"seed": 0, "embodiment": EMBODIMENT}, {"calibrate": calibrate}) as run:
        (run.path / "videos").mkdir()
        for name in ("a", "b"):
            frames = rng.integers(0, 255, (6, 64, 128, 3), dtype=np.uint8)
            video.encode(run.path / "videos" / f"{name}.mp4", frames, 10)
        shares = {"model": 0.96, "head": 0.9, "scratch": 0.5, "random": 0.04, "hold": 0.0, "oracle": 1.0}
        results.write_evaluation(run.path, _evaluation(shares))
        run.finish(["evaluation.json", "videos"])
        evaluate = run.path
    return ReportInputs(
        record=record, pretrain=pretrain, calibration_log=log, calibrate=calibrate, evaluate=evaluate,
        command=f"robot-wm {MALICIOUS}",
    )  # fmt: skip


def _recorded(root: Path, name: str, rng: np.random.Generator) -> Path:
    features = {image_key("front"): Feature("video", (48, 48, 3), ("height", "width", "channels"))}
    with open_run(root, "record", name, {"name_of_data": name}) as run:
        with LeRobotWriter(run.path / "dataset", 5.0, features) as writer:
            for _ in range(3):
                frames = np.repeat(rng.integers(0, 255, (8, 6, 6, 3), dtype=np.uint8), 8, axis=1).repeat(8, axis=2)
                writer.add_episode({}, {image_key("front"): frames})
        run.finish(["dataset"])
    return run.path


@pytest.fixture(scope="module")
def page(inputs, tmp_path_factory) -> str:
    return write_report(tmp_path_factory.mktemp("report") / "report.html", inputs).read_text(encoding="utf-8")


def test_page_is_well_formed_and_ids_are_unique(page):
    Page(page).check_well_formed()


def test_page_asks_nothing_of_the_network(page):
    Page(page).check_offline()


def test_everything_seen_is_also_said(page):
    elements = Page(page).elements
    images = [a for tag, a in elements if tag == "img"]
    assert images
    assert all(a.get("alt", "").strip() for a in images)
    films = [a for tag, a in elements if tag == "video"]
    assert len(films) == 3  # the two attempts, the first of them at the top as well
    assert all(a.get("aria-label", "").strip() and "autoplay" not in a for a in films)
    plots = [a for tag, a in elements if a.get("role") == "img"]
    assert len(plots) >= 5
    assert all(a.get("aria-label", "").strip() for a in plots)


def test_markup_in_names_stays_text(page):
    assert page.count("<script>") == 1
    assert "alert(1)&lt;" in page or "&lt;script&gt;alert(1)" in page


def test_headline_tells_the_result_beside_the_references(page):
    assert "The learned controller reached 24 of 25 goals" in page
    assert "On the same 25 goals, random commands reached 1, standing still 0, " in page
    assert "Better than random commands" in page


def test_every_stage_with_images_shows_some(page):
    said = [a["alt"] for tag, a in Page(page).elements if tag == "img"]
    for part in ("clips that the model watched", "where the picture moves", "moves about for calibration"):
        assert any(part in text for text in said), part


def test_data_that_has_gone_costs_a_picture_not_the_page(inputs, tmp_path):
    copy = tmp_path / "record"
    shutil.copytree(inputs.record, copy)
    shutil.rmtree(copy / "dataset" / "videos")
    text = write_report(tmp_path / "r.html", ReportInputs(record=copy)).read_text(encoding="utf-8")
    assert "Watch" in text
    assert "<img" not in text


def test_simulator_help_in_pretraining_is_admitted(page):
    assert "Not learning from pixels alone" in page


@pytest.mark.parametrize(("share", "said"), [(0.08, "not distinguishable from random commands"), (0.9, "Better than")])
def test_verdict_follows_from_the_intervals(tmp_path, share, said):
    with open_run(tmp_path, "evaluate", "tiny", {"share": share}) as run:
        results.write_evaluation(run.path, _evaluation({"model": share, "random": 0.04}))
        run.finish(["evaluation.json"])
    text = write_report(tmp_path / "r.html", ReportInputs(evaluate=run.path)).read_text(encoding="utf-8")
    assert said in text
    assert "Not that watching video helped" in text


def test_one_run_alone_makes_a_page(inputs, tmp_path):
    text = write_report(tmp_path / "deep" / "r.html", ReportInputs(pretrain=inputs.pretrain)).read_text(
        encoding="utf-8"
    )
    assert "How learning went" in text
    assert "How often it reached" not in text


def test_unfinished_run_and_no_run_are_refused_without_a_page(tmp_path):
    (tmp_path / "half").mkdir()
    with pytest.raises(UserError, match="not a finished run"):
        write_report(tmp_path / "r.html", ReportInputs(pretrain=tmp_path / "half"))
    with pytest.raises(UserError, match="no runs"):
        write_report(tmp_path / "r.html", ReportInputs())
    assert not (tmp_path / "r.html").exists()


def test_evaluation_comes_back_as_it_was_written(tmp_path):
    evaluation = _evaluation({"model": 0.5, "hold": 0.0})
    results.write_evaluation(tmp_path, evaluation)
    assert results.read_evaluation(tmp_path) == evaluation
    text = json.loads((tmp_path / "evaluation.json").read_text())
    text["schema"] = 99
    (tmp_path / "evaluation.json").write_text(json.dumps(text))
    with pytest.raises(UserError, match="schema is 99"):
        results.read_evaluation(tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_browser_has_nothing_to_complain_about(page, tmp_path, dark):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    done = browse(file, tmp_path, 1920, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    assert "The learned controller reached" in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1920])
def test_page_never_scrolls_sideways(page, tmp_path, width):
    assert width_needed(page, tmp_path, width) <= width
