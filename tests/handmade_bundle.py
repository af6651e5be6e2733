"""A controller bundle written by hand, so that tests of the runtime need neither torch nor training.

Latent: mean colour of the frame, 0 to 1, so that a frame of one colour has a known latent. Command: the goal's colour
minus the frame's, times two, plus the first two entries of proprio, plus a little of the first noise draw and of the
warm start. Cost: sum of the reference command. Uncertainty: sum of the oldest latent of the history. The next warm
start counts plans.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.parser
from numpy.typing import NDArray

from robot_wm.contracts import config, files
from robot_wm.contracts.bundle import ENCODE_FILE, PLAN_FILE, SPEC_FILE, ControllerSpec
from robot_wm.contracts.embodiment import CommandSpace, Interface, Safety

SIDE, NUM_PROPRIO = 8, 4
NOISE_GAIN, WARM_GAIN = 0.001, 0.0001

ENCODE = f"""<ir_version: 10, opset_import: ["" : 20]>
encode (uint8[1,{SIDE},{SIDE},3] frame) => (float[1,3] latent)
<float[1] scale = {{255.0}}, int64[2] axes = {{1, 2}}>
{{
  pixels = Cast<to = 1>(frame)
  mean = ReduceMean<keepdims = 0>(pixels, axes)
  latent = Div(mean, scale)
}}"""

PLAN = f"""<ir_version: 10, opset_import: ["" : 20]>
plan (float[1,2,3] history, float[1,3] goal, float[1,{NUM_PROPRIO}] proprio, float[1,2] reference, float[1,3,2] warm,
      float[1,2,5,3,2] noise)
  => (float[1,4,2] command, float[1] cost, float[1] uncertainty, float[1,3,2] next_warm)
<int64 newest = {{1}}, int64 oldest = {{0}}, int64[1] start = {{0}}, int64[1] stop = {{2}}, int64[1] axis = {{1}},
 float gain = {{2.0}}, float noise_gain = {{{NOISE_GAIN}}},
 float warm_gain = {{{WARM_GAIN}}}, float nothing = {{0.0}}, float one = {{1.0}}, int64[3] chunk = {{1, 4, 2}},
 int64 zero = {{0}}>
{{
  latent = Gather<axis = 1>(history, newest)
  away = Sub(goal, latent)
  away_u = Slice(away, start, stop, axis)
  proprio_u = Slice(proprio, start, stop, axis)
  draw_i = Gather<axis = 1>(noise, zero)
  draw_n = Gather<axis = 1>(draw_i, zero)
  draw_u = Gather<axis = 1>(draw_n, zero)
  wanted = Mul(away_u, gain)
  jitter = Mul(draw_u, noise_gain)
  moved = Add(wanted, proprio_u)
  shaken = Add(moved, jitter)
  count = Gather<axis = 1>(warm, zero)
  momentum = Mul(count, warm_gain)
  all = Add(shaken, momentum)
  row = Unsqueeze(all, axis)
  command = Expand(row, chunk)
  cost = ReduceSum<keepdims = 0>(reference, axis)
  first = Gather<axis = 1>(history, oldest)
  uncertainty = ReduceSum<keepdims = 0>(first, axis)
  counted = Add(warm, one)
  nothing_u = Mul(row, nothing)
  next_warm = Add(counted, nothing_u)
}}"""

# The same of schema 3: it takes a target without heeding it, and imagines that the newest latent stays as it is.
IMAGINING_PLAN = PLAN.replace("float[1,2,5,3,2] noise)", f"float[1,2,5,3,2] noise, float[1,{NUM_PROPRIO}] target)")
IMAGINING_PLAN = IMAGINING_PLAN.replace(
    "next_warm)\n<", "next_warm, float[1,3,3] imagined)\n<int64[3] steps = {1, 3, 3}, "
)
IMAGINING_PLAN = IMAGINING_PLAN.replace(
    "  next_warm = Add",
    "  newest_row = Unsqueeze(latent, axis)\n  imagined = Expand(newest_row, steps)\n  next_warm = Add",
)


def make_spec(interface: Interface = "joint_velocity", **changes: object) -> ControllerSpec:
    """What `controller.json` says; `changes` replace fields of the spec."""
    command = CommandSpace(
        interface=interface,
        names=("left", "right"),
        unit="rad" if interface == "joint_position" else "rad/s",
        low=(-1.0, -0.5),
        high=(1.0, 1.5),
        max_step=(0.5, 0.25),
        frame_skip=4,
        control_rate_hz=20.0,
    )
    spec = ControllerSpec(
        schema=1,
        embodiment="handmade",
        embodiment_sha256="0" * 64,
        camera="front",
        height=SIDE,
        width=SIDE,
        proprio=("left_position", "right_position", "left_velocity", "right_velocity"),
        command=command,
        safety=Safety(max_step=0.5, max_frame_age_s=0.3, max_overruns=2),
        latent_dim=3,
        history=2,
        horizon=3,
        candidates=5,
        iterations=2,
        opset=20,
        files={},
        parity={"command": 0.0},
        lineage={"calibrate": "1" * 64},
    )
    return replace(spec, **changes)  # type: ignore[arg-type]


def write_bundle(folder: Path, spec: ControllerSpec | None = None, plan: str = PLAN, encode: str = ENCODE) -> Path:
    """Write the bundle; returns its folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in ((ENCODE_FILE, encode), (PLAN_FILE, plan)):
        model = onnx.parser.parse_model(text)
        onnx.checker.check_model(model)
        onnx.save(model, folder / name)
    hashes = {name: files.sha256(folder / name) for name in (ENCODE_FILE, PLAN_FILE)}
    files.write_json(folder / SPEC_FILE, config.to_mapping(replace(spec or make_spec(), files=hashes)))
    return folder


def colour(red: float, green: float, blue: float) -> NDArray[np.uint8]:
    """A frame of one colour, each 0 to 1 (rounded to 1/255)."""
    return np.tile(np.round(np.array([red, green, blue]) * 255).astype(np.uint8), (SIDE, SIDE, 1))
