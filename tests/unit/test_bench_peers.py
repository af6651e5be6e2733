"""The comparison with peers: whoever cannot be had is a row that says why, and everyone gets the same."""

import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from calibration.transitions import Transitions
from deploy.bench import parts as in_parts
from deploy.bench.bench import BenchConfig
from deploy.bench.peers import conversion
from deploy.bench.peers.benchmark import Part, _elsewhere, parts, peers
from deploy.bench.peers.cloning import hindsight
from deploy.bench.peers.contest import Contest, Outcome, obeying
from deploy.bench.peers.environment import STABLE_WORLDMODEL, Environment
from deploy.bench.peers.methods import METHODS, methods_of
from deploy.bench.peers.page import tables
from deploy.bench.peers.searches import Flat
from deploy.bench.peers.verdicts import rows_of
from deploy.bench.result import Row
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.models.command import CommandMap
from robot_wm.planning.objectives import ObjectiveConfig
from robot_wm.planning.planner import Planner, PlannerConfig, pose
from tests.point_body import SPACE, point_body

DONE = Outcome("abc", 80, 100, 500, 60.0, 900.0, 20.0, 800.0, 2_000_000)
SKIP, DIM = 2, 3


def log(lengths: tuple[int, ...] = (7, 4, 9)) -> Transitions:
    """A log whose commands say which row they stand in."""
    rows = sum(lengths)
    episode_F = np.repeat(np.arange(len(lengths)), lengths).astype(np.int32)
    command_FU = np.arange(rows * DIM, dtype=np.float32).reshape(rows, DIM)
    chunks = np.full((rows, SKIP, DIM), np.nan, np.float32)
    for row in range(rows - SKIP):
        if episode_F[row] == episode_F[row + SKIP]:
            chunks[row] = command_FU[row : row + SKIP]
    frames = np.random.default_rng(0).integers(0, 256, (rows, 24, 24, 3), dtype=np.uint8)
    proprio = np.random.default_rng(1).normal(size=(rows, 4)).astype(np.float32)
    return Transitions(frames, proprio, chunks, episode_F, SKIP, command_FU)


def keep(folder: Path, outcomes: dict[Part, Outcome]) -> None:
    (folder / "parts").mkdir(parents=True)
    for part, outcome in outcomes.items():
        files.write_json(in_parts.kept(folder, part), asdict(outcome))


def row(rows: list[Row], beginning: str) -> Row:
    return next(row for row in rows if row.metric.startswith(beginning))


def test_who_needs_an_installation_is_a_row_that_says_so(tmp_path: Path) -> None:
    keep(tmp_path / "bench" / "peers-quick-0", dict.fromkeys(parts("quick"), DONE))
    rows = peers(BenchConfig("peers", out=str(tmp_path)))
    absent = row(rows, "fetch: LeWM, stable-worldmodel 0.1.1: not measured: size=full installs it from PyPI")
    assert absent.value is None
    assert row(rows, "fetch: ours, all labels: success").reference == 0.8, "the oracle's"
    assert all(row.met is None for row in rows), "five pairs are too few for verdicts"


def test_a_method_that_fails_is_a_row_with_its_last_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_parts, "_begin", ends_at_once)
    quick = parts("quick")
    broken = next(part for part in quick if part.method == "cloning")
    keep(tmp_path / "bench" / "peers-quick-0", {part: DONE for part in quick if part != broken})
    rows = peers(BenchConfig("peers", out=str(tmp_path)))
    failed = row(rows, "fetch: behaviour cloning, goal-conditioned: not installed: no such wheel. Try again")
    assert failed.value is None


def ends_at_once(module: str, folder: Path, part: in_parts.Part, config: BenchConfig) -> "subprocess.Popen[bytes]":
    with (folder / "parts" / f"{part.name}.log").open("wb") as said:
        words = [sys.executable, "-c", "import sys; sys.exit('error: not installed: no such wheel. Try again')"]
        return subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True)


@pytest.mark.slow  # makes a virtual environment
def test_an_installation_that_fails_says_the_last_line_and_is_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    missing = Environment("missing", (str(tmp_path / "peer-1.0-py3-none-any.whl"),), 0)
    with pytest.raises(UserError, match=r"not installed: .*peer-1\.0"):
        missing.python()
    assert not (missing.folder / "installed.json").exists(), "the next call tries again"
    found = subprocess.run(
        [str(missing.folder / "bin" / "python"), "-P", "-c", "import torch, deploy; print(torch.__version__)"],
        capture_output=True, text=True, timeout=120, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert found.stdout.strip() == torch.__version__, "it shares our torch"


def test_ours_is_compared_with_the_best_peer() -> None:
    found = {
        ("fetch", "ours"): DONE, ("fetch", "ours-tenth"): replace(DONE, successes=76),
        ("fetch", "cloning"): replace(DONE, successes=70),
        ("fetch", "lewm"): replace(DONE, successes=60, plan_ms=900.0),
        ("fetch", "oracle"): replace(DONE, successes=100),
    }  # fmt: skip
    rows = rows_of(found, {})
    tenth = row(rows, "fetch: ours, a tenth of the labels, ahead of the best peer (behaviour cloning")
    assert tenth.value == pytest.approx(6) and tenth.met
    assert row(rows, "fetch: one plan, times faster than LeWM").value == 45
    assert row(rows, "fetch: one plan, times faster than PLDM").met is False
    peer = row(rows, "fetch: behaviour cloning, goal-conditioned: success")
    assert peer.low is not None and peer.high is not None and peer.low < 0.7 < peer.high


def test_methods_on_different_pairs_are_not_compared() -> None:
    with pytest.raises(UserError, match="measured on different pairs"):
        rows_of({("fetch", "ours"): DONE, ("fetch", "lewm"): replace(DONE, pairs="xyz")}, {})


def test_every_method_gets_the_same_unsolved_pairs(tmp_path: Path) -> None:
    """Whatever its data and labels are: pairs depend on body, number and seed alone."""
    from deploy.bench.peers.contest import digest

    contest = Contest("fetch", "a", 500, 2, 1.0, 0, str(tmp_path))
    digests = []
    for other in (contest, replace(contest, data="b", transitions=50, calibration="c"), replace(contest, seed=1)):
        with other.arena() as arena:
            assert all(pair.start_distance_m > arena.task.threshold_m for pair in arena.pairs)
            digests.append(digest(arena.pairs))
    assert digests[0] == digests[1] != digests[2]


def test_a_log_in_their_columns_is_the_log() -> None:
    """Frames bit for bit, and every command that a frame shows the effect of."""
    ours = log()
    theirs = list(conversion.episodes(ours))
    assert np.array_equal(np.concatenate([e["pixels"] for e in theirs]), ours.frames_FYXC)
    assert np.array_equal(np.concatenate([e["proprio"] for e in theirs]), ours.proprio_FP)
    assert [len(e["action"]) for e in theirs] == [7, 4, 9]
    for number, episode in enumerate(theirs):
        assert np.array_equal(episode["action"][:-1], ours.reference_FU[ours.episode_F == number][:-1])
        assert np.isnan(episode["action"][-1]).all(), "nothing shows the effect of the last command"


@pytest.mark.slow
def test_a_log_survives_their_file_format_frame_by_frame(tmp_path: Path) -> None:
    """`write_and_check` compares what their reader gives back, and refuses what differs."""
    python = STABLE_WORLDMODEL.folder / "bin" / "python"
    if not (STABLE_WORLDMODEL.folder / "installed.json").is_file():
        pytest.skip("stable-worldmodel is not installed: `robot-wm bench peers size=full` does so")
    np.savez(tmp_path / "log.npz", **{k: v for k, v in asdict(log()).items() if k != "skip"})
    done = subprocess.run(
        [str(python), "-P", "-W", "ignore", "-c", READ_BACK, str(tmp_path)], capture_output=True, text=True,
        timeout=120, cwd=tmp_path, stdin=subprocess.DEVNULL,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-1000:]
    assert "episode 1 is not the same" in done.stdout


READ_BACK = """
import sys
from pathlib import Path
import numpy as np
from calibration.transitions import Transitions
from deploy.bench.peers import conversion, swm
swm.prepare()
folder = Path(sys.argv[1])
log = Transitions(**np.load(folder / "log.npz"), skip=2)
assert conversion.write_and_check(log, folder / "log.h5").is_file()
right = conversion.episodes
def wrong(log):
    for number, episode in enumerate(right(log)):
        wrong.calls += 1
        spoiled = episode["pixels"].copy()
        spoiled[0, 0, 0, 0] ^= 1
        yield episode | ({"pixels": spoiled} if number == 1 and wrong.calls < 4 else {})
wrong.calls = 0
conversion.episodes = wrong
try:
    conversion.write_and_check(log, folder / "spoiled.h5")
except Exception as error:
    print(error)
"""


def test_hindsight_goals_come_later_in_the_same_episode() -> None:
    ours, rng = log((30, 12)), np.random.default_rng(0)
    rows = np.flatnonzero(np.isfinite(ours.chunks_FKU).all(axis=(1, 2))).repeat(20)
    goals = hindsight(ours, rows, rng)
    assert (ours.episode_F[goals] == ours.episode_F[rows]).all()
    assert (goals > rows).all() and (goals - rows).max() == 5 * SKIP


def test_peers_obey_the_limits_that_ours_obeys() -> None:
    space = replace(SPACE, max_step=(0.3, 0.3))
    plan, reference = 3 * torch.randn(50, 2), 2 * torch.rand(50, 2) - 1
    ours, _ = CommandMap(space)(plan.clamp(-1, 1), reference)
    held = plan.clamp(-1, 1)[:, None].expand(-1, space.frame_skip, -1).double().numpy()
    assert np.allclose(obeying(space, held, reference.double().numpy()), ours, atol=1e-6)


@torch.no_grad()
def test_their_searches_see_the_cost_that_ours_sees() -> None:
    size = PlannerConfig(horizon=3, candidates=16, objective=ObjectiveConfig(latent=1.0))
    planner = Planner(size, point_body()).eval()
    place, goal, reference = torch.randn(1, 2), torch.randn(1, 2), torch.zeros(1, 2)
    problem = pose(planner.body, place[:, None].expand(-1, 2, -1), goal, place, reference)
    plans = 2 * torch.rand(1, 16, 3, 2) - 1
    flat = Flat(planner.body, planner.objective)
    state, cost = flat.pack(problem.now, reference).expand(16, -1), torch.zeros(16)
    for step in range(3):
        state = flat.dynamics(state, plans[0, :, step])
        cost = cost + flat.cost(problem.goal)(state, plans[0, :, step]) / 3
    assert torch.allclose(cost, planner.evaluate(plans, problem)[0][0], atol=1e-5)


def test_full_has_every_method_on_every_body_and_quick_installs_nothing() -> None:
    full, quick = parts("full"), parts("quick")
    assert {part.method for part in full if part.body == "fetch_push"} == set(METHODS)
    assert all(METHODS[part.method].environment is None for part in quick)
    assert len({part.name for part in full}) == len(full)


def test_a_saved_result_is_a_table_of_methods_and_columns() -> None:
    rows = rows_of({("fetch", "ours"): DONE, ("fetch", "oracle"): DONE}, {("fetch", "lewm"): "not installed: no wheel"})
    saved = {
        "benchmark": "peers", "command": "robot-wm bench peers", "machine": "2 cores", "created_utc": "2026-12-01T00",
        "rows": [row.to_json() for row in rows],
    }  # fmt: skip
    page = tables(saved)
    line = next(line for line in page.splitlines() if line.startswith("| ours, all labels"))
    assert line == (
        "| ours, all labels | 80 of 100, 80 % (71 to 87) | 500 | 60 s | 900 | 20 ms | 800 MiB | 2,000,000 |"
    )
    assert page.rstrip().endswith("- fetch: LeWM, stable-worldmodel 0.1.1: not installed: no wheel")
    with pytest.raises(UserError, match="a result of 'data'"):
        tables({"benchmark": "data"})


@pytest.mark.slow
def test_two_room_is_flown_with_its_own_code(tmp_path: Path) -> None:
    """Its expert's episodes, and random actions on two kinds of pairs: no training."""
    if not (STABLE_WORLDMODEL.folder / "installed.json").is_file():
        pytest.skip("stable-worldmodel is not installed: `robot-wm bench peers size=full` does so")
    contest = Contest("two_room", "", 100, 3, 1.0, 0, str(tmp_path))
    found = _elsewhere(methods_of("two_room")["random"], contest, STABLE_WORLDMODEL.python(), "random", tmp_path)
    assert found.trials == 3 and found.labels is None
    assert len(found.numbers) == 1
    assert len(list(tmp_path.glob("two-room-*.h5"))) == 2
