"""Frozen dataclasses as configuration: from YAML and back, unknown keys refused.

One way to configure everything: a dataclass with defaults and units in its field names, a YAML
mapping of the same shape, and nothing else. ``from_mapping(cls, to_mapping(c)) == c`` holds for
every configuration class (a test).
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import re
import types
import typing
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, Union, get_args, get_origin

import yaml

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.suggestions import did_you_mean, near_path

T = TypeVar("T")
_EXPONENT = re.compile(r"[+-]?\d+(\.\d*)?[eE][+-]?\d+")
#: What a value must be, for people.
TYPE_WORDS: Mapping[type, str] = {
    float: "a number", int: "a whole number", str: "text", bool: "true or false",
}  # fmt: skip
LATER = {"later": True}
"""Metadata of a field that came later: ``to_mapping`` leaves it out at its default."""


def load_yaml(path: Path) -> dict[str, object]:
    """Return the mapping in a YAML file (safe loader).

    Raises:
        ConfigError: the file is missing, not YAML, or its top is no mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise ConfigError(f"there is no configuration {path}{near_path(path)}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read configuration {path}: {error}") from error
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not valid YAML{_place_in_yaml(error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold a mapping at its top, got {type(content).__name__}")
    return content


@contextlib.contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Let what is wrong with the content of a configuration name its file, if it is of one.

    Raises:
        ConfigError: that of the block, with the path in front.
    """
    try:
        yield
    except ConfigError as error:
        text = str(error)
        if path is None or str(path) in text:
            raise
        raise ConfigError(f"{path}: {text}") from error


def merged(base: Mapping[str, object], changes: Mapping[str, object]) -> dict[str, object]:
    """Return nested plain data with changes made to it; neither is modified.

    Mappings are merged key by key; an empty value (null) takes a key away. Lists whose entries all
    have different ``name``s are merged entry by entry: one that the base has too is changed,
    ``remove: true`` takes it away, and others are appended. All else is replaced.

    Args:
        base: what a YAML file holds.
        changes: of the same shape.

    Raises:
        ConfigError: an entry that is to be removed is not there.
    """
    result = dict(base)
    for key, value in changes.items():
        old = base.get(key)
        if value is None:
            result.pop(key, None)
        elif isinstance(value, Mapping) and isinstance(old, Mapping):
            result[key] = merged(old, value)
        elif (entries := _by_name(value)) and (old_entries := _by_name(old)):
            result[key] = _merged_entries(old_entries, entries, key)
        else:
            result[key] = copy.deepcopy(value)
    return result


def _by_name(values: object) -> dict[str, Mapping[str, object]]:
    """Return the entries of a list by their names; empty: not all have one of their own."""
    if not isinstance(values, list) or not all(isinstance(v, Mapping) for v in values):
        return {}
    names = [v.get("name") for v in values]
    if not all(isinstance(n, str) for n in names) or len(set(names)) < len(names):
        return {}
    return dict(zip(names, values, strict=True))


def _merged_entries(
    base: Mapping[str, Mapping[str, object]], changes: Mapping[str, Mapping[str, object]], key: str
) -> list[dict[str, object]]:
    result = {name: dict(entry) for name, entry in base.items()}
    for name, change in changes.items():
        if change.get("remove") is not True:
            result[name] = merged(result.get(name, {}), change)
        elif result.pop(name, None) is None:
            near = did_you_mean(name, base)
            raise ConfigError(f"{key} has no entry {name!r} to remove, only {list(base)}{near}")
    return list(result.values())


def with_assignments(values: Mapping[str, object], texts: Sequence[str]) -> dict[str, object]:
    """Return a copy of nested plain data in which ``KEY=VALUE`` texts are carried out.

    A key is dotted (``optimiser.lr=0.001``), a value is YAML. An entry of a list is named by its
    place (``data.train.0.count=64`` or ``data.train[0].count=64``) or by its name
    (``data.train.street.count=64``). Mappings that are not there are made.

    Args:
        values: what a YAML file holds; not modified.
        texts: the assignments; later ones win.

    Raises:
        ConfigError: a text of another form, a value that is no YAML, or a way through a number.
    """
    result = copy.deepcopy(dict(values))
    for text in texts:
        key, separator, value = text.partition("=")
        key = re.sub(r"\[([\w-]+)\]", r".\1", key)
        if not separator or not all(key.split(".")):
            raise ConfigError(f"a setting is given as KEY=VALUE (optimiser.lr=0.001), got {text!r}")
        try:
            _assign(result, key, yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise ConfigError(f"the value of {key} is not valid YAML: {value!r}") from error
    return result


def _assign(values: dict[str, object], key: str, value: object) -> None:
    *way, last = key.split(".")
    place: Any = values
    for number, name in enumerate(way):
        if isinstance(place, dict):
            if place.get(name) is None:
                place[name] = {}
            place = place[name]
        else:
            place = place[_list_place(place, name, ".".join(way[: number + 1]))]
    if isinstance(place, dict):
        place[last] = value
    else:
        place[_list_place(place, last, key)] = value


def _list_place(place: object, name: str, where: str) -> int:
    """Return a place in a list that is there."""
    if not isinstance(place, list):
        raise ConfigError(f"{where}: there are no keys below {place!r}")
    names = list(_by_name(place))
    if name.isdecimal() and int(name) < len(place):
        return int(name)
    if name not in names:
        called = f", called {', '.join(names)}" if names else ""
        raise ConfigError(
            f"{where}: the list has the places 0 .. {len(place) - 1}{called}; got {name!r}"
            f"{did_you_mean(name, names)}"
        )
    return names.index(name)


def from_mapping(cls: type[T], values: Mapping[str, object], where: str = "") -> T:
    """Build a configuration dataclass from plain data.

    Args:
        cls: a dataclass; fields may be bool, int, float, str, Path, tuples and dicts of these,
            Literal, Optional, or other dataclasses. The metadata ``help`` of a field, a sentence,
            is added to the error of a value of a wrong type.
        values: field name to value; fields with defaults may be absent.
        where: dotted place, used in error messages.

    Raises:
        ConfigError: an unknown key, a missing value, a wrong type, or a value the class refuses.
    """
    fields = {f.name: f for f in dataclasses.fields(cls)}  # type: ignore[arg-type]
    unknown = sorted(set(values) - set(fields))
    if unknown:
        near = did_you_mean(unknown[0], fields)
        allowed = near or f" (allowed here: {', '.join(sorted(fields))})"
        raise ConfigError(f"unknown key {_join(where, unknown[0])}{allowed}")
    hints = typing.get_type_hints(cls)
    built: dict[str, Any] = {}
    for name, field in fields.items():
        if name in values:
            try:
                built[name] = _convert(hints[name], values[name], _join(where, name))
            except ConfigError as error:
                if "help" not in field.metadata:
                    raise
                end = "" if str(error).endswith("?") else "."
                raise ConfigError(f"{error}{end} {field.metadata['help']}") from error
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise ConfigError(f"missing key {_join(where, name)}")
    try:
        return cls(**built)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from error


def _place_in_yaml(error: yaml.YAMLError) -> str:
    """Return in one line what is wrong with YAML and where."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error).partition("\n")[0]
    return (
        f", line {mark.line + 1}, column {mark.column + 1}: {problem}" if mark else f": {problem}"
    )


def check_types(values: object) -> None:
    """Bring the fields of a dataclass to their types, as ``from_mapping`` does, or refuse them.

    For dataclasses that users make in Python; called first in their ``__post_init__``.

    Args:
        values: an instance, frozen or not. Numbers of NumPy become numbers of Python.

    Raises:
        ConfigError: names the field, its type and the value.
    """
    hints = typing.get_type_hints(type(values))
    for field in dataclasses.fields(values):  # type: ignore[arg-type]
        value = getattr(values, field.name)
        if dataclasses.is_dataclass(value):
            continue  # has checked itself
        if hasattr(value, "dtype") and hasattr(value, "item") and not getattr(value, "shape", ()):
            value = value.item()
        object.__setattr__(values, field.name, _convert(hints[field.name], value, field.name))


def load_config(cls: type[T], path: Path) -> T:
    """Return a configuration from its YAML file.

    Raises:
        ConfigError: as ``load_yaml`` and ``from_mapping``, with the path.
    """
    with naming(path):
        return from_mapping(cls, load_yaml(path))


def check_is_there(path: Path, key: str) -> None:
    """Refuse a missing file that a configuration starts from, with the key that names it.

    Raises:
        ConfigError: it is missing.
    """
    if not path.exists():
        raise ConfigError(
            f"{key} names {path}, which does not exist{near_path(path)}; if another training makes "
            "it, run that one first"
        )


def to_mapping(config: object) -> dict[str, object]:
    """Return plain data (for YAML or JSON) that ``from_mapping`` reads back to an equal object.

    Fields with ``metadata=LATER`` are left out at their default: files that do not need them stay
    what they were before the field was there, for older versions and for keys made of them.
    """
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise TypeError(f"expected a dataclass instance, got {type(config).__name__}")
    return {
        f.name: _plain(getattr(config, f.name))
        for f in dataclasses.fields(config)
        if not ("later" in f.metadata and getattr(config, f.name) == _default(f))
    }


def _default(f: dataclasses.Field[Any]) -> object:
    if f.default_factory is not dataclasses.MISSING:
        return f.default_factory()
    return f.default


def dump_yaml(config: object) -> str:
    """Return the YAML text of a configuration, keys in the order of its fields."""
    return yaml.safe_dump(to_mapping(config), sort_keys=False)


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_mapping(value)
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    if isinstance(value, Path):
        return str(value)
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _convert(hint: Any, value: object, where: str) -> object:  # noqa: PLR0911, PLR0912 - one branch a type
    origin = get_origin(hint)
    if origin in (Union, types.UnionType):
        return _convert_union(hint, value, where)
    if origin is typing.Literal:
        if value not in get_args(hint):
            allowed = ", ".join(repr(a) for a in get_args(hint))
            near = did_you_mean(str(value), map(str, get_args(hint)))
            raise ConfigError(f"{where} must be one of {allowed}, got {value!r}{near}")
        return value
    if origin is tuple:
        return _convert_tuple(hint, value, where)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        inner = get_args(hint)[1]
        return {str(k): _convert(inner, v, _join(where, str(k))) for k, v in value.items()}
    if dataclasses.is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise ConfigError(f"{where} must be a mapping, got {value!r}")
        return from_mapping(typing.cast("type[object]", hint), value, where)
    if hint is Path:
        if not isinstance(value, str | Path):
            raise ConfigError(f"{where} must be a path, got {value!r}")
        return Path(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str) and _EXPONENT.fullmatch(value):
        return float(value)  # 1e-3 is text in YAML 1.1, which wants 1.0e-3
    if hint is object:
        return value
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        if value is None and hint is str:
            raise ConfigError(f"{where} must be text, got no value; write '' for an empty text")
        raise ConfigError(f"{where} must be {TYPE_WORDS.get(hint, hint.__name__)}, got {value!r}")
    return value


def _convert_union(hint: Any, value: object, where: str) -> object:
    members = [m for m in get_args(hint) if m is not type(None)]
    if value is None:
        if len(members) < len(get_args(hint)):
            return None
        raise ConfigError(f"{where} must not be empty")
    if isinstance(value, Mapping) and any(dataclasses.is_dataclass(m) for m in members):
        # What is wrong inside is worth saying; that it is no text and no number is not.
        members = [m for m in members if dataclasses.is_dataclass(m)]
    reasons = []
    for member in members:
        try:
            return _convert(member, value, where)
        except ConfigError as error:
            reasons.append(str(error))
    raise ConfigError("; or ".join(reasons))


def _convert_tuple(hint: Any, value: object, where: str) -> object:
    members = get_args(hint)
    if not isinstance(value, list | tuple):
        raise ConfigError(f"{where} must be a list, got {value!r}")
    if len(members) == 2 and members[1] is Ellipsis:
        return tuple(_convert(members[0], v, f"{where}[{i}]") for i, v in enumerate(value))
    if len(members) != len(value):
        raise ConfigError(f"{where} must hold {len(members)} values, got {len(value)}")
    return tuple(
        _convert(m, v, f"{where}[{i}]") for i, (m, v) in enumerate(zip(members, value, strict=True))
    )
