"""The controller: what it remembers between steps, and what it refuses."""

from pathlib import Path

import numpy as np
import pytest

from deploy.runtime.controller import Controller
from deploy.runtime.graph import choose_providers
from robot_wm.contracts.errors import UserError
from tests.handmade_bundle import IMAGINING_PLAN, NOISE_GAIN, SIDE, WARM_GAIN, colour, make_spec, write_bundle

STILL = np.zeros(4, np.float32)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_bundle(tmp_path_factory.mktemp("controller") / "bundle")


@pytest.fixture
def controller(bundle: Path) -> Controller:
    found = Controller(bundle, num_threads=1, seed=3)
    found.set_goal(colour(1, 0, 0))
    return found


def test_command_leads_from_frame_to_goal(controller: Controller) -> None:
    plan = controller.step(colour(0, 0, 0), STILL)
    assert plan.command_KU.shape == (4, 2)
    assert plan.command_KU.dtype == np.float64
    assert plan.command_KU[:, 0] == pytest.approx(2.0, abs=10 * NOISE_GAIN)
    assert plan.command_KU[:, 1] == pytest.approx(0.0, abs=10 * NOISE_GAIN)
    assert plan.encode_s > 0
    assert plan.plan_s > 0


def test_history_starts_as_the_first_latent_repeated_and_then_moves_on(controller: Controller) -> None:
    """The handmade planner returns the oldest latent's sum as uncertainty."""
    brightness = [0.2, 0.4, 0.6]
    oldest = [controller.step(colour(b, b, b), STILL).uncertainty / 3 for b in brightness]
    assert oldest == pytest.approx([0.2, 0.2, 0.4], abs=1e-6)
    controller.reset()
    assert controller.step(colour(0.8, 0.8, 0.8), STILL).uncertainty / 3 == pytest.approx(0.8, abs=1e-6)


def test_next_plan_starts_from_what_was_really_sent(controller: Controller) -> None:
    """The handmade planner returns the sum of the reference command as cost."""
    assert controller.step(colour(0, 0, 0), STILL).cost == 0.0
    controller.sent(np.array([0.25, 0.5]))
    assert controller.step(colour(0, 0, 0), STILL).cost == pytest.approx(0.75)
    controller.reset()
    assert controller.step(colour(0, 0, 0), STILL).cost == pytest.approx(0.75), "reset keeps the command in force"
    controller.reset(reference_U=np.zeros(2))
    assert controller.step(colour(0, 0, 0), STILL).cost == 0.0


def test_same_seed_same_commands(bundle: Path) -> None:
    def fly(controller: Controller) -> np.ndarray:
        return np.stack([controller.step(colour(0, 0, 0), STILL).command_KU for _ in range(3)])

    first, second = Controller(bundle, seed=7), Controller(bundle, seed=7)
    for controller in (first, second):
        controller.set_goal(colour(0, 0, 0))
    flown = fly(first)
    assert np.array_equal(flown, fly(second))
    assert not np.array_equal(flown, fly(first)), "noise runs on"
    first.reset(seed=7)
    assert np.array_equal(flown, fly(first)), "noise starts again"


def test_next_plan_is_warm_started_by_the_last_one(bundle: Path) -> None:
    """The handmade planner counts its plans in the warm start, and adds a little of the count to its commands."""
    warm, cold = Controller(bundle, seed=7), Controller(bundle, seed=7)
    for controller in (warm, cold):
        controller.set_goal(colour(0, 0, 0))
        controller.step(colour(0, 0, 0), STILL)
    cold.reset()
    difference_KU = warm.step(colour(0, 0, 0), STILL).command_KU - cold.step(colour(0, 0, 0), STILL).command_KU
    assert difference_KU == pytest.approx(np.full((4, 2), WARM_GAIN), rel=1e-3)


def test_nan_does_not_live_on(controller: Controller) -> None:
    assert not controller.step(colour(0, 0, 0), np.full(4, np.nan, np.float32)).is_finite
    assert controller.step(colour(0, 0, 0), STILL).is_finite


def test_plans_do_not_share_memory(controller: Controller) -> None:
    first = controller.step(colour(0, 0, 0), STILL)
    before, latent_D = first.command_KU.copy(), first.latent_D.copy()
    controller.step(colour(1, 1, 1), STILL)
    assert np.array_equal(first.command_KU, before)
    assert np.array_equal(first.latent_D, latent_D)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (np.zeros((SIDE, SIDE + 1, 3), np.uint8), ["(8, 9, 3)", "(8, 8, 3)"]),
        (np.zeros((SIDE, SIDE, 3), np.float32), ["float32", "uint8"]),
        (np.zeros((SIDE, SIDE), np.uint8), ["(8, 8)", "(8, 8, 3)"]),
    ],
)
def test_other_frames_are_refused_with_both_shapes(controller: Controller, frame: np.ndarray, words: list[str]) -> None:
    for act in (lambda: controller.step(frame, STILL), lambda: controller.set_goal(frame)):
        with pytest.raises(UserError) as error:
            act()
        assert all(word in str(error.value) for word in words)


def test_other_proprio_is_refused_with_names(controller: Controller) -> None:
    with pytest.raises(UserError, match=r"\(3,\).*takes 4: left_position, right_position"):
        controller.step(colour(0, 0, 0), np.zeros(3, np.float32))


def test_step_without_goal_is_refused(bundle: Path) -> None:
    with pytest.raises(UserError, match="no goal"):
        Controller(bundle).step(colour(0, 0, 0), STILL)


def test_provider_that_is_not_installed_is_named() -> None:
    with pytest.raises(UserError, match=r"'MadeUpProvider'.*CPUExecutionProvider"):
        choose_providers(["MadeUpProvider"])
    assert choose_providers()[-1] == "CPUExecutionProvider"


def test_threads_must_be_positive(bundle: Path) -> None:
    with pytest.raises(UserError, match="threads is 0"):
        Controller(bundle, num_threads=0)


def test_position_interface_rests_within_its_limits(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle", make_spec("joint_position")))
    assert np.array_equal(controller.reference_U, [0.0, 0.0])


def test_what_was_expected_of_a_frame_comes_with_it(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "bundle", make_spec(schema=3), plan=IMAGINING_PLAN)
    controller, proprio = Controller(bundle, num_threads=1), np.zeros(4, np.float32)
    controller.set_goal(colour(1, 0, 0))
    first = controller.step(colour(0, 0, 0), proprio)
    assert first.imagined_HD is not None and first.imagined_HD.shape == (3, 3)
    assert first.expected_D is None and np.isnan(first.imagination_error)
    second = controller.step(colour(0, 1, 0), proprio)
    assert second.expected_D == pytest.approx([0, 0, 0])
    assert second.imagination_error == pytest.approx(1 / 3)
    assert controller.step(colour(0, 1, 0), proprio).imagination_error == 0
    controller.reset()
    assert controller.step(colour(0, 1, 0), proprio).expected_D is None, "nothing is known after a pause"


def test_bundles_of_before_imagine_nothing(tmp_path: Path) -> None:
    controller = Controller(write_bundle(tmp_path / "bundle"), num_threads=1)
    controller.set_goal(colour(1, 0, 0))
    plans = [controller.step(colour(0, 0, 0), np.zeros(4, np.float32)) for _ in range(2)]
    assert all(plan.imagined_HD is None and plan.expected_D is None for plan in plans)
