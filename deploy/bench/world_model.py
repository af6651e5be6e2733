"""What the world model knows of bodies, scenes and cameras that it never saw: probes, latent actions, prediction."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from deploy.bench.bench import BenchConfig
from deploy.bench.result import Row
from robot_wm.contracts.dataset import ARM, HAND, NEAREST, OBJECT
from robot_wm.data.pack import POSITIONS, Pack, PackSpec, build_pack
from robot_wm.data.scales import positions
from robot_wm.evaluation.probes import Probe, fit_probe, judge
from robot_wm.models.world_model import WorldModel
from robot_wm.training.checkpoint import SHIPPED, load_world_model, model_run
from sims.stages.record import RecordConfig, record

_SCENES = {"quick": 120, "full": 1600}  # half of them fit the probes, the other half judges
_FRAMES = 16
_UNSEEN = 50_000  # first seed of scenes that no pretraining uses
_AHEAD = (1, 4, 8)
_PLACES = {"hand": "hand_ET3", "object": "object_ET3", "arm": "arm_ETK"}  # what is probed, and where it stands
_MOVED = 0.02  # an object that moved further counts as moved [m on the standard picture]


@dataclass(frozen=True)
class Clips:
    """E clips of T frames, encoded; positions in metres on the standard picture (see `scales.positions`).

    Attributes:
        object_ET3: of the object nearest to the hand, which a picture tells.
        pushed_ET3: of the one that is pushed.
        arm_ETK: of points from the shoulder along the arm.
    """

    z_ETD: Tensor
    action_ETA: Tensor
    hand_ET3: Tensor
    object_ET3: Tensor
    pushed_ET3: Tensor
    arm_ETK: Tensor
    moments_ET4: Tensor

    def placed(self, name: str) -> Tensor:
        """Positions, unknown (NaN) where the picture does not show the shoulder, from which their depth counts."""
        hidden = self.arm_ETK[..., :1].isnan()
        return getattr(self, _PLACES[name]).masked_fill(hidden, float("nan"))

    def half(self, second: bool) -> "Clips":
        """The first or the second half of the clips."""
        middle = len(self.z_ETD) // 2
        part = slice(middle, None) if second else slice(None, middle)
        return Clips(*(getattr(self, name)[part] for name in self.__dataclass_fields__))


def world_model(config: BenchConfig) -> list[Row]:
    """Linear probes of the shipped model's latents and latent actions, and its predictions with inferred actions."""
    model, described = load_world_model(model_run(SHIPPED))
    run = record(
        RecordConfig(
            out=config.out, name="unseen", seed=_UNSEEN + config.seed, episodes=_SCENES[config.size],
            frames_per_episode=_FRAMES, size=model.config.encoder.size, step_s=described.step_s,
        )
    )  # fmt: skip
    spec = PackSpec(model.config.encoder.size, described.step_s, model.config.flow_cells, POSITIONS)
    clips = _encode(model, build_pack(run / "dataset", spec, Path(config.out) / ".cache"))
    fitted, judged = clips.half(False), clips.half(True)
    places = {name: fit_probe(fitted.z_ETD.flatten(0, 1), fitted.placed(name).flatten(0, 1)) for name in _PLACES}
    return [
        *_probes(places, judged),
        *_actions(fitted, judged),
        *_ties(model, judged),
        *_ahead(model, places, judged),
    ]


@torch.no_grad()
def _encode(model: WorldModel, pack: Pack) -> Clips:
    def clips(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(values)).unflatten(0, (-1, _FRAMES))

    z_ETD = torch.cat([model.encode(part) for part in clips(pack.frames_FYXC).split(16)])
    moments = clips(pack.moments_F)[:, :-1]
    action = torch.tanh(model.infer(z_ETD)[0])
    hand, nearest, pushed, arm = (clips(positions(pack, key)) for key in (HAND, NEAREST, OBJECT, ARM))
    return Clips(z_ETD, action, hand, nearest, pushed, arm, moments)


def _probes(places: dict[str, Probe], judged: Clips) -> list[Row]:
    rows = []
    for name, probe in places.items():
        found = judge(probe(judged.z_ETD.flatten(0, 1)), judged.placed(name).flatten(0, 1))
        num = judged.z_ETD.shape[0]
        target, near = (None, None) if name == "arm" else (0.95, 1.5)
        rows.append(Row(f"linear probe of the latent, {name}: R²", found.r2, n=num, target=target, better="higher"))
        if name == "arm":  # the distance over all of its points says nothing to a reader
            continue
        rows += [Row(f"the same along {axis}: R²", r2, n=num) for axis, r2 in zip("xyz", found.r2_K, strict=True)]
        rows.append(
            Row(f"the same, median error, {name}", 100 * found.median, "cm", n=num, target=near, better="lower")
        )
    return rows


def _actions(fitted: Clips, judged: Clips) -> list[Row]:
    rows = []
    for name, field, target in (("latent action", "action_ETA", 0.92), ("flow's own moments", "moments_ET4", None)):
        moved = fitted.hand_ET3.diff(dim=1).flatten(0, 1)
        probe = fit_probe(getattr(fitted, field).flatten(0, 1), moved)
        found = judge(probe(getattr(judged, field).flatten(0, 1)), judged.hand_ET3.diff(dim=1).flatten(0, 1))
        num = len(judged.z_ETD)
        rows.append(Row(f"{name} to hand displacement, linear: R²", found.r2, n=num, target=target, better="higher"))
        rows += [Row(f"the same along {axis}: R²", r2, n=num) for axis, r2 in zip("xyz", found.r2_K, strict=True)]
    return rows


@torch.no_grad()
def _ties(model: WorldModel, judged: Clips) -> list[Row]:
    """Prediction errors with other latent actions than the inferred ones, as multiples of theirs."""
    histories = model.histories(judged.z_ETD)[:, :-1].flatten(0, 1)
    target, actions = judged.z_ETD[:, 1:].flatten(0, 1), judged.action_ETA.flatten(0, 1)

    def error(candidate: Tensor, to: Tensor) -> float:
        return float((model.predict(histories, candidate)[0] - to).square().mean())

    inferred, num = error(actions, target), len(judged.z_ETD)
    generator = torch.Generator().manual_seed(0)
    shuffled = actions[torch.randperm(len(actions), generator=generator)]
    # A cut: the next frame is of another scene, and the labeler is asked what led there.
    other = judged.z_ETD.roll(1, dims=0)[:, 1:].flatten(0, 1)
    mean, _ = model.labeler(histories[:, 0], histories[:, -1], other)
    return [
        Row("error with zero latent actions, times that of inferred ones", error(torch.zeros_like(actions), target)
            / inferred, n=num, target=1.5, better="higher"),
        Row("with shuffled ones", error(shuffled, target) / inferred, n=num, target=2.0, better="higher"),
        Row("over a spliced cut", error(torch.tanh(mean), other) / inferred, n=num, target=2.0, better="higher"),
        Row("of copying the last latent", float((histories[:, -1] - target).square().mean()) / inferred, n=num),
    ]  # fmt: skip


@torch.no_grad()
def _ahead(model: WorldModel, places: dict[str, Probe], judged: Clips) -> list[Row]:
    """Predictions with inferred latent actions, read by the probes; copying is read the same way."""
    start = model.config.history - 1
    predicted = model.rollout(model.histories(judged.z_ETD)[:, start], judged.action_ETA[:, start : start + _AHEAD[-1]])
    rows = []
    for name in ("hand", "object"):
        probe, truth = places[name], judged.placed(name)
        if name == "object":  # where the nearest is the pushed one: two objects that swap places have not moved
            truth = truth.where(truth == judged.pushed_ET3, truth.new_tensor(float("nan")))
        for steps in _AHEAD:
            moved = (truth[:, start + steps] - truth[:, start]).norm(dim=-1) > _MOVED  # false where one is unknown
            wanted = truth[moved, start + steps]
            for what, latent in (("predicted", predicted[:, steps - 1]), ("copied", judged.z_ETD[:, start])):
                error = (probe(latent[moved]) - wanted).norm(dim=-1).median()
                rows.append(Row(f"moved {name}, {steps} steps ahead, {what}", 100 * float(error), "cm", n=len(wanted)))
    return rows
