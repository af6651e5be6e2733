"""The command line: what it accepts, what it prints, and how it refuses."""

import errno
import subprocess
import sys
import typing
from dataclasses import dataclass
from pathlib import Path

import pytest

from deploy import cli, command_help, compose
from deploy.request import PARTS
from robot_wm.contracts import config

YAML = """\
# Bakes bread
# from flour.
defaults:
  - /embodiment: toaster # the oven
  - _self_

name: loaf # of the run
out: runs # where runs go
seed: 0 # of all chance
flour: [rye, wheat] # kinds, in order
minutes: 30.5 # in the oven [min]
dough: ??? # path
crust:
  colour: brown # "light" or "brown"
"""


@dataclass(frozen=True)
class Crust:
    colour: str = "brown"
    salt: int = 1


@dataclass(frozen=True)
class Mjcf:
    path: str


@dataclass(frozen=True)
class Oven:
    name: str
    mjcf: Mjcf | None = None


@dataclass(frozen=True)
class BakeConfig:
    name: str
    out: str
    dough: str
    embodiment: Oven
    crust: Crust
    flour: tuple[str, ...] = ()
    minutes: float = 1.0
    seed: int = 0


PLACEHOLDERS = {str: "x", tuple[str, ...]: ("x",)}
baked: list[BakeConfig] = []


def bake(config: BakeConfig) -> Path:
    baked.append(config)
    if config.dough == "full":
        raise OSError(errno.ENOSPC, "No space left on device", "bread.bin")
    if config.dough == "interrupt":
        raise KeyboardInterrupt
    return Path(config.out) / "bake"


@pytest.fixture
def bakery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command `bake` with shipped configs of its own."""
    for folder in ("stage", "embodiment"):
        (tmp_path / "configs" / folder).mkdir(parents=True)
    (tmp_path / "configs" / "stage" / "bake.yaml").write_text(YAML)
    (tmp_path / "configs" / "embodiment" / "toaster.yaml").write_text("name: toaster\n")
    monkeypatch.setattr(command_help, "configs_dir", lambda: tmp_path / "configs")
    monkeypatch.setitem(sys.modules, "bakery", sys.modules[__name__])
    monkeypatch.setitem(cli.STAGES, "bake", cli.Stage("bakery", "bake", "BakeConfig", "Bread", "robot-wm bake dough=x"))
    monkeypatch.chdir(tmp_path)
    baked.clear()
    return tmp_path


def test_stage_gets_yaml_values_with_overrides_and_prints_its_run(
    bakery: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["bake", "dough=d.bin", "seed=3", "crust.salt=2", "flour=[spelt]"]) == 0
    assert baked == [
        BakeConfig("loaf", "runs", "d.bin", Oven("toaster"), Crust("brown", 2), ("spelt",), minutes=30.5, seed=3)
    ]
    assert capsys.readouterr().out == "runs/bake\n"


@pytest.mark.parametrize("path", ["/a b/c(1).mp4", "x,y.mp4", "a=b.mp4", "ünï/🙂.mp4", "100%", "C:\\video", "-"])
def test_any_path_is_a_value(bakery: Path, path: str) -> None:
    assert cli.main(["bake", f"dough={path}"]) == 0
    assert baked[0].dough == path


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["bake", "dough=d", "sed=1"], ["'sed'", "seed", "flour"]),
        (["bake", "dough=d", "crust.sugar=1"], ["'sugar'", "colour, salt"]),
        (["bake"], ["'dough' is missing"]),
        (["bake", "dough=d", "seed=soon"], ["seed", "'soon'", "int"]),
        (["bake", "dough=d", "flour=rye"], ["flour", "Give a list"]),
        (["bake", "dough"], ["'dough'", "key=value"]),
        (["bake", "=d"], ["'=d'", "key=value"]),
        (["bake", "--fast"], ["'--fast'", "--config-dir"]),
        (["bake", "--config-dir", "nowhere"], ["'nowhere'", "not a folder"]),
        (["bake", "dough=d", "embodiment=kettle"], ["'kettle'", "toaster", "--config-dir"]),
        (["bake", "dough=${oc.env:HOME}"], ["resolver", "oc.env"]),
        (["bake", "dough=${nothing}"], ["config of bake", "nothing"]),
        (["bake", "dough=d", "hydra.run.dir=x"], ["'hydra'"]),
        (["bake", "dough=d", "seed.x=1"], ["seed"]),
        (["bakee"], ["'bakee'", "record", "lineage"]),
    ],
)
def test_mistake_is_one_line_and_exit_code_2(
    bakery: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    for word in words:
        assert word in captured.err
    assert not baked


def test_reference_to_another_key_is_followed(bakery: Path) -> None:
    assert cli.main(["bake", "dough=${name}.bin"]) == 0
    assert baked[0].dough == "loaf.bin"


def test_own_folder_adds_choices_and_anchors_the_mjcf(bakery: Path) -> None:
    mine = bakery / "mine" / "embodiment"
    mine.mkdir(parents=True)
    (mine / "kiln.yaml").write_text("name: kiln\nmjcf:\n  path: kiln.xml\n")
    (mine / "kiln.xml").write_text("<mujoco/>")
    assert cli.main(["bake", "dough=d", "embodiment=kiln", "--config-dir", "mine"]) == 0
    assert baked[0].embodiment == Oven("kiln", Mjcf("mine/embodiment/kiln.xml"))


def test_own_config_may_not_shadow_a_shipped_one(bakery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bakery / "mine" / "embodiment").mkdir(parents=True)
    (bakery / "mine" / "embodiment" / "toaster.yaml").write_text("name: other\n")
    assert cli.main(["bake", "dough=d", "--config-dir=mine"]) == 2
    assert "Rename it" in capsys.readouterr().err


def test_broken_yaml_of_the_user_is_refused(bakery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bakery / "mine" / "embodiment").mkdir(parents=True)
    (bakery / "mine" / "embodiment" / "kiln.yaml").write_text("name: [kiln\n")
    assert cli.main(["bake", "dough=d", "embodiment=kiln", "--config-dir=mine"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: mine/embodiment/kiln.yaml cannot be read")
    assert "line 2" in error


def test_full_disk_and_interruption(bakery: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bake", "dough=full"]) == 2
    assert capsys.readouterr().err.startswith("error: disk full while writing bread.bin")
    assert cli.main(["bake", "dough=interrupt"]) == 130
    assert "run the same command again to resume" in capsys.readouterr().err


def test_help_of_a_stage_names_every_key_with_default_and_comment(
    bakery: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    assert cli.main(["bake", "--help"]) == 0
    shown = capsys.readouterr().out
    for expected in (
        "Bakes bread from flour.", "embodiment=toaster", "the oven. One of: toaster", "minutes=30.5",
        "in the oven [min]", "dough=???", "crust.colour=brown", "example: robot-wm bake dough=x",
    ):  # fmt: skip
        assert expected in shown
    assert max(map(len, shown.splitlines())) <= 100
    assert not baked


def test_output_that_nobody_reads_any_more_is_no_mistake() -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "deploy", "--help"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        child.stdout.close()  # as `head` does when it has seen enough
        try:
            assert (child.wait(timeout=60), child.stderr.read() if child.stderr else "") == (0, "")
        finally:
            child.kill()


def test_overview_and_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name in ("record", "ingest", "pretrain", "label", "calibrate", "export", "run", "evaluate", "demo", "lineage"):
        assert name in shown
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("robot-wm 0.")


def test_bare_install_says_what_to_install(
    bakery: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import deploy

    monkeypatch.delitem(sys.modules, "deploy.compose")
    monkeypatch.delattr(deploy, "compose")
    monkeypatch.setitem(sys.modules, "hydra", None)
    assert cli.main(["bake", "dough=d"]) == 2
    assert "pip install 'robot-wm[train]'" in capsys.readouterr().err


@pytest.mark.parametrize("part", PARTS)
def test_a_part_of_calibrate_is_typed_after_it(part: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", part, "--help"]) == 0
    assert capsys.readouterr().out.startswith(f"usage: robot-wm calibrate {part} ")
    assert cli.main([part]) == 2
    assert f"Type robot-wm calibrate {part}." in capsys.readouterr().err
    assert cli.main(["calibrate", "--help"]) == 0
    assert f"robot-wm calibrate {part}" in capsys.readouterr().out


def test_bench_takes_its_name_as_a_word() -> None:
    request = cli.parse(["parity", "size=quick", "--json"])
    assert cli._overrides("bench", request) == ["size=quick", "benchmark=parity", "json=true"]


@pytest.mark.parametrize("name", sorted(set(cli.STAGES)))
def test_shipped_stage_is_composed_documented_and_matches_its_dataclass(name: str) -> None:
    """Every key of a stage's yaml exists in its dataclass and is explained; the function is where STAGES says."""
    values = compose.compose(name, [])
    function, config_class = cli.load(cli.STAGES[name])
    assert callable(function)
    kinds = typing.get_type_hints(config_class)
    given_by_the_user = {key: PLACEHOLDERS[kind] for key, kind in kinds.items() if kind in PLACEHOLDERS}
    assert isinstance(config.from_mapping(config_class, {**given_by_the_user, **values}, name), config_class)
    text = (command_help.configs_dir() / "stage" / f"{name}.yaml").read_text(encoding="utf-8")
    assert [key.name for key in command_help.read_keys(text) if not key.comment] == []
