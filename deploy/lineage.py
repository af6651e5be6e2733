"""Where a run came from: the manifests followed back to the videos, every SHA-256 computed again."""

import contextlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

from robot_wm.contracts import bundle, files, run
from robot_wm.contracts.errors import UserError

_DIGITS = 12
Digest = Callable[[Path], str]


@dataclass(frozen=True)
class Node:
    """One run or one input that no run wrote.

    Attributes:
        role: the name under which the run above took it; empty at the root.
        path: where it is, or where it was.
        stage: the stage that wrote it; empty for a file or folder that came from outside.
        sha256: the digest that the run above recorded; the manifest's own at the root.
        problems: what is missing or altered, in words; empty when everything was verified.
        parents: what it was made from.
    """

    role: str
    path: Path
    stage: str
    sha256: str
    problems: tuple[str, ...] = ()
    parents: tuple["Node", ...] = field(default=())

    def walk(self) -> Iterator["Node"]:
        """This node and everything before it."""
        yield self
        for parent in self.parents:
            yield from parent.walk()


def show(path: Path, as_json: bool = False) -> int:
    """Print the tree of `path` (a run, or the bundle inside one); returns 0, or 1 when something is not as recorded.

    Raises:
        UserError: no run there.
    """
    with _counted() as digest:
        root = trace(path, digest)
    problems = sum(len(node.problems) for node in root.walk())
    if as_json:
        print(json.dumps(asdict(root), indent=2, default=str))
        return int(problems > 0)
    print("\n".join(lines(root)))
    print("every SHA-256 is as recorded" if not problems else f"{problems} missing or altered")
    return int(problems > 0)


@contextlib.contextmanager
def _counted() -> Iterator[Digest]:
    """`files.fingerprint`, with a progress bar where the package is installed that draws it."""
    try:
        from robot_wm import console
    except ImportError:
        yield files.fingerprint
        return
    with console.progress("lineage", None) as bar:

        def digest(path: Path) -> str:
            bar.advance(note=path.name)
            return files.fingerprint(path)

        yield digest


def trace(path: Path, digest: Digest = files.fingerprint) -> Node:
    """The tree of a finished run; `digest` computes every SHA-256.

    Raises:
        UserError: `path` is neither a finished run nor inside one.
    """
    folder = path if (path / run.MANIFEST).is_file() else path.resolve().parent
    if not (folder / run.MANIFEST).is_file():
        if (path / bundle.SPEC_FILE).is_file():
            known = bundle.read_bundle(path).spec.lineage
            made_from = ", ".join(f"{stage} {sha256[:_DIGITS]}" for stage, sha256 in known.items())
            raise UserError(f"{path} is a bundle without its run (made from {made_from})", "Give the export run itself")
        raise UserError(f"{path} is not a finished run (no {run.MANIFEST})", "Give a folder such as runs/export/RUN")
    return _run_node("", folder, files.sha256(folder / run.MANIFEST), (), digest)


def lines(node: Node, prefix: str = "", branch: str = "", shown: set[str] | None = None) -> list[str]:
    """The tree as text; a run that several others used is expanded once."""
    shown = set() if shown is None else shown
    role = f"{node.role}: " if node.role else ""
    again = node.sha256 in shown and bool(node.parents)
    state = "  (see above)" if again else "".join(f"  ← {problem.upper()}" for problem in node.problems) or "  ✓"
    text = [f"{prefix}{branch}{role}{node.stage or 'from outside'} {node.path} {node.sha256[:_DIGITS]}{state}"]
    if again:
        return text
    shown.add(node.sha256)
    below = prefix + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch]
    for i, parent in enumerate(node.parents):
        text += lines(parent, below, "└─ " if i == len(node.parents) - 1 else "├─ ", shown)
    return text


def locate(path: Path, user: Path) -> Path | None:
    """An input of the run `user` as it was named, or in the same tree of runs when that was moved; None if missing."""
    runs = user.resolve().parents[1]
    return next((p for p in (path, runs.parent / path, runs / Path(*path.parts[-2:])) if p.exists()), None)


def _run_node(role: str, folder: Path, sha256: str, problems: tuple[str, ...], digest: Digest) -> Node:
    try:
        manifest = run.read_run(folder)
    except UserError as error:
        return Node(role, folder, "", sha256, (*problems, error.problem))
    wrong = (_check(folder, name, output.sha256, digest) for name, output in manifest.outputs.items())
    broken = [problem for problem in wrong if problem]
    parents = tuple(_input_node(name, item, folder, digest) for name, item in manifest.inputs.items())
    return Node(role, folder, manifest.stage, sha256, (*problems, *broken), parents)


def _input_node(role: str, item: run.Artifact, user: Path, digest: Digest) -> Node:
    path = locate(Path(item.path), user)
    if path is None:
        return Node(role, Path(item.path), "", item.sha256, ("missing",))
    problems = () if digest(path) == item.sha256 else ("altered",)
    writer = next((p for p in (path, *path.parents[:2]) if (p / run.MANIFEST).is_file()), None)
    if writer is None:
        return Node(role, path, "", item.sha256, problems)
    return _run_node(role, writer, item.sha256, problems, digest)


def _check(folder: Path, name: str, sha256: str, digest: Digest) -> str | None:
    path = files.confine(folder, name)
    if not path.exists():
        return f"{name} missing"
    return None if digest(path) == sha256 else f"{name} altered"
