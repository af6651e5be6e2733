"""Where recording spends its time on this machine: one table per part. Run: python benchmarks/render_probe.py"""
# ruff: noqa: E402, S301 - the backend must be chosen before MuJoCo is imported; the pickle is its own

import multiprocessing
import os
import pickle
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ.setdefault("LP_NUM_THREADS", "0")

import numpy as np

from sims import gl

gl.prepare()
import mujoco

from sims import filming, scenes
from sims.render import make_current, view_of

TILES, SECONDS = 16, 2.0
ALL = mujoco.mjtCatBit.mjCAT_ALL


def timed(function, seconds=SECONDS):
    """Milliseconds per call."""
    function()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        function()
        calls += 1
    return (time.perf_counter() - started) / calls * 1e3


class Painter:
    def __init__(self, size, samples, tiles, seed=3):
        make_current()
        self.size, self.tiles = size, tiles
        self.scene = scenes.sample(seed, size)
        self.model, self.data = self.scene.model, mujoco.MjData(self.scene.model)
        quality, screen = self.model.vis.quality, self.model.vis.global_
        quality.shadowsize, quality.offsamples = 0, samples
        screen.offwidth, screen.offheight, screen.fovy = size * tiles, size, self.scene.camera.fovy_deg
        self.qpos = []
        for _ in range(TILES):
            mujoco.mj_step(self.model, self.data, nstep=20)
            self.qpos.append(self.data.qpos.copy())
        self.view, self.option = view_of(self.model, self.scene.camera), mujoco.MjvOption()
        self.mjv = mujoco.MjvScene(self.model, maxgeom=200)
        self.pixels = np.empty((size, size * tiles, 3), np.uint8)
        self.context = self.new_context()

    def new_context(self):
        context = mujoco.MjrContext(self.model, mujoco.mjtFontScale.mjFONTSCALE_50)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, context)
        return context

    def recreate(self):
        self.context.free()
        self.context = self.new_context()

    def textures(self):
        for texture in range(self.model.ntex):
            mujoco.mjr_uploadTexture(self.model, self.context, texture)

    def update(self, k):
        self.data.qpos[:] = self.qpos[k]
        mujoco.mj_kinematics(self.model, self.data)
        mujoco.mj_camlight(self.model, self.data)
        mujoco.mjv_updateScene(self.model, self.data, self.option, None, self.view, ALL, self.mjv)

    def clip(self):
        for k in range(TILES):
            self.update(k)
            tile = k % self.tiles
            mujoco.mjr_render(mujoco.MjrRect(tile * self.size, 0, self.size, self.size), self.mjv, self.context)
            if tile == self.tiles - 1:
                area = mujoco.MjrRect(0, 0, self.size * self.tiles, self.size)
                mujoco.mjr_readPixels(self.pixels, None, area, self.context)


def part_rendering():
    from OpenGL import GL

    make_current()
    print("GL:", os.environ.get("MUJOCO_GL"), GL.glGetString(GL.GL_RENDERER), GL.glGetString(GL.GL_VERSION))
    print(
        f"{'px':>4} {'msaa':>4} {'tiles':>5} {'ms/frame':>9} {'frames/s':>9} {'new context ms':>15} {'textures ms':>12}"
    )
    for size in (64, 96):
        for samples in (4, 0):
            for tiles in (1, 4, 16):
                p = Painter(size, samples, tiles)
                ms = timed(p.clip) / TILES
                made, textures = timed(p.recreate, 0.5), timed(p.textures, 0.5)
                print(
                    f"{size:4} {samples:4} {tiles:5} {ms:9.3f} {1e3 / ms:9.0f} {made:15.2f} {textures:12.3f}",
                    flush=True,
                )
                p.context.free()
    p = Painter(64, 4, 16)
    parts = {"update scene": lambda: p.update(0)}
    parts["mjr_render (no wait)"] = lambda: mujoco.mjr_render(mujoco.MjrRect(0, 0, 64, 64), p.mjv, p.context)
    area = mujoco.MjrRect(0, 0, 1024, 64)
    parts["readPixels 1024x64"] = lambda: mujoco.mjr_readPixels(p.pixels, None, area, p.context)
    for name, function in parts.items():
        print(f"   {name}: {timed(function, 0.5):.3f} ms")


def count(function, barrier, found, seconds):
    function()
    barrier.wait()
    calls, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        function()
        calls += 1
    found.append(calls / (time.perf_counter() - started))


def part_threads():
    print("threads of one process, 64 px, msaa 4, each its own GL context and scene: frames/s in all")
    for tiles in (1, 16):
        for number in (1, 2, 4):
            barrier, found = threading.Barrier(number), []

            def work(barrier=barrier, found=found, tiles=tiles):
                count(Painter(64, 4, tiles).clip, barrier, found, SECONDS)

            threads = [threading.Thread(target=work) for _ in range(number)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            print(f"   {number} threads, {tiles} tiles: {sum(found) * TILES:.0f}", flush=True)


def process_renders(tiles, new_each, barrier, queue):
    painter, found = Painter(64, 4, tiles), []

    def once():
        if new_each:
            painter.recreate()
        painter.clip()

    count(once, barrier, found, SECONDS)
    queue.put(found[0] * TILES)


def process_simulates(barrier, queue):
    index = [os.getpid() * 1000]

    def once():
        index[0] += 1
        simulate(index[0])

    found = []
    count(once, barrier, found, 2 * SECONDS)
    queue.put(found[0] * TILES)


def simulate(index, only_sample=False):
    scene = scenes.sample((0, index), 64)
    if not only_sample:
        filming.play(scene, np.random.default_rng(index), TILES, 0.2)


def encode(frames, threads, preset="veryfast"):
    import io
    from fractions import Fraction

    import av

    with av.open(io.BytesIO(), "w", format="mp4") as container:
        target = container.add_stream("libx264", rate=5, options={"preset": preset, "crf": "18", "g": "2"})
        target.width, target.height, target.pix_fmt = 64, 64, "yuv420p"
        target.codec_context.thread_count = threads
        for i, image in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(image, format="rgb24").reformat(format="yuv420p")
            frame.pts, frame.time_base = i, Fraction(1, 5)
            container.mux(target.encode(frame))
        container.mux(target.encode())


def part_cpu():
    index = [0]

    def step(only):
        index[0] += 1
        simulate(index[0], only)

    painter = Painter(64, 4, 16)
    painter.clip()
    frames = np.ascontiguousarray(painter.pixels.reshape(64, TILES, 64, 3).swapaxes(0, 1))
    data = pickle.dumps(painter.model)
    print("one process, ms per frame (16 per episode)")
    print(f"   sample + compile the scene: {timed(lambda: step(True)) / TILES:.3f}")
    print(f"   sample, IK, physics: {timed(lambda: step(False)) / TILES:.3f}")
    for threads in (0, 1):
        for preset in ("veryfast", "ultrafast"):
            ms = timed(lambda t=threads, p=preset: encode(frames, t, p), 1) / TILES
            print(f"   H.264, own file, {threads or 'default'} threads, {preset}: {ms:.3f}")
            ms = timed(lambda t=threads, p=preset: encode(list(frames) * 16, t, p), 1) / TILES / 16
            print(f"   H.264, 16 episodes per file, {threads or 'default'} threads, {preset}: {ms:.3f}")
    print(
        f"   model pickled: {len(data)} bytes, {timed(lambda: pickle.dumps(painter.model), 0.3):.3f} ms,"
        f" loaded in {timed(lambda: pickle.loads(data), 0.3):.3f} ms",
        flush=True,
    )


def processes(title, target, arguments, numbers):
    print(title)
    context = multiprocessing.get_context("spawn")
    for number in numbers:
        barrier, queue = context.Barrier(number), context.Queue()
        pool = [context.Process(target=target, args=(*arguments, barrier, queue)) for _ in range(number)]
        [p.start() for p in pool]
        rates = [queue.get(timeout=120) for _ in pool]
        [p.join() for p in pool]
        print(f"   {number:3} processes: {sum(rates):.0f} frames/s", flush=True)


if __name__ == "__main__":
    cores = os.cpu_count() or 1
    print("cores", cores, len(os.sched_getaffinity(0)))
    part_rendering()
    part_cpu()
    part_threads()
    numbers = sorted({1, 2, *(n for n in (4, 8, 14, 16) if n <= cores)})
    processes("rendering, 64 px, msaa 4, one context for good", process_renders, (1, False), numbers)
    processes("rendering in 16 tiles", process_renders, (16, False), numbers)
    processes("rendering, a new MjrContext per 16 frames", process_renders, (1, True), numbers)
    processes("sample + IK + physics", process_simulates, (), numbers)
