"""What the loader hands out, against the plainest way to say it: frames that carry their own number."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robot_wm.contracts.dataset import ACTION, HAND
from robot_wm.contracts.errors import UserError
from robot_wm.data.ahead import Ahead
from robot_wm.data.augment import Looks, Mirror, change
from robot_wm.data.frames import Places, Rows
from robot_wm.data.loader import Batch, ClipSet, split_clips
from robot_wm.data.pack import Pack

NAMES = ("frames_BTYXC", "flow_BTF", "moments_BT4", "hand_BT3", "object_BT3", "arm_BTP3", "displacement_BT3")
SIZE, CELLS, LENGTH = 16, 4, 3
lengths = st.lists(st.integers(1, 9), min_size=2, max_size=6)


def numbered(episodes: list[int], dataset: int = 0, camera: int = 0, embodiment: str = "arm") -> Pack:
    """A pack whose frames say dataset, camera and number (two bytes) in their first pixels."""
    count, starts = sum(episodes), np.concatenate([[0], np.cumsum(episodes)])
    random = np.random.default_rng([dataset, camera])
    frames = random.integers(0, 256, (count, SIZE, SIZE, 3), dtype=np.uint8)
    frames[:, 0, 0, 0], frames[:, 0, 0, 1] = dataset, camera
    frames[:, 0, 1, 0], frames[:, 0, 1, 1] = np.arange(count) // 256, np.arange(count) % 256
    valid = np.ones(count, np.bool_)
    valid[starts[1:] - 1] = False
    flow = (random.normal(size=(count, CELLS, CELLS, 2)) * (1 + 3 * dataset)).astype(np.float16)
    moments = random.normal(size=(count, 4)).astype(np.float32)
    columns = {HAND: random.normal(size=(count, 3)).astype(np.float32)} if dataset == 0 else {}
    episode = np.repeat(np.arange(len(episodes), dtype=np.int32), episodes)
    name = f"set {dataset}"
    return Pack(frames, flow, moments, columns, episode, valid, starts, 0.2, 1, name, f"eye {camera}", embodiment)


def everywhere(packs: list[Pack]) -> list[np.ndarray]:
    return [np.ones(len(p.frames_FYXC), np.bool_) for p in packs]


def number(batch: Batch) -> np.ndarray:
    pixels = batch.frames_BTYXC[:, :, 0, 1].numpy().astype(int)
    return pixels[..., 0] * 256 + pixels[..., 1]


def source(batch: Batch) -> np.ndarray:
    return batch.frames_BTYXC[:, :, 0, 0, 0].numpy()


@given(lengths, lengths, st.integers(0, 2**31), st.sampled_from(["host", "device"]))
@settings(max_examples=40)
def test_a_batch_is_what_plain_indexing_gives(first: list[int], second: list[int], seed: int, memory: str) -> None:
    packs = [numbered([*first, LENGTH], 0), numbered([*second, LENGTH], 1)]
    clips = ClipSet(packs, LENGTH, "cpu", everywhere(packs), memory=memory)  # type: ignore[arg-type]
    batch = clips.batch(8, torch.Generator().manual_seed(seed), augment=False)
    frames, flow, moments = (
        np.concatenate([getattr(p, name) for p in packs]) for name in ("frames_FYXC", "flow_F", "moments_F")
    )
    hand = np.concatenate([p.columns.get(HAND, np.full((len(p.valid_F), 3), np.nan)) for p in packs])
    starts = [f for f in range(len(frames)) if _inside(packs, f)]
    assert clips.starts.tolist() == starts
    chosen = torch.randint(len(starts), (8,), generator=torch.Generator().manual_seed(seed)).sort().values
    for row, window in enumerate(chosen):
        span = slice(starts[window], starts[window] + LENGTH)
        assert np.array_equal(batch.frames_BTYXC[row].numpy(), frames[span])
        steps = slice(span.start, span.stop - 1)
        assert batch.flow_BTF[row].numpy() == pytest.approx(
            flow[steps].reshape(LENGTH - 1, -1).astype(np.float32) / clips.scales.flow_px, rel=1e-4
        )
        assert batch.moments_BT4[row].numpy() == pytest.approx(moments[steps] / clips.scales.moments, rel=1e-5)
        position = (hand[span] - clips.scales.position_mean_m) / clips.scales.position_m
        assert batch.hand_BT3[row].numpy() == pytest.approx(position, rel=1e-4, abs=1e-5, nan_ok=True)


def _inside(packs: list[Pack], frame: int) -> bool:
    for pack in packs:
        if frame < len(pack.episode_F):
            return frame + LENGTH <= len(pack.episode_F) and len(set(pack.episode_F[frame : frame + LENGTH])) == 1
        frame -= len(pack.episode_F)
    return False


def test_frames_on_the_device_and_in_the_file_make_the_same_batches() -> None:
    packs = [numbered([7, 5, 9], 0), numbered([6, 8], 1)]
    host, device = (ClipSet(packs, LENGTH, "cpu", everywhere(packs), memory=m) for m in ("host", "device"))  # type: ignore[arg-type]
    assert (host.memory, device.memory) == ("host", "device")
    for draw in (lambda c, g: [c.batch(16, g)], lambda c, g: list(c.pair(16, g))):
        for a, b in zip(*(draw(c, torch.Generator().manual_seed(3)) for c in (host, device)), strict=True):
            for name in NAMES:
                assert torch.equal(getattr(a, name).nan_to_num(9), getattr(b, name).nan_to_num(9)), name


def test_the_set_is_not_copied() -> None:
    packs = [numbered([7, 5], 0), numbered([6], 1)]
    clips = ClipSet(packs, LENGTH, "cpu", everywhere(packs))
    for held, pack in zip(clips._rows[0]._arrays, packs, strict=True):
        assert held is pack.frames_FYXC


def test_a_batch_in_use_is_never_overwritten_and_its_memory_comes_back() -> None:
    array = np.random.default_rng(0).integers(0, 256, (50, 30_000), dtype=np.uint8)
    rows = Rows([array[:20], array[20:]])
    places = Places.find(rows.offsets, np.array([3, 3, 18, 20, 48, 0]), 2)
    held = [rows.taking(places, 2)() for _ in range(6)]
    views = [t[1:3] for t in held]
    memory = {t.data_ptr() for t in held}
    assert len(memory) == 6
    del held
    later = rows.taking(Places.find(rows.offsets, np.zeros(6, np.int64), 2), 2)()
    assert later.data_ptr() not in memory
    assert all(np.array_equal(v.numpy(), array[[[3, 4], [18, 19]]]) for v in views)
    place = later.data_ptr()
    del later
    assert rows.taking(places, 2)().data_ptr() == place


def test_large_batches_are_gathered_in_several_threads_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("robot_wm.data.frames._PIECE_BYTES", 64)
    monkeypatch.setattr("robot_wm.data.frames._CORES", 5)
    array = np.arange(300, dtype=np.int64).reshape(100, 3)
    rows, starts = Rows([array[:31], array[31:33], array[33:]]), np.array([0, 29, 31, *range(33, 99, 3)])
    expected = array[starts[:, None] + np.arange(2)]
    assert np.array_equal(rows.taking(Places.find(rows.offsets, starts, 2), 2)().numpy(), expected)


@given(st.lists(st.integers(1, 7), min_size=1, max_size=6), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=40)
def test_windows_are_rows_in_a_row_of_one_array(lengths: list[int], length: int, seed: int) -> None:
    offsets = np.cumsum([0, *lengths])
    array = np.arange(3 * offsets[-1]).reshape(-1, 3)
    rows = Rows(np.split(array, offsets[1:-1]))
    inside = [first for a, b in pairwise(offsets) for first in range(a, b - length + 1)]
    starts = np.random.default_rng(seed).choice(inside or [0], 9 if inside else 0)
    found = rows.taking(Places.find(rows.offsets, starts, length), length)().numpy()
    assert np.array_equal(found, array[starts[:, None] + np.arange(length)])


@given(st.lists(st.floats(0.01, 10), min_size=2, max_size=4), st.integers(0, 2**31))
@settings(max_examples=25)
def test_weights_are_the_shares_of_the_datasets(weights: list[float], seed: int) -> None:
    packs = [numbered([4 + 5 * n, 6], n) for n in range(len(weights))]
    clips = ClipSet(packs, LENGTH, "cpu", everywhere(packs), weights)
    num = 4000
    drawn = Counter(source(clips.batch(num, torch.Generator().manual_seed(seed), augment=False))[:, 0].tolist())
    for n, weight in enumerate(weights):
        share = weight / sum(weights)
        assert abs(drawn[n] / num - share) <= 5 * (share * (1 - share) / num) ** 0.5 + 1 / num
    assert [d["share"] for d in clips.describe()] == pytest.approx([w / sum(weights) for w in weights])


def test_without_weights_every_window_is_as_likely() -> None:
    packs = [numbered([20], 0), numbered([5], 1)]
    clips = ClipSet(packs, LENGTH, "cpu", everywhere(packs))
    drawn = source(clips.batch(6000, torch.Generator().manual_seed(0), augment=False))[:, 0]
    assert abs((drawn == 1).mean() - 3 / 21) < 0.025


def test_a_pair_is_one_moment_in_two_cameras_mirrored_together() -> None:
    eyes = [numbered([6, 7], 0, camera) for camera in range(3)]
    alone = numbered([9], 1)
    clips = ClipSet([eyes, alone], LENGTH, "cpu", everywhere([*eyes, alone]))
    first, second = clips.pair(400, torch.Generator().manual_seed(0), augment=False)
    cameras = [b.frames_BTYXC[:, 0, 0, 0, 1].numpy() for b in (first, second)]
    assert np.array_equal(source(first), source(second))
    assert np.array_equal(number(first), number(second))
    several = source(first)[:, 0] == 0
    assert (cameras[0] != cameras[1])[several].all()
    assert len(set(zip(cameras[0][several].tolist(), cameras[1][several].tolist(), strict=True))) == 6
    assert torch.equal(first.frames_BTYXC[~several], second.frames_BTYXC[~several])
    one, two = clips.pair(64, torch.Generator().manual_seed(1))
    plain = clips.pair(64, torch.Generator().manual_seed(1), augment=False)
    turned = [
        ((b.moments_BT4[..., 0] * p.moments_BT4[..., 0]) < 0).all(1) for b, p in zip((one, two), plain, strict=True)
    ]
    assert torch.equal(*turned)
    assert 10 < int(turned[0].sum()) < 54
    assert not torch.equal(one.frames_BTYXC, two.frames_BTYXC)


@given(st.lists(st.integers(3, 8), min_size=3, max_size=12), st.floats(0.1, 0.6), st.integers(0, 99))
@settings(max_examples=40)
def test_no_episode_is_on_both_sides_in_any_camera(episodes: list[int], held_out: float, seed: int) -> None:
    eyes = [numbered(episodes, 0, camera) for camera in range(2)]
    other = numbered([5, 5, 5], 1)
    training, validation = split_clips([eyes, other], LENGTH, "cpu", held_out, seed)
    owner = np.concatenate([p.episode_F + 100 * d for d, p in ((0, eyes[0]), (0, eyes[1]), (1, other))])
    sides = [set(owner[part.starts.numpy()].tolist()) for part in (training, validation)]
    assert not sides[0] & sides[1]
    assert sorted(sides[0] | sides[1]) == sorted([*range(len(episodes)), 100, 101, 102])
    windows = sum(n - LENGTH + 1 for n in episodes) * 2 + 9
    assert len(training.starts) + len(validation.starts) == windows


def test_each_body_has_its_own_measure_of_motion_and_positions_share_theirs() -> None:
    packs = [numbered([40, 40], 0, embodiment="slow"), numbered([40, 40], 1, embodiment="fast")]
    clips = ClipSet(packs, LENGTH, "cpu", everywhere(packs), weights=[1, 1])
    assert clips.motion["fast"].flow_px == pytest.approx(4 * clips.motion["slow"].flow_px, rel=0.1)
    batch = clips.batch(500, torch.Generator().manual_seed(0), augment=False)
    of = source(batch)[:, 0]
    for dataset, pack in enumerate(packs):
        assert float(batch.flow_BTF[of == dataset].std()) == pytest.approx(1, abs=0.05)
        direct = pack.flow_F[pack.valid_F].astype(np.float64)
        assert clips.motion[pack.embodiment].flow_px == pytest.approx(direct.std(), rel=1e-4)
    one_body = ClipSet([packs[0], replace(packs[1], embodiment="slow")], LENGTH, "cpu", everywhere(packs))
    assert one_body.scales == clips.scales
    assert one_body.motion["slow"].flow_px == clips.scales.flow_px


def test_actions_make_no_difference() -> None:
    plain = numbered([8, 9], 0)
    labelled = replace(plain, columns=plain.columns | {ACTION: np.full((17, 1, 2), np.nan)})
    batches = [
        ClipSet([p], LENGTH, "cpu", everywhere([p])).batch(8, torch.Generator().manual_seed(0))
        for p in (plain, labelled)
    ]
    for name, value in batches[0].__dict__.items():
        other = batches[1].__dict__[name]
        assert torch.equal(torch.as_tensor(value).nan_to_num(9), torch.as_tensor(other).nan_to_num(9)), name


def test_mixtures_that_make_no_sense_are_refused() -> None:
    packs = [numbered([6, 6], 0), numbered([6, 6], 1)]
    with pytest.raises(UserError, match="1 weights for 2 datasets"):
        split_clips(packs, LENGTH, "cpu", 0.5, 0, [1.0])
    with pytest.raises(UserError, match="weights are"):
        split_clips(packs, LENGTH, "cpu", 0.5, 0, [1.0, 0.0])
    with pytest.raises(UserError, match="dataset 2 has been given before"):
        split_clips([packs[0], packs[0]], LENGTH, "cpu", 0.5, 0)
    with pytest.raises(UserError, match="for training in dataset 2"):
        split_clips([packs[0], numbered([2, 2], 1)], LENGTH, "cpu", 0.5, 0, [1, 1])
    with pytest.raises(ValueError, match="same moments"):
        ClipSet([[packs[0], numbered([6, 5], 0, 1)]], LENGTH, "cpu", everywhere(packs))


def test_a_mirror_image_is_what_a_mirrored_camera_sees() -> None:
    mirror, random = Mirror(torch.tensor([True, False])), torch.Generator().manual_seed(0)
    flow = torch.rand(2, 1, 4, 4, 2, generator=random)
    turned = mirror.vectors(mirror.image(flow))
    assert torch.equal(turned[0, 0, :, 0, 0], -flow[0, 0, :, 3, 0])
    assert torch.equal(turned[0, 0, :, 1, 1], flow[0, 0, :, 2, 1])
    assert torch.equal(turned[1], flow[1])
    place, mean, deviation = torch.rand(2, 1, 3, generator=random), 0.3, 0.1
    seen = mirror.places((place - torch.tensor([mean, 0, 0])) / deviation, mean / deviation)
    back = seen * deviation + torch.tensor([mean, 0, 0])
    assert torch.allclose(back[0], place[0] * torch.tensor([-1, 1, 1]), atol=1e-6)
    assert torch.allclose(back[1], place[1], atol=1e-6)


steps = st.lists(st.tuples(st.sampled_from(["next", "reset", "other"]), st.integers(1, 3)), max_size=25)


@given(steps, st.integers(1, 3))
@settings(max_examples=60)
def test_batches_prepared_ahead_are_those_drawn_when_asked(script: list[tuple[str, int]], depth: int) -> None:
    def draw(size: int, generator: torch.Generator) -> torch.Tensor:
        return torch.rand(size, generator=generator)

    ahead: Ahead[int, torch.Tensor, torch.Tensor] = Ahead(draw, lambda drawn: drawn * 2, depth)
    plain, guessed = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    for action, size in script:
        if action == "reset":
            plain.manual_seed(size)
            guessed.manual_seed(size)
        elif action == "other":  # somebody else draws from the same generator
            torch.rand(1, generator=plain)
            torch.rand(1, generator=guessed)
        assert torch.equal(ahead.next(size, guessed), draw(size, plain) * 2)
        assert torch.equal(plain.get_state(), guessed.get_state())


def test_batches_in_a_row_are_ready_when_asked() -> None:
    ahead: Ahead[int, torch.Tensor, torch.Tensor] = Ahead(lambda n, g: torch.rand(n, generator=g), lambda drawn: drawn)
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        ahead.next(4, generator)
    assert ahead.hits == 8


@given(st.integers(0, 2**31))
@settings(max_examples=15)
def test_tables_recolour_as_arithmetic_on_every_pixel_does(seed: int) -> None:
    random = torch.Generator().manual_seed(seed)
    frames = torch.randint(0, 256, (5, 2, 8, 6, 3), generator=random, dtype=torch.uint8)
    looks, every = Looks.draw(5, random), (slice(None), None, None, None)
    order = looks.order_B3[every].expand(frames.shape)
    plain = (frames.gather(-1, order) * looks.gain_B3[every] + looks.shift_B3[every]).clamp(0, 255).to(torch.uint8)
    assert torch.equal(change(frames, looks), Mirror(looks.mirrored_B).image(plain))
