"""Values from the command line: a config, `--config=FILE.py[:variant]` with its `--config.a.b=value` overrides, and what flags spell."""

from collections.abc import Sequence
import re

from absl import flags
import ml_collections
from ml_collections import config_flags

from videodit.core import config as config_lib
from videodit.core.errors import UserError

_OVERRIDE = re.compile(r"--?(?:no)?config\.([^=]+)")


def split_config(arguments: Sequence[str]) -> tuple[str | None, list[str], list[str]]:
    """Returns (value of the last `--config`, the `--config.a.b=value` overrides, the other arguments).

    An override's value may stand after `=` or as the next argument, as absl's flags allow.
    """
    value, overrides, others = None, [], []
    rest = list(arguments)
    while rest:
        argument = rest.pop(0)
        if argument in ("--config", "-config"):
            if not rest:
                raise UserError("--config has no value; expected FILE.py[:variant]")
            value = rest.pop(0)
        elif argument.startswith(("--config=", "-config=")):
            value = argument.partition("=")[2]
        elif _OVERRIDE.match(argument):
            if "=" not in argument and rest and not rest[0].startswith("--"):
                argument = f"{argument}={rest.pop(0)}"
            overrides.append(argument)
        else:
            others.append(argument)
    return value, overrides, others


def apply_overrides(config: ml_collections.ConfigDict, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """Returns a copy of `config` with overrides such as `--config.a.b=value` applied, parsed by the field's own type.

    A key that `config` leaves to its dataclass's default may be set too; whether it exists is for the strict reader.

    Raises:
      UserError: where a value does not parse as its field's type.
    """
    config = ml_collections.ConfigDict(config.to_dict() if isinstance(config, ml_collections.ConfigDict) else config)
    empty = _remove_none(config)
    _to_tuples(config)
    for override in overrides:
        _make_parents(config, _OVERRIDE.match(override).group(1))
    values = flags.FlagValues()
    argv = ["videodit", *overrides]
    config_flags.DEFINE_config_dict("config", config, flag_values=values, lock_config=False, sys_argv=argv, accept_new_attributes=True)
    try:
        values(argv)
    except (flags.Error, AttributeError, KeyError, TypeError, ValueError) as error:
        lines = str(error.args[0] if error.args else error).splitlines()
        raise UserError(f"config override {' '.join(overrides)}: {lines[0] if lines else 'not understood'}") from error
    for path in empty:
        parent, key = _parent(config, path)
        if key not in parent:
            parent[key] = None
    return config


def _parent(config: ml_collections.ConfigDict, path: str) -> tuple[ml_collections.ConfigDict, str]:
    *sections, key = path.split(".")
    for section in sections:
        config = config[section]
    return config, key


def _remove_none(config: ml_collections.ConfigDict, path: str = "") -> list[str]:
    """Takes out the keys whose value is None and returns their paths: config_flags cannot override an untyped None."""
    removed = []
    for key in list(config):
        name = f"{path}.{key}" if path else key
        if config[key] is None:
            del config[key]
            removed.append(name)
        elif isinstance(config[key], ml_collections.ConfigDict):
            removed += _remove_none(config[key], name)
    return removed


def _to_tuples(config: ml_collections.ConfigDict) -> None:
    """Makes tuples of lists: config_flags overrides those alone, `--config.a="(1, 2)"`."""
    as_tuple = lambda value: tuple(map(as_tuple, value)) if isinstance(value, list) else value
    for key in list(config):
        if isinstance(config[key], ml_collections.ConfigDict):
            _to_tuples(config[key])
        elif isinstance(config[key], (list, tuple)) and not any(
            isinstance(each, (dict, ml_collections.ConfigDict)) for each in config[key]
        ):
            value = as_tuple(list(config[key]))
            del config[key]  # a ConfigDict holds on to a field's type
            config[key] = value


def _make_parents(config: ml_collections.ConfigDict, path: str) -> None:
    """Makes the sections that lead to `path`, so that the strict reader is the one who judges its names."""
    at = []
    for section in path.split(".")[:-1]:
        at.append(section)
        if section not in config:
            config[section] = ml_collections.ConfigDict()
        config = config[section]
        if not isinstance(config, ml_collections.ConfigDict):
            raise UserError(f"--config.{path}: config {'.'.join(at)} is {config!r}, not a section with keys")


def load(value: str, overrides: Sequence[str]) -> ml_collections.ConfigDict:
    """Returns the config that `--config=value` names with its overrides applied."""
    return apply_overrides(config_lib.load(value), overrides)


def parse_size(text: str, name: str = "--size") -> tuple[int, int]:
    """Returns (height, width) in pixels from `WIDTHxHEIGHT`, e.g. (36, 64) from `64x36`."""
    match = re.fullmatch(r"\s*(\d+)\s*[xX×]\s*(\d+)\s*", text)
    if not match or 0 in (int(match[1]), int(match[2])):
        raise UserError(f"{name} is {text!r}, expected WIDTHxHEIGHT in pixels, e.g. 64x36")
    return int(match[2]), int(match[1])


def parse_times(text: str) -> tuple[float | str, ...]:
    """Returns seconds from `0,1.5,end`."""
    try:
        return tuple(each if each == "end" else float(each) for each in text.split(","))
    except ValueError:
        raise UserError(f"--at is {text!r}, expected seconds with commas between, or end, e.g. 0,1.5,end") from None


def parse_spans(text: str) -> tuple[tuple[float, float], ...]:
    """Returns (from, to) in seconds from `0.5-1.0,2-3`."""
    try:
        spans = [tuple(map(float, each.split("-"))) for each in text.split(",")]
    except ValueError:
        spans = [()]
    if any(len(span) != 2 for span in spans):
        raise UserError(f"--missing is {text!r}, expected seconds FROM-TO with commas between, e.g. 0.5-1.0,2-3")
    return tuple(spans)


def parse_region(text: str) -> tuple[float, ...]:
    """Returns (left, top, right, bottom) from `0.25,0.25,0.75,0.75`."""
    try:
        sides = tuple(map(float, text.split(",")))
    except ValueError:
        sides = ()
    if len(sides) != 4:
        raise UserError(f"--region is {text!r}, expected left,top,right,bottom as shares of the picture, e.g. 0.25,0.25,0.75,0.75")
    return sides


def parse_axes(text: str) -> dict[str, int]:
    """Returns the axes of a mesh from `fsdp=4,tensor=2`."""
    try:
        return {name: int(size) for name, size in (each.split("=") for each in text.split(","))}
    except ValueError:
        raise UserError(f"--mesh is {text!r}, expected devices along axes, e.g. fsdp=4,tensor=2") from None
