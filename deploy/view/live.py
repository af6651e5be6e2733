"""A robot in the browser, with a slider for every joint: viser draws, MuJoCo says where each part is."""

import time
from collections.abc import Iterator

import mujoco
import numpy as np
import trimesh
import viser
from numpy.typing import NDArray

from deploy.view.robot import movable
from robot_wm import console
from robot_wm.contracts.embodiment import Embodiment
from sims import robots

_GEOM = mujoco.mjtGeom
_VISIBLE_GROUPS = 3  # MuJoCo draws groups 0 to 2 by default; those above hold collision shapes


class LiveRobot:
    """The server, its meshes and its sliders.

    Attributes:
        sliders: by joint name; setting one's `value` moves the robot.
    """

    def __init__(self, embodiment: Embodiment, port: int):
        """Serve on this machine alone (127.0.0.1)."""
        with robots.load(embodiment) as simulation:
            self._model, self._data = simulation.model, mujoco.MjData(simulation.model)
            self._data.qpos[:] = simulation.data.qpos
        self.server = viser.ViserServer(host="127.0.0.1", port=port, verbose=False)
        self._parts = dict(self._meshes())
        self.sliders: dict[str, viser.GuiInputHandle[float]] = {}
        with self.server.gui.add_folder(embodiment.name):
            for index, name, low, high, unit in movable(self._model):
                at = int(self._model.jnt_qposadr[index])
                start = float(np.clip(self._data.qpos[at], low, high))
                slider = self.server.gui.add_slider(f"{name} [{unit}]", low, high, (high - low) / 200, start)
                slider.on_update(lambda _, at=at, slider=slider: self._move(at, slider.value))
                self.sliders[name] = slider
        self._place()

    def place_of(self, geom: int) -> NDArray[np.float64]:
        """Where a geom stands in the world [m], (3,)."""
        return np.asarray(self._data.geom_xpos[geom])

    def close(self) -> None:
        """Stop serving."""
        self.server.stop()

    def _move(self, at: int, value: float) -> None:
        self._data.qpos[at] = value
        self._place()

    def _place(self) -> None:
        mujoco.mj_kinematics(self._model, self._data)
        quaternion = np.empty(4)
        for geom, part in self._parts.items():
            mujoco.mju_mat2Quat(quaternion, self._data.geom_xmat[geom])
            part.position, part.wxyz = tuple(self._data.geom_xpos[geom]), tuple(quaternion)

    def _meshes(self) -> Iterator[tuple[int, viser.MeshHandle]]:
        for geom in range(self._model.ngeom):
            colour = self._model.geom_rgba[geom]
            shape = _shape(self._model, geom)
            if shape is None or self._model.geom_group[geom] >= _VISIBLE_GROUPS or colour[3] == 0:
                continue
            yield (
                geom,
                self.server.scene.add_mesh_simple(
                    f"/geom{geom}",
                    np.asarray(shape.vertices, np.float32),
                    np.asarray(shape.faces, np.uint32),
                    color=tuple(int(255 * c) for c in colour[:3]),
                    opacity=None if colour[3] == 1 else float(colour[3]),
                ),
            )


def serve(embodiment: Embodiment, port: int) -> None:
    """Show a robot until Ctrl-C.

    Raises:
        UserError: the model is faulty.
    """
    live = LiveRobot(embodiment, port)
    console.say(f"open http://127.0.0.1:{live.server.get_port()} in a browser; Ctrl-C ends it")
    try:
        while True:
            time.sleep(1)
    except KeyboardInterrupt:
        console.say("ended")
    finally:
        live.close()


def _shape(model: mujoco.MjModel, geom: int) -> trimesh.Trimesh | None:
    """A geom as triangles in its own frame; None for what has none."""
    kind, size = _GEOM(model.geom_type[geom]), model.geom_size[geom]
    if kind == _GEOM.mjGEOM_PLANE:
        return trimesh.creation.box((*(2 * np.where(size[:2] > 0, np.minimum(size[:2], 2), 2)), 0.001))
    if kind == _GEOM.mjGEOM_BOX:
        return trimesh.creation.box(2 * size)
    if kind == _GEOM.mjGEOM_SPHERE:
        return trimesh.creation.icosphere(3, float(size[0]))
    if kind == _GEOM.mjGEOM_ELLIPSOID:
        return trimesh.creation.icosphere(3, 1.0).apply_scale(size)
    if kind == _GEOM.mjGEOM_CYLINDER:
        return trimesh.creation.cylinder(float(size[0]), 2 * float(size[1]))
    if kind == _GEOM.mjGEOM_CAPSULE:
        return trimesh.creation.capsule(2 * float(size[1]), float(size[0]))
    if kind == _GEOM.mjGEOM_MESH:
        mesh = int(model.geom_dataid[geom])
        first, count = model.mesh_vertadr[mesh], model.mesh_vertnum[mesh]
        face, faces = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        return trimesh.Trimesh(model.mesh_vert[first : first + count], model.mesh_face[face : face + faces])
    return None
