"""The report: whole, self-contained, honest about what is missing, and safe against names that hold markup."""

import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
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

MALICIOUS = "<script>alert(1)</script>\"'&"
EMBODIMENT = {"name": "arm", "interface": "end_effector_velocity", "control_rate_hz": 25, "frame_skip": 5}
VOID = {"meta", "link", "img", "br", "input", "hr"}


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
    timed = ("model", "scratch")
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
            copy_error_by_step=np.array([0.02, 0.04, 0.06, 0.07]),
        )
        run.finish(["prediction.npz"])
    calibrate = run.path.rename(run.path.with_name(MALICIOUS.replace("/", "")))  # as a stranger may send it
    with open_run(root, "evaluate", "tiny", {"seed": 0, "embodiment": EMBODIMENT}, {"calibrate": calibrate}) as run:
        (run.path / "videos").mkdir()
        for name in ("a", "b"):
            frames = rng.integers(0, 255, (6, 64, 128, 3), dtype=np.uint8)
            video.encode(run.path / "videos" / f"{name}.mp4", frames, 10)
        shares = {"model": 0.96, "scratch": 0.5, "random": 0.04, "hold": 0.0, "oracle": 1.0}
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


class _Page(HTMLParser):
    """Balance of tags, ids, and the attributes of every element."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, {k: v or "" for k, v in attrs}))

    def handle_endtag(self, tag):
        assert self.open, f"</{tag}> closes nothing"
        assert self.open.pop() == tag


def test_page_is_well_formed_and_ids_are_unique(page):
    parsed = _Page(page)
    assert parsed.open == []
    ids = [a["id"] for _, a in parsed.elements if "id" in a]
    assert len(ids) == len(set(ids))


def test_page_asks_nothing_of_the_network(page):
    for tag, attributes in _Page(page).elements:
        for name in ("src", "href", "poster", "srcset", "xlink:href"):
            value = attributes.get(name, "")
            assert value.startswith(("data:", "#")) or not value, (tag, name, value[:80])
    assert "@import" not in page
    assert not re.search(r"url\((?!#)", page)
    assert "default-src 'none'" in page


def test_everything_seen_is_also_said(page):
    elements = _Page(page).elements
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
    said = [a["alt"] for tag, a in _Page(page).elements if tag == "img"]
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


BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
MEASURE = "<script>parent.postMessage(document.documentElement.scrollWidth, '*');</script></body>"
FRAME = """<!doctype html><title>?</title><iframe src="inside.html" style="width: {}px; height: 900px"></iframe>
<script>addEventListener("message", (event) => { document.title = "width " + event.data; });</script>"""


def _browse(page: Path, folder: Path, width: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    browser = next((found for name in BROWSERS if (found := shutil.which(name))), None)
    if browser is None:
        pytest.skip(f"no browser found (any of {', '.join(BROWSERS)})")
    command = [
        browser, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking",
        "--disable-component-update", "--disable-sync", "--hide-scrollbars", "--enable-logging=stderr",
        f"--user-data-dir={folder / 'profile'}", f"--window-size={width},900", "--virtual-time-budget=3000",
        *arguments, "--dump-dom", page.as_uri(),
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("dark", [False, True])
def test_browser_has_nothing_to_complain_about(page, tmp_path, dark):
    file = tmp_path / "report.html"
    file.write_text(page, encoding="utf-8")
    done = _browse(file, tmp_path, 1920, *(["--blink-settings=preferredColorScheme=0"] if dark else []))
    assert "The learned controller reached" in done.stdout
    assert "CONSOLE" not in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("width", [360, 768, 1920])
def test_page_never_scrolls_sideways(page, tmp_path, width):
    unlocked = re.sub(r"<meta http-equiv[^>]*>", "", page).replace("</body>", MEASURE)
    (tmp_path / "inside.html").write_text(unlocked, encoding="utf-8")
    # A window has a least width that telephones lack; a frame has none.
    (tmp_path / "frame.html").write_text(FRAME.replace("{}", str(width)), encoding="utf-8")
    done = _browse(tmp_path / "frame.html", tmp_path, 2000)
    measured = re.search(r"<title>width (\d+)</title>", done.stdout)
    assert measured, done.stdout[:500]
    assert int(measured[1]) <= width
