"""A finished fp32 bundle in another precision, written only if it controls as well."""

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from deploy.export.export import publish
from deploy.export.gate import check_closed_loop
from deploy.export.precision import Precision, convert
from robot_wm.contracts import config, files
from robot_wm.contracts.bundle import SPEC_FILE, Bundle, read_bundle

Judge = Callable[[dict[str, Bundle]], dict[str, int]]


def export_variant(source: Bundle, path: Path, precision: Precision, judge: Judge, pairs: int) -> Bundle:
    """Convert every graph of `source`, let both bundles try the same goals, and only then let the new one appear.

    Args:
        source: a bundle in fp32.
        path: folder of the new one; one that exists is replaced.
        precision: of the new one.
        judge: bundles by name to how many of `pairs` validation goals each reaches.
        pairs: how many goals.

    Raises:
        UserError: a tool is missing, or the new bundle reaches fewer goals than fp32's interval allows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    try:
        building.chmod(0o755)
        for name in source.spec.files:
            convert(source.path / name, building / name, precision)
        hashes = {name: files.sha256(building / name) for name in source.spec.files}
        spec = replace(source.spec, files=hashes, parity={}, precision=precision)
        files.write_json(building / SPEC_FILE, config.to_mapping(spec))
        reached = judge({"fp32": source, precision: read_bundle(building)})
        check_closed_loop(reached, pairs)
        shares = {name: count / pairs for name, count in reached.items()}
        files.write_json(building / SPEC_FILE, config.to_mapping(replace(spec, closed_loop=shares)))
        publish(building, path)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise
    return read_bundle(path)
