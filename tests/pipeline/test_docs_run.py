"""The commands of the documentation typed into a shell, page by page, at a clean desk and a tiny size: `make docs-run`.

Blocks that only the tests run (`<!-- run -->`) are typed as well, because later ones on the page may need them.
"""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from robot_wm.contracts.dataset import ACTION, STATE, Feature, image_key
from robot_wm.data import video
from robot_wm.data.lerobot_writer import LeRobotWriter
from tests.documentation import DOCS_RUN, NOT_RUN, REPOSITORY, blocks, pages
from tests.reader import MODEL, desk
from tests.tiny_pretrained import write_tiny_pretrained

ASKED = "ROBOT_WM_TEST_DOCS"
LONGEST_S = 400
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(2 * LONGEST_S),
    pytest.mark.skipif(not os.environ.get(ASKED), reason=f"takes a quarter of an hour: make docs-run, or {ASKED}=1"),
]
PAGES = {page.relative_to(REPOSITORY).as_posix(): page for page in pages()}
TYPED = [name for name, page in PAGES.items() if any(block.by == DOCS_RUN for block in blocks(page))]
BODY = {"docs/planning.md": "fetch", "docs/trust.md": "fetch"}  # whose RUN a page means; my_arm's on all others
DRAFTS = ("docs/howto/robot.md", "docs/robots.md")  # where the reader has a model file of my_arm, and no yaml yet
URDF = """<robot name="my_arm">
  <link name="base"><inertial><mass value="2"/>
      <inertia ixx=".02" iyy=".02" izz=".02" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><geometry><cylinder radius=".06" length=".1"/></geometry></collision></link>
  <joint name="turn" type="revolute"><parent link="base"/><child link="upper"/>
    <origin xyz="0 0 .08"/><axis xyz="0 0 1"/><limit lower="-1.5" upper="1.5" effort="20" velocity="2"/></joint>
  <link name="upper"><inertial><origin xyz=".12 0 .05"/><mass value=".5"/>
      <inertia ixx=".003" iyy=".003" izz=".003" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz=".12 0 .05"/><geometry><box size=".24 .05 .05"/></geometry></collision></link>
  <joint name="elbow" type="revolute"><parent link="upper"/><child link="hand"/>
    <origin xyz=".25 0 .05"/><axis xyz="0 1 0"/><limit lower="-1" upper="1" effort="20" velocity="2"/></joint>
  <link name="hand"><inertial><origin xyz=".1 0 0"/><mass value=".3"/>
      <inertia ixx=".001" iyy=".001" izz=".001" ixy="0" ixz="0" iyz="0"/></inertial>
    <collision><origin xyz=".1 0 0"/><geometry><box size=".2 .04 .04"/></geometry></collision></link>
</robot>
"""
PREPARED = """
OUT=$(robot-wm ingest data=film.mp4)
mkdir -p ready/my_arm ready/fetch
for BODY in my_arm fetch; do
  ln -s "$PWD/$OUT" ready/$BODY/ingest
  OPTIONS="embodiment=$BODY"
  if [ $BODY = my_arm ]; then OPTIONS="$OPTIONS --config-dir mine"; fi
  LOG=$(robot-wm record $OPTIONS); ln -s "$PWD/$LOG" ready/$BODY/record
  CALIBRATION=$(robot-wm calibrate $OPTIONS data=$LOG); ln -s "$PWD/$CALIBRATION" ready/$BODY/calibrate
  CONTROLLER=$(robot-wm export calibration=$CALIBRATION); ln -s "$PWD/$CONTROLLER" ready/$BODY/export
  FLIGHT=$(robot-wm run $OPTIONS bundle=$CONTROLLER); ln -s "$PWD/$FLIGHT" ready/$BODY/run
done
"""


def type_in(script: str, folder: Path, model: Path) -> tuple[int, str]:
    """Run a shell script as a reader would type it, each line only if the one before it succeeded.

    Returns:
        The shell's exit status, and the end of what was said.
    """
    own = folder / "bin"
    own.mkdir(exist_ok=True)
    (own / "robot-wm").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tests.reader "$@"\n')
    (own / "robot-wm").chmod(0o755)
    path = os.pathsep.join((str(own), str(Path(sys.executable).parent), os.environ["PATH"]))
    environment = {
        **os.environ, "PATH": path, "PYTHONPATH": str(REPOSITORY), "HOME": str(folder / "home"), MODEL: str(model),
        "CI": "true", "NO_COLOR": "1",
    }  # fmt: skip
    (folder / "typed.sh").write_text(f"set -eux\n{script}\n")
    with (folder / "said.txt").open("w") as said:
        shell = subprocess.Popen(
            ["timeout", "-k", "5", str(LONGEST_S), "bash", "typed.sh"],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            start_new_session=True,
        )  # fmt: skip
        try:
            code = shell.wait(LONGEST_S + 20)
        finally:
            if shell.poll() is None:
                os.killpg(shell.pid, signal.SIGKILL)
                shell.wait(timeout=30)
    return code, (folder / "said.txt").read_text()[-3000:]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory, film) -> Path:  # type: ignore[no-untyped-def]
    """What the pages call RUN: of two bodies a log, a calibration, a controller and a flight."""
    folder = desk(tmp_path_factory.mktemp("workshop"))
    video.encode(folder / "film.mp4", film(90, 96, 128), 30.0)
    (folder / "tiny").symlink_to(write_tiny_pretrained(folder / "made"))
    code, said = type_in(PREPARED, folder, folder / "tiny")
    assert code == 0, said
    return folder


def furnish(page: str, folder: Path, workshop: Path) -> None:
    """Lay on the desk what the page speaks of as if it were there."""
    desk(folder)
    ready = workshop / "ready" / BODY.get(page, "my_arm")
    for made in ready.iterdir():
        (folder / "runs" / made.name).mkdir(parents=True)
        (folder / "runs" / made.name / "RUN").symlink_to(made.resolve())
    (folder / "videos").mkdir()
    for place in (folder, folder / "videos"):
        shutil.copy(workshop / "film.mp4", place)
    (folder / "path" / "to").mkdir(parents=True)
    for name in ("log", "dataset"):
        (folder / "path" / "to" / name).symlink_to((ready / "record" / "dataset").resolve())
    (folder / "flight").symlink_to((ready / "run" / "flight").resolve())
    if page in DRAFTS:
        shutil.rmtree(folder / "mine")
        (folder / "my_arm.urdf").write_text(URDF)
    if page == "examples/real_so101/README.md":
        record_so101(folder / "home" / ".cache" / "huggingface" / "lerobot" / "me" / "desk")


def record_so101(folder: Path) -> None:
    """A recording as lerobot-record makes one of this arm: 30 s, every joint moves, its picture changes with it."""
    names = tuple(
        f"{joint}.pos"
        for joint in ("shoulder_pan", "shoulder_lift", "elbow_flex", "wrist_flex", "wrist_roll", "gripper")
    )
    camera = image_key("overview")
    features = {
        camera: Feature("video", (48, 64, 3)), STATE: Feature("float32", (6,), names),
        ACTION: Feature("float32", (6,), names),
    }  # fmt: skip
    random = np.random.default_rng(0)
    with LeRobotWriter(folder, 25.0, features, "so101_follower") as writer:
        for _ in range(6):
            time_T1 = np.arange(125)[:, None] / 25
            waves = sum(
                random.uniform(5, 12, 6) * np.sin(2 * np.pi * time_T1 * random.uniform(0.2, 0.8, 6)) for _ in range(3)
            )
            action = waves + np.array([0.0, 0, 0, 0, 0, 40])
            state = np.vstack([action[:1], action[:1], action[:-2]])
            frames = np.full((125, 48, 64, 3), 90, np.uint8)
            for t, row in enumerate(state):
                for j, value in enumerate(row):
                    frames[t, 6 * j + 4 : 6 * j + 9, int(np.clip(28 + value / 2, 0, 58)) :][:, :6] = 30 * j + 60
            writer.add_episode({STATE: state, ACTION: action}, {camera: frames}, "move about")


@pytest.mark.parametrize("page", TYPED)
def test_commands_of_a_page_can_be_typed_in_order(page: str, tmp_path: Path, workshop: Path) -> None:
    furnish(page, tmp_path, workshop)
    typed = []
    for block in blocks(PAGES[page]):
        if block.title:
            (tmp_path / block.title).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / block.title).write_text(block.text)
        if block.holds_commands and block.by != NOT_RUN:
            typed.append(f": {block.page}:{block.line}\n{block.text}")
    code, said = type_in("\n".join(typed), tmp_path, workshop / "tiny")
    assert code == 0, said
