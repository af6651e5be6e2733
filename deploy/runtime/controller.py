"""The controller: frames and proprio in, command chunks out, by the two graphs of a bundle."""

import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
from numpy.typing import NDArray

from deploy.runtime.graph import Graph, encode_signature, head_signature, plan_signature
from robot_wm.contracts.bundle import Bundle, ControllerSpec, read_bundle
from robot_wm.contracts.errors import UserError


@dataclass(frozen=True)
class Plan:
    """What one planning step decided.

    Attributes:
        command_KU: commands for the next `frame_skip` control ticks, (K, U) [the command's unit].
        cost: predicted cost of the whole plan against the goal.
        uncertainty: predicted error of the planner's own imagination.
        encode_s, plan_s: wall time of the two graphs [s].
        latent_D: the encoded frame.
        rest_LU: what the plan has in mind after that, (L, U) [the command's unit]; None where it is not known.
        imagined_HD: the latents that it expects after each of its model steps; None where the bundle does not tell.
        expected_D: the latent that the plan made for this moment expected of this frame; None where there was none.
    """

    command_KU: NDArray[np.float64]
    cost: float
    uncertainty: float
    encode_s: float
    plan_s: float
    latent_D: NDArray[np.float32]
    rest_LU: NDArray[np.float64] | None = None
    imagined_HD: NDArray[np.float32] | None = None
    expected_D: NDArray[np.float32] | None = None

    @property
    def imagination_error(self) -> float:
        """Mean squared error of what was expected of this frame's latent, as `uncertainty` foretells it; or NaN."""
        away_D = np.nan if self.expected_D is None else self.latent_D - self.expected_D
        return float(np.square(away_D).mean())

    @property
    def is_finite(self) -> bool:
        """Whether every command and the cost are numbers."""
        return bool(np.isfinite(self.command_KU).all() and np.isfinite(self.cost))


class Planner(Protocol):
    """Who decides what the robot does: a controller, or what stands in its place; see Controller."""

    spec: ControllerSpec
    reference_U: NDArray[np.float64]

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None: ...

    def sent(self, command_U: NDArray[np.float64]) -> None: ...

    def step(
        self,
        frame_YXC: NDArray[np.uint8],
        proprio_P: NDArray[np.float32],
        pending_SKU: NDArray[np.float64] | None = None,
    ) -> Plan: ...


class Controller:
    """A bundle, ready to run.

    It remembers what a planner must: the last latents (the first one stands in for those before it), the rest of the
    previous plan as a warm start, and the command that was really sent last.

    Attributes:
        spec: what the bundle says of itself.
        providers: the execution providers in use, best first.
        reference_U: the command in force, from which the next plan starts [the command's unit].
    """

    def __init__(
        self,
        bundle: Path | Bundle,
        providers: Sequence[str] | None = None,
        num_threads: int | None = None,
        seed: int = 0,
        mode: Literal["search", "head"] = "search",
        pinned: bool = False,
    ):
        """Load a bundle.

        Args:
            bundle: a bundle, its folder, or the export run that holds it.
            providers: ONNX Runtime's execution providers, best first; None takes what is there.
            num_threads: threads of one operator; None means one per core.
            pinned: each of those threads stays on a processor of its own; for a machine that does little else.
            seed: of the sampling noise.
            mode: "search" for the best plan, or take what the command "head" proposes, in a small part of the time.

        Raises:
            UserError: the bundle is incomplete, altered or of another schema, has no head when one is asked for, or a
                provider does not start.
        """
        found = bundle if isinstance(bundle, Bundle) else read_bundle(bundle)
        self.spec: ControllerSpec = found.spec
        self._encode = Graph(found.encode, encode_signature(self.spec), providers, num_threads, pinned)
        decides = (found.plan, plan_signature) if mode == "search" else (found.head, head_signature)
        self._plan = Graph(decides[0], decides[1](self.spec), providers, num_threads, pinned)
        self.providers = self._plan.providers
        self._random = np.random.default_rng(seed)
        self._has_goal = False
        self._has_history = False
        # The first step that a plan imagines ends `ahead` steps of commands under way, and one of its own, later.
        self._imagined: deque[NDArray[np.float32]] = deque(maxlen=self.spec.ahead + 1)
        self.sent(self.spec.command.hold(np.zeros(self.spec.command.dim)))

    def encode(self, frame_YXC: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The latent of a frame, (D,).

        Raises:
            UserError: the frame is not of the bundle's shape, or not uint8.
        """
        self._run_encoder(frame_YXC)
        latent_D: NDArray[np.float32] = self._encode.outputs["latent"][0].copy()
        return latent_D

    def set_goal(self, frame_YXC: NDArray[np.uint8], proprio_P: NDArray[np.floating[Any]] | None = None) -> None:
        """What to reach.

        Args:
            frame_YXC: the image that the world should come to look like.
            proprio_P: what the robot should measure of itself there, in the order of `spec.proprio`, where that is
                known better than a picture shows it; NaN for entries that are not.

        Raises:
            UserError: as `encode` does, or proprio of another length, or a bundle that cannot be told.
        """
        target = self._plan.inputs.get("target")
        if proprio_P is not None and target is None:
            raise UserError(
                "this bundle takes goals as pictures only (schema 1)", "Export again, or give the picture alone"
            )
        if proprio_P is not None and np.shape(proprio_P) != (len(self.spec.proprio),):
            names = ", ".join(self.spec.proprio)
            raise UserError(f"the goal's proprio has shape {np.shape(proprio_P)}", f"Give a value or NaN for: {names}")
        self._run_encoder(frame_YXC)
        self._plan.inputs["goal"][:] = self._encode.outputs["latent"]
        if target is not None:
            target[0] = np.nan if proprio_P is None else proprio_P
        self._has_goal = True

    def reset(self, reference_U: NDArray[np.float64] | None = None, seed: int | None = None) -> None:
        """Forget history and warm start; the goal stays.

        Args:
            reference_U: the command in force now; None keeps the last one sent.
            seed: restarts the sampling noise; None lets it run on.
        """
        self._has_history = False
        self._imagined.clear()
        if "warm" in self._plan.inputs:
            self._plan.inputs["warm"][:] = 0
        if reference_U is not None:
            self.sent(reference_U)
        if seed is not None:
            self._random = np.random.default_rng(seed)

    def sent(self, command_U: NDArray[np.float64]) -> None:
        """Tell what the robot was really sent: the next plan starts from there."""
        self.reference_U = np.array(command_U, dtype=np.float64)
        self._plan.inputs["reference"][0] = command_U

    def step(
        self,
        frame_YXC: NDArray[np.uint8],
        proprio_P: NDArray[np.float32],
        pending_SKU: NDArray[np.float64] | None = None,
    ) -> Plan:
        """Plan one command chunk.

        Args:
            frame_YXC: the newest frame, uint8, of the bundle's height and width.
            proprio_P: the newest proprio, in the order of `spec.proprio`.
            pending_SKU: where `spec.ahead` is S > 0, the chunks of commands already sent or committed whose effect
                lies between the frame and the first command of this plan [the command's unit]; `sent` has then told
                the command just before them.

        Returns:
            The plan; its commands may be NaN if the inputs were: a Safety stands behind.

        Raises:
            UserError: frame, proprio or pending commands are not what the bundle takes, or no goal was set.
        """
        if not self._has_goal:
            raise UserError("the controller has no goal", "Call set_goal with a frame first")
        inputs, outputs = self._plan.inputs, self._plan.outputs
        self._take_pending(pending_SKU)
        started = time.perf_counter()
        self._run_encoder(frame_YXC)
        encoded = time.perf_counter()
        self._remember(self._encode.outputs["latent"][0])
        proprio = np.asarray(proprio_P)
        if proprio.shape != inputs["proprio"].shape[1:]:
            names = ", ".join(self.spec.proprio)
            raise UserError(f"proprio has shape {proprio.shape}", f"The bundle takes {len(self.spec.proprio)}: {names}")
        inputs["proprio"][0] = proprio
        searches = "noise" in inputs
        if searches:
            self._random.standard_normal(dtype=np.float32, out=inputs["noise"])
        self._plan.run()
        if searches:
            inputs["warm"][:] = outputs["next_warm"]
        plan = Plan(
            command_KU=outputs["command"][0].astype(np.float64),
            cost=float(outputs["cost"][0]),
            uncertainty=float(outputs["uncertainty"][0]),
            encode_s=encoded - started,
            plan_s=time.perf_counter() - encoded,
            latent_D=self._encode.outputs["latent"][0].copy(),
            rest_LU=self._rest(outputs["command"][0, -1].astype(np.float64)),
            imagined_HD=outputs["imagined"][0].copy() if "imagined" in outputs else None,
            expected_D=self._imagined[0] if len(self._imagined) == self._imagined.maxlen else None,
        )
        if plan.imagined_HD is not None:
            self._imagined.append(plan.imagined_HD[0])
        if not (plan.is_finite and (not searches or np.isfinite(inputs["warm"]).all())):
            self.reset()  # one bad input must not live on in the history or the warm start
        return plan

    def _take_pending(self, pending_SKU: NDArray[np.float64] | None) -> None:
        space, ahead = self.spec.command, self.spec.ahead
        shape = None if pending_SKU is None else np.asarray(pending_SKU).shape
        if not ahead:
            if shape is not None:
                raise UserError(
                    f"pending commands of shape {shape} were given, but the bundle plans from the frame itself",
                    "Leave pending_SKU out, or export with ahead=1 or more",
                )
            return
        wanted = (ahead, space.frame_skip, space.dim)
        if shape != wanted:
            raise UserError(
                f"pending commands are {'missing' if shape is None else f'of shape {shape}'}, but the bundle looks "
                f"{ahead} model steps ahead",
                f"Give pending_SKU of shape {wanted}: the commands sent or committed since the frame, in {space.unit}",
            )
        self._plan.inputs["pending"][0] = pending_SKU

    def _rest(self, last_U: NDArray[np.float64]) -> NDArray[np.float64]:
        """The model steps after the first, as commands; the last row of the warm start is a guess of what follows."""
        space, outputs = self.spec.command, self._plan.outputs
        later_HU = outputs["next_warm"][0, :-1] if "next_warm" in outputs else outputs["plan"][0, 1:]
        plan_HU = np.clip(later_HU.astype(np.float64), -1.0, 1.0)
        return space.denormalize(np.repeat(plan_HU, space.frame_skip, axis=0), last_U)

    def _run_encoder(self, frame_YXC: NDArray[np.uint8]) -> None:
        frame: NDArray[Any] = np.asarray(frame_YXC)
        buffer = self._encode.inputs["frame"]
        if frame.shape != buffer.shape[1:] or frame.dtype != np.uint8:
            raise UserError(
                f"frame is {frame.dtype} of shape {frame.shape}",
                f"The bundle takes uint8 of shape {buffer.shape[1:]} from camera {self.spec.camera!r}",
            )
        buffer[0] = frame
        self._encode.run()

    def _remember(self, latent_D: NDArray[np.float32]) -> None:
        history_TD = self._plan.inputs["history"][0]
        if self._has_history:
            history_TD[:-1] = history_TD[1:]
            history_TD[-1] = latent_D
        else:
            history_TD[:] = latent_D
            self._has_history = True
