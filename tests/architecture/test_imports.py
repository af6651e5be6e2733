"""Who may import whom, and how large things may grow."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

PACKAGES = ("robot_wm", "sims", "calibration", "deploy")
NOT_ON_A_ROBOT = (
    "torch",
    "mujoco",
    "hydra",
    "omegaconf",
    "rich",
    "cv2",
    "av",
    "pyarrow",
    "scipy",
    "onnx",
    "matplotlib",
)
MAX_FILE_LINES, MAX_FUNCTION_LINES = 330, 70  # the rule is about 300 and about 60


def sources(repository: Path) -> Iterator[tuple[Path, str]]:
    for package in PACKAGES:
        for path in sorted((repository / package).rglob("*.py")):
            yield path.relative_to(repository), path.read_text(encoding="utf-8")


@pytest.mark.slow
def test_import_contracts_hold(repository: Path) -> None:
    tool = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([tool, "--no-cache"], cwd=repository, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hydra_is_seen_by_the_command_line_only(repository: Path) -> None:
    users = {str(path) for path, text in sources(repository) if {"hydra", "omegaconf"} & imported(text)}
    assert users == {"deploy/compose.py"}


@pytest.mark.parametrize("package", ["robot_wm.contracts", "deploy.runtime", "deploy.cli", "deploy.lineage"])
def test_robot_side_imports_without_what_a_robot_lacks(repository: Path, package: str) -> None:
    """A fresh interpreter in which everything beyond numpy and onnxruntime cannot be imported."""
    code = (
        "import sys, importlib, pkgutil\n"
        f"for name in {NOT_ON_A_ROBOT!r}: sys.modules[name] = None\n"
        f"top = importlib.import_module({package!r})\n"
        "for found in pkgutil.walk_packages(getattr(top, '__path__', []), top.__name__ + '.'):\n"
        "    importlib.import_module(found.name)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_nothing_is_unpickled_or_evaluated(repository: Path) -> None:
    forbidden = {"pickle", "cloudpickle", "dill", "joblib", "marshal", "shelve"}
    assert [str(path) for path, text in sources(repository) if forbidden & imported(text)] == []
    assert [str(path) for path, text in sources(repository) if {"eval", "exec"} & called(text)] == []


def test_files_and_functions_stay_small(repository: Path) -> None:
    long = [f"{path}: {n} lines" for path, text in sources(repository) if (n := text.count("\n")) > MAX_FILE_LINES]
    for path, text in sources(repository):
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef) and (n := node.end_lineno - node.lineno + 1) > MAX_FUNCTION_LINES:
                long.append(f"{path}: {node.name} has {n} lines")
    assert long == []


def test_no_catch_all_modules(repository: Path) -> None:
    banned = ("util", "utils", "helper", "helpers", "manager", "common", "misc")
    assert [str(path) for path, _ in sources(repository) if path.stem in banned] == []


def imported(text: str) -> set[str]:
    """Top-level packages that a module imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
    return found


def called(text: str) -> set[str]:
    """Names that a module calls as plain functions."""
    calls = (node.func for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Call))
    return {function.id for function in calls if isinstance(function, ast.Name)}
