"""Shell completion, generated from the commands and their yamls, so that it knows every key and choice."""

from collections.abc import Iterable, Mapping
from typing import Any

from deploy import command_help
from deploy.request import OPTIONS, PARTS
from robot_wm.contracts.errors import UserError

_BASH = """\
_robot_wm() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" word keys found
    word="${{line##* }}"
    COMPREPLY=()
    if (( COMP_CWORD == 1 )); then
        COMPREPLY=($(compgen -W "{commands}" -- "$word"))
        return
    fi
    local command="${{COMP_WORDS[1]}}" parts=""
    if [[ "$command" == calibrate ]]; then
        if (( COMP_CWORD == 2 )); then parts="{parts}"
        elif [[ " {parts} " == *" ${{COMP_WORDS[2]}} "* ]]; then command="${{COMP_WORDS[2]}}"; fi
    fi
    if [[ "$word" == *=* ]]; then  # bash starts a new word after =
        local value="${{word#*=}}"
        case "$command:${{word%%=*}}" in
{values}
            *) found="" ;;
        esac
        if [[ -n "$found" ]]; then COMPREPLY=($(compgen -W "$found" -- "$value"))
        else COMPREPLY=($(compgen -f -- "$value")); compopt -o filenames 2>/dev/null; fi
        return
    fi
    if [[ "$word" == -* ]]; then COMPREPLY=($(compgen -W "{options}" -- "$word")); return; fi
    case "$command" in
{keys}
    esac
    COMPREPLY=($(compgen -W "$parts $keys" -- "$word"))
    if [[ "${{COMPREPLY[0]}}" == *= ]]; then compopt -o nospace 2>/dev/null
    elif [[ ${{#COMPREPLY[@]}} == 0 ]]; then COMPREPLY=($(compgen -f -- "$word")); compopt -o filenames 2>/dev/null; fi
}}
complete -F _robot_wm robot-wm
"""

_ZSH = """\
#compdef robot-wm
_robot_wm() {{
    local -a keys
    local command="$words[2]"
    if [[ "$command" == calibrate ]] && (( CURRENT > 3 )); then
        case "$words[3]" in {either}) command="$words[3]" ;; esac
    fi
    if (( CURRENT == 2 )); then
        local -a commands=(
{described}
        )
        _describe command commands
        return
    fi
    if [[ "$PREFIX" == *=* ]]; then
        local key="${{PREFIX%%=*}}"
        compset -P '*='
        case "$command:$key" in
{values}
            *) _files ;;
        esac
        return
    fi
    if [[ "$PREFIX" == -* ]]; then compadd -- {options}; return; fi
    case "$command" in
{keys}
    esac
    if [[ "$command" == calibrate ]] && (( CURRENT == 3 )); then compadd -- {parts}; fi
    compadd -S '' -- $keys
    _files
}}
compdef _robot_wm robot-wm
"""

_UNTYPED = f"__fish_seen_subcommand_from calibrate; and not __fish_seen_subcommand_from {' '.join(PARTS)}"


def script(shell: str, commands: Mapping[str, Any], others: Mapping[str, str]) -> str:
    """The completion script of a shell.

    Args:
        shell: bash, zsh or fish.
        commands: stages by name, each with `does`.
        others: commands without a config, and what they do.

    Raises:
        UserError: another shell.
    """
    does = {name: stage.does for name, stage in commands.items()} | dict(others)
    first = {name: what for name, what in does.items() if name not in PARTS}
    keys = {name: _keys(name) for name in commands}
    values = [place for name in commands for place in _values(name)]
    if shell == "bash":
        return _BASH.format(
            commands=" ".join(first),
            parts=" ".join(PARTS),
            options=" ".join(OPTIONS),
            values="\n".join(f'            {place}) found="{" ".join(names)}" ;;' for place, names in values),
            keys="\n".join(f'        {name}) keys="{" ".join(f"{k}=" for k in ks)}" ;;' for name, ks in keys.items()),
        )
    if shell == "zsh":
        return _ZSH.format(
            described="\n".join(f"            {_quote(f'{name}:{what}')}" for name, what in first.items()),
            options=" ".join(OPTIONS),
            parts=" ".join(PARTS),
            either="|".join(PARTS),
            values="\n".join(f"            {place}) compadd -- {' '.join(names)} ;;" for place, names in values),
            keys="\n".join(f"        {name}) keys=({' '.join(f'{k}=' for k in ks)}) ;;" for name, ks in keys.items()),
        )
    if shell == "fish":
        return "\n".join(_fish(does, keys, values)) + "\n"
    raise UserError(f"completion for {shell!r} is not known", "Choose one of: bash, zsh, fish")


def _keys(stage: str) -> list[str]:
    return [key.name for key in command_help.read_keys(command_help.yaml_of(stage)) if not key.name.endswith(".KEY")]


def _values(stage: str) -> list[tuple[str, list[str]]]:
    """Where a key of a stage is a group: `stage:key` and the names that it can take."""
    groups = command_help.groups(command_help.yaml_of(stage))
    return [(f"{stage}:{key}", command_help.choices(group)) for key, group in groups.items()]


def _fish(does: Mapping[str, str], keys: Mapping[str, list[str]], values: Iterable[tuple[str, list[str]]]) -> list[str]:
    lines = [
        f"complete -c robot-wm -n {_quote(_UNTYPED) if name in PARTS else '__fish_use_subcommand'} -f "
        f"-a {name} -d {_quote(what)}"
        for name, what in does.items()
    ]
    lines += [f"complete -c robot-wm -l {option.removeprefix('--')} -d {_quote(OPTIONS[option])}" for option in OPTIONS]
    for name, names in keys.items():
        when = f"-n {_quote(_after(name))}"
        lines += [f"complete -c robot-wm {when} -a {key}=" for key in names]
    for place, names in values:
        command, _, group = place.partition(":")
        when = f"-n {_quote(_after(command))}"
        lines += [f"complete -c robot-wm {when} -f -a {group}={name}" for name in names]
    return lines


def _after(command: str) -> str:
    """The condition under which fish offers the keys of a command."""
    return _UNTYPED if command == "calibrate" else f"__fish_seen_subcommand_from {command}"


def _quote(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"
