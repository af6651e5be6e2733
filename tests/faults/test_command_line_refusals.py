"""Bad input at the command line: exit code 2, one line that names the thing and the remedy, no half-written run."""

import errno
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from deploy import cli, compose
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.dataset import ACTION, HAND, STATE, Feature, image_key
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.run import MANIFEST, open_run, read_run
from robot_wm.data import video
from robot_wm.data.lerobot_writer import LeRobotWriter
from robot_wm.data.loader import Scales
from robot_wm.models.adapter import Adapter, AdapterConfig, ProprioHead
from robot_wm.models.body import Body
from robot_wm.models.dynamics import DynamicsConfig
from robot_wm.models.encoder import EncoderConfig
from robot_wm.models.world_model import WorldModel, WorldModelConfig
from robot_wm.planning.controllable import CalibrationFile, save_calibration
from robot_wm.training.checkpoint import ModelFile, save_world_model
from sims.robots import load
from tests.handmade_bundle import SIDE, make_spec, write_bundle

MJCF = """\
<mujoco model="crane">
  <compiler angle="radian"/>
  <option timestep="0.01" integrator="implicitfast"/>
  <default><joint damping="2" armature="0.05" range="-1 1"/><geom type="capsule" size="0.03"/></default>
  <worldbody><light pos="0 0 2"/>
    <body name="mast" pos="0 0 0.3"><joint name="left" axis="0 0 1"/><geom fromto="0 0 0 0.25 0 0"/>
      <body name="jib" pos="0.25 0 0"><joint name="right" axis="0 0 1"/><geom fromto="0 0 0 0.2 0 0"/>
        <site name="tip" pos="0.2 0 0"/></body></body></worldbody>
  <actuator><velocity name="left" joint="left" kv="5" ctrlrange="-2 2"/>
    <velocity name="right" joint="right" kv="5" ctrlrange="-2 2"/></actuator>
</mujoco>
"""
YAML = f"""\
name: crane
mjcf: {{path: crane.xml}}
interface: joint_velocity
end_effector: tip
control_rate_hz: 20
frame_skip: 4
camera:
  {{name: front, height: {SIDE}, width: {SIDE}, position_m: [0.3, 0, 1.5], target_m: [0.3, 0.01, 0]}}
safety: {{max_step: 1.0}}
"""
TINY = WorldModelConfig(
    EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1),
    DynamicsConfig(width=32, blocks=1),
    action_dim=3,
    labeler_width=32,
    flow_cells=8,
)
SCALES = Scales(1.0, (1.0, 1.0, 1.0, 1.0), (0.0, 0.0, 0.0), (1.0, 1.0, 1.0), 1.0)
EPISODES, LENGTH = 4, 41
PROGRESS = re.compile(r" \d+/(\? |\d+ .*:[\d-]{2})")


class Workshop:
    """A folder with everything that stages take, all of it sound until a test damages it."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]):
        self.folder, self._capsys = folder, capsys

    def assert_refused(
        self, *arguments: str, words: tuple[str, ...], left: tuple[str, ...] = (), note: str | None = None
    ) -> None:
        """Run a command that must be refused, with its reason in `words`, leaving no run but `left` (stages).

        `note` begins the one line that it may say before.
        """
        before = self.runs()
        code = cli.main([*arguments, "--config-dir", "mine"])
        captured = self._capsys.readouterr()
        check_refusal(code, captured.out, captured.err, words, note)
        new = self.runs() - before
        assert {run.parent.name for run in new} == set(left), new
        assert not any((run / MANIFEST).exists() for run in new)

    def runs(self) -> set[Path]:
        return set(self.folder.glob("runs/*/*"))

    def only(self, stage: str) -> str:
        (found,) = (self.folder / "runs" / stage).iterdir()
        return f"runs/{stage}/{found.name}"


def check_refusal(code: int, out: str, err: str, words: tuple[str, ...], note: str | None = None) -> None:
    assert code == 2, err
    assert out == ""
    assert "Traceback" not in err
    lines = err.splitlines()
    assert lines[-1].startswith("error: ")
    assert sum(line.startswith("error: ") for line in lines) == 1
    rest = [line for line in lines[:-1] if not PROGRESS.search(line) and line.strip()]
    if note is not None:
        assert rest.pop(0).startswith(note)
    assert rest == [], "nothing but progress comes before it"
    for word in words:
        assert word in lines[-1]
    problem, _, remedy = lines[-1].removesuffix(".").rpartition(". ")
    assert problem and remedy, "a remedy follows the problem"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Body, log, video, bundle, and the runs of pretrain and calibrate with random weights."""
    folder = tmp_path_factory.mktemp("workshop")
    here = Path.cwd()
    os.chdir(folder)
    try:
        (folder / "mine" / "embodiment").mkdir(parents=True)
        (folder / "mine" / "embodiment" / "crane.yaml").write_text(YAML)
        (folder / "mine" / "embodiment" / "crane.xml").write_text(MJCF)
        values = compose.compose("run", ["embodiment=crane"], [Path("mine")])
        body = from_mapping(Embodiment, values["embodiment"])
        write_log(folder / "log")
        video.encode(folder / "film.mp4", film(60), 10.0)
        write_models(body)
        with load(body) as simulation:
            spec = make_spec(
                embodiment="crane",
                embodiment_sha256=body.digest(),
                command=simulation.command,
                proprio=simulation.proprio_names,
            )
        write_bundle(folder / "bundle", spec)
    finally:
        os.chdir(here)
    return folder


def film(length: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    return np.stack([np.roll(noise, 2 * shift, axis=0) for shift in range(length)])


def write_log(path: Path, still: Collection[int] = ()) -> None:
    """A body's log; in the episodes named the picture stands still."""
    features = {
        image_key("front"): Feature("video", (64, 64, 3)),
        STATE: Feature("float32", (4,)),
        ACTION: Feature("float32", (2,), ("left", "right")),
        HAND: Feature("float32", (3,), ("x", "y", "z")),
    }
    rng = np.random.default_rng(0)
    with LeRobotWriter(path, 20.0, features) as writer:
        for episode in range(EPISODES):
            columns = {STATE: rng.normal(size=(LENGTH, 4)), ACTION: rng.uniform(-1, 1, (LENGTH, 2))}
            columns[HAND] = rng.normal(size=(LENGTH, 3))
            frames = film(LENGTH)
            writer.add_episode(
                columns, {image_key("front"): frames[np.zeros(LENGTH, int)] if episode in still else frames}
            )


def write_models(body: Embodiment) -> None:
    torch.manual_seed(0)
    model = WorldModel(TINY).eval()
    with open_run(Path("runs"), "pretrain", "tiny", {"seed": 0}) as run:
        run.finish(save_world_model(run.path, model, SCALES, 0.2))
    with load(body) as simulation:
        command, names = simulation.command, simulation.proprio_names
    adapter = AdapterConfig()

    known = Body(
        model.dynamics,
        Adapter(adapter, 8, 4, TINY.encoder.latent_dim, TINY.action_dim),
        ProprioHead(TINY.encoder.latent_dim, 4),
        command,
        torch.zeros(4),
        torch.ones(4),
        torch.ones(4),
    )
    parts = SimpleNamespace(model=model, body=known, head=None)
    file = CalibrationFile(body, command, names, adapter)
    with open_run(Path("runs"), "calibrate", "tiny", {"seed": 0}, {"data": Path("log")}) as run:
        run.finish(save_calibration(run.path, parts, file, ModelFile(TINY, SCALES, 0.2)))


@pytest.fixture
def workshop(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Workshop:
    """A copy of what was made, which the test may damage, as the current folder."""

    folder = tmp_path / "workshop"
    shutil.copytree(made, folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("COLUMNS", "300")
    return Workshop(folder, capsys)


def cut(path: Path, share: float = 0.5) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


CRANE = "embodiment=crane"


# Video


@pytest.mark.parametrize("stage", ["ingest data=nowhere.mp4", "demo video=nowhere.mp4", "ingest data=no/such/folder"])
def test_missing_video(workshop: Workshop, stage: str) -> None:
    workshop.assert_refused(
        *stage.split(), words=("nowhere.mp4" if "mp4" in stage else "no/such/folder", "does not exist")
    )


@pytest.mark.parametrize("damage", ["text", "truncated", "empty"])
def test_unreadable_video(workshop: Workshop, damage: str) -> None:
    path = workshop.folder / "film.mp4"
    match damage:
        case "text":
            path.write_text("not a film")
        case "truncated":
            cut(path)
        case "empty":
            path.write_bytes(b"")
    workshop.assert_refused("ingest", "data=film.mp4", words=("film.mp4 holds no readable video", "Give other files"))


def test_empty_folder(workshop: Workshop) -> None:
    (workshop.folder / "empty").mkdir()
    workshop.assert_refused("ingest", "data=empty", words=("empty holds no video", ".mp4"))
    model = f"model={workshop.only('pretrain')}"
    workshop.assert_refused("pretrain", "data=[empty]", words=("empty is not a LeRobot dataset",))
    workshop.assert_refused("label", "data=empty", model, words=("empty is not a LeRobot dataset",))
    workshop.assert_refused("calibrate", CRANE, "data=empty", model, words=("empty is not a LeRobot dataset",))
    workshop.assert_refused("run", CRANE, "bundle=empty", words=("empty holds no controller.json",))
    workshop.assert_refused("export", "calibration=empty", words=("empty is not a finished run",))
    workshop.assert_refused("lineage", "empty", words=("empty is not a finished run",))


def test_video_in_which_nothing_is_usable(workshop: Workshop) -> None:
    video.encode(workshop.folder / "black.mp4", np.zeros((40, 64, 64, 3), np.uint8), 10.0)
    workshop.assert_refused("ingest", "data=black.mp4", words=("nothing in black.mp4 can be used", "black_frames"))


# Bodies

BODIES: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "broken XML": ("crane.xml", "</worldbody>", "", ("crane.xml does not compile", "Mend the model file")),
    "unknown attribute": ("crane.xml", 'joint name="left"', 'joint nom="left"', ("crane.xml does not compile", "nom")),
    "joint": ("crane.xml", 'joint="right"', 'joint="rigth"', ("crane.xml does not compile", "'rigth'")),
    "actuator": ("crane.yaml", "end_effector", "actuators: [left, rigth]\nend_effector", ("'rigth'", "left, right")),
    "site": ("crane.yaml", "end_effector: tip", "end_effector: claw", ("'claw'", "Sites: tip")),
    "camera": (
        "crane.yaml",
        ", position_m: [0.3, 0, 1.5], target_m: [0.3, 0.01, 0]",
        "",
        ("camera 'front'", "Cameras"),
    ),
    "file": ("crane.yaml", "path: crane.xml", "path: heron.xml", ("MJCF heron.xml does not exist", "mjcf.path")),
    "NaN": ("crane.yaml", "max_step: 1.0", "max_step: .nan", ("safety.max_step is nan", "finite")),
}


CASES = [("record", name) for name in BODIES]
CASES += [(stage, name) for stage in ("calibrate", "run", "evaluate") for name in ("joint", "actuator")]


@pytest.mark.parametrize(("stage", "name"), CASES)
def test_body_that_is_wrong(workshop: Workshop, stage: str, name: str) -> None:
    file, old, new, words = BODIES[name]
    path = workshop.folder / "mine" / "embodiment" / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    arguments = {
        "record": ["transitions=20", "workers=1"],
        "calibrate": ["data=log", f"model={workshop.only('pretrain')}"],
        "run": ["bundle=bundle", "threads=1"],
        "evaluate": ["bundle=bundle", "goals=1"],
    }[stage]
    if stage in ("run", "evaluate") and file == "crane.yaml":
        words = ("made for another body",)
    workshop.assert_refused(stage, CRANE, *arguments, words=words)


def test_edited_mjcf_is_another_run(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    record = ["record", CRANE, "transitions=4", "transitions_per_episode=2", "workers=1", "--config-dir=mine"]
    assert cli.main(record) == 0
    assert cli.main(record) == 0
    first = workshop.only("record")
    xml = workshop.folder / "mine" / "embodiment" / "crane.xml"
    xml.write_text(MJCF.replace('damping="2"', 'damping="3"'))
    assert cli.main(record) == 0
    assert len(list((workshop.folder / "runs" / "record").iterdir())) == 2
    assert read_run(Path(first)).inputs["mjcf"].path == "mine/embodiment/crane.xml"


# Logs


def put_nan(dataset: Path, key: str) -> None:
    path = dataset / "data" / "chunk-000" / "file-001.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[5][key][0] = float("nan")
    pq.write_table(pa.Table.from_pylist(rows, table.schema), path)


@pytest.mark.parametrize("key", [STATE, ACTION])
def test_nan_in_a_log(workshop: Workshop, key: str) -> None:
    put_nan(workshop.folder / "log", key)
    words = (f"{key} of episode 1 is not finite at row 5",)
    workshop.assert_refused("calibrate", CRANE, "data=log", f"model={workshop.only('pretrain')}", words=words)
    workshop.assert_refused("export", f"calibration={workshop.only('calibrate')}", "data=log", words=words)


def test_nan_in_a_position_that_pretraining_reads(workshop: Workshop) -> None:
    """It reads neither state nor action; what is unknown is a column that is missing."""
    put_nan(workshop.folder / "log", HAND)
    workshop.assert_refused("pretrain", "data=[log]", words=(f"{HAND} of episode 1 is not finite at row 5",))


def test_camera_that_was_unplugged(workshop: Workshop) -> None:
    write_log(workshop.folder / "still", still=range(EPISODES))
    words = ("'front' never change while the robot moves", "Check the camera")
    model = f"model={workshop.only('pretrain')}"
    workshop.assert_refused("calibrate", CRANE, "data=still", model, words=words)


def test_nan_in_a_log_that_is_replayed(workshop: Workshop) -> None:
    """The first episode is sound: its flight is kept, and found again when the log was mended."""
    put_nan(workshop.folder / "log", ACTION)
    replay = ("run", CRANE, "bundle=bundle", "robot=replay", "log=log", "threads=1", "episodes=2")
    words = (f"{ACTION} of episode 1 is not finite at row 5",)
    workshop.assert_refused(*replay, words=words, left=("run",), note="run: what was flown until now is a dataset")


# Checkpoints and bundles


def test_another_body(workshop: Workshop) -> None:
    heron = workshop.folder / "mine" / "embodiment" / "heron.yaml"
    heron.write_text(YAML.replace("name: crane", "name: heron"))
    words = ("made for another body (crane)", "embodiment heron", "calibrate and export")
    workshop.assert_refused("run", "embodiment=heron", "bundle=bundle", words=words)
    workshop.assert_refused("evaluate", "embodiment=heron", "bundle=bundle", "goals=1", words=words)
    model = f"model={workshop.only('pretrain')}"
    workshop.assert_refused("calibrate", "embodiment=fetch", "data=log", model, words=("log", "fetch", "2 entries"))
    workshop.assert_refused(
        "export", f"calibration={workshop.only('pretrain')}", words=("pretrain run", "Give a calibrate run")
    )
    calibrated = workshop.only("calibrate")
    workshop.assert_refused("label", "data=log", f"model={calibrated}", words=("calibrate run", "Give a pretrain run"))
    workshop.assert_refused("calibrate", CRANE, "data=log", f"model={calibrated}", words=("Give a pretrain run",))


@pytest.mark.parametrize("name", ["encode.onnx", "plan.onnx"])
def test_truncated_onnx(workshop: Workshop, name: str) -> None:
    cut(workshop.folder / "bundle" / name)
    words = (f"bundle/{name} is truncated or altered", "Copy the bundle again")
    workshop.assert_refused("run", CRANE, "bundle=bundle", words=words)
    workshop.assert_refused("evaluate", CRANE, "bundle=bundle", "goals=1", words=words)


@pytest.mark.parametrize("share", [0.5, 0.0])
def test_truncated_safetensors(workshop: Workshop, share: float) -> None:
    pretrained, calibrated = workshop.only("pretrain"), workshop.only("calibrate")
    for run in (pretrained, calibrated):
        cut(workshop.folder / run / "model.safetensors", share)
    words = ("model.safetensors is truncated or altered", f"Remove {pretrained} and run the stage pretrain again")
    workshop.assert_refused("label", "data=log", f"model={pretrained}", words=words)
    workshop.assert_refused("calibrate", CRANE, "data=log", f"model={pretrained}", words=words)
    words = ("model.safetensors is truncated or altered", f"Remove {calibrated}")
    workshop.assert_refused("export", f"calibration={calibrated}", words=words)


def test_values_and_places_that_cannot_be(workshop: Workshop) -> None:
    record = ("record", CRANE, "transitions=4", "workers=1")
    workshop.assert_refused(*record, "seed=-1", words=("seed -1",))
    workshop.assert_refused(*record, "name=a/b", words=("name is 'a/b'",))
    workshop.assert_refused(*record, "step_s=inf", words=("record.step_s is inf", "finite"))
    calibrate = ("calibrate", CRANE, "data=log", f"model={workshop.only('pretrain')}")
    workshop.assert_refused(*calibrate, "validation=0", words=("validation is 0",))
    workshop.assert_refused(*calibrate, "fit.steps=0", words=("fit.steps is 0",))
    workshop.assert_refused("pretrain", "data=[log]", "validation=1.5", words=("validation is 1.5",))
    workshop.assert_refused("pretrain", "data=[log]", "training.accelerator=abacus", words=("accelerator 'abacus'",))
    (workshop.folder / "taken").write_text("a file")
    workshop.assert_refused(*record, "out=taken", words=("taken", "Check the path"))


# Disk


def test_disk_full_at_the_manifest(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever could be saved before is found again."""
    write = files.write_atomic

    def full(path: Path, data: bytes) -> None:
        if path.name == MANIFEST:
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data)

    label = ("label", "data=log", f"model={workshop.only('pretrain')}")
    monkeypatch.setattr(files, "write_atomic", full)
    words = ("disk full while writing", MANIFEST, "Free some space")
    workshop.assert_refused(*label, words=words, left=("label",), note="no end-effector motion")
    monkeypatch.setattr(files, "write_atomic", write)
    resumable = workshop.only("label")
    assert cli.main([*label]) == 0
    assert workshop.only("label") == resumable
    assert read_run(Path(resumable)).metrics["episodes"] == EPISODES


def test_disk_full_before_anything_was_written(workshop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(path: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(files, "write_atomic", full)
    for arguments in (
        ("ingest", "data=film.mp4"),
        ("calibrate", CRANE, "data=log", f"model={workshop.only('pretrain')}"),
        ("run", CRANE, "bundle=bundle", "threads=1"),
    ):
        workshop.assert_refused(*arguments, words=("disk full", "Free some space"))


Mount = Callable[[int], Path]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Mount]:
    """Mounts real file systems of a few kilobytes."""
    mounted: list[Path] = []

    def mount(kib: int) -> Path:
        path = tmp_path / f"disk{len(mounted)}"
        path.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kib}k", "tmpfs", str(path)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=10)
        except OSError as error:
            pytest.skip(f"no small disk can be mounted here ({error})")
        if done.returncode:
            pytest.skip(f"no small disk can be mounted here ({done.stderr.strip()})")
        mounted.append(path)
        return path

    yield mount
    for path in mounted:
        subprocess.run(["umount", "-l", str(path)], check=True, timeout=10)


def test_disk_that_is_really_full(workshop: Workshop, small_disk: Mount, repository: Path) -> None:
    """Ingest fills it with its dataset, pretrain with its cache, of which the last is mapped into memory."""
    disk = small_disk(32)
    workshop.assert_refused("ingest", "data=film.mp4", f"out={disk}", words=("disk full", "Free some space"))
    assert list(disk.glob("ingest/*")) == []
    disk = small_disk(200)
    code = "import sys; from deploy.cli import main; sys.exit(main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "pretrain", "data=[log]", f"cache={disk}", "name=full"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    check_refusal(done.returncode, done.stdout, done.stderr, ("disk full", "Free some space"))
    assert not list(workshop.folder.glob("runs/pretrain/*-full-*"))
