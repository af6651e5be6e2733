"""What every command shares at the terminal: quiet, JSON and colourless modes, exit codes, completion, the doctor."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from deploy import cli, completion, doctor
from deploy.request import PARTS
from robot_wm import console
from robot_wm.contracts.run import open_run

SHELLS = {"bash": ["-n"], "zsh": ["-n"], "fish": ["--no-execute"]}


@pytest.fixture
def chatty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """`calibrate board` replaced by a stage that talks and leaves a run."""
    monkeypatch.chdir(tmp_path)

    def talk(_: object) -> Path:
        console.say("a line")
        console.table("title", ["a"], [["b"]])
        for _ in console.track(range(3), "counting"):
            pass
        with open_run(Path("runs"), "talk", "talk", {"seed": 0}) as run:
            (run.path / "said.txt").write_text("hello")
            run.finish(["said.txt"], metrics={"words": 1})
        return run.path

    config_class = cli.load(cli.STAGES["board"])[1]
    monkeypatch.setattr(cli, "load", lambda _: (talk, config_class))
    return tmp_path


def test_quiet_shows_only_the_result(chatty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "board"]) == 0
    assert "a line" in capsys.readouterr().err
    assert cli.main(["calibrate", "board", "--quiet"]) == 0
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.startswith("runs/talk/")
    assert cli.main(["calibrate", "board", "-q", "colour=red"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_units_in_the_head_of_a_table_are_shown(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("how far", ("joint", "off [cm]"), [("elbow [left]", "1.2")])
    shown = capsys.readouterr().err
    assert "off [cm]" in shown and "elbow [left]" in shown


def test_json_is_one_object_also_when_refused(chatty: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["calibrate", "board", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["command"] == "calibrate board"
    assert told["metrics"] == {"words": 1}
    assert (Path(told["path"]) / next(iter(told["outputs"]))).read_text() == "hello"
    assert cli.main(["calibrate", "board", "--json", "colour=red"]) == 2
    refused = json.loads(capsys.readouterr().out)["error"]
    assert "'colour'" in refused["problem"]
    assert "Valid keys" in refused["remedy"]


@pytest.mark.parametrize("how", ["option", "variable"])
def test_no_colour_leaves_no_escape_codes_for_colours(tmp_path: Path, how: str) -> None:
    """In a terminal of its own (FORCE_COLOR makes rich believe in one), a table has colours only where wanted."""
    script = (
        "import sys; from deploy import cli; from robot_wm import console; from rich.text import Text\n"
        "request = cli.parse(sys.argv[1:])\n"
        "with cli._shown(request): console._console.print(Text('red', style='red'))\n"
    )
    environment = {**os.environ, "FORCE_COLOR": "1", "TERM": "xterm-256color"}
    environment.pop("NO_COLOR", None)

    def run(*arguments: str, **more: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", script, *arguments], env=environment | more, capture_output=True, text=True,
            timeout=60, check=True,
        )  # fmt: skip
        return done.stderr

    assert "\x1b[31m" in run()
    assert "\x1b[31m" not in (run("--no-color") if how == "option" else run(NO_COLOR="1"))


def test_exit_codes_are_in_the_overview(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for code, means in cli.EXIT_CODES.items():
        assert f"  {code} " in shown
        assert means in shown


@pytest.mark.parametrize("name", sorted(cli.OTHERS))
def test_commands_without_a_config_explain_themselves(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    assert cli.OTHERS[name] in capsys.readouterr().out
    assert cli.main([name, "too", "many"]) == 2


def complete(line: str, folder: Path) -> list[str]:
    """What bash would offer after `line`, in `folder`."""
    script = folder / "completion.bash"
    script.write_text(completion.script("bash", cli.STAGES, cli.OTHERS))
    words = line.replace("=", " = ").split(" ") if line.endswith("=") or "=" in line.split(" ")[-1] else line.split(" ")
    ask = (
        f'source {script}; COMP_LINE="$1"; COMP_POINT=${{#1}}; COMP_WORDS=("${{@:2}}"); COMP_CWORD=$(($# - 2)); '
        '_robot_wm; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "--norc", "-c", ask, "bash", line, *words], capture_output=True, text=True, timeout=30, cwd=folder,
        stdin=subprocess.DEVNULL,
    )  # fmt: skip
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
def test_bash_completes_commands_keys_choices_and_files(tmp_path: Path) -> None:
    (tmp_path / "kitchen.mp4").touch()
    assert complete("robot-wm cal", tmp_path) == ["calibrate"]
    assert set(complete("robot-wm ", tmp_path)) == {*cli.STAGES, *cli.OTHERS} - {*PARTS}
    assert complete("robot-wm calibrate emb", tmp_path) == ["embodiment="]
    assert complete("robot-wm calibrate pl", tmp_path) == ["plan"]
    assert complete("robot-wm calibrate plan mo", tmp_path)[0] == "motion.duration_s="
    assert complete("robot-wm calibrate plan embodiment=pan", tmp_path) == ["panda"]
    assert "fit.steps=" in complete("robot-wm calibrate embodiment=fetch fit.", tmp_path)
    assert complete("robot-wm calibrate embodiment=pan", tmp_path) == ["panda"]
    assert complete("robot-wm ingest data=kit", tmp_path) == ["kitchen.mp4"]
    assert complete("robot-wm inspect kit", tmp_path) == ["kitchen.mp4"]
    assert complete("robot-wm export --q", tmp_path) == ["--quiet"]


@pytest.mark.parametrize("shell", SHELLS)
def test_completion_names_every_command_and_its_shell_can_read_it(shell: str, tmp_path: Path) -> None:
    text = completion.script(shell, cli.STAGES, cli.OTHERS)
    assert all(name in text for name in (*cli.STAGES, *cli.OTHERS))
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} here to read the script")
    (tmp_path / "script").write_text(text)
    done = subprocess.run([shell, *SHELLS[shell], tmp_path / "script"], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr


def test_another_shell_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", "tcsh"]) == 2
    assert "bash, zsh, fish" in capsys.readouterr().err


def test_doctor_finds_this_machine_in_order_and_says_so_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor", "--json"]) == 0, capsys.readouterr().out
    checks = {check["name"]: check for check in json.loads(capsys.readouterr().out)["checks"]}
    assert {"python", "rendering", "H.264", "AV1", "ONNX Runtime CPU", "GPU", "disk"} <= checks.keys()
    assert all(check["advice"] for check in checks.values() if check["state"] == "wrong")


def test_doctor_ends_with_1_and_says_what_to_do(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**9))
    monkeypatch.setattr(doctor, "_LOOKS", (doctor._disk, doctor._python))
    assert cli.main(["doctor"]) == 1
    shown = capsys.readouterr().out
    assert "WRONG  disk" in shown
    assert "→ runs/ and .cache/ grow" in shown


def test_doctor_needs_nothing_but_the_bare_package() -> None:
    """In an interpreter where the extras cannot be imported, it still answers."""
    script = (
        "import sys\n"
        "for name in ('torch', 'mujoco', 'cv2', 'av', 'hydra', 'omegaconf', 'rich', 'pyarrow', 'yaml', 'scipy'):\n"
        "    sys.modules[name] = None\n"
        "import importlib.util as util; find = util.find_spec\n"
        "util.find_spec = lambda name, *more: None if sys.modules.get(name, 0) is None else find(name, *more)\n"
        "from deploy import cli; sys.exit(cli.main(['doctor']))\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "no MuJoCo here" in done.stdout
    assert "ONNX Runtime CPU" in done.stdout
