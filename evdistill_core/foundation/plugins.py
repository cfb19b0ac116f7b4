"""Parts by name: ours, those of installed packages, and any ``package.module:function``.

Networks, representations, layouts of labelled images and runtimes are found here and nowhere else.
A name is looked for in this order:

1. one of ours (``voxel``);
2. an entry point of an installed package in the group of the kind (``evdistill.networks``, ...);
3. ``package.module:function``, which is imported.

Whoever writes the third form runs that module. In a user's own YAML, on his command line and in his
Python he may. A student file or a checkpoint comes from elsewhere: its names go through
``Registry.check_file_name`` first (see docs/adr/0016-plugins.md).
"""

from __future__ import annotations

import importlib
import os
import re
import traceback
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Generic, TypeVar

from evdistill_core.foundation.errors import ConfigError, PluginError
from evdistill_core.foundation.suggestions import did_you_mean

T = TypeVar("T")

ALLOWED_VARIABLE = "EVDISTILL_PLUGINS"
"""Packages, separated by commas, whose code files from elsewhere may name."""

_OBJECT_NAME = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*(\.[^\W\d]\w*)*")
# Lines of these packages say less about a mistake than the user's line that called them.
_NOT_THE_USERS = ("evdistill_core", "importlib", "torch", "numpy", "numba")
_allowed_here: set[str] = set()


def allow(*packages: str) -> None:
    """Let files from elsewhere name code of these packages, in this process.

    The same as the variable ``EVDISTILL_PLUGINS``, for Python programs.
    """
    _allowed_here.update(packages)


def is_object_name(name: str) -> bool:
    """Return whether a name has the form ``package.module:function``."""
    return _OBJECT_NAME.fullmatch(name) is not None


class Registry(Generic[T]):
    """Everything of one kind, by name.

    Args:
        what: the kind in one word, for messages: "network".
        group: of entry points: "evdistill.networks".
        own: ours, by name. No plugin can replace them.
        adapt: makes a ``T`` of what a plugin's name led to; told the name and the object. Raises
            ``ConfigError`` where the object is something else.
    """

    def __init__(
        self, what: str, group: str, own: Mapping[str, T], adapt: Callable[[str, object], T]
    ) -> None:
        self.what = what
        self.group = group
        self.own = own
        self._adapt = adapt
        self._found: dict[str, T] = {}

    def get(self, name: str) -> T:
        """Return what has this name; the first call may import a package.

        Raises:
            ConfigError: nothing has this name, or what has it is of another kind.
            PluginError: its module cannot be imported.
        """
        if name in self.own:
            return self.own[name]
        if name not in self._found:
            self._found[name] = self._adapt(name, self._load(name))
        return self._found[name]

    def guests(self) -> list[str]:
        """Return the names of entry points that are not ours, sorted. Imports nothing."""
        return sorted({e.name for e in entry_points(group=self.group)} - set(self.own))

    def names(self) -> list[str]:
        """Return our names and those of entry points, sorted. Imports nothing."""
        return sorted([*self.own, *self.guests()])

    def require(self, name: str) -> None:
        """Refuse a name that cannot lead anywhere; imports nothing.

        Raises:
            ConfigError: it is none of ours, no entry point, and no ``package.module:function``.
        """
        if name in self.own or name in self._found or is_object_name(name):
            return
        if self._entry_point(name) is None:
            raise self._unknown(name)

    def check_file_name(self, name: str, source: str) -> None:
        """Refuse a name out of a file that would import code which nobody here has allowed.

        Our names and entry points pass: a file can only choose among what is installed for this
        purpose. ``package.module:function`` passes where the user allowed the package, or has
        named the very same function himself in this process.

        Args:
            name: as the file has it; unknown ones pass, and fail where they are looked for.
            source: what to call the file in the error.

        Raises:
            PluginError: it would import code that is not allowed.
        """
        module, colon, _ = name.partition(":")
        if not colon or name in self._found or _is_allowed(module):
            return
        package = module.partition(".")[0]
        raise PluginError(
            f"{source} names the {self.what} {name!r}, which is code outside of evdistill. If you "
            f"trust the file and the package {package!r}, set {ALLOWED_VARIABLE}={package} and "
            "run the command again"
        )

    def _load(self, name: str) -> object:
        entry = self._entry_point(name)
        if entry is not None:
            return self._import(name, entry.module, entry.attr)
        if is_object_name(name):
            module, _, attribute = name.partition(":")
            return self._import(name, module, attribute)
        raise self._unknown(name)

    def _unknown(self, name: str) -> ConfigError:
        known = self.names()
        return ConfigError(
            f"unknown {self.what} {name!r}; known: {', '.join(known)}, or package.module:function"
            f"{did_you_mean(name, known)}"
        )

    def _entry_point(self, name: str) -> EntryPoint | None:
        # An editable install may list the same entry point twice.
        found = {entry.value: entry for entry in entry_points(group=self.group, name=name)}
        if len(found) > 1:
            raise PluginError(
                f"{len(found)} installed packages have a {self.what} {name!r} "
                f"({', '.join(sorted(found))}): write the one you mean in this form"
            )
        return next(iter(found.values()), None)

    def _import(self, name: str, module_name: str, attribute: str) -> object:
        called = f"{self.what} {name!r}"
        try:
            found: object = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name and f"{module_name}.".startswith(f"{error.name}."):
                raise PluginError(
                    f"{called}: there is no module {error.name!r}; install its package (pip "
                    "install -e FOLDER), or put its folder on PYTHONPATH"
                ) from error
            raise PluginError(_broken(called, module_name, error)) from error
        except (Exception, SystemExit) as error:  # a user's module may raise anything
            raise PluginError(_broken(called, module_name, error)) from error
        for part in attribute.split("."):
            if not hasattr(found, part):
                raise PluginError(
                    f"{called}: {module_name} has no {attribute!r}"
                    f"{did_you_mean(part, _public(found))}"
                )
            found = getattr(found, part)
        return found


def in_one_line(error: BaseException) -> str:
    """Return type, text and place of an error in a user's module, in one line."""
    text = " ".join(str(error).split())
    said = f"{type(error).__name__}: {text}" if text else type(error).__name__
    if isinstance(error, SyntaxError):
        return said  # its text has file and line
    places = [
        f"{frame.f_code.co_filename}, line {line}"
        for frame, line in traceback.walk_tb(error.__traceback__)
        if str(frame.f_globals.get("__name__")).partition(".")[0] not in _NOT_THE_USERS
    ]
    return f"{said} ({places[-1]})" if places else said


def _broken(called: str, module_name: str, error: BaseException) -> str:
    return f"{called}: {module_name} cannot be imported: {in_one_line(error)}"


def _public(found: object) -> Iterable[str]:
    return [n for n in dir(found) if not n.startswith("_")]


def _is_allowed(module: str) -> bool:
    variable = os.environ.get(ALLOWED_VARIABLE, "").split(",")
    allowed = {p.strip() for p in variable} | _allowed_here
    return any(module == p or module.startswith(f"{p}.") for p in allowed if p)
