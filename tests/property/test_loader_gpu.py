"""On a GPU: frames kept there, and frames sent ahead from the host, make the batches that the CPU makes."""

import pytest
import torch

from robot_wm.data.loader import ClipSet
from tests.property.test_loader import LENGTH, NAMES, everywhere, numbered

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU"),
]


@pytest.mark.parametrize("memory", ["device", "host"])
@pytest.mark.parametrize("paired", [False, True])
def test_batches_are_those_of_the_cpu(memory: str, paired: bool) -> None:
    packs = [[numbered([30, 20], 0, eye) for eye in range(2)], numbered([25, 9], 1)]
    flat = [*packs[0], packs[1]]
    cpu = ClipSet(packs, LENGTH, "cpu", everywhere(flat), [1, 2])
    gpu = ClipSet(packs, LENGTH, "cuda", everywhere(flat), [1, 2], memory)  # type: ignore[arg-type]
    assert gpu.memory == memory
    generators = [torch.Generator().manual_seed(5) for _ in range(2)]
    for step in range(12):
        if step == 6:  # resumed: a fresh set, and the state that was saved
            state = generators[1].get_state()
            gpu = ClipSet(packs, LENGTH, "cuda", everywhere(flat), [1, 2], memory)  # type: ignore[arg-type]
            generators[1] = torch.Generator()
            generators[1].set_state(state)
        found = [c.pair(16, g) if paired else (c.batch(16, g),) for c, g in zip((cpu, gpu), generators, strict=True)]
        for expected, batch in zip(*found, strict=True):
            for name in NAMES:
                a, b = getattr(expected, name), getattr(batch, name)
                assert b.device.type == "cuda"
                assert torch.allclose(
                    a.float(), b.cpu().float(), atol=1.01 if "frames" in name else 1e-5, equal_nan=True
                )
            assert (expected.frames_BTYXC != batch.frames_BTYXC.cpu()).float().mean() < 1e-3  # rounding of a product
    assert torch.equal(generators[0].get_state(), generators[1].get_state())


def test_auto_keeps_a_small_set_on_the_gpu() -> None:
    packs = [numbered([30, 20], 0)]
    assert ClipSet(packs, LENGTH, "cuda", everywhere(packs)).memory == "device"
