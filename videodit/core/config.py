"""Config sections as frozen dataclasses, and the strict reader that builds them.

An experiment is a Python file with `get_config()` (or `get_config(variant)`) that returns an `ml_collections.ConfigDict`.
Each of its sections becomes a frozen dataclass at start-up, so a misspelt key or a value of the wrong type stops a job
before it costs anything.
"""

from collections.abc import Mapping
import dataclasses
import difflib
import importlib.util
import json
import numbers
import os
import types
import typing
from typing import Any, Literal, TypeVar, Union

from etils import epath
import ml_collections

from videodit.core.errors import UserError
from videodit.core.files import write_atomically

T = TypeVar("T")


def nearest(name: str, right: typing.Iterable[str]) -> str:
    """Returns a clause such as `; did you mean 'steps'?`, or one that lists all of `right` where nothing is near."""
    right = list(right)
    close = difflib.get_close_matches(name, right, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; known: {', '.join(right)}" if right else ""


def read(cls: type[T], section: Mapping[str, Any] | ml_collections.ConfigDict, path: str = "") -> T:
    """Builds the frozen dataclass `cls` from a config section.

    Fields may be `bool`, `int`, `float` (an int is accepted), `str`, `None`, `Literal`, unions, `tuple[...]` (lists are
    accepted), `dict[str, X]` and dataclasses, nested at will. `path` names the section in messages (`"data.worlds"`).

    Raises:
      UserError: on an unknown key (naming the nearest right one), a missing one, or a value of the wrong type (naming
        the field, its value and the type that is expected).
    """
    if isinstance(section, cls):
        return section
    if not isinstance(section, (Mapping, ml_collections.ConfigDict)):
        raise UserError(f"config {path or cls.__name__} is {section!r}, expected a section with the keys of {cls.__name__}")
    hints = typing.get_type_hints(cls)
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}
    values = {}
    for key in section:
        name = _join(path, key)
        if key not in fields:
            raise UserError(f"config has no key {name!r}{nearest(str(key), fields)}")
        try:
            value = section[key]
        except ml_collections.config_dict.RequiredValueError:
            raise UserError(f"config {name} has no value, expected {describe(hints[key])}: set --config.{name}=VALUE") from None
        values[key] = _convert(hints[key], value, name)
    for name, field in fields.items():
        required = field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        if name not in values and required:
            raise UserError(f"config lacks the key {_join(path, name)!r}, expected {describe(hints[name])}")
    try:
        return cls(**values)
    except ValueError as error:  # a dataclass's own check of its values
        raise UserError(f"config {path or cls.__name__}: {error}") from error


def _join(path: str, key: Any) -> str:
    return f"{path}.{key}" if path else str(key)


def describe(kind: Any) -> str:
    """Returns a type as a reader of an error message would write it, e.g. `list of int` or `'vae' or 'dit'`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return " or ".join(repr(value) for value in arguments)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(each) for each in arguments)
    if origin is tuple:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return f"list of {describe(arguments[0])}"
        return f"({', '.join(describe(each) for each in arguments)})"
    if origin is dict:
        return f"dict of {describe(arguments[1])}"
    return "None" if kind is type(None) else getattr(kind, "__name__", str(kind))


class _Mismatch(Exception):
    """The value is not of the type; the caller knows how to say so."""


def _convert(kind: Any, value: Any, path: str) -> Any:
    try:
        return _match(kind, value, path)
    except _Mismatch:
        given = type(value).__name__
        raise UserError(f"config {path} is {_plain(value)!r} ({given}), expected {describe(kind)}") from None


def _match(kind: Any, value: Any, path: str) -> Any:
    """Returns `value` as `kind`, or raises `_Mismatch`."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if kind is Any:
        return _plain(value)
    if origin is Literal:
        for choice in arguments:
            if value == choice and type(value) is type(choice):
                return value
        raise _Mismatch
    if origin in (Union, types.UnionType):
        return _match_union(arguments, value, path)
    if origin is tuple:
        return _match_tuple(arguments, value, path)
    if origin is dict or kind is dict:
        if not isinstance(value, (Mapping, ml_collections.ConfigDict)):
            raise _Mismatch
        of = arguments[1] if arguments else Any
        return {key: _convert(of, value[key], _join(path, key)) for key in value}
    if dataclasses.is_dataclass(kind):
        if not isinstance(value, (kind, Mapping, ml_collections.ConfigDict)):
            raise _Mismatch
        return read(kind, value, path)
    return _match_scalar(kind, value)


def _match_union(kinds: tuple[Any, ...], value: Any, path: str) -> Any:
    if value is None and type(None) in kinds:
        return None
    # An exact scalar wins over a conversion: 1 read as `float | int` stays an int.
    for kind in kinds:
        if isinstance(kind, type) and type(value) is kind:
            return _match(kind, value, path)
    for kind in kinds:
        try:
            return _match(kind, value, path)
        except _Mismatch:
            continue
    raise _Mismatch


def _match_tuple(kinds: tuple[Any, ...], value: Any, path: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _Mismatch
    if len(kinds) == 2 and kinds[1] is Ellipsis:
        kinds = (kinds[0],) * len(value)
    if len(kinds) != len(value):
        raise _Mismatch
    return tuple(_convert(kind, each, f"{path}[{i}]") for i, (kind, each) in enumerate(zip(kinds, value)))


def _match_scalar(kind: Any, value: Any) -> Any:
    if kind is bool and isinstance(value, bool):
        return value
    if kind is int and isinstance(value, numbers.Integral) and not isinstance(value, bool):
        return int(value)
    if kind is float and isinstance(value, numbers.Real) and not isinstance(value, bool):
        return float(value)
    if kind in (bool, int, float):
        raise _Mismatch
    if isinstance(kind, type) and isinstance(value, kind):
        return value
    raise _Mismatch


def _plain(value: Any) -> Any:
    """Returns `value` made only of dicts, lists and scalars, as JSON holds them."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, (Mapping, ml_collections.ConfigDict)):
        return {str(key): _plain(value[key]) for key in value}
    if isinstance(value, (list, tuple)):
        return [_plain(each) for each in value]
    return value


def to_dict(config: Any) -> dict[str, Any]:
    """Returns a config (dataclass, ConfigDict or dict) as nested dicts and lists; `read` takes it back."""
    return _plain(config)


def to_json(config: Any) -> str:
    """Returns a config as indented JSON text, ending in a newline."""
    return json.dumps(to_dict(config), indent=2) + "\n"


def write_config(workdir: epath.PathLike, config: Any) -> None:
    """Writes the whole resolved config to `workdir/config.json`."""
    write_atomically(epath.Path(workdir) / "config.json", to_json(config))


def read_config(workdir: epath.PathLike) -> dict[str, Any]:
    """Returns what `write_config` wrote, as nested dicts and lists.

    Raises:
      UserError: where `workdir` holds no `config.json`.
    """
    path = epath.Path(workdir) / "config.json"
    if not path.exists():
        raise UserError(f"{os.fspath(workdir)!r} is not a workdir: it has no config.json")
    return json.loads(path.read_text())


def load(flag_value: str) -> ml_collections.ConfigDict:
    """Returns the config that a `--config=FILE.py[:variant]` value names, by calling the file's `get_config`.

    Raises:
      UserError: where the file is missing or has no `get_config`, or the variant is not one it knows.
    """
    file, _, variant = flag_value.partition(":")
    if not os.path.isfile(file):
        raise UserError(f"config file {file!r} does not exist; expected FILE.py[:variant], e.g. experiments/local.py:dit")
    spec = importlib.util.spec_from_file_location("videodit_experiment", file)
    if spec is None or spec.loader is None:
        raise UserError(f"config file {file!r} is not a Python file; expected FILE.py[:variant]")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "get_config"):
        raise UserError(f"config file {file!r} has no get_config() function")
    return module.get_config(variant) if variant else module.get_config()
