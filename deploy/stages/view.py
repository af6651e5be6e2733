"""view: look at a dataset, a flight, a world model, a controller, a robot, or any run."""

from dataclasses import dataclass
from pathlib import Path

from deploy.view import any_run, episodes, flight, follow, robot, world_model
from robot_wm import api, console
from robot_wm.contracts import bundle
from robot_wm.contracts.errors import UserError
from robot_wm.contracts.run import MANIFEST, dataset_folder, read_run
from robot_wm.training.checkpoint import SHIPPED, model_run
from sims import catalog, models


@dataclass(frozen=True)
class ViewConfig:
    """Configuration of `robot-wm view`.

    Attributes:
        target: a run, a dataset, a flight log, a bundle, `shipped`, or a robot as `robot-wm robots` names it.
        data: of a world model, the dataset that it is shown on; empty takes the one that it was trained on.
        episodes: how many are shown, of a dataset or a flight.
        follow: of a run that flies, a page that is written anew and loads itself again until the run ends.
        live: of a robot, sliders for its joints in the browser instead of a page (needs the extra `view`).
        port: of the live view.
        out: folder of the pages.
        folders: the user's own embodiments, from --config-dir.
    """

    target: str
    data: str | None = None
    episodes: int = 4
    follow: bool = False
    live: bool = False
    port: int = 8080
    out: str = "views"
    folders: tuple[str, ...] = ()


def view(config: ViewConfig) -> Path | None:
    """Write one HTML page about the target; returns it, or None after a live view.

    Raises:
        UserError: nothing goes by that name, or it cannot be read.
    """
    if config.episodes < 1:
        raise UserError(f"view: episodes is {config.episodes}", "Give at least 1")
    target = model_run(config.target)
    if config.live or not target.exists() or target.is_file():
        return _robot(config)
    page = Path(config.out) / f"{SHIPPED if config.target == SHIPPED else target.resolve().name}.html"
    if config.follow:
        console.say(f"page: {page}, written anew every {follow.REFRESH_S} s until the run ends; Ctrl-C ends it before")
        follow.follow(page, target)
    if flight.is_flight(target):
        flight.write(page, target, config.episodes)
    elif (dataset_folder(target) / "meta" / "info.json").is_file():
        episodes.write(page, dataset_folder(target), config.episodes)
    elif (target / MANIFEST).is_file() and read_run(target).stage == "pretrain":
        world_model.write(page, target, api.load_pretrained(config.target), _data(config, target))
    elif (target / bundle.SPEC_FILE).is_file() or (target / "bundle" / bundle.SPEC_FILE).is_file():
        any_run.write_controller(page, target, bundle.read_bundle(target).spec)
    elif (target / MANIFEST).is_file():
        any_run.write(page, target)
    else:
        raise UserError(
            f"view: {config.target} is no run, dataset, flight log, bundle or robot",
            "Give a folder under runs/, a dataset with meta/info.json, or a name that robot-wm robots lists",
        )
    console.say(f"page: {page} (opens in any browser, without a network)")
    return page


def _data(config: ViewConfig, run: Path) -> Path:
    """The dataset that a world model is shown on."""
    if config.data is not None:
        return dataset_folder(Path(config.data))
    known = [Path(item.path) for name, item in read_run(run).inputs.items() if name.startswith("data")]
    there = next((path for path in known if path.exists()), None)
    if there is None:
        raise UserError(
            f"view: the data that {config.target} was trained on are not here", "Give data=DATASET to show it on"
        )
    return dataset_folder(there)


def _robot(config: ViewConfig) -> Path | None:
    kind, _, rest = config.target.partition("/")
    if rest and kind not in (catalog.MENAGERIE, models.PROCEDURAL) and not Path(config.target).exists():
        raise UserError(f"view: {config.target} does not exist", "Give the folder that a command printed, or a robot")
    embodiment = catalog.find(config.target, [Path(folder) for folder in config.folders])
    if config.live:
        from deploy.view import live  # viser, an extra

        live.serve(embodiment, config.port)
        return None
    page = robot.write(Path(config.out) / f"{embodiment.name}.html", embodiment)
    console.say(f"page: {page} (opens in any browser, without a network)")
    return page
