"""inspect: what is in a dataset, and what is wrong with it, in the terminal and as a page."""

from dataclasses import asdict, dataclass
from pathlib import Path

from deploy.report.dataset_page import write_dataset_page
from robot_wm import console
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import dataset_folder, open_run
from robot_wm.data import hub
from robot_wm.data.inspection import Inspection
from robot_wm.data.inspection import inspect as look_over

_PAGE, _FOUND = "dataset.html", "inspection.json"


@dataclass(frozen=True)
class InspectConfig:
    """Configuration of `robot-wm inspect`.

    Attributes:
        data: a LeRobot dataset, the run that wrote one, or `hub:owner/name[@revision]`.
        watch: episodes whose pictures are looked at, evenly chosen.
        thumbnails: pictures per camera on the page.
        cache: folder for what is downloaded from the Hub.
    """

    data: str
    watch: int = 24
    thumbnails: int = 8
    cache: str = ".cache"
    name: str = "inspect"
    out: str = "runs"
    seed: int = 0


def inspect(config: InspectConfig) -> Path:
    """Write `dataset.html` and `inspection.json`; returns the run folder.

    All rows and the times of all frames are read, the pictures of `watch` episodes are looked at, and nothing stops at
    the first fault: what cannot be read is one of the problems.

    Raises:
        UserError: there is no dataset, or its list of episodes cannot be read.
    """
    if config.watch < 1 or config.thumbnails < 1:
        raise UserError(f"watch is {config.watch}, thumbnails {config.thumbnails}", "Give at least 1 of each")
    data = hub.local(config.data, Path(config.cache))
    with open_run(Path(config.out), "inspect", config.name, config, {"data": data}) as run:
        if run.complete:
            console.say(f"inspect: already done with the same inputs: {run.path}")
            return run.path
        found = look_over(dataset_folder(data), config.watch)
        files.write_json(run.path / _FOUND, {**asdict(found), "path": str(found.path)})
        write_dataset_page(run.path / _PAGE, found, config.thumbnails)
        _show(found)
        severe = sum(problem.severe for problem in found.problems)
        run.finish([_PAGE, _FOUND], metrics={"problems": len(found.problems), "severe": severe})
        console.say(f"page: {run.path / _PAGE}")
        return run.path


def _show(found: Inspection) -> None:
    seconds = sum(found.lengths) / found.fps
    rows: list[tuple[str, str]] = [
        ("format", f"LeRobot {found.version}"),
        ("robot", found.robot),
        ("episodes", f"{len(found.lengths)}, {min(found.lengths, default=0)} to {max(found.lengths, default=0)} rows"),
        ("time", f"{seconds / 60:.1f} min at {found.fps:g} Hz (measured {found.measured_fps:.4g} Hz)"),
        ("tasks", "; ".join(list(found.tasks)[:3]) + (f" and {len(found.tasks) - 3} more" * (len(found.tasks) > 3))),
    ]
    rows += [(c.key, f"{c.width} x {c.height} px, {c.codec}, {c.fps:.4g} frames/s") for c in found.cameras]
    rows += [
        (d.key, f"{d.width} x {d.height} px, {d.near_m:.2f} to {d.far_m:.2f} m, {d.missing:.0%} without a measurement")
        for d in found.depths
    ]
    for key in dict.fromkeys(joint.feature for joint in found.joints):
        joints = [joint for joint in found.joints if joint.feature == key]
        low, high = min(joint.low for joint in joints), max(joint.high for joint in joints)
        rows.append((key, f"{len(joints)} entries, {low:.4g} to {high:.4g}"))
    console.table(f"{found.path}", ("what", "found"), rows)
    if not found.problems:
        console.say("no problem found")
        return
    told = [("serious" if p.severe else "look", p.kind, f"{p.text}. {p.advice}.") for p in found.problems]
    console.table("problems", ("", "kind", "what and what to do"), told)
