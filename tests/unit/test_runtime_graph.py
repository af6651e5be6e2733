"""Which providers are chosen, where threads stay, and that a running graph takes no memory of Python's."""

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from deploy.runtime import graph
from deploy.runtime.controller import Controller
from deploy.runtime.graph import CPU, CUDA, TENSORRT, Hardware, affinities, choose_providers, provider_options
from robot_wm.contracts.errors import UserError
from tests.handmade_bundle import colour, write_bundle

ALL, PLAIN = (TENSORRT, CUDA, CPU), (CPU,)


@pytest.mark.parametrize(
    ("hardware", "chosen"),
    [
        (Hardware(ALL, has_gpu=True, has_tensorrt=True), [TENSORRT, CUDA, CPU]),
        (Hardware(ALL, has_gpu=True, has_tensorrt=False), [CUDA, CPU]),
        (Hardware(ALL, has_gpu=False, has_tensorrt=False), [CPU]),  # the GPU's build on a machine without one
        (Hardware((CUDA, CPU), has_gpu=True, has_tensorrt=True), [CUDA, CPU]),
        (Hardware(PLAIN, has_gpu=True, has_tensorrt=True), [CPU]),
    ],
)
def test_providers_are_those_that_can_work_best_first(hardware: Hardware, chosen: list[str]) -> None:
    assert choose_providers(None, hardware) == chosen


def test_wanted_providers_come_first_and_the_cpu_last() -> None:
    hardware = Hardware(ALL, has_gpu=False, has_tensorrt=False)
    assert choose_providers([CUDA], hardware) == [CUDA, CPU]
    assert choose_providers([CPU], hardware) == [CPU]
    with pytest.raises(UserError, match=r"'CoreMLExecutionProvider' is not installed.*Choose among"):
        choose_providers(["CoreMLExecutionProvider"], hardware)


def test_gpu_providers_replay_one_cuda_graph() -> None:
    assert provider_options(CUDA)["enable_cuda_graph"] == "1"
    assert provider_options(TENSORRT)["trt_cuda_graph_enable"] == "1"
    assert provider_options(CPU) == {}


def test_threads_stay_on_processors_of_their_own() -> None:
    assert affinities(3, (0, 2, 4, 6)) == "3;5"  # counted from 1; the first belongs to the caller
    assert affinities(1, (0, 1)) == ""
    assert affinities(4, (0, 1)) == "", "too few to pin"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="threads cannot be pinned here")
def test_pinned_threads_compute_the_same(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle")
    plans = []
    for pinned in (False, True):
        controller = Controller(bundle, [CPU], 2, pinned=pinned)
        controller.set_goal(colour(1, 0, 1))
        plans.append(controller.step(colour(0.2, 0.4, 0.6), np.zeros(4, np.float32)))
    assert np.array_equal(plans[0].command_KU, plans[1].command_KU)


def test_a_running_graph_allocates_nothing_and_a_decision_leaves_nothing_behind(tmp_path: Path) -> None:
    """What ONNX Runtime takes for itself is not Python's; the benchmark watches the process."""
    controller = Controller(write_bundle(tmp_path / "bundle"), [CPU], 1)
    controller.set_goal(colour(1, 0, 1))
    frame, proprio = colour(0.2, 0.4, 0.6), np.zeros(4, np.float32)
    for _ in range(20):
        controller.step(frame, proprio)

    def grown(call: Callable[[], object]) -> tuple[int, int]:
        """Bytes that 200 calls leave behind, and the most that were held meanwhile."""
        for _ in range(200):  # Python's own lists of free objects fill up
            call()
        tracemalloc.reset_peak()
        before, _ = tracemalloc.get_traced_memory()
        for _ in range(200):
            call()
        after, peak = tracemalloc.get_traced_memory()
        return after - before, peak - before

    tracemalloc.start()
    try:
        left, held = grown(controller._plan.run)
        assert left < 512 and held < 1024, "a run is a call: no array is made for it"
        left, held = grown(lambda: controller.step(frame, proprio))
        assert left < 2048 and held < 32_768, "a decision returns a few small arrays and keeps nothing"
    finally:
        tracemalloc.stop()


def test_a_gpu_that_does_not_start_is_said(tmp_path: Path) -> None:
    if not Hardware.here().has_gpu and CUDA in Hardware.here().providers:
        with pytest.raises(UserError, match="does not start here"):
            Controller(write_bundle(tmp_path / "bundle"), [CUDA])
    assert graph.choose_providers()[-1] == CPU
