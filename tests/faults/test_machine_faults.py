"""What a machine does to a run: no memory, no GPU, no codec, no right to write, names in any script, data that grow."""

import errno
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import cv2
import mujoco
import numpy as np
import pytest
import torch
from onnxruntime.capi.onnxruntime_pybind11_state import EPFail

from deploy import cli
from deploy.refusals import failed_machine
from deploy.runtime.safety import PLANNER_ERROR
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import MANIFEST
from robot_wm.data import encoder, video
from robot_wm.data.lerobot import LeRobotDataset
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.training import loop
from robot_wm.training.checkpoint import WEIGHTS
from robot_wm.training.loop import PROGRESS, train
from robot_wm.training.losses import LossConfig
from tests.faults.test_command_line_refusals import MJCF, YAML, Mount, check_refusal, film
from tests.faults.test_command_line_refusals import small_disk as small_disk
from tests.faults.test_killed_anywhere import SMALL_PRETRAIN
from tests.handmade_bundle import make_spec
from tests.property.hostile import make_dataset, make_video
from tests.recovery.test_pretrain_resume import TRAINING, _model
from tests.recovery.test_pretrain_resume import clips as clips
from tests.unit.test_delay import Counting, Ticking, fly

# So little that our own frames do not fit; with some more, a codec runs short inside itself and calls frames corrupt.
SHORT_OF_MEMORY = """
import resource, sys
from pathlib import Path
from deploy import cli
import robot_wm.stages.ingest
mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (mapped + (32 << 20), resource.RLIM_INFINITY))
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is bounded by Linux's RLIMIT_AS")
def test_out_of_memory_is_one_line_and_leaves_no_run(tmp_path: Path, repository: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (4, 2048, 2048, 3), dtype=np.uint8)
    video.encode(tmp_path / "film.mp4", noise, 10.0)
    environment = {**os.environ, "PYTHONPATH": str(repository), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", SHORT_OF_MEMORY, "ingest", "data=film.mp4"],
        cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "error: out of memory" in done.stderr
    assert not list(tmp_path.glob(f"runs/*/*/{MANIFEST}"))


class Starved:
    """A converter of pixel formats that can start no threads, as FFmpeg says it."""

    def reformat(self, *_: object, **__: object) -> None:
        av.error.err_check(-errno.EAGAIN)


@pytest.mark.parametrize("module", [video, encoder])
def test_a_codec_short_of_memory_is_no_broken_video(
    module: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    video.encode(tmp_path / "film.mp4", film(60), 10.0)
    monkeypatch.setattr(module, "VideoReformatter", Starved)
    code = cli.main(["ingest", "data=film.mp4"])
    captured = capsys.readouterr()
    check_refusal(code, captured.out, captured.err, ("out of memory", "Give smaller sizes or fewer workers"))
    assert not list(tmp_path.glob(f"runs/*/*/{MANIFEST}"))


@pytest.mark.parametrize(
    "error",
    [
        cv2.error("OpenCV(4) alloc.cpp:73: error: (-4:Insufficient memory) Failed to allocate 9 bytes in function 'f'"),
        mujoco.FatalError("mj_makeData: could not allocate memory"),
        OSError(errno.ENOMEM, "Cannot allocate memory"),  # of fork and mmap
    ],
)
def test_every_library_is_understood_when_memory_ends(error: Exception) -> None:
    assert "out of memory" in str(failed_machine(error))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_no_gpu(clips, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    from dataclasses import replace

    with pytest.raises(UserError, match=r"accelerator 'cuda'.*accelerator=auto"):
        train(_model(), *clips, replace(TRAINING, accelerator="cuda"), LossConfig(), tmp_path, 0, lambda **_: None)


def test_gpu_lost_in_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As torch says it. The same command goes on from what was kept, to the weights of a training that lost nothing."""
    monkeypatch.chdir(tmp_path)
    make_dataset(tmp_path / "log", 12)
    words = ["pretrain", "data=[log]", "cache=cache", *SMALL_PRETRAIN, "name=whole"]
    assert cli.main([*words, "out=whole"]) == 0, capsys.readouterr().err
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(loop, "pretraining_terms", lose_gpu(loop.pretraining_terms, after=5))
        code = cli.main([*words, "out=lost"])
    captured = capsys.readouterr()
    check_refusal(code, captured.out, captured.err, ("the GPU was lost", "unspecified launch failure", "goes on from"))
    (run,) = tmp_path.glob("lost/pretrain/*")
    assert (run / PROGRESS).is_file()
    assert not (run / MANIFEST).exists()
    assert cli.main([*words, "out=lost"]) == 0, capsys.readouterr().err
    (whole,) = tmp_path.glob("whole/pretrain/*")
    assert (run / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_gpu_lost_in_flight() -> None:
    def fail(tick: int) -> None:
        if tick >= 8:
            raise EPFail("[ONNXRuntimeError] : 11 : EP_FAIL : CUDA failure 700: an illegal memory access")

    result, _ = fly(Counting(make_spec(), fail), robot := Ticking(lambda now: time.sleep(0.01)), 200, in_worker=True)
    assert result.ended_by == PLANNER_ERROR
    assert "CUDA failure 700" in str(result.error)
    assert not robot.sent[-1].any()
    with pytest.raises(EPFail) as lost:  # in simulated time the command ends
        fly(Counting(make_spec(), fail), robot := Ticking(), 200)
    assert not robot.sent[-1].any()
    assert "the GPU was lost" in str(failed_machine(lost.value))


def test_what_is_not_the_machines_fault_goes_on_as_it_is() -> None:
    for error in (RuntimeError("shapes cannot be multiplied"), ValueError("out of memory of the past"), KeyError("x")):
        with pytest.raises(type(error)):
            failed_machine(error)


def lose_gpu(function: Callable[..., Any], after: int) -> Callable[..., Any]:
    calls = iter(range(1000))

    def lost(*arguments: Any) -> Any:
        if next(calls) >= after:
            raise torch.AcceleratorError("CUDA error: unspecified launch failure\nCompile with `TORCH_USE_CUDA_DSA`")
        return function(*arguments)

    return lost


def test_encoder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="libnothing is not among the encoders"):
        video.encode(tmp_path / "a.mp4", film(2), 10.0, codec="libnothing")  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_decoder_that_is_missing(tmp_path: Path) -> None:
    make_video(tmp_path / "x")
    path = tmp_path / "x" / "film.mp4"
    path.write_bytes(path.read_bytes().replace(b"avc1", b"zzz9"))
    with pytest.raises(UserError, match=r"film\.mp4"):
        video.decode(path)


def test_gradient_that_is_no_number_stops_and_keeps_the_last_checkpoint(clips, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def poison(**values: float) -> None:
        if values.get("step") == 4:  # the loss stays finite, its gradient does not
            model.dynamics.inputs.weight.register_hook(lambda gradient: gradient * float("nan"))

    model = _model()
    with pytest.raises(UserError, match="gradient is not finite at step 4"):
        train(model, *clips, TRAINING, LossConfig(), tmp_path, 0, poison)
    assert (tmp_path / PROGRESS).is_file()
    assert all(torch.isfinite(value).all() for value in model.state_dict().values())


def test_exploding_loss_stops_and_keeps_the_last_checkpoint(clips, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    def blow_up(**values: float) -> None:
        if values.get("step") == 4:
            torch.nn.init.constant_(model.dynamics.outputs.bias, 1e6)

    model = _model()
    with pytest.raises(UserError, match=r"loss is .* at step 4, after"):
        train(model, *clips, TRAINING, LossConfig(), tmp_path, 0, blow_up)
    assert (tmp_path / PROGRESS).is_file()


def test_read_only_disk(small_disk: Mount, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    disk = small_disk(64)
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True, timeout=10)
    make_video(tmp_path / "x")
    code = cli.main(["ingest", f"data={tmp_path / 'x' / 'film.mp4'}", f"out={disk}"])
    captured = capsys.readouterr()
    check_refusal(code, captured.out, captured.err, (str(disk), "Check the path and its permissions"))


def test_names_in_any_script(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "Übungsfläche 日本語 роботы"
    (folder / "mine" / "embodiment").mkdir(parents=True)
    monkeypatch.chdir(folder)
    (folder / "mine" / "embodiment" / "crane.xml").write_text(MJCF)
    (folder / "mine" / "embodiment" / "crane.yaml").write_text(YAML)
    video.encode(folder / "фильм é.mp4", film(60), 10.0)
    for words in (
        ["ingest", "data=фильм é.mp4"],
        ["record", "embodiment=crane", "transitions=4", "transitions_per_episode=2", "workers=1", "--config-dir=mine"],
    ):
        assert cli.main(words) == 0, capsys.readouterr().err
        run = Path(capsys.readouterr().out.strip())
        assert len(LeRobotDataset(run / "dataset").frames(0)) > 1
        assert cli.main(["lineage", str(run)]) == 0
        capsys.readouterr()


def test_dataset_that_grows_while_it_is_read(tmp_path: Path) -> None:
    features = {
        image_key("front"): Feature("video", (32, 32, 3)), STATE: Feature("float32", (1,)),
        ACTION: Feature("float32", (1,)),
    }  # fmt: skip

    def add(number: int) -> None:
        with LeRobotWriter(tmp_path, 5.0, features) as writer:
            frames = np.full((6, 32, 32, 3), 20 * number, np.uint8)
            columns = {STATE: np.full((6, 1), number), ACTION: np.zeros((6, 1))}
            writer.add_episode(columns, {image_key("front"): frames})

    add(1)
    before = LeRobotDataset(tmp_path)
    assert (before.columns(0)[STATE] == 1).all()
    for number in (2, 3):
        add(number)
        assert before.num_episodes == 1
        assert (LeRobotDataset(tmp_path).columns(0)[STATE] == 1).all()
        assert (before.columns(0)[STATE] == 1).all()
        assert abs(int(before.frames(0).mean()) - 20) < 4
    after = LeRobotDataset(tmp_path)
    assert [float(after.columns(e)[STATE][0, 0]) for e in range(3)] == [1, 2, 3]
    assert re.match("v3", after.info.version)
