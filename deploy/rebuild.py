"""A run made again from its manifest, and compared with what it was, bit for bit."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from deploy import cli
from deploy.lineage import locate
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.config import from_mapping
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import Manifest, read_run, versions


@dataclass(frozen=True)
class RebuildConfig:
    """Configuration of `robot-wm rebuild`.

    Attributes:
        run: a finished run of any stage; its manifest says everything else.
        out: where it is made again; a cache of decoded frames is made anew there as well.
    """

    run: str
    out: str = "rebuilt"


def rebuild(config: RebuildConfig) -> Path:
    """Make the run again; returns the new run folder if every output has the SHA-256 that the manifest names.

    Raises:
        UserError: an input is missing or altered, or outputs came out otherwise (the new run stays, to be compared).
    """
    made = Path(config.run)
    manifest = read_run(made)
    if manifest.stage not in cli.STAGES:
        raise UserError(
            f"{made} is of the stage {manifest.stage!r}, which is not known", "Rebuild it where it was made"
        )
    if Path(config.out).resolve() == made.resolve().parents[1]:
        raise UserError(f"out is {config.out}, where {made} itself lies", "Give another folder, such as out=rebuilt")
    places = {item.path: str(_input(name, item.path, item.sha256, made)) for name, item in manifest.inputs.items()}
    values = _moved(manifest.config, places) | {"out": config.out}
    if "cache" in values:
        values["cache"] = str(Path(config.out) / "cache")
    function, config_class = cli.load(cli.STAGES[manifest.stage])
    again = function(from_mapping(config_class, values, f"config of {made}"))
    if again is None:
        raise UserError(f"{manifest.stage} leaves no run", "There is nothing to compare")
    _compare(manifest, made, again)
    return again


def _input(name: str, path: str, sha256: str, made: Path) -> Path:
    found = locate(Path(path), made)
    if found is None:
        raise UserError(f"the input {name} of {made} is missing ({path})", "Restore it, or rebuild it first")
    if files.fingerprint(found) != sha256:
        raise UserError(f"the input {name} of {made} was altered since ({found})", "Restore it, or rebuild it first")
    return found


def _moved(value: Any, places: dict[str, str]) -> Any:
    """The config with every input named where it lies now."""
    if isinstance(value, dict):
        return {key: _moved(item, places) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, places) for item in value]
    return places.get(value, value) if isinstance(value, str) else value


def _compare(manifest: Manifest, made: Path, again: Path) -> None:
    """Show each output; raise UserError when one differs."""
    found = {name: item.sha256 for name, item in read_run(again).outputs.items()}
    wanted = {name: item.sha256 for name, item in manifest.outputs.items()}
    names = sorted({*found, *wanted})
    differ = [name for name in names if found.get(name) != wanted.get(name)]
    parts = {name: _parts(made / name, again / name) if name in differ else "the same" for name in names}
    console.table(f"{manifest.stage}, made again", ("output", "bit for bit"), list(parts.items()))
    if differ:
        now = versions()
        other = [f"{k} {v}, now {now.get(k, 'none')}" for k, v in manifest.versions.items() if now.get(k) != v]
        raise UserError(
            f"{len(differ)} of {len(names)} outputs of {made} came out otherwise: {', '.join(differ)}",
            f"Compare them with {again}" + (f"; it was made with {'; '.join(other)}" if other else ""),
        )


def _parts(before: Path, after: Path) -> str:
    """Which files of an output differ."""
    if not (before.is_dir() and after.is_dir()):
        return "differs"
    hashes = [
        {p.relative_to(root).as_posix(): files.sha256(p) for p in root.rglob("*") if p.is_file()}
        for root in (before, after)
    ]
    differ = sorted(name for name in {*hashes[0], *hashes[1]} if hashes[0].get(name) != hashes[1].get(name))
    return f"{len(differ)} files differ: {', '.join(differ[:3])}" + (", …" if len(differ) > 3 else "")
