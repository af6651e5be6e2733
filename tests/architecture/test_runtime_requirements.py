"""What is installed on a robot is pinned, to the versions that are tested, and cannot be exchanged on the way."""

import re
import tomllib
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ENTRY = re.compile(
    r"^(?P<name>[\w.-]+)==(?P<version>[\w.]+)[^\\\n]*\\\n(?P<hashes>(?:\s+--hash=sha256:[0-9a-f]{64}.*\n)+)", re.M
)


def pinned(repository: Path) -> dict[str, str]:
    """Name to version of every requirement that has a hash."""
    text = (repository / "requirements-runtime.txt").read_text(encoding="utf-8")
    named = {canonicalize_name(line.split("==")[0]) for line in text.splitlines() if line[:1].isalnum()}
    found = {canonicalize_name(m["name"]): m["version"] for m in ENTRY.finditer(text)}
    assert set(found) == named, "everything has a version and hashes"
    return found


def test_pins_are_what_the_package_asks_for(repository: Path) -> None:
    found = pinned(repository)
    project = tomllib.loads((repository / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for text in project["dependencies"]:
        wanted = Requirement(text)
        version = found[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(version), f"{text}, but {version} is pinned"


def test_pins_are_what_is_tested(repository: Path) -> None:
    """Where constraints.txt names a package of the runtime, it names the same version."""
    found = pinned(repository)
    for line in (repository / "constraints.txt").read_text(encoding="utf-8").splitlines():
        text = line.partition("#")[0].strip()
        if text:
            wanted = Requirement(text)
            version = found.get(canonicalize_name(wanted.name))
            assert version is None or wanted.specifier.contains(version), f"{text}, but {version} is pinned"
