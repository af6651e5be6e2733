"""The command space in torch and in numpy are the same map, and no plan leaves the limits."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_wm.contracts.embodiment import CommandSpace
from robot_wm.models.command import CommandMap


def _space(interface: str, max_step: float = 10.0) -> CommandSpace:
    return CommandSpace(interface, ("a", "b"), "rad", (-1.0, 0.5), (2.0, 1.5), (max_step, 0.1), 3, 25.0)  # type: ignore[arg-type]


plans = arrays(np.float64, (2,), elements=st.floats(-1, 1))
chunks = arrays(np.float64, (3, 2), elements=st.floats(-1, 1))
positions = st.tuples(st.floats(-1, 2), st.floats(0.5, 1.5)).map(np.array)


@settings(max_examples=60)
@given(plans, positions, st.sampled_from(["joint_position", "joint_velocity"]), st.floats(0.01, 5))
def test_commands_obey_every_limit(plan: np.ndarray, reference: np.ndarray, interface: str, max_step: float) -> None:
    space = _space(interface, max_step)
    chunk, _ = CommandMap(space)(torch.tensor(plan, dtype=torch.float32)[None], torch.tensor(reference).float()[None])
    commands = np.vstack([reference, chunk[0].numpy()])
    assert (commands[1:] >= np.array(space.low) - 1e-6).all() and (commands[1:] <= np.array(space.high) + 1e-6).all()
    assert (np.abs(np.diff(commands, axis=0)) <= np.array(space.max_step) + 1e-5).all()


@settings(max_examples=40)
@given(plans, positions)
def test_torch_equals_numpy_for_positions(plan: np.ndarray, reference: np.ndarray) -> None:
    space = _space("joint_position", 0.2)
    chunk, effective = CommandMap(space)(torch.tensor(plan).float()[None], torch.tensor(reference).float()[None])
    clipped = np.clip(reference + np.cumsum(np.tile(plan, (3, 1)) * space.max_step, axis=0), space.low, space.high)
    assert np.allclose(chunk[0], clipped, atol=1e-5)
    assert np.allclose(effective[0], space.normalize(chunk[0].double().numpy(), reference), atol=1e-4)


@settings(max_examples=40)
@given(
    arrays(np.float64, (3, 2), elements=st.floats(-1, 1)),
    positions,
    st.sampled_from(["joint_position", "joint_velocity"]),
)
def test_commands_back_to_plan_units_in_torch_as_in_numpy(chunk: np.ndarray, reference: np.ndarray, name: str) -> None:
    space = _space(name, 0.2)
    found = CommandMap(space).normalize(torch.tensor(chunk).float()[None], torch.tensor(reference).float()[None])
    assert np.allclose(found[0], space.normalize(chunk, reference), atol=1e-4)


@settings(max_examples=40)
@given(plans, positions)
def test_normalize_undoes_denormalize_inside_the_limits(plan: np.ndarray, reference: np.ndarray) -> None:
    for interface in ("joint_position", "joint_velocity"):
        space = _space(interface, 1e-3 if interface == "joint_position" else 10.0)
        inside = np.clip(reference, np.array(space.low) + 0.3, np.array(space.high) - 0.3)
        wanted = np.tile(plan, (3, 1)) * (1.0 if not space.is_position else np.array([1.0, 0.1]))
        chunk = space.denormalize(wanted, inside)
        assert np.allclose(space.normalize(chunk, inside), wanted, atol=1e-9)
