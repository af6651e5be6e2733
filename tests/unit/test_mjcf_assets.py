"""A MJCF that a calibration writes is read wherever its folder is taken: its meshes and textures go with it."""

import shutil

import mujoco
import numpy as np
from PIL import Image

from calibration import mjcf
from sims.vetting import vet

CORNERS = "v 0 0 0\nv .1 0 0\nv 0 .1 0\nv 0 0 .1\nf 1 3 2\nf 1 2 4\nf 1 4 3\nf 2 3 4\n"
BODY = """<mujoco><compiler meshdir="shapes" texturedir="looks" angle="radian"/>
<asset><mesh name="a" file="sub/part.obj"/><mesh name="b" file="part.obj" scale="2 2 2"/>
<texture name="t" type="2d" file="part.png"/><material name="m" texture="t"/></asset>
<worldbody><body><joint name="j" armature="0.01"/><geom type="mesh" mesh="a" material="m"/>
<geom type="mesh" mesh="b"/></body></worldbody></mujoco>"""


def test_meshes_and_textures_go_with_the_model(tmp_path, monkeypatch):
    home, run = tmp_path / "package", tmp_path / "runs" / "one"
    (home / "shapes" / "sub").mkdir(parents=True)
    (home / "looks").mkdir()
    run.mkdir(parents=True)
    (home / "body.xml").write_text(BODY)
    for place in ("shapes/sub/part.obj", "shapes/part.obj"):
        (home / place).write_text(CORNERS)
    Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)).save(home / "looks" / "part.png")
    spec = mujoco.MjSpec.from_file(str(home / "body.xml"))
    before = spec.compile()
    mjcf.find_meshes(spec)
    spec.compile()
    assert mjcf.write(run / "identified.xml", spec) == ["identified.xml", "assets"]
    shutil.rmtree(home)
    moved = tmp_path / "elsewhere"
    shutil.move(run, moved)
    monkeypatch.chdir(tmp_path / "runs")
    vet(moved / "identified.xml")
    after = mujoco.MjModel.from_xml_path(str(moved / "identified.xml"))
    for name in ("mesh_vert", "geom_pos", "body_mass", "tex_data", "dof_armature"):
        np.testing.assert_allclose(getattr(after, name), getattr(before, name), atol=1e-6, err_msg=name)


def test_a_model_without_files_has_no_assets(tmp_path):
    spec = mujoco.MjSpec.from_string("<mujoco><worldbody><body><geom size='.1'/></body></worldbody></mujoco>")
    spec.compile()
    assert mjcf.write(tmp_path / "identified.xml", spec) == ["identified.xml"]
    assert not (tmp_path / "assets").exists()
    mujoco.MjModel.from_xml_path(str(tmp_path / "identified.xml"))
