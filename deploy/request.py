"""What was typed: the command, and after it overrides, words, and the options that every command takes."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from robot_wm.contracts.errors import UserError

OPTIONS = {
    "--help": "what the command does, with every key, its default and its meaning",
    "--config-dir": "FOLDER with yamls of your own, such as FOLDER/embodiment/my_arm.yaml; may be given more than once",
    "--multirun": "one run for every combination of comma-separated values (seed=0,1,2)",
    "--json": "the result as one JSON object on stdout, errors included",
    "--quiet": "nothing but errors on stderr",
    "--no-color": "no colours; the environment variable NO_COLOR does the same",
}
PARTS = ("plan", "identify", "board", "camera")  # stages that are typed as a word after `calibrate`
_SHORT = {"-h": "--help", "-m": "--multirun", "-q": "--quiet"}


@dataclass
class Request:
    """The words after the command: overrides, folders to search for configs, positional words, switches."""

    overrides: list[str] = field(default_factory=list)
    config_dirs: list[Path] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    help: bool = False
    json: bool = False
    multirun: bool = False
    quiet: bool = False
    color: bool = True


def command(words: Sequence[str]) -> tuple[str, Sequence[str]]:
    """The stage or other command that is meant, and the words after it: `calibrate plan seed=1` is the stage plan.

    Raises:
        UserError: a part of calibrate without that word before it.
    """
    if words[0] == "calibrate" and words[1:2] and words[1] in PARTS:
        return words[1], words[2:]
    if words[0] in PARTS:
        raise UserError(f"{words[0]} is a part of calibrate", f"Type robot-wm {typed(words[0])}")
    return words[0], words[1:]


def typed(name: str) -> str:
    """How a stage or other command is typed after `robot-wm`."""
    return f"calibrate {name}" if name in PARTS else name


def parse(words: Sequence[str]) -> Request:
    """Sort the words that follow a command.

    Raises:
        UserError: an option that does not exist, or a --config-dir that is no folder.
    """
    request = Request()
    rest = iter(words)
    for word in rest:
        option = _SHORT.get(word, word)
        if option == "--config-dir" or option.startswith("--config-dir="):
            value = word.partition("=")[2] or next(rest, "")
            if not value or not Path(value).is_dir():
                raise UserError(f"--config-dir {value!r} is not a folder", "Give a folder such as my/configs")
            request.config_dirs.append(Path(value))
        elif option == "--no-color":
            request.color = False
        elif option in OPTIONS:
            setattr(request, option.removeprefix("--"), True)
        elif word.startswith("-"):
            key, _, value = word.lstrip("-").replace("-", "_").partition("=")
            keys = f"; a key has no dashes before it: {key}={value or 'true'}"
            raise UserError(f"unknown option {word!r}", f"Options: {', '.join(OPTIONS)}{keys if len(key) > 1 else ''}")
        elif "=" in word:
            request.overrides.append(word)
        else:
            request.words.append(word)
    return request
