"""Bodies, scenes, tasks and recordings in MuJoCo. Never imports torch.

MuJoCo binds its OpenGL backend when it is first imported, so the backend is chosen here, before any module of ours
imports mujoco. Importing mujoco first works too.
"""

from sims import gl

gl.prepare()
