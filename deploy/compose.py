"""Configs composed by Hydra; the only module that imports it. Stages receive plain values."""

import importlib.metadata
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import yaml
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from hydra import main as hydra_main
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from deploy import command_help
from deploy.request import typed
from robot_wm.contracts import files
from robot_wm.contracts.errors import UserError
from robot_wm.data import yamls

_OVERRIDE = re.compile(r"^\+{0,2}(?P<key>[A-Za-z_]\w*(?:\.\w+)*)=(?P<value>.*)$", re.DOTALL)
_RESOLVER = re.compile(r"\$\{\s*[\w.]+\s*:")
_LAUNCHERS = {
    "ray": "hydra-ray-launcher",
    "submitit_local": "hydra-submitit-launcher",
    "submitit_slurm": "hydra-submitit-launcher",
}
_ROOT = "stage"  # Hydra puts a config of the group `stage` under this key


def compose(stage: str, overrides: Sequence[str], config_dirs: Sequence[Path] = ()) -> dict[str, Any]:
    """The values of configs/stage/<stage>.yaml with `overrides` applied, as plain dicts, lists and scalars.

    Args:
        stage: name of the stage.
        overrides: `key=value` in Hydra's grammar; a value that is not in it (a path with brackets, say) is text.
            `group=name` chooses a yaml of a group that the stage lists in its defaults.
        config_dirs: folders searched for groups beside the shipped one: `FOLDER/embodiment/myarm.yaml`.

    Raises:
        UserError: a bad override, a choice that does not exist, a yaml that cannot be read, or a resolver in a value.
    """
    root = command_help.configs_dir()
    own: dict[str, Path] = {}
    if not (root / "stage" / f"{stage}.yaml").is_file():
        raise UserError(f"{root / 'stage' / stage}.yaml does not exist", "Install robot-wm again")
    _refuse_shadowing(root, config_dirs)
    pairs = [_split(override) for override in overrides]
    try:
        with initialize_config_dir(config_dir=str(root), version_base="1.3"):
            composed = _hydra(stage, [])
            groups = _groups(composed)
            chosen = {key: value for key, value in pairs if key in groups}
            for key, name in chosen.items():
                group = groups[key].partition("@")[0]
                _check_choice(group, name, config_dirs)
                if file := _own_file(group, name, config_dirs):
                    own[key] = file
            if shipped := [f"{groups[k]}={v}" for k, v in chosen.items() if k not in own]:
                composed = _hydra(stage, shipped)
        values = _values(composed)
        for key, file in own.items():
            OmegaConf.update(values, key, _own(file), merge=False, force_add=True)
        for key, value in pairs:
            if key not in groups:
                OmegaConf.update(values, key, _parse(key, value), merge=True, force_add=True)
        for key, file in own.items():
            _anchor_mjcf(values, key, file)
        return _plain(values)
    except (HydraException, OmegaConfBaseException, yaml.YAMLError) as error:
        raise UserError(
            f"config of {stage}: {str(error).splitlines()[0]}", f"See robot-wm {typed(stage)} --help"
        ) from error


def multirun(overrides: Sequence[str], job: Callable[[list[str]], Any], folder: Path) -> list[Any]:
    """Run `job` once for every combination of the overrides that list several values (`seed=0,1,2`).

    Hydra's launcher decides where: one after the other, or as `hydra/launcher=...` says. Jobs get their overrides as
    text and compose their own config.

    Args:
        overrides: `key=value`, with commas between values; those of Hydra itself (`hydra/launcher=ray`) pass through.
        job: takes the overrides of one combination; it travels to other processes or machines.
        folder: where launchers keep their logs, and jobs what they return, as JSON.

    Returns:
        What the jobs returned, in their order.

    Raises:
        UserError: a job failed, a launcher is not installed, or Hydra does not understand an override; it has said so.
    """
    own = [f"++{o.lstrip('+')}" for o in overrides if not o.startswith("hydra")]
    theirs = [o for o in overrides if o.startswith("hydra")]
    for launcher, plugin in _LAUNCHERS.items():
        if f"hydra/launcher={launcher}" in theirs and not list(importlib.metadata.distributions(name=plugin)):
            raise UserError(f"hydra/launcher={launcher} is not installed", "Run pip install 'robot-wm[cluster]'")
    settings = [
        f"hydra.sweep.dir={folder}",
        "hydra.output_subdir=null",
        *(f"hydra.{log}.handlers.console.stream=ext://sys.stderr" for log in ("hydra_logging", "job_logging")),
    ]
    arguments = ["--multirun", *settings, *theirs, *own]

    def task(_: DictConfig) -> None:
        number = HydraConfig.get().job.num
        given, running = HydraConfig.get().overrides.task, GlobalHydra.instance().hydra
        GlobalHydra.instance().clear()  # the job composes for itself
        try:
            returned = job([override.lstrip("+") for override in given])
            files.write_json(folder / f"{number:05d}.json", {"returned": returned})
        finally:
            GlobalHydra.instance().hydra = running

    before, sys.argv = sys.argv, [sys.argv[0], *arguments]
    try:
        hydra_main(version_base="1.3", config_path=None)(task)()
    except SystemExit:
        raise UserError(
            "not every job came to its end (see above)", "Mend that and run the same command again"
        ) from None
    finally:
        sys.argv = before
    return [files.read_json(path)["returned"] for path in sorted(folder.glob("[0-9]*.json"))]


def _hydra(stage: str, overrides: list[str]) -> DictConfig:
    return hydra_compose(f"stage/{stage}", overrides, return_hydra_config=True)


def _values(composed: DictConfig) -> DictConfig:
    """The stage's own part, open to keys that only its dataclass knows."""
    container = OmegaConf.to_container(composed, resolve=False)
    assert isinstance(container, dict)
    container.pop("hydra")
    values = OmegaConf.create(container.get(_ROOT, container))
    assert isinstance(values, DictConfig)
    return values


def _groups(composed: DictConfig) -> dict[str, str]:
    """User's name of each group (`embodiment`) to Hydra's (`embodiment@stage.embodiment`)."""
    keys = [str(key) for key in composed.hydra.runtime.choices if not str(key).startswith("hydra/")]
    return {key.partition("@")[2].removeprefix(f"{_ROOT}.") or key: key for key in keys}


def _split(override: str) -> tuple[str, str]:
    found = _OVERRIDE.match(override)
    if not found:
        raise UserError(f"argument {override!r} is not key=value", "Such as seed=1 or embodiment.camera.height=64")
    return found["key"], found["value"]


def _parse(key: str, text: str) -> Any:
    try:
        override = OverridesParser.create().parse_override(f"{key}={text}")
    except HydraException:
        return text
    return text if override.is_sweep_override() else override.value()


def _check_choice(group: str, name: str, config_dirs: Sequence[Path]) -> None:
    known = command_help.choices(group, config_dirs)
    if name not in ("null", *known):
        raise UserError(
            f"{group} {name!r} is not known",
            f"Choose one of: {', '.join(known)}; or give --config-dir FOLDER with FOLDER/{group}/{name}.yaml",
        )


def _refuse_shadowing(root: Path, config_dirs: Sequence[Path]) -> None:
    for folder in config_dirs:
        for file in sorted(folder.glob("*/*.yaml")):
            if (root / file.relative_to(folder)).is_file():
                raise UserError(f"{file} has the name of a shipped config", "Rename it")


def _own_file(group: str, name: str, config_dirs: Sequence[Path]) -> Path | None:
    return next((f for folder in config_dirs if (f := folder / group / f"{name}.yaml").is_file()), None)


def _own(file: Path) -> dict[str, Any]:
    """The user's own yaml: values and nothing else. Hydra never reads it, so it includes and overrides nothing."""
    found = yamls.read(file)
    if not isinstance(found, dict):
        raise UserError(f"{file} holds no keys", "Give key: value, one a line")
    return found


def _plain(values: DictConfig) -> dict[str, Any]:
    """Plain values; `${key}` is followed, resolvers such as `${oc.env:HOME}` are refused, `???` is left out."""
    for text in _strings(OmegaConf.to_container(values, resolve=False)):
        if _RESOLVER.search(text):
            raise UserError(f"config value {text!r} calls a resolver", "Write the value itself")
    plain: dict[str, Any] = _given(OmegaConf.to_container(values, resolve=True))
    return plain


def _strings(value: Any) -> list[str]:
    if isinstance(value, dict):
        value = [*value.keys(), *value.values()]
    if isinstance(value, list):
        return [text for item in value for text in _strings(item)]
    return [value] if isinstance(value, str) else []


def _given(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _given(item) for key, item in value.items() if item != "???"}
    return [_given(item) for item in value] if isinstance(value, list) else value


def _anchor_mjcf(values: DictConfig, key: str, file: Path) -> None:
    """A MJCF that stands beside the user's yaml is named relative to it; stages see it relative to where they run."""
    path, package = (OmegaConf.select(values, f"{key}.mjcf.{name}") for name in ("path", "package"))
    if not isinstance(path, str) or package:
        return
    beside = (file.parent / path).resolve()
    if beside.is_file():
        here = Path.cwd().resolve()
        anchored = os.path.relpath(beside, here) if beside.is_relative_to(here) else str(beside)
        OmegaConf.update(values, f"{key}.mjcf.path", anchored)
