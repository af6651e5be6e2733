"""A camera's lens and place are recovered from blurred, noisy pictures of the board, and placed in MuJoCo."""

from pathlib import Path

import mujoco
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from calibration.board import Board, View, find, write_pdf
from calibration.camera import Intrinsics, board_pose, intrinsics, place, set_camera
from deploy.bench import drawn_board
from robot_wm.contracts.embodiment import Camera
from robot_wm.contracts.errors import UserError
from sims.render import Renderer

BOARD = Board()


def far_apart(T: np.ndarray, U: np.ndarray) -> tuple[float, float]:
    """Distance [m] and angle [rad] between two poses."""
    turn = Rotation.from_matrix(T[:3, :3].T @ U[:3, :3]).magnitude()
    return float(np.linalg.norm(T[:3, 3] - U[:3, 3])), float(turn)


def session(seed: int, num: int = 20) -> tuple[Intrinsics, list[np.ndarray], list[View]]:
    """A hidden lens, the board's true poses and what is found in pictures of them."""
    rng = np.random.default_rng(seed)
    true = drawn_board.lens(rng)
    poses = [drawn_board.looking(BOARD, rng) for _ in range(num)]
    views = [find(BOARD, drawn_board.take(BOARD, T, true, rng)) for T in poses]
    kept = [(T, v) for T, v in zip(poses, views, strict=True) if v is not None]
    assert len(kept) >= 0.8 * num
    return true, [T for T, _ in kept], [v for _, v in kept]


@pytest.fixture(scope="module")
def seen() -> tuple[Intrinsics, list[np.ndarray], list[View]]:
    return session(3)


def test_lens_and_place_are_recovered_from_blurred_and_noisy_pictures(seen) -> None:  # type: ignore[no-untyped-def]
    true, poses, views = seen
    lens = intrinsics(views, drawn_board.SIZE)
    assert lens.error_px < 0.3
    np.testing.assert_allclose(lens.matrix[[0, 1], [0, 1]], true.matrix[[0, 1], [0, 1]], rtol=5e-3)
    rng = np.random.default_rng(1)
    T_base_cam, T_hand_board = drawn_board.pose(rng, 1.0, 0.6), drawn_board.pose(rng, 0.5, 0.05)
    hands = [T_base_cam @ T @ np.linalg.inv(T_hand_board) for T in poses]
    found = place(views, hands, lens)
    distance, angle = far_apart(found.T_mount_cam, T_base_cam)
    assert found.error_px < 0.3 and distance < 1e-3 and np.rad2deg(angle) < 0.1
    assert far_apart(found.T_other_board, T_hand_board)[0] < 1e-3
    assert found.interval_m < 3e-3


def test_a_camera_on_the_hand_is_placed_as_well(seen) -> None:  # type: ignore[no-untyped-def]
    true, poses, views = seen
    rng = np.random.default_rng(2)
    T_hand_cam, T_base_board = drawn_board.pose(rng, 0.8, 0.1), drawn_board.pose(rng, 0.5, 0.5)
    hands = [T_base_board @ np.linalg.inv(T) @ np.linalg.inv(T_hand_cam) for T in poses]
    distance, angle = far_apart(place(views, hands, true, on_hand=True).T_mount_cam, T_hand_cam)
    assert distance < 1e-3 and np.rad2deg(angle) < 0.1


def test_an_outlying_corner_hardly_moves_the_place(seen) -> None:  # type: ignore[no-untyped-def]
    true, poses, views = seen
    spoilt = [
        View(v.corners_m, v.corners_px + (i == 4) * np.eye(len(v.corners_px), 2) * 40) for i, v in enumerate(views)
    ]
    T_base_cam = drawn_board.pose(np.random.default_rng(4), 1.0, 0.6)
    hands = [T_base_cam @ T for T in poses]
    distance, angle = far_apart(place(spoilt, hands, true).T_mount_cam, T_base_cam)
    assert distance < 1e-3 and np.rad2deg(angle) < 0.1


def test_mujoco_sees_what_the_lens_sees() -> None:
    """A ball rendered by the placed MuJoCo camera is where OpenCV projects it, principal point included."""
    spec = mujoco.MjSpec.from_string(
        "<mujoco><asset><material name='lamp' emission='1' rgba='1 1 1 1'/></asset>"
        "<worldbody><geom size='.01' pos='.5 .1 .3' material='lamp'/></worldbody></mujoco>"
    )
    lens = Intrinsics(np.array([[300.0, 0, 170], [0, 300, 90], [0, 0, 1]]), np.zeros(5), (320, 240), 0.0)
    T = np.eye(4)
    T[:3, :3] = Rotation.from_euler("xyz", [-1.9, 0.1, -1.2]).as_matrix()
    T[:3, 3] = np.array([0.5, 0.1, 0.3]) - T[:3, :3] @ [0.05, 0.03, 0.6]
    set_camera(spec, "placed", "world", T, lens)
    model = spec.compile()
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    renderer = Renderer(model, Camera("placed", 240, 320))
    frame = renderer.frame(data).astype(float).sum(axis=2)
    renderer.close()
    light = frame * (frame > 0.1 * frame.max())
    rows, columns = np.mgrid[:240, :320]
    centre = np.array([(light * columns).sum(), (light * rows).sum()]) / light.sum()
    seen = lens.matrix @ np.array([0.05, 0.03, 0.6])
    np.testing.assert_allclose(centre, seen[:2] / seen[2], atol=0.7)


def test_views_and_poses_that_cannot_tell_are_refused(seen) -> None:  # type: ignore[no-untyped-def]
    true, poses, views = seen
    with pytest.raises(UserError, match="found in 2 pictures"):
        intrinsics(views[:2], drawn_board.SIZE)
    with pytest.raises(UserError, match="too much alike"):
        intrinsics([views[0]] * 8, drawn_board.SIZE)
    turned = []
    for angle in np.linspace(-0.5, 0.5, len(views)):
        T = np.eye(4)
        T[:3, :3] = Rotation.from_rotvec([0, 0, angle]).as_matrix()
        turned.append(T)
    with pytest.raises(UserError, match="one axis"):
        place(views, turned, true)
    assert board_pose(views[0], true).shape == (4, 4) and len(poses) == len(views)


def test_no_board_no_view() -> None:
    assert find(BOARD, np.full((480, 640, 3), 120, np.uint8)) is None


def test_the_board_is_printed_at_its_true_size(tmp_path: Path) -> None:
    write_pdf(BOARD, tmp_path / "board.pdf")
    text = (tmp_path / "board.pdf").read_bytes()
    assert text.startswith(b"%PDF")
    box = text.split(b"/MediaBox")[1].split(b"]")[0].strip(b" [").split()
    assert [float(x) / 72 * 25.4 for x in box[2:]] == pytest.approx([210, 297], abs=0.2)
    with pytest.raises(UserError, match="larger than A4"):
        write_pdf(Board(square_m=0.05), tmp_path / "large.pdf")
    assert not (tmp_path / "large.pdf").exists()
