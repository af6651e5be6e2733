"""What system identification may move, and how it is written into a compiled model without recompiling it."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import mujoco
import numpy as np
from mujoco import sysid
from numpy.typing import NDArray

from robot_wm.contracts.errors import UserError

Model: TypeAlias = mujoco.MjModel
DELAY, BIAS, PAYLOAD = "delay", "bias", "payload"


class Kind(NamedTuple):
    """One sort of parameter.

    Attributes:
        target: the sort of MJCF element it belongs to; None for what belongs to the whole log.
        unit: its unit.
        read: its value in a compiled model, given the element's index.
        write: puts a value into a compiled model, given the unchanged model as well.
        mend: puts the same value into an MjSpec element.
        derived: whether constants that the compiler computes (such as the inverse weights that make friction loss and
            limits soft) depend on it, so that `mj_setConst` must run after it was written.
    """

    target: str | None
    unit: str
    read: Callable[[Model, int], float]
    write: Callable[[Model, Model, int, float], None]
    mend: Callable[[mujoco.MjSpec, Model, str, float], None]
    derived: bool = False


@dataclass(frozen=True)
class Parameter:
    """One number to identify: `kind` of `target`, its value in the MJCF and the bounds of the search."""

    kind: str
    target: str
    nominal: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not self.low < self.high or not self.low <= self.nominal <= self.high:
            raise UserError(
                f"{self.name}: bounds [{self.low:g}, {self.high:g}] and start {self.nominal:g}",
                "The lower bound must be below the upper, and the start between them",
            )

    @property
    def name(self) -> str:
        return f"{self.kind}:{self.target}" if self.target else self.kind

    @property
    def unit(self) -> str:
        return KINDS[self.kind].unit

    @property
    def scale(self) -> float:
        """The optimizer sees value / scale, which is of the order of one whatever the unit."""
        return max(abs(self.nominal), 0.05 * (self.high - self.low))


def parameter(
    model: Model, kind: str, target: str = "", low: float = 0.1, high: float = 10.0, absolute: bool = False
) -> Parameter:
    """A parameter of a model; `low` and `high` are factors of the MJCF's value, or values when `absolute`.

    Raises:
        UserError: a kind that is not known, an element that the model lacks, factors of a value that is zero.
    """
    if kind not in KINDS:
        raise UserError(f"parameter kind {kind!r} is not known", f"Choose one of: {', '.join(KINDS)}")
    nominal = KINDS[kind].read(model, index(model, kind, target))
    if not absolute and nominal == 0:
        raise UserError(f"{kind} of {target!r} is 0 in the MJCF, so factors cannot bound it", "Give absolute bounds")
    bounds = (low, high) if absolute else (low * nominal, high * nominal)
    return Parameter(kind, target, float(np.clip(nominal, *bounds)), *bounds)


def index(model: Model, kind: str, target: str) -> int:
    """Index of the element that a parameter belongs to; -1 for what belongs to the log."""
    sort = KINDS[kind].target
    if sort is None:
        return -1
    found = mujoco.mj_name2id(model, getattr(mujoco.mjtObj, f"mjOBJ_{sort.upper()}"), target)
    if found < 0:
        count = getattr(model, {"joint": "njnt", "actuator": "nu"}.get(sort, f"n{sort}"))
        names = [n for i in range(count) if (n := getattr(model, sort)(i).name)]
        raise UserError(f"{kind}: the MJCF has no {sort} {target!r}", f"It has: {', '.join(names[:24]) or 'none'}")
    return found


def write(model: Model, nominal: Model, data: mujoco.MjData, parameters: Sequence[Parameter], values: NDArray) -> None:
    """Put values into a compiled model: the same model that compiling the edited MJCF gives."""
    derived = False
    for each, value in zip(parameters, values, strict=True):
        kind = KINDS[each.kind]
        kind.write(model, nominal, index(model, each.kind, each.target), float(value))
        derived |= kind.derived
    if derived:
        mujoco.mj_setConst(model, data)


def mend(spec: mujoco.MjSpec, nominal: Model, parameters: Iterable[Parameter], values: Iterable[float]) -> None:
    """Put values into an MjSpec, ready to be compiled or written as MJCF.

    A servo's damping ratio becomes the rate gain that the compiler made of it: a servo does not know its load's mass.
    """
    for actuator in spec.actuators:
        if actuator.biastype == mujoco.mjtBias.mjBIAS_AFFINE and actuator.biasprm[2] > 0 > actuator.biasprm[1]:
            actuator.biasprm[2] = nominal.actuator_biasprm[actuator.id, 2]
    for each, value in zip(parameters, values, strict=True):
        KINDS[each.kind].mend(spec, nominal, each.target, float(value))


def to_sysid(parameters: Sequence[Parameter], nominal: Model, start: NDArray | None = None) -> sysid.ParameterDict:
    """The library's own parameters, in units of each one's scale; their modifiers edit and recompile an MjSpec.

    A start on a bound is put a little inside: a search can stall in a corner.
    """
    made = sysid.ParameterDict()
    for i, each in enumerate(parameters):

        def modifier(spec: mujoco.MjSpec, x: sysid.Parameter, each: Parameter = each) -> None:
            mend(spec, nominal, [each], [float(x.value[0]) * each.scale])

        low, high = each.low / each.scale, each.high / each.scale
        new = sysid.Parameter(each.name, each.nominal / each.scale, low, high, modifier=modifier)
        if start is not None:
            new.value[:] = start[i] / each.scale
        new.value[:] = np.clip(new.value, low + 2e-3 * (high - low), high - 2e-3 * (high - low))
        made.add(new)
    return made


# How each kind is read, written and mended --------------------------------------------------------------------------
def _of_joint(field: str) -> tuple[Callable, Callable]:
    def read(model: Model, joint: int) -> float:
        return float(getattr(model, field)[model.jnt_dofadr[joint]])

    def put(model: Model, _: Model, joint: int, value: float) -> None:
        getattr(model, field)[model.jnt_dofadr[joint]] = value

    return read, put


def _spec_joint(attribute: str) -> Callable[[mujoco.MjSpec, Model, str, float], None]:
    def put(spec: mujoco.MjSpec, _: Model, name: str, value: float) -> None:
        if attribute in ("damping", "stiffness"):  # polynomials since MuJoCo 3.11: the first is the linear term
            getattr(spec.joint(name), attribute)[0] = value
        else:
            setattr(spec.joint(name), attribute, value)

    return put


def _write_gain(model: Model, nominal: Model, actuator: int, value: float) -> None:
    factor = value / nominal.actuator_gainprm[actuator, 0]
    model.actuator_gainprm[actuator, 0] = value
    model.actuator_biasprm[actuator, 1] = factor * nominal.actuator_biasprm[actuator, 1]


def _mend_gain(spec: mujoco.MjSpec, nominal: Model, name: str, value: float) -> None:
    index = nominal.actuator(name).id
    factor = value / nominal.actuator_gainprm[index, 0]
    actuator = spec.actuator(name)
    actuator.gainprm[0] = value
    actuator.biasprm[1] = factor * nominal.actuator_biasprm[index, 1]


def _write_rate_gain(model: Model, _: Model, actuator: int, value: float) -> None:
    model.actuator_biasprm[actuator, 2] = -value


def _mend_rate_gain(spec: mujoco.MjSpec, _: Model, name: str, value: float) -> None:
    spec.actuator(name).biasprm[2] = -value


def _write_mass(model: Model, nominal: Model, body: int, value: float) -> None:
    model.body_mass[body] = value
    model.body_inertia[body] = nominal.body_inertia[body] * value / nominal.body_mass[body]


def _mend_mass(spec: mujoco.MjSpec, nominal: Model, name: str, value: float) -> None:
    body = nominal.body(name)
    _set_inertial(spec.body(name), value, body.ipos, body.iquat, body.inertia * value / body.mass)


def _with_payload(nominal: Model, site: int, kilograms: float) -> tuple[int, float, NDArray, NDArray, NDArray]:
    """Mass, centre, orientation and inertia of the site's body with a point mass at the site."""
    body = int(nominal.site_bodyid[site])
    mass, place, centre = float(nominal.body_mass[body]), nominal.site_pos[site], nominal.body_ipos[body]
    total = mass + kilograms
    new_centre = (mass * centre + kilograms * place) / total
    flat = np.empty(9)
    mujoco.mju_quat2Mat(flat, nominal.body_iquat[body])
    R = flat.reshape(3, 3)
    inertia = R @ np.diag(nominal.body_inertia[body]) @ R.T
    for m, p in ((mass, centre - new_centre), (kilograms, place - new_centre)):
        inertia = inertia + m * (p @ p * np.eye(3) - np.outer(p, p))
    moments, axes = np.linalg.eigh(inertia)
    order = np.argsort(moments)[::-1]  # MuJoCo's own order
    moments, axes = moments[order], axes[:, order]
    axes[:, 2] *= np.sign(np.linalg.det(axes))
    quat = np.empty(4)
    mujoco.mju_mat2Quat(quat, np.ascontiguousarray(axes).ravel())
    return body, total, new_centre, quat, moments


def _write_payload(model: Model, nominal: Model, site: int, value: float) -> None:
    body, mass, ipos, iquat, inertia = _with_payload(nominal, site, value)
    model.body_mass[body], model.body_ipos[body] = mass, ipos
    model.body_iquat[body], model.body_inertia[body] = iquat, inertia
    model.body_sameframe[body] = 0  # short cuts that hold only for the inertial frame of before
    model.geom_sameframe[model.geom_bodyid == body] = 0
    model.site_sameframe[model.site_bodyid == body] = 0


def _mend_payload(spec: mujoco.MjSpec, nominal: Model, name: str, value: float) -> None:
    body, mass, ipos, iquat, inertia = _with_payload(nominal, nominal.site(name).id, value)
    _set_inertial(spec.body(nominal.body(body).name), mass, ipos, iquat, inertia)


def _set_inertial(body: mujoco.MjsBody, mass: float, ipos: NDArray, iquat: NDArray, inertia: NDArray) -> None:
    body.explicitinertial = True
    body.fullinertia = np.full((6, 1), np.nan)
    body.mass, body.ipos, body.iquat, body.inertia = float(np.squeeze(mass)), ipos, iquat, inertia


def _write_friction(model: Model, _: Model, geom: int, value: float) -> None:
    model.geom_friction[geom, 0] = value


def _mend_friction(spec: mujoco.MjSpec, _: Model, name: str, value: float) -> None:
    spec.geom(name).friction[0] = value


def _nowhere(*_: object) -> None:
    """Encoders are no part of the MJCF, and the delay is simulated by shifting the commands."""


def _mend_delay(spec: mujoco.MjSpec, nominal: Model, _: str, value: float) -> None:
    """MuJoCo keeps a history of the commands that holds the delay."""
    if value > 0:
        for actuator in spec.actuators:
            actuator.delay, actuator.nsample = value, int(np.ceil(value / nominal.opt.timestep)) + 1


def _read_stiffness(model: Model, joint: int) -> float:
    return float(model.jnt_stiffness[joint])


def _write_stiffness(model: Model, _: Model, joint: int, value: float) -> None:
    model.jnt_stiffness[joint] = value


KINDS: dict[str, Kind] = {
    "armature": Kind("joint", "kg·m²", *_of_joint("dof_armature"), _spec_joint("armature"), True),
    "damping": Kind("joint", "N·m·s/rad", *_of_joint("dof_damping"), _spec_joint("damping")),
    "frictionloss": Kind("joint", "N·m", *_of_joint("dof_frictionloss"), _spec_joint("frictionloss")),
    "stiffness": Kind("joint", "N·m/rad", _read_stiffness, _write_stiffness, _spec_joint("stiffness")),
    "gain": Kind("actuator", "N·m/rad", lambda m, i: float(m.actuator_gainprm[i, 0]), _write_gain, _mend_gain),
    "rate_gain": Kind(
        "actuator", "N·m·s/rad", lambda m, i: -float(m.actuator_biasprm[i, 2]), _write_rate_gain, _mend_rate_gain
    ),
    "mass": Kind("body", "kg", lambda m, i: float(m.body_mass[i]), _write_mass, _mend_mass, True),
    PAYLOAD: Kind("site", "kg", lambda *_: 0.0, _write_payload, _mend_payload, True),
    "friction": Kind("geom", "1", lambda m, i: float(m.geom_friction[i, 0]), _write_friction, _mend_friction),
    BIAS: Kind("joint", "rad", lambda *_: 0.0, _nowhere, _nowhere),
    DELAY: Kind(None, "s", lambda *_: 0.0, _nowhere, _mend_delay),
}
