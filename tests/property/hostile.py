"""Every reader of files from strangers, fed with damaged and hostile ones, in a process that may die of it.

`python -m tests.property.hostile FOLDER COUNT SEED READER…` prints one line of JSON per reader that came through. The
input under test lies in FOLDER/READER, for whoever looks at what killed the process.
"""

import contextlib
import json
import resource
import shutil
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import HealthCheck, given, seed, settings

from robot_wm.contracts import config, files
from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.contracts.errors import UserError
from robot_wm.data import video
from tests.property.spoiling import SPOIL

MEMORY_BYTES = 2 << 30  # that reading one file may take beyond what the process had
LIMIT_S = 20.0  # that reading one file may take, whatever is in it


@dataclass(frozen=True)
class Reader:
    """Makes a sound folder once; `damage` names the file to spoil, and how; `read` reads the folder."""

    make: Callable[[Path], None]
    file: str
    kind: str  # bytes, json, lines, xml, yaml
    read: Callable[[Path], Any]
    after: Callable[[Path], None] = lambda _: None
    cost: int = 1  # of one input, in those of others: so many times fewer are fed


# What is read


def make_bundle(folder: Path) -> None:
    from tests.handmade_bundle import write_bundle

    write_bundle(folder)


def rehash(folder: Path) -> None:
    """A stranger's hashes are right."""
    spec = json.loads((folder / "controller.json").read_text())
    spec["files"] = {name: files.sha256(folder / name) for name in spec["files"]}
    (folder / "controller.json").write_text(json.dumps(spec))


def read_controller(folder: Path) -> None:
    from deploy.runtime.controller import Controller
    from tests.handmade_bundle import NUM_PROPRIO, colour

    controller = Controller(folder, num_threads=1)
    controller.set_goal(colour(0, 0, 0))
    controller.step(colour(0.5, 0, 0), np.zeros(NUM_PROPRIO, np.float32))


def make_model(folder: Path) -> None:
    import torch

    from tests.faults.test_command_line_refusals import SCALES, TINY, WorldModel, save_world_model

    torch.manual_seed(0)
    folder.mkdir()
    save_world_model(folder, WorldModel(TINY), SCALES, 0.2)


def read_model(folder: Path) -> None:
    from robot_wm.training.checkpoint import load_world_model

    load_world_model(folder)


def make_dataset(folder: Path, length: int = 6) -> None:
    from robot_wm.data.lerobot_writer import LeRobotWriter

    features = {
        image_key("front"): Feature("video", (32, 32, 3)),
        STATE: Feature("float32", (2,)),
        ACTION: Feature("float32", (2,)),
    }
    frames = np.random.default_rng(0).integers(0, 255, (length, 32, 32, 3), dtype=np.uint8)
    columns = {STATE: np.ones((length, 2)), ACTION: np.ones((length, 2))}
    with LeRobotWriter(folder, 5.0, features) as writer:
        for _ in range(2):
            writer.add_episode(columns, {image_key("front"): frames}, "push")


def make_old_dataset(folder: Path) -> None:
    """A dataset of v2.1, images inside its rows."""
    picture = cv2.imencode(".png", np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8))[1].tobytes()
    (folder / "meta").mkdir(parents=True)
    (folder / "data" / "chunk-000").mkdir(parents=True)
    rows = range(4)
    table = pa.table({
        image_key("front"): [{"bytes": picture, "path": None} for _ in rows],
        STATE: pa.array([[0.0, 1.0] for _ in rows], pa.list_(pa.float32(), 2)),
        "timestamp": pa.array([row / 5 for row in rows], pa.float32()),
        **{key: pa.array([0 for _ in rows], pa.int64()) for key in ("episode_index", "task_index")},
        **{key: pa.array(list(rows), pa.int64()) for key in ("frame_index", "index")},
    })  # fmt: skip
    pq.write_table(table, folder / "data" / "chunk-000" / "episode_000000.parquet")
    info = {
        "codebase_version": "v2.1", "fps": 5, "total_episodes": 1, "total_frames": 4, "chunks_size": 1000,
        "data_path": "data/chunk-{episode_chunk:03d}/episode_{episode_index:06d}.parquet", "video_path": None,
        "features": {
            image_key("front"): {"dtype": "image", "shape": [8, 8, 3], "names": ["h", "w", "c"]},
            STATE: {"dtype": "float32", "shape": [2], "names": {"motors": ["a", "b"]}},
        },
    }  # fmt: skip
    (folder / "meta" / "info.json").write_text(json.dumps(info))
    (folder / "meta" / "episodes.jsonl").write_text(
        json.dumps({"episode_index": 0, "tasks": ["push"], "length": 4}) + "\n"
    )
    (folder / "meta" / "tasks.jsonl").write_text(json.dumps({"task_index": 0, "task": "push"}) + "\n")
    stats = {STATE: {"min": [0.0, 1.0], "max": [0.0, 1.0], "mean": [0.0, 1.0], "std": [0.0, 0.0], "count": [4]}}
    (folder / "meta" / "episodes_stats.jsonl").write_text(json.dumps({"episode_index": 0, "stats": stats}) + "\n")


def read_dataset(folder: Path) -> None:
    """As inspect and every stage do: what it says of itself, then its first rows and pictures."""
    from robot_wm.data.lerobot import LeRobotDataset
    from robot_wm.data.lerobot_meta import read_tasks

    dataset = LeRobotDataset(folder)
    read_tasks(folder)
    dataset.stats()
    if dataset.num_episodes:
        dataset.columns(0)
        dataset.frames_at(0, np.arange(min(2, dataset.episode_length(0))))


def inspect_dataset(folder: Path) -> None:
    from robot_wm.data.inspection import inspect

    inspect(folder, 1)


def make_video(folder: Path) -> None:
    folder.mkdir()
    frames = np.random.default_rng(0).integers(0, 255, (8, 32, 48, 3), dtype=np.uint8)
    video.encode(folder / "film.mp4", frames, 5.0)


def read_video(folder: Path) -> None:
    path = folder / "film.mp4"
    video.probe(path)
    video.times(path)
    for frame in video.stream(path, strict=False):
        frame.rgb((16, 16))


def make_picture(kind: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        folder.mkdir()
        picture = np.random.default_rng(0).integers(0, 255, (24, 32, 3), dtype=np.uint8)
        for number in range(2):
            cv2.imwrite(str(folder / f"{number}.{kind}"), picture)

    return make


def read_pictures(folder: Path) -> None:
    from robot_wm.data.images import find_sequences

    for sequence in find_sequences(folder, 5.0):
        for image in sequence.stream():
            image.rgb((16, 16))


def make_flight(folder: Path) -> None:
    from deploy.runtime.recorder import FlightLog
    from robot_wm.contracts.robot import Observation
    from tests.handmade_bundle import colour, make_spec

    log = FlightLog(folder, make_spec())
    log.begin()
    for row in range(4):
        log.append(Observation(colour(0.5, 0, 0), np.zeros(4, np.float32), row / 20), np.zeros(2), np.zeros(2))
    log.end({"success": True})


def make_goal(folder: Path) -> None:
    from deploy.runtime.recorder import keep_goal
    from tests.handmade_bundle import colour

    folder.mkdir()
    keep_goal(folder / "episode_000000.flight", colour(0.5, 0, 0))


def read_goal(folder: Path) -> None:
    from deploy.runtime.recorder import read_goal as read

    read(folder / "episode_000000.flight")


def make_message(folder: Path) -> None:
    from deploy.drivers import wire

    folder.mkdir()
    here, there = socket.socketpair()
    with here, there:
        wire.send(here, "observation", {"time_s": 0.5}, frame=np.zeros((8, 8, 3), np.uint8), proprio=np.zeros(4))
        here.shutdown(socket.SHUT_WR)
        with (folder / "message").open("wb") as file:
            while data := there.recv(1 << 16):
                file.write(data)


def read_message(folder: Path) -> None:
    """A message that is none ends the connection (WireError), which is how a server refuses it."""
    from deploy.drivers import wire

    here, there = socket.socketpair()
    with here, there:
        there.settimeout(1.0)
        here.sendall((folder / "message").read_bytes())
        here.shutdown(socket.SHUT_WR)
        with contextlib.suppress(wire.WireError):
            wire.receive(there)


def read_flight(folder: Path) -> None:
    from deploy.runtime.recorder import read_episodes

    for episode in read_episodes(folder):
        episode.rows_L["frame"].sum()


def make_run(folder: Path) -> None:
    from robot_wm.contracts.run import open_run

    with open_run(folder, "record", "x", {"seed": 0}) as run:
        (run.path / "a.txt").write_text("a")
        run.finish(["a.txt"])
    shutil.copytree(run.path, folder / "run")
    shutil.rmtree(folder / "record")


def read_lineage(folder: Path) -> None:
    from deploy import lineage

    lineage.trace(folder / "run")


MJCF = """<mujoco model="a"><compiler angle="radian" meshdir="meshes"/><option timestep="0.01"/>
<asset><texture name="t" type="2d" builtin="checker" rgb1="1 0 0" rgb2="0 1 0" width="8" height="8"/><material name="m"
texture="t"/></asset><worldbody><light pos="0 0 2"/><camera name="c" pos="0 0 2"/><body name="a"><joint name="j"
axis="0 0 1" range="-1 1"/><geom type="capsule" size="0.03" fromto="0 0 0 0.2 0 0"/><site name="s"/></body></worldbody>
<actuator><position name="j" joint="j" kp="5" ctrlrange="-1 1"/></actuator><sensor><jointpos joint="j"/></sensor>
<keyframe><key name="home" qpos="0"/></keyframe></mujoco>"""
URDF = """<robot name="a"><link name="base"><inertial><mass value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0"
iyz="0"/></inertial><visual><geometry><box size="1 1 1"/></geometry></visual></link><link name="tip"><inertial><mass
value="1"/><inertia ixx="1" iyy="1" izz="1" ixy="0" ixz="0" iyz="0"/></inertial></link><joint name="j" type="revolute">
<parent link="base"/><child link="tip"/><axis xyz="0 0 1"/><limit lower="-1" upper="1" effort="1" velocity="1"/></joint>
</robot>"""
YAML = """name: a
mjcf: {path: a.xml}
interface: joint_position
end_effector: s
control_rate_hz: 20
frame_skip: 4
camera: {name: c, height: 32, width: 32}
safety: {max_step: 0.1}
"""


def make_text(name: str, text: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True)
        (folder / name).write_text(text)

    return make


def read_mjcf(folder: Path) -> None:
    import mujoco

    from robot_wm.contracts.embodiment import Mjcf
    from sims import models

    name = next(p for p in folder.iterdir() if p.suffix in (".xml", ".urdf"))
    mujoco.MjData(models.compile_model(Mjcf(path=str(name))))


def read_yaml(folder: Path) -> None:
    from deploy import compose
    from robot_wm.contracts.embodiment import Embodiment
    from sims import catalog

    with contextlib.suppress(UserError):
        catalog.read(folder / "embodiment" / "a.yaml")
    values = compose.compose("run", ["embodiment=a", "bundle=x"], [folder])
    config.from_mapping(Embodiment, values["embodiment"])


READERS: dict[str, Reader] = {
    "controller.json": Reader(make_bundle, "controller.json", "json", read_controller),
    "encode.onnx": Reader(make_bundle, "encode.onnx", "bytes", read_controller, rehash),
    "plan.onnx": Reader(make_bundle, "plan.onnx", "bytes", read_controller, rehash),
    "model.json": Reader(make_model, "model.json", "json", read_model),
    "model.safetensors": Reader(make_model, "model.safetensors", "bytes", read_model),
    "info.json": Reader(make_dataset, "meta/info.json", "json", read_dataset),
    "stats.json": Reader(make_dataset, "meta/stats.json", "json", read_dataset),
    "episodes.parquet": Reader(make_dataset, "meta/episodes/chunk-000/file-000.parquet", "bytes", read_dataset),
    "data.parquet": Reader(make_dataset, "data/chunk-000/file-000.parquet", "bytes", read_dataset),
    "dataset.mp4": Reader(make_dataset, f"videos/{image_key('front')}/chunk-000/file-000.mp4", "bytes", read_dataset),
    "inspected.json": Reader(make_dataset, "meta/info.json", "json", inspect_dataset),
    "inspected.parquet": Reader(make_dataset, "data/chunk-000/file-000.parquet", "bytes", inspect_dataset),
    "old info.json": Reader(make_old_dataset, "meta/info.json", "json", read_dataset),
    "old episodes.jsonl": Reader(make_old_dataset, "meta/episodes.jsonl", "lines", read_dataset),
    "old tasks.jsonl": Reader(make_old_dataset, "meta/tasks.jsonl", "lines", read_dataset),
    "old stats.jsonl": Reader(make_old_dataset, "meta/episodes_stats.jsonl", "lines", read_dataset),
    "old data.parquet": Reader(make_old_dataset, "data/chunk-000/episode_000000.parquet", "bytes", read_dataset),
    "film.mp4": Reader(make_video, "film.mp4", "bytes", read_video),
    "picture.png": Reader(make_picture("png"), "1.png", "bytes", read_pictures),
    "picture.jpg": Reader(make_picture("jpg"), "1.jpg", "bytes", read_pictures),
    "flight": Reader(make_flight, "episode_000000.flight", "bytes", read_flight),
    "flight outcome": Reader(make_flight, "episode_000000.json", "json", read_flight),
    "flight goal": Reader(make_goal, "episode_000000.goal.npy", "bytes", read_goal),
    "socket message": Reader(make_message, "message", "bytes", read_message),
    "manifest.json": Reader(make_run, "run/manifest.json", "json", read_lineage),
    "model.xml": Reader(make_text("model.xml", MJCF), "model.xml", "xml", read_mjcf),
    "model.urdf": Reader(make_text("model.urdf", URDF), "model.urdf", "xml", read_mjcf),
    "body.yaml": Reader(make_text("embodiment/a.yaml", YAML), "embodiment/a.yaml", "yaml", read_yaml, cost=2),
}


class Hang(BaseException):
    """Reading took longer than it may; no `except Exception` swallows it."""


def attack(name: str, folder: Path, count: int, first_seed: int) -> dict[str, Any]:
    """Feed one reader; returns how many inputs there were and how many of them it took for sound."""
    reader = READERS[name]
    reader.make(folder)
    reader.read(folder)  # sound, or the test tests nothing
    tally = {"reader": name, "inputs": 0, "accepted": 0, "longest_s": 0.0}
    target = folder / reader.file
    sound = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    @seed(first_seed)
    @settings(
        max_examples=max(5, count // reader.cost), deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(SPOIL[reader.kind](target.read_bytes()))
    def feed(data: bytes) -> None:
        for path, content in sound.items():
            if not path.is_file() or path.read_bytes() != content:
                path.write_bytes(content)
        target.write_bytes(data)
        reader.after(folder)
        tally["inputs"] += 1
        started_s = time.monotonic()
        signal.setitimer(signal.ITIMER_REAL, LIMIT_S)
        try:
            reader.read(folder)
            tally["accepted"] += 1
        except UserError as error:
            if "\n" in str(error):
                raise ValueError("an error of several lines") from error
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            tally["longest_s"] = max(tally["longest_s"], time.monotonic() - started_s)

    feed()
    return tally


def main() -> None:
    folder, count, first_seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

    def hang(*_: object) -> None:
        raise Hang(f"longer than {LIMIT_S:g} s")

    signal.signal(signal.SIGALRM, hang)
    import torch  # noqa: F401  # before memory is bounded: libraries map much that they never touch

    for name in sys.argv[4:]:
        place = folder / name
        shutil.rmtree(place, ignore_errors=True)
        mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (mapped + MEMORY_BYTES, resource.RLIM_INFINITY))
        print(json.dumps({"begun": name}), flush=True)
        print(json.dumps(attack(name, place, count, first_seed)), flush=True)


if __name__ == "__main__":
    main()
