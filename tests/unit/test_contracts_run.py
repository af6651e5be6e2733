"""Run folders: found again by what went in, held by one process, whole only with a manifest."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import MANIFEST, artifact, dataset_folder, open_run, read_run
from tests.handmade_bundle import write_bundle

HOLD = """
import sys
from pathlib import Path
from robot_wm.contracts.run import open_run
with open_run(Path(sys.argv[1]), "bake", "loaf", {"seed": 0}) as run:
    run.log(step=1)
    print(run.path, flush=True)
    sys.stdin.read()
"""


@dataclass(frozen=True)
class Config:
    flour: str = ""
    minutes: float = 30.0
    name: str = "loaf"
    out: str = "runs"
    seed: int = 0


def folders(root: Path) -> list[str]:
    return sorted(path.name for path in root.glob("*/*"))


def bake(root: Path, config: Config, text: str = "bread") -> Path:
    """A stage as stages are written."""
    inputs = {"flour": Path(config.flour)} if config.flour else {}
    with open_run(root, "bake", config.name, config, inputs) as run:
        if not run.complete:
            (run.path / "loaf.txt").write_text(text)
            run.finish(["loaf.txt"], metrics={"crumbs": 3}, gates={"risen": True})
        return run.path


def test_manifest_says_what_happened(tmp_path: Path) -> None:
    (tmp_path / "rye").write_text("flour")
    path = bake(tmp_path, Config(str(tmp_path / "rye"), seed=7))
    manifest = read_run(path, "bake")
    assert manifest.outputs["loaf.txt"].sha256 == files.sha256(path / "loaf.txt")
    assert manifest.inputs["flour"].sha256 == files.sha256(tmp_path / "rye")
    assert (manifest.seed, manifest.metrics, manifest.gates) == (7, {"crumbs": 3}, {"risen": True})
    assert manifest.versions["python"].startswith("3.")
    assert artifact(path, "loaf.txt", "bake").read_text() == "bread"


def test_same_work_finds_its_run_wherever_names_differ(tmp_path: Path) -> None:
    (tmp_path / "rye").write_text("flour")
    (tmp_path / "copy").write_text("flour")
    first = bake(tmp_path / "runs", Config(str(tmp_path / "rye")))
    again = Config(str(tmp_path / "copy"), name="other", out="elsewhere")
    before = (first / "config.json").read_bytes()
    assert bake(tmp_path / "runs", again, "never baked") == first
    assert (first / "loaf.txt").read_text() == "bread"
    assert (first / "config.json").read_bytes() == before


@pytest.mark.parametrize("change", ["input", "config", "seed"])
def test_other_work_is_another_run(tmp_path: Path, change: str) -> None:
    (tmp_path / "rye").write_text("flour")
    config = Config(str(tmp_path / "rye"))
    first = bake(tmp_path / "runs", config)
    if change == "input":
        (tmp_path / "rye").write_text("better flour")
    other = {"input": config, "config": replace(config, minutes=31.0), "seed": replace(config, seed=1)}[change]
    assert bake(tmp_path / "runs", other) != first
    assert len(folders(tmp_path / "runs")) == 2


def test_interrupted_run_is_resumed_with_what_it_saved(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), open_run(tmp_path, "bake", "loaf", Config()) as run:
        assert not run.resumed
        run.log(step=1)
        (run.path / "dough").write_text("half")
        raise KeyboardInterrupt
    path = tmp_path / "bake" / folders(tmp_path)[0]
    with (path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 2, "lo')  # what a kill in the middle of a line leaves
    with pytest.raises(UserError, match="not a finished run"):
        read_run(path)
    with open_run(tmp_path, "bake", "loaf", Config()) as resumed:
        assert resumed.path == path
        assert resumed.resumed and not resumed.complete
        assert (resumed.path / "dough").read_text() == "half"
        resumed.log(step=3)
        resumed.finish(["dough"])
    lines = (path / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 3]
    assert folders(tmp_path) == [path.name]


def test_failure_before_anything_was_saved_leaves_nothing(tmp_path: Path) -> None:
    def fail() -> None:
        with open_run(tmp_path, "bake", "loaf", Config()) as run:
            (run.path / "dataset" / "meta").mkdir(parents=True)
            run.log(step=1)
            raise UserError("the oven is cold", "Heat it")

    with pytest.raises(UserError, match="cold"):
        fail()
    assert folders(tmp_path) == []


def test_failure_after_the_end_keeps_the_run(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), open_run(tmp_path, "bake", "loaf", Config()) as run:
        run.finish([])
        raise KeyboardInterrupt
    assert read_run(tmp_path / "bake" / folders(tmp_path)[0]).stage == "bake"


def test_second_process_is_refused_while_the_first_holds_the_folder(tmp_path: Path, repository: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, cwd=repository, stdin=-1, stdout=-1, text=True) as holder:
        try:
            assert holder.stdin and holder.stdout
            held = Path(holder.stdout.readline().strip())
            with (
                pytest.raises(UserError, match=r"another process is writing .*Wait for it"),
                open_run(tmp_path, "bake", "loaf", {"seed": 0}),
            ):
                pass
            assert (held / "metrics.jsonl").is_file(), "the holder's folder is left alone"
            with open_run(tmp_path, "bake", "loaf", {"seed": 1}) as other:
                assert other.path != held
                other.finish([])
        finally:
            holder.kill()
    with open_run(tmp_path, "bake", "loaf", {"seed": 0}) as run:
        assert run.path == held, "a killed process holds nothing"
        assert run.resumed


@pytest.mark.parametrize("damage", ["altered", "truncated", "missing", "added"])
def test_altered_output_is_refused(tmp_path: Path, damage: str) -> None:
    with open_run(tmp_path, "bake", "loaf", Config()) as run:
        (run.path / "set").mkdir()
        (run.path / "set" / "a").write_text("crumb")
        run.finish(["set"])
    file = run.path / "set" / "a"
    match damage:
        case "altered":
            file.write_text("crumB")
        case "truncated":
            file.write_text("cru")
        case "missing":
            file.unlink()
        case "added":
            (run.path / "set" / "b").touch()
    with pytest.raises(UserError, match=r"set is truncated or altered.*Remove .* and run the stage bake again"):
        artifact(run.path, "set", "bake")


def test_what_is_not_the_wanted_run_is_refused(tmp_path: Path) -> None:
    path = bake(tmp_path, Config())
    with pytest.raises(UserError, match=r"is a bake run. Give a fry run"):
        artifact(path, "loaf.txt", "fry")
    with pytest.raises(UserError, match=r"no output 'cake'. It has: loaf.txt"):
        artifact(path, "cake", "bake")
    with pytest.raises(UserError, match="not a finished run"):
        read_run(tmp_path / "nowhere", "bake")


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        ({"schema": 2}, "manifest schema is 2"),
        ({"colour": "red"}, "manifest.json: unknown key 'colour'"),
        ({"wall_s": "long"}, "manifest.json.wall_s is 'long'"),
        ({"outputs": {"loaf.txt": {"path": "loaf.txt"}}}, "outputs.loaf.txt: 'sha256' is missing"),
    ],
)
def test_altered_manifest_is_refused(tmp_path: Path, edit: dict[str, object], words: str) -> None:
    path = bake(tmp_path, Config())
    values = json.loads((path / MANIFEST).read_text())
    (path / MANIFEST).write_text(json.dumps(values | edit))
    with pytest.raises(UserError, match=words):
        read_run(path)


def test_output_outside_the_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "secret").touch()
    with (
        pytest.raises(UserError, match="leaves the folder"),
        open_run(tmp_path / "runs", "bake", "loaf", Config()) as run,
    ):
        run.finish(["../../../secret"])
    assert folders(tmp_path / "runs") == []


@pytest.mark.parametrize("name", ["", "a/b", "..\\x", "x" * 101, "a\nb"])
def test_name_that_is_no_file_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="name is"), open_run(tmp_path / "runs", "bake", name, Config()):
        pass
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize("seed", [-1, 1 << 32])
def test_seed_that_not_every_generator_takes(tmp_path: Path, seed: int) -> None:
    with pytest.raises(UserError, match=f"seed is {seed}"):
        bake(tmp_path / "runs", Config(seed=seed))


def test_missing_input_is_named_before_a_folder_appears(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="nowhere does not exist"):
        bake(tmp_path / "runs", Config("nowhere"))
    assert not (tmp_path / "runs").exists()


def test_dataset_of_a_run_and_dataset_itself(tmp_path: Path) -> None:
    with open_run(tmp_path, "bake", "loaf", Config()) as run:
        (run.path / "dataset").mkdir()
        assert dataset_folder(run.path) == run.path, "an unfinished run is no dataset"
        run.finish(["dataset"])
    assert dataset_folder(run.path) == run.path / "dataset"
    assert dataset_folder(run.path / "dataset") == run.path / "dataset"


def test_manifests_are_read_and_the_runtime_runs_where_there_is_no_fcntl(tmp_path: Path, repository: Path) -> None:
    """Windows has no fcntl; ONNX Runtime has wheels for it."""
    path, bundle = bake(tmp_path, Config()), write_bundle(tmp_path / "bundle")
    script = """
import sys
sys.modules["fcntl"] = None
from pathlib import Path
import deploy.runtime.loop, deploy.runtime.recorder, deploy.runtime.safety
from deploy.runtime.controller import Controller
from robot_wm.contracts.run import read_run
Controller(Path(sys.argv[1]), num_threads=1)
print(read_run(Path(sys.argv[2])).stage)
"""
    command = [sys.executable, "-c", script, str(bundle), str(path)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "bake", done.stderr
