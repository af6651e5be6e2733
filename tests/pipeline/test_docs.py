"""Every command in the documentation exists and composes; those marked `<!-- run -->` are run, at a tiny size.

The others are run by test_docs_run.py (`make docs-run`), or say why nothing runs them.
"""

import ast
import functools
import importlib
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from omegaconf import DictConfig

from deploy import cli, compose
from robot_wm.contracts import config
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.data import video
from tests.documentation import NOT_RUN, REPOSITORY, TESTS, Line, blocks, commands, pages
from tests.reader import desk, tiny
from tests.tiny_pretrained import write_tiny_pretrained

PAGES = {page.relative_to(REPOSITORY).as_posix(): page for page in pages()}
WITH_COMMANDS = [name for name, page in PAGES.items() if any(True for b in blocks(page) for _ in commands(b, {}))]
MARKED = [name for name, page in PAGES.items() if any(block.by == TESTS for block in blocks(page))]
COMPOSE = compose._hydra


@pytest.fixture(scope="module")
def shared_desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return desk(tmp_path_factory.mktemp("reader"))


@pytest.fixture
def reader(shared_desk: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A desk at which nothing is run, so that all pages can share it."""
    monkeypatch.chdir(shared_desk)
    return shared_desk


@pytest.fixture(autouse=True)
def composed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hydra composes each choice of yamls once; what the pages add to it is checked every time."""
    monkeypatch.setattr(compose, "_hydra", lambda stage, overrides: _hydra(stage, tuple(overrides)))


@functools.cache
def _hydra(stage: str, overrides: tuple[str, ...]) -> DictConfig:
    return COMPOSE(stage, list(overrides))


def check(line: Line) -> None:
    """Compose the command's configuration, up to where it would begin to work."""
    if line.words[0] == "make":
        targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
        assert {word for word in line.words[1:] if "=" not in word} <= set(targets), line
        return
    name, rest = cli.command(line.words[1:])
    request = cli.parse(rest)
    assert name in cli.STAGES or name in cli.OTHERS, f"{line.page}: no command {name}"
    if request.help or name in cli.OTHERS:
        return
    if request.words[:1] == ["COMMAND"]:
        return
    overrides = [o for o in cli._overrides(name, request) if not o.startswith("hydra")]
    if request.multirun:  # each job gets one of the values
        overrides = [o.partition("=")[0] + "=" + o.partition("=")[2].split(",")[0] for o in overrides]
    values = compose.compose(name, overrides, request.config_dirs)
    _, kind = cli.load(cli.STAGES[name])
    try:
        from_mapping(kind, values, name)
    except UserError as error:
        if "is missing" not in error.problem or request.overrides:  # a line without any key says what there is
            raise


@pytest.mark.parametrize("page", WITH_COMMANDS)
def test_commands_in_the_documentation_compose(page: str, reader: Path) -> None:
    known: dict[str, str] = {}
    for block in blocks(PAGES[page]):
        for line in commands(block, known):
            try:
                check(line)
            except UserError as error:
                pytest.fail(f"{page}: {' '.join(line.words)}: {error}")


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_run_or_says_why_not(page: str) -> None:
    for block in blocks(PAGES[page]):
        where = f"{page}:{block.line}"
        if block.holds_commands:
            assert block.by, (
                f"{where}: nothing says what runs this block. Put <!-- run --> (the tests), <!-- make docs-run --> or "
                "<!-- not run: WHY --> on the line before it; a block without commands names its language, text for one"
            )
            assert block.note or block.by != NOT_RUN, f"{where}: not run, but why?"
        else:
            assert not block.by, f"{where}: a {block.language} block is not typed into a shell; no mark belongs there"


def test_commands_inside_sentences_exist() -> None:
    for name, page in PAGES.items():
        for found in re.findall(r"`robot-wm ([a-z]+)\b", page.read_text(encoding="utf-8")):
            assert found in cli.STAGES or found in cli.OTHERS, f"{name}: robot-wm {found}"


@pytest.mark.parametrize("name", sorted(cli.STAGES))
def test_example_of_every_command_composes(name: str, reader: Path) -> None:
    check(Line(name, tuple(cli.STAGES[name].example.split()), ""))


def test_python_in_the_documentation_parses_and_its_imports_exist() -> None:
    checked = 0
    for name, page in PAGES.items():
        for block in blocks(page):
            if block.language != "python":
                continue
            for node in ast.walk(ast.parse(block.text, f"{name}:{block.line}")):
                if isinstance(node, ast.ImportFrom) and (node.module or "").partition(".")[0] in (
                    "robot_wm", "sims", "calibration", "deploy",
                ):  # fmt: skip
                    module = importlib.import_module(str(node.module))
                    for alias in node.names:
                        submodule = (
                            importlib.util.find_spec(f"{node.module}.{alias.name}")
                            if hasattr(module, "__path__")
                            else None
                        )
                        assert hasattr(module, alias.name) or submodule, f"{name}: {node.module}.{alias.name}"
                        checked += 1
    assert checked > 10


def test_python_that_stands_alone_runs(reader: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The planner page's sampler plans: it is what a reader copies first."""
    [sampler] = [b for b in blocks(PAGES["docs/howto/planner.md"]) if b.title == "my_sampler.py"]
    (reader / "my_sampler.py").write_text(sampler.text)
    script = (
        "import torch; from my_sampler import Softmax; from robot_wm.planning.samplers import Belief\n"
        "torch.manual_seed(0); s, rest = Softmax(), torch.zeros(1, 2, 3)\n"
        "belief = Belief(rest, torch.full_like(rest, s.initial_std), rest[:, None])\n"
        "for _ in range(12):\n"
        "    plans = s.sample(belief, torch.randn(1, 64, 2, 3))\n"
        "    belief = s.update(belief, plans, (plans - 0.5).square().mean((2, 3)), None)\n"
        "print(float((belief.mean_BHU - 0.5).abs().max()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=120, check=True, cwd=reader,
        env={**os.environ, "PYTHONPATH": os.pathsep.join((str(reader), str(REPOSITORY))), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert float(done.stdout) < 0.25


def run(line: Line, known: dict[str, str], model: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Run a command at a tiny size; what it prints becomes the value of its variable."""
    code = cli.main([*tiny(line.words[1:], model), "--quiet"])
    said = capsys.readouterr()
    assert code == 0, f"{line.page}: {' '.join(line.words)}: {said.err or said.out}"
    if line.variable:
        known[line.variable] = said.out.strip().splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("page", MARKED)
def test_marked_commands_run_in_order(
    page: str, tmp_path: Path, film, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = desk(tmp_path)
    monkeypatch.chdir(reader)
    video.encode(reader / "film.mp4", film(90, 96, 128), 30.0)
    if page == "docs/howto/lerobot.md":
        assert cli.main(["record", "episodes=4", "frames_per_episode=12", "workers=1", "-q"]) == 0
        (reader / "path/to").mkdir(parents=True)
        (reader / "path/to/dataset").symlink_to((reader / capsys.readouterr().out.strip() / "dataset").resolve())
    model = str(write_tiny_pretrained(reader / "tiny"))
    known: dict[str, str] = {}
    for block in blocks(PAGES[page]):
        if block.title:
            (reader / block.title).write_text(block.text)
        if block.by == TESTS:
            text = block.text
            for line in text.splitlines():  # one after the other, so that each variable is set before it is used
                for found in commands(type(block)(**{**block.__dict__, "text": line}), known):
                    run(found, known, model, capsys)


@pytest.mark.slow
def test_site_builds_strictly_and_asks_for_nothing_from_elsewhere(tmp_path: Path) -> None:
    pytest.importorskip("mkdocstrings", reason="mkdocstrings is not installed (the extra dev)")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=240, env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    site = tmp_path / "site"
    for name in cli.STAGES:
        assert (site / "reference" / "commands" / f"{name}.html").is_file()
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert not re.findall(r"<(?:script|img|iframe)[^>]*\ssrc=\"https?:", text), page
        prose = re.sub(
            r"<(pre|code)\b.*?</\1>", "", text[text.find("<article") : text.find("</article")], flags=re.DOTALL
        )
        unread = re.findall(
            r"\|\s*:?-{3,}.{0,40}|\n\s*[-*] \S.{0,40}|```", prose
        )  # tables and lists without a blank line
        assert not unread, (page, unread)
        assert not re.findall(r"<link[^>]*rel=\"(?:stylesheet|preconnect|icon)\"[^>]*href=\"https?:", text), page
    camera = (site / "howto" / "camera.html").read_text(encoding="utf-8")
    assert "▸ run by the tests" in camera and "▹ not run: needs" in camera
    assert "▸ run by make docs-run" in (site / "howto" / "run.html").read_text(encoding="utf-8")
    api = (site / "python" / "api.html").read_text(encoding="utf-8")
    assert "load_pretrained" in api and "CalibratedModel" in api


def test_reference_names_every_key_with_type_and_meaning() -> None:
    from deploy import reference

    for name, stage in cli.STAGES.items():
        _, kind = cli.load(stage)
        found = {entry.name: entry for entry in reference.entries(name, kind)}
        assert all(entry.kind and entry.meaning for entry in found.values()), name
        measured = [entry for entry in found.values() if re.search(r"_(s|ms|hz|rad|m|px)$", entry.name)]
        assert not [entry.name for entry in measured if not entry.unit], name
        page = reference.command(name)
        assert all(f"`{key}`" in page for key in found)
    pages = reference.pages()
    assert {"`safety.max_step`", "`mjcf.path`", "`camera.fovy_deg`"} <= set(
        re.findall(r"`[\w.]+`", pages["reference/embodiment.md"])
    )
    for code in cli.EXIT_CODES:
        assert f"| {code} |" in pages["reference/commands/index.md"]
    assert config.configs_dir().is_dir()
