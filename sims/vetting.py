"""A model file before MuJoCo reads it: what it opens lies where it may, and what it asks for fits into memory.

MuJoCo runs no code from a model file (plugins are those that are installed), but it opens any file that is named in
one, and builds what it is told to: a line can ask for 10⁹ bodies.
"""

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from robot_wm.contracts import limits
from robot_wm.contracts.errors import UserError

_BYTES = 1 << 26  # of one XML file
_COPIES = 100_000  # that replicate, flexcomp and composite may make in all
_NUMBER = 1_000_000  # any entry of `size`
_MEMORY = 1 << 32  # that a model sets aside for its data
_UNITS = {"K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_COUNTS = {"count", "nrow", "ncol", "width", "height", "offwidth", "offheight", "actdim", "nsample", "gridsize"}
_DEPTH = 20  # of files that include each other


def vet(path: Path, root: Path | None = None) -> None:
    """Check a MJCF or URDF and the files that it includes.

    Args:
        path: the model file.
        root: the folder that everything must lie in; None: the model's own, or the current one if the model is in it.

    Raises:
        UserError: it includes itself, names a file outside `root` (by `..`, an absolute path or a link), or asks for
            more than any robot needs. Broken XML is left to MuJoCo, whose message names the line.
    """
    here, folder = Path.cwd().resolve(), path.resolve().parent
    allowed = (root or (here if folder.is_relative_to(here) else folder)).resolve()
    trees = dict(_trees(path, allowed, folder, ()))
    bases = {folder, *(base for tree in trees.values() for base in _asset_folders(tree, folder))}
    for file, tree in trees.items():
        _refuse_copies(tree, file)
        for element in tree.iter():
            _refuse_sizes(file, element)
            for named in _files(element):
                for base in bases:
                    _confined(file, base, named, allowed)


def _trees(
    path: Path, allowed: Path, folder: Path, above: tuple[Path, ...]
) -> Iterator[tuple[Path, ElementTree.Element]]:
    """The XML of a file and of all that it includes."""
    if path.resolve() in above or len(above) > _DEPTH:
        raise UserError(f"{path} includes itself", "Mend the model file")
    limits.refuse_over(f"the size of {path} in bytes", path.stat().st_size, _BYTES)
    try:
        tree = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError):
        return
    yield path, tree
    for element in tree.iter("include"):
        for base in {folder, path.resolve().parent}:
            place = _confined(path, base, element.get("file", ""), allowed)
            if place.is_file():
                yield from _trees(place, allowed, folder, (*above, path.resolve()))


def _confined(path: Path, base: Path, named: str, allowed: Path) -> Path:
    place = (base / named).resolve()
    if not place.is_relative_to(allowed):
        raise UserError(
            f"{path} names {named!r}, which lies outside {allowed}",
            "Put the model and its meshes into one folder, and start from it or from one above it",
        )
    return place


def _files(element: ElementTree.Element) -> Iterator[str]:
    """What an element has MuJoCo open."""
    for name, value in element.attrib.items():
        if name.startswith("file") or (name == "filename" and element.tag in ("mesh", "texture")):
            yield value.removeprefix("package://").removeprefix("file://")


def _asset_folders(tree: ElementTree.Element, folder: Path) -> list[Path]:
    """Where a relative name may lead: the model's folder, and those that its compiler element adds."""
    names = ("assetdir", "meshdir", "texturedir")
    added = [item.get(name, "") for item in tree.iter("compiler") for name in names]
    return [folder, *(folder / name for name in added if name)]


def _refuse_copies(tree: ElementTree.Element, path: Path) -> None:
    """Count what nested `replicate`, `flexcomp` and `composite` make together, before it is made."""

    def copies(element: ElementTree.Element, factor: int) -> int:
        if element.tag in ("replicate", "flexcomp", "composite"):
            for word in element.get("count", "1").split():
                factor *= max(1, _whole(word))
        limits.refuse_over(f"the number of copies in {path}", factor, _COPIES)
        own = factor if element.tag in ("geom", "body", "site", "flexcomp", "composite") else 0
        return own + sum(copies(child, factor) for child in element)

    try:
        limits.refuse_over(f"the number of parts in {path}", copies(tree, 1), 10 * _COPIES)
    except RecursionError:
        raise UserError(f"{path} is nested too deeply", "Mend the model file") from None


def _refuse_sizes(path: Path, element: ElementTree.Element) -> None:
    """Counts that one element multiplies with each other, and the memory that a model sets aside."""
    product = 1
    for name in _COUNTS & element.attrib.keys():
        for word in element.attrib[name].split():
            product *= max(1, _whole(word))
    limits.refuse_over(f"{path}: the size of a {element.tag}", product, limits.PIXELS)
    if element.tag != "size":
        return
    for name, value in element.attrib.items():
        number, unit = value.strip().rstrip("KMGTPEkmgtpe"), value.strip()[-1:].upper()
        most, bits = (_MEMORY, _UNITS.get(unit, 0)) if name == "memory" else (_NUMBER, 0)
        limits.refuse_over(f"{path}: {name} of size", _whole(number) << bits, most)


def _whole(word: str) -> int:
    """A count as MuJoCo would read it; what is none is left to its own complaint."""
    try:
        return int(float(word))
    except (ValueError, OverflowError):
        return 0
