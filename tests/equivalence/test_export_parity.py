"""PyTorch, ONNX Runtime and PyTorch in batches say the same; what does not is never written."""

import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx.numpy_helper
import onnx.parser
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from deploy.export import export as exporting
from deploy.export.batch import check_batch
from deploy.export.export import check_parity, export_bundle
from deploy.export.graphs import CONTROL_FLOW, OPSET, check_unrolled, export_graph
from deploy.export.parity import Recorded, measure
from deploy.runtime.controller import Controller
from deploy.runtime.graph import Signature
from robot_wm.contracts.bundle import TIPPED, Bundle, read_bundle
from robot_wm.contracts.embodiment import Camera, CommandSpace, Embodiment, Interface, Mjcf, Safety
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.solids import Capsule, Joint, Solids
from robot_wm.models.adapter import Adapter, AdapterConfig, KinematicAdapter, ProprioHead
from robot_wm.models.body import Body
from robot_wm.models.command_head import CommandHead, CommandHeadConfig
from robot_wm.models.dynamics import Dynamics, DynamicsConfig
from robot_wm.models.encoder import Encoder, EncoderConfig
from robot_wm.models.kinematics import BodyPoint, Kinematics
from robot_wm.models.posterior import Posterior
from robot_wm.planning.controllable import Controllable
from robot_wm.planning.objectives import Objective, ObjectiveConfig, Zone
from robot_wm.planning.planner import OneShot, Planner, PlannerConfig
from robot_wm.planning.samplers import CEM, ICEM, MPPI, Gradient, Sampler

SIDE, ROWS, NUM_PROPRIO, ACTION_DIM, HISTORY = 24, 6, 4, 3, 2
NAMES = ("left_position", "right_position", "left_velocity", "right_velocity")


def make_controllable(
    interface: Interface = "joint_velocity", seed: int = 0, ahead: int = 0, search: PlannerConfig | None = None
) -> Controllable:
    """The real modules at a tiny size, with random weights that make every command matter."""
    search = search or PlannerConfig(horizon=2, candidates=16, iterations=2, sampler=CEM(elites=4))
    torch.manual_seed(seed)
    embodiment = Embodiment(
        "tiny", Mjcf("none.xml"), interface, "tip", Camera("front", SIDE, SIDE + 8), 20.0, 2, Safety(max_step=0.4)
    )
    command = CommandSpace(
        interface, ("left", "right"), "rad/s", (-1.0, -0.5), (1.0, 1.5), (0.4, 0.4), frame_skip=2, control_rate_hz=20.0
    )
    sizes = EncoderConfig(size=32, channels=(8, 8, 8), blocks=1, keypoints=4, grid_channels=1)
    encoder = Encoder(sizes, SIDE, SIDE + 8)
    encoder(torch.from_numpy(make_recorded(32, seed=9).frames_NYXC))  # running statistics of BatchNorm
    dynamics = Dynamics(DynamicsConfig(width=32, blocks=1), sizes.latent_dim, HISTORY, ACTION_DIM)
    nn.init.normal_(dynamics.outputs.weight, std=0.1)
    body = Body(
        dynamics,
        Adapter(AdapterConfig(width=16, context=4), 2 * command.dim, NUM_PROPRIO, sizes.latent_dim, ACTION_DIM),
        ProprioHead(sizes.latent_dim, NUM_PROPRIO, width=16),
        command,
        torch.zeros(NUM_PROPRIO),
        torch.ones(NUM_PROPRIO),
        torch.tensor([1.0, 1.0, 0.0, 0.0]),
    )
    body.posterior = Posterior(32)
    body.posterior.mean_W.normal_(std=0.1)
    body.posterior.direction_WR.copy_(torch.linalg.qr(torch.randn(32, 32)).Q)
    body.posterior.log_scale.fill_(-3.0)
    head = CommandHead(CommandHeadConfig(16, 1), sizes.latent_dim, HISTORY, NUM_PROPRIO, body.command_map)
    planner = Planner(search, body, ahead, head, Objective(search.objective, body, NAMES)).eval()
    one_shot = OneShot(planner, head).eval()
    return Controllable(encoder.eval(), planner, one_shot, embodiment, command, NAMES, {"calibrate": "ab"})


def make_recorded(rows: int = ROWS, seed: int = 1) -> Recorded:
    rng = np.random.default_rng(seed)
    return Recorded(
        rng.integers(0, 256, (rows, SIDE, SIDE + 8, 3), dtype=np.uint8),
        rng.normal(size=(rows, NUM_PROPRIO)).astype(np.float32),
        rng.uniform(-0.5, 1, (rows, 2)).astype(np.float32),
    )


@pytest.fixture(scope="module", autouse=True)
def single_thread() -> Iterator[None]:
    """Thousands of tiny operators: handing them to threads takes longer than doing them."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


SOLIDS = Solids((), (Capsule("base", -1, (0.0, 0.0, 0.0), (0.1, 0.0, 0.0), 0.05),), ())


@pytest.fixture(scope="module")
def controllable() -> Controllable:
    return make_controllable()


@pytest.fixture(scope="module")
def bundle(controllable: Controllable, tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("export") / "bundle"
    return export_bundle(controllable, make_recorded(), path, solids=SOLIDS)


def test_bundle_agrees_with_pytorch_and_says_how_well(bundle: Bundle) -> None:
    parity = dict(bundle.spec.parity)
    assert parity.pop(TIPPED) == 0
    plans = {"command", "cost", "uncertainty", "next_warm", "imagined"}
    assert set(parity) == {
        "latent",
        *plans,
        "head_command",
        "head_cost",
        "head_uncertainty",
        "head_plan",
        "head_imagined",
    }
    assert 0 < max(parity.values()) <= 1e-4
    assert bundle.spec.lineage == {"calibrate": "ab"}
    assert bundle.spec.solids == SOLIDS
    assert [path.name for path in bundle.path.parent.iterdir()] == ["bundle"], "nothing temporary stays"


def test_graphs_are_unrolled_of_the_stated_opset_and_take_bytes(bundle: Bundle) -> None:
    for path in (bundle.encode, bundle.plan):
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
        check_unrolled(model, path.name)
        assert [entry.version for entry in model.opset_import if not entry.domain] == [OPSET] == [bundle.spec.opset]
        assert not {node.op_type for node in model.graph.node} & {"SequenceAt", "SplitToSequence"}
    (frame,) = onnx.load(bundle.encode).graph.input
    assert frame.type.tensor_type.elem_type == onnx.TensorProto.UINT8


def test_parity_holds_on_inputs_that_the_gate_did_not_see(bundle: Bundle, controllable: Controllable) -> None:
    found = measure(
        controllable.encoder, controllable.planner, bundle.path, bundle.spec, make_recorded(8, seed=5), seed=6
    )
    assert max(found.values()) <= 1e-4, found


def kinematic_adapter(latent_dim: int) -> KinematicAdapter:
    """Two hinges and a rail between them and the camera, with every part at work."""
    turn = (0.8, 0.0, 0.6, 0.0, 1.0, 0.0, -0.6, 0.0, 0.8)
    links = (
        Joint(-1, turn, (0.1, 0.0, 1.0), "hinge", (0.0, 1.0, 0.0), (0.0, 0.1, 0.0), 0, 0.1),
        Joint(0, turn, (0.3, 0.0, 0.0), "slide", (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), 1, 0.0),
        Joint(1, turn, (0.2, 0.1, 0.0), "hinge", (0.6, 0.0, 0.8), (0.05, 0.0, 0.0), 1, -0.2),
    )
    table = Kinematics(links, (BodyPoint("tip", 2, (0.1, 0.2, 0.3)), BodyPoint("base", -1, (0.0, 0.0, 1.0))))
    adapter = KinematicAdapter(AdapterConfig(width=16, context=4), table, 4, NUM_PROPRIO, latent_dim, ACTION_DIM)
    nn.init.normal_(adapter.residual[-1].weight)  # type: ignore[arg-type]
    nn.init.normal_(adapter.response_UR, std=0.2)
    return adapter


def test_a_kinematic_adapter_inside_the_graph_is_pytorchs(tmp_path: Path) -> None:
    adapter = kinematic_adapter(latent_dim=8).eval()
    inputs: dict[str, tuple[str, tuple[int, ...]]] = {
        "chunk": ("float32", (16, 4)),
        "proprio": ("float32", (16, NUM_PROPRIO)),
        "z": ("float32", (16, 8)),
    }
    export_graph(adapter, (inputs, {"action": ("float32", (16, ACTION_DIM))}), tmp_path / "adapter.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "adapter.onnx", providers=["CPUExecutionProvider"])
    given = {name: torch.randn(shape) for name, (_, shape) in inputs.items()}
    (found,) = session.run(None, {name: value.numpy() for name, value in given.items()})
    with torch.no_grad():
        wanted = adapter(*given.values())
    assert wanted.std() > 0.1
    assert found == pytest.approx(wanted.numpy(), abs=1e-5)


@pytest.mark.slow
def test_a_whole_plan_with_a_kinematic_adapter_keeps_parity(tmp_path: Path) -> None:
    controllable = make_controllable("joint_position")
    body = controllable.planner.body
    body.adapter = kinematic_adapter(body.latent_dim)
    found = export_bundle(controllable, make_recorded(), tmp_path / "bundle")
    assert max(found.spec.parity.values()) <= 1e-4


@torch.no_grad()
def test_controller_from_image_to_command_is_pytorch(bundle: Bundle, controllable: Controllable) -> None:
    """Image to command over several steps, with history, warm start, reference and noise as the runtime keeps them."""
    recorded, planner = make_recorded(), controllable.planner
    controller = Controller(bundle, num_threads=1, seed=4)
    noise = np.random.default_rng(4)
    controller.set_goal(recorded.frames_NYXC[-1])
    goal = controllable.encoder(torch.from_numpy(recorded.frames_NYXC[-1:]))
    history: list[Tensor] = []
    warm = torch.zeros(1, 2, 2)
    expected = None
    for row in range(4):
        controller.sent(recorded.reference_NU[row])
        plan = controller.step(recorded.frames_NYXC[row], recorded.proprio_NP[row])
        latent = controllable.encoder(torch.from_numpy(recorded.frames_NYXC[row : row + 1]))
        history = [*(history or [latent] * HISTORY)[1:], latent]
        draws = noise.standard_normal((1, 2, 16, 2, 2), dtype=np.float32)
        command, cost, _, warm, imagined = planner(
            torch.stack(history, dim=1),
            goal,
            torch.from_numpy(recorded.proprio_NP[row : row + 1]),
            torch.from_numpy(recorded.reference_NU[row : row + 1]),
            warm,
            torch.from_numpy(draws),
        )
        assert np.abs(plan.command_KU - command[0].numpy()).max() <= 1e-4
        assert plan.cost == pytest.approx(cost.item(), abs=1e-4)
        assert plan.imagined_HD == pytest.approx(imagined[0].numpy(), abs=1e-4)
        assert (plan.expected_D is None) == (row == 0)
        if expected is not None:
            assert plan.expected_D == pytest.approx(expected, abs=1e-4)
            off = float(np.square(latent[0].numpy() - expected).mean())
            assert plan.imagination_error == pytest.approx(off, rel=1e-3, abs=1e-6)
        expected = imagined[0, 0].numpy()


@torch.no_grad()
def test_commands_under_way_are_planned_ahead_of_as_in_pytorch(tmp_path: Path) -> None:
    controllable, recorded = make_controllable("joint_position", ahead=2), make_recorded()
    bundle = export_bundle(controllable, recorded, tmp_path / "bundle")
    assert bundle.spec.ahead == 2
    controller, frame, proprio = Controller(bundle, num_threads=1, seed=4), recorded.frames_NYXC[0], recorded.proprio_NP
    controller.set_goal(recorded.frames_NYXC[1])
    pending_SKU = np.linspace(-0.4, 0.6, 8).reshape(2, 2, 2)
    plan = controller.step(frame, proprio[0], pending_SKU)
    z_BD = controllable.encoder(torch.from_numpy(recorded.frames_NYXC[:2]))
    noise = np.random.default_rng(4).standard_normal((1, 2, 16, 2, 2), dtype=np.float32)
    command, *_ = controllable.planner(
        z_BD[None, :1].expand(-1, HISTORY, -1),
        z_BD[1:],
        torch.from_numpy(proprio[:1]),
        torch.from_numpy(controller.reference_U)[None].float(),
        torch.zeros(1, 2, 2),
        torch.from_numpy(noise),
        pending_BSKU=torch.from_numpy(pending_SKU)[None].float(),
    )
    assert np.abs(plan.command_KU - command[0].numpy()).max() <= 1e-4
    assert not np.allclose(plan.command_KU, controller.step(frame, proprio[0], -pending_SKU).command_KU)
    for wrong, words in ((None, "missing"), (pending_SKU[:1], r"of shape \(1, 2, 2\)")):
        with pytest.raises(UserError, match=rf"pending commands are {words}.*2 model steps ahead.*\(2, 2, 2\)"):
            controller.step(frame, proprio[0], wrong)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", [ICEM(elites=4), MPPI(), Gradient()], ids=lambda s: s.kind)
def test_every_sampler_exports_and_agrees(sampler: Sampler, tmp_path: Path) -> None:
    zone = Zone(("left_position", "right_position"), (0.2, 0.0), 0.5)
    objective = ObjectiveConfig(effort=0.5, smoothness=0.1, uncertainty=0.1, keep_out=1.0, zones=(zone,), over="last")
    search = PlannerConfig(horizon=2, candidates=8, iterations=2, sampler=sampler, objective=objective)
    bundle = export_bundle(make_controllable("joint_position", search=search), make_recorded(), tmp_path / "bundle")
    assert max(bundle.spec.parity.values()) <= 1e-4
    check_unrolled(onnx.load(bundle.plan), "plan.onnx")


def test_head_alone_is_the_head_in_pytorch(bundle: Bundle, controllable: Controllable) -> None:
    recorded, controller = make_recorded(), Controller(bundle, num_threads=1, mode="head")
    known_P = np.array([0.3, np.nan, np.nan, 0.1])
    controller.set_goal(recorded.frames_NYXC[1], known_P)
    plan = controller.step(recorded.frames_NYXC[0], recorded.proprio_NP[0])
    assert controller.step(recorded.frames_NYXC[0], recorded.proprio_NP[0]).cost == plan.cost, "no draws are involved"
    assert controllable.one_shot is not None
    with torch.no_grad():
        z_BD = controllable.encoder(torch.from_numpy(recorded.frames_NYXC[:2]))
        command, cost, *_ = controllable.one_shot(
            z_BD[None, :1].expand(-1, HISTORY, -1),
            z_BD[1:],
            torch.from_numpy(recorded.proprio_NP[:1]),
            torch.from_numpy(controller.reference_U)[None].float(),
            torch.from_numpy(known_P)[None].float(),
        )
    assert np.abs(plan.command_KU - command[0].numpy()).max() <= 1e-4
    assert plan.cost == pytest.approx(cost.item(), abs=1e-4)
    with pytest.raises(UserError, match=r"goal's proprio has shape \(3,\).*left_position"):
        controller.set_goal(recorded.frames_NYXC[1], known_P[:3])


def test_bundle_without_delay_takes_no_pending_commands(bundle: Bundle) -> None:
    recorded, controller = make_recorded(), Controller(bundle, num_threads=1)
    controller.set_goal(recorded.frames_NYXC[0])
    with pytest.raises(UserError, match=r"plans from the frame itself.*ahead=1"):
        controller.step(recorded.frames_NYXC[0], recorded.proprio_NP[0], np.zeros((1, 2, 2)))


@torch.no_grad()
def test_a_batch_is_its_rows_one_by_one(controllable: Controllable) -> None:
    generator = torch.Generator().manual_seed(2)
    frames = torch.from_numpy(make_recorded(3).frames_NYXC)
    z_BD = controllable.encoder(frames)
    batch = (
        torch.stack([z_BD, z_BD.roll(1, 0)], dim=1),
        z_BD.roll(2, 0),
        torch.randn(3, NUM_PROPRIO, generator=generator),
        torch.rand(3, 2, generator=generator),
        torch.rand(3, 2, 2, generator=generator) - 0.5,
        torch.randn(3, 2, 16, 2, 2, generator=generator),
    )
    together = controllable.planner(*batch)
    for row in range(3):
        assert torch.allclose(controllable.encoder(frames[row : row + 1])[0], z_BD[row], atol=1e-5)
        alone = controllable.planner(*(tensor[row : row + 1] for tensor in batch))
        for whole, single in zip(together, alone, strict=True):
            assert torch.allclose(whole[row], single[0], atol=1e-4)


def test_exported_commands_obey_the_limits(bundle: Bundle) -> None:
    controller, recorded = Controller(bundle, num_threads=1), make_recorded(20, seed=8)
    controller.set_goal(recorded.frames_NYXC[0])
    for frame, proprio in zip(recorded.frames_NYXC, recorded.proprio_NP, strict=True):
        command_KU = controller.step(frame, 100 * proprio).command_KU
        assert (command_KU >= np.array([-1.0, -0.5]) - 1e-6).all()
        assert (command_KU <= np.array([1.0, 1.5]) + 1e-6).all()


@pytest.fixture
def tampering(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Call it with a graph's name: from then on that graph is exported with one matrix off by some hundredths."""

    def tamper(name: str) -> None:
        def export(_: nn.Module, __: object, path: Path) -> None:
            model = onnx.load(bundle.path / path.name)
            if path.name == name:
                matrices = [w for w in model.graph.initializer if len(w.dims) == 2 and w.data_type == 1]
                weights = max(matrices, key=lambda w: math.prod(w.dims))
                values = onnx.numpy_helper.to_array(weights)
                off = np.random.default_rng(0).normal(scale=0.03, size=values.shape).astype(np.float32)
                weights.CopyFrom(onnx.numpy_helper.from_array(values + off, weights.name))
            onnx.save(model, path)

        monkeypatch.setattr(exporting, "export_graph", export)

    return tamper


@pytest.mark.parametrize("name", ["encode.onnx", "plan.onnx"])
def test_graph_that_differs_is_not_written(
    controllable: Controllable, tampering: Callable[[str], None], tmp_path: Path, name: str
) -> None:
    tampering(name)
    with pytest.raises(UserError, match=r"differs from PyTorch by .* more than 0.0001.*No bundle was written"):
        export_bundle(controllable, make_recorded(), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


def test_bundle_before_stays_when_the_next_one_fails(
    controllable: Controllable, tampering: Callable[[str], None], tmp_path: Path
) -> None:
    tampering("neither")
    good = export_bundle(controllable, make_recorded(), tmp_path / "bundle")
    before = (good.path / "controller.json").read_bytes()
    tampering("plan.onnx")
    with pytest.raises(UserError, match="differs"):
        export_bundle(controllable, make_recorded(), tmp_path / "bundle")
    assert (good.path / "controller.json").read_bytes() == before
    assert read_bundle(good.path).spec == good.spec


def test_not_a_number_never_passes() -> None:
    for value in (float("nan"), float("inf"), 1.1e-4):
        with pytest.raises(UserError, match="the exported cost differs"):
            check_parity({"command": 0.0, "cost": value}, 1e-4)


def test_log_of_another_body_is_refused(controllable: Controllable, tmp_path: Path) -> None:
    recorded = make_recorded()
    with pytest.raises(UserError, match=r"proprio have shape \(3,\), tiny has \(4,\)"):
        export_bundle(controllable, replace(recorded, proprio_NP=recorded.proprio_NP[:, :3]), tmp_path / "bundle")
    assert list(tmp_path.iterdir()) == []


NESTED = """<ir_version: 10, opset_import: ["" : 20, "own" : 1]>
graph (float[2] x, bool[1] condition, int64 count) => (float[2] y)
{ y = own.Wrapper(x, condition, count) }
<domain: "own", opset_import: ["" : 20]>
Wrapper (x, condition, count) => (y)
{
  y = If (condition) <
    then_branch = yes () => (float[2] a) {
      a = Loop (count, condition, x) <
        body = turn (int64 i, bool go, float[2] v) => (bool on, float[2] w) { on = Identity(go) w = Neg(v) }
      >
    },
    else_branch = no () => (float[2] b) { b = Neg(x) }
  >
}"""


def test_control_flow_is_found_in_functions_and_nested_graphs() -> None:
    with pytest.raises(UserError, match=r"plan.onnx contains If, Loop\. Unroll"):
        check_unrolled(onnx.parser.parse_model(NESTED), "plan.onnx")
    assert {"Loop", "If", "Scan"} <= CONTROL_FLOW


class Branching(nn.Module):
    """Chooses by value, with a branch that the exporter keeps."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cond(x.sum() > 0, lambda v: v + 1, lambda v: v - 1, (x,))


def test_module_with_a_branch_does_not_export(tmp_path: Path) -> None:
    kind = (np.dtype(np.float32), (2,))
    signature: tuple[Signature, Signature] = ({"x": kind}, {"y": kind})
    with pytest.raises(UserError, match="contains If"):
        export_graph(Branching(), signature, tmp_path / "branch.onnx")


class Untraceable(nn.Module):
    """Depends on the values of its input in Python."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 1 if x.sum() > 0 else x.sort().values


def test_module_that_cannot_be_traced_is_one_line(tmp_path: Path) -> None:
    kind = (np.dtype(np.float32), (2,))
    with pytest.raises(UserError, match="Untraceable does not export") as error:
        export_graph(Untraceable(), ({"x": kind}, {"y": kind}), tmp_path / "none.onnx")
    assert "\n" not in str(error.value)


def test_more_than_a_tenth_of_plans_tipped_by_rounding_fails_the_gate() -> None:
    check_parity({"command": 1e-6, TIPPED: 0.1}, 1e-4)
    with pytest.raises(UserError, match="tipped"):
        check_parity({"command": 1e-6, TIPPED: 0.11}, 1e-4)


@pytest.mark.slow
def test_graphs_of_any_batch_plan_for_each_row(controllable: Controllable, tmp_path: Path) -> None:
    """The export compares both with PyTorch; here they are of the right kind, and one that differs is refused."""
    bundle = export_bundle(controllable, make_recorded(), tmp_path / "bundle", dynamic_batch=True)
    for name in ("encode_batch.onnx", "plan_batch.onnx"):
        model = onnx.load(bundle.path / name)
        check_unrolled(model, name)
        assert name in bundle.spec.files
        assert all(value.type.tensor_type.shape.dim[0].dim_param for value in (*model.graph.input, *model.graph.output))
    model = onnx.load(bundle.path / "encode_batch.onnx")
    kernel = next(w for w in model.graph.initializer if len(w.dims) == 4)
    off = np.random.default_rng(0).normal(scale=0.1, size=tuple(kernel.dims)).astype(np.float32)
    kernel.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(kernel) + off, kernel.name))
    onnx.save(model, bundle.path / "encode_batch.onnx")
    encoder, planner = controllable.encoder, controllable.planner
    with pytest.raises(UserError, match=r"encode_batch\.onnx differs from PyTorch"):
        check_batch(encoder, planner, bundle.spec, bundle.path, make_recorded(), 1e-4)
