"""Write the pages of docs/reference/ that are made from the code.

Run: python docs/make_reference.py          (a test compares the pages with the code)

Commands come from their help, keys of YAML files from the docstrings and checks of the
configuration classes, topics, parameters and diagnostics from ``evdistill_ros.reference``.
"""

from __future__ import annotations

import ast
import contextlib
import dataclasses
import inspect
import io
import os
import re
import sys
import textwrap
import types
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from evdistill_core.cli.main import build_app
from evdistill_core.cli.main import run as run_command
from evdistill_core.data.simulated_sets import SimulateConfig
from evdistill_core.foundation.class_file import ClassFile
from evdistill_core.losses.segmentation import LOSSES
from evdistill_core.models.deeplab_v3plus import DeepLabOptions
from evdistill_core.models.lite_cls import LiteClsOptions
from evdistill_core.models.lite_seg import LiteSegOptions
from evdistill_core.models.onboard_cls import OnboardClsOptions
from evdistill_core.models.onboard_seg import OnboardSegOptions
from evdistill_core.perception.parameters import KINDS, markdown_table
from evdistill_core.perception.tasks import TASKS
from evdistill_core.recordings.convert import SUFFIXES
from evdistill_core.recordings.formats import READ
from evdistill_core.training.config import TrainConfig
from evdistill_core.training.distill_config import TERMS, DistillConfig, TeacherConfig
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig
from evdistill_ros.reference import diagnostics_table, topics_table

FOLDER = Path(__file__).resolve().parent / "reference"
MARK = "<!-- made by docs/make_reference.py: change the code, then run it -->\n"
UNITS = {
    "us": "µs", "ns": "ns", "ms": "ms", "s": "s", "hz": "Hz", "deg": "deg", "px": "px", "mv": "mV",
    "bytes": "bytes", "rad": "rad",
}  # fmt: skip
#: Checks of numbers -> how pages write what they allow, of one number or of a pair of them.
CHECKS = {
    "check_ranges": "{0:g} .. {1:g}",
    "check_intervals": "{0:g} .. {1:g}",
    "check_at_least": "≥ {0:g}",
    "check_above": "> {0:g}",
}
STAGES = (("student", TrainConfig), ("teacher", TeacherConfig), ("distill", DistillConfig))
NETWORK_OPTIONS = (
    ("lite-seg", LiteSegOptions), ("onboard-seg", OnboardSegOptions),
    ("evdistill-2021", DeepLabOptions), ("lite-cls", LiteClsOptions),
    ("onboard-cls", OnboardClsOptions),
)  # fmt: skip


def main() -> None:
    """Write every page that differs from what the code says."""
    for name, text in pages().items():
        path = FOLDER / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            sys.stderr.write(f"{path.name} is new\n")


def pages() -> dict[str, str]:
    """Return the text of every page by its file name."""
    made = {
        "commands.md": _commands(),
        "topics.md": _topics(),
        "parameters.md": _parameters(),
        "diagnostics.md": _diagnostics(),
        "formats.md": _formats(),
        **_configurations(),
    }
    return {name: f"{MARK}{text}" for name, text in made.items()}


def _commands() -> str:
    lines = [
        "# Commands\nThe help of every command. Options that several commands share: "
        "[cli](cli.md).\n"
    ]
    for group in typing.cast("Any", _typer_command()).commands:
        lines.append(f"## {group}\n```text\n{_help(group)}\n```\n")
    return "\n".join(lines)


def _typer_command() -> object:
    import typer  # noqa: PLC0415

    return typer.main.get_command(build_app())


def _help(name: str) -> str:
    out = io.StringIO()
    before = {k: os.environ.get(k) for k in ("COLUMNS", "TERMINAL_WIDTH")}
    os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100"}
    try:
        with contextlib.redirect_stdout(out):
            run_command([name, "--help"])
    finally:
        for key, value in before.items():
            if value is None:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value
    return "\n".join(line.rstrip() for line in out.getvalue().strip().splitlines())


def _topics() -> str:
    text = (
        "# Topics\nTopics of the nodes, and of `evdistill live`. `~` is the name of the node.\n\n"
    )
    text += "Everything that comes from one window carries one header. Its stamp is the host time\n"
    text += "of the window's end ([time](../explanation/time.md)).\n"
    for name, task in TASKS.items():
        text += f"\n## {name}_node\n{topics_table(task)}"
    return text


def _parameters() -> str:
    text = (
        "# Parameters\nParameters of the nodes, of `evdistill live` and `run` (`-p NAME:=VALUE`), "
    )
    text += (
        "and of\n`Student.load(path, NAME=VALUE)`. A dynamic one may change while the node runs.\n"
    )
    for name, kind in KINDS.items():
        text += f"\n## {name}_node\n{markdown_table(kind)}"
    return text


def _diagnostics() -> str:
    return (
        "# Diagnostics\n"
        "Values in `/diagnostics`, in `report.json` and at the end of `evdistill live`.\n"
        "How to read them:\n[segmentation-node](segmentation-node.md#diagnostics).\n\n"
        f"{diagnostics_table()}"
    )


def _formats() -> str:
    lines = [
        "# File formats", "What `evdistill info --formats` lists.",
        "What each file leaves open: [recordings](recordings.md).", "", "## Read",
        "| format | content |", "|---|---|",
        *(f"| {name} | {what} |" for name, what in READ), "", "## Written",
        "`convert`, `cut` and `record` choose the format by the suffix: "
        + ", ".join(f"`{suffix}`" for suffix in SUFFIXES) + ".",
    ]  # fmt: skip
    return "\n".join(lines) + "\n"


def _configurations() -> dict[str, str]:
    """Return the pages on YAML files, each class on the first page that reaches it."""
    student = dict(_reached(TrainConfig))
    data = {c: w for c, w in student.items() if w.split(".")[0] == "data"}
    simulator = {c: w for c, w in _reached(SimulateConfig)}
    classes = {c: w for c, w in _reached(ClassFile)}
    teacher, distill = dict(_reached(TeacherConfig)), dict(_reached(DistillConfig))
    own = {c: w for c, w in student.items() if c not in {*data, *simulator, *classes}}
    data = {c: w for c, w in data.items() if c not in {*simulator, *classes}}
    known = {*student, *simulator, *classes}
    head = "Keys of the YAML file of `evdistill train`"
    return {
        "experiment.md": _page(
            "Experiment",
            f"{head}. `stage: student` (default), `teacher` or `distill` chooses what is trained.\n"
            "Data: [experiment-data](experiment-data.md). Teacher and distillation:\n"
            "[experiment-distill](experiment-distill.md). `evdistill train FILE --print-config` "
            "prints all values.",
            own,
        )
        + _options()
        + _names("Losses", "Names in `loss.weights`.", LOSS_TEXTS),
        "experiment-data.md": _page(
            "Data of an experiment",
            f"{head}, below `data`. Entries of `sets` in the YAML file of `evaluate` are\n"
            "entries of `data.train`. `images` is explained in [training](../how-to/training.md).",
            data,
        ),
        "experiment-distill.md": _page(
            "Teacher and distillation",
            f"{head} with `stage: teacher` and `stage: distill`.\n"
            "Keys of [experiment](experiment.md) hold here too. `data.recordings` has the keys of\n"
            "`data.train.without.recordings` in [experiment-data](experiment-data.md).",
            {c: w for c, w in {**teacher, **distill, **dict(_reached(OnnxTeacherConfig))}.items()
             if c not in known},
        )
        + _names("Terms", "Names in `transfer.terms`.", TERMS),
        "simulator.md": _page(
            "Simulator",
            "Keys of `evdistill simulate --config`. `scene` and `sensor` are also keys of\n"
            "`simulation` in an experiment.",
            {c: w for c, w in simulator.items() if c not in classes},
        ),
        "class-file.md": _page(
            "Class file",
            "Keys of `--classes FILE`. Examples: [classes](../how-to/classes.md).",
            classes,
        ),
    }  # fmt: skip


LOSS_TEXTS = {
    name: " ".join((inspect.getdoc(loss) or "").split("\n\n", maxsplit=1)[0].split())
    for name, loss in LOSSES.items()
}


def _page(title: str, intro: str, classes: dict[type, str]) -> str:
    parts = [f"# {title}\n{intro}\n"]
    for cls, where in classes.items():
        parts.append(_section(cls, f"`{where}`" if where else "Top of the file"))
    return "\n".join(parts)


def _options() -> str:
    parts = []
    for network, cls in NETWORK_OPTIONS:
        parts.append("\n" + _section(cls, f"`network.options` of `{network}`"))
    return "".join(parts)


def _names(title: str, intro: str, table: dict[str, str]) -> str:
    rows = "".join(f"| `{name}` | {_cell(text)} |\n" for name, text in table.items())
    return f"\n## {title}\n{intro}\n\n| name | meaning |\n|---|---|\n{rows}"


def _section(cls: type, title: str) -> str:
    lines = [
        f"## {title}",
        "| key | type | default | range or unit | meaning |",
        "|---|---|---|---|---|",
    ]
    inherited = (
        [] if cls is TrainConfig or not issubclass(cls, TrainConfig) else rows_of(TrainConfig)
    )
    lines += [f"| {' | '.join(row)} |" for row in rows_of(cls) if row not in inherited]
    return "\n".join(lines) + "\n"


def rows_of(cls: type) -> list[tuple[str, str, str, str, str]]:
    """Return key, type, default, range or unit, and meaning of every field of a class.

    Raises:
        KeyError: a field without a meaning in the Attributes of the docstring.
    """
    hints, meanings, ranges = typing.get_type_hints(cls), meanings_of(cls), ranges_of(cls)
    rows = []
    for field in dataclasses.fields(typing.cast("Any", cls)):
        limits = " ".join(filter(None, (ranges.get(field.name, ""), _unit(field.name))))
        rows.append(
            (
                f"`{field.name}`", _type_words(hints[field.name]), _default(field), limits,
                _cell(meanings[field.name]),
            )
        )  # fmt: skip
    return rows


def meanings_of(cls: type) -> dict[str, str]:
    """Return what the docstrings of a class and its bases say of each attribute."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        text = inspect.cleandoc(base.__doc__ or "")
        if "Attributes:" in text:
            block = text.split("Attributes:", 1)[1]
            for name, words in re.findall(r"^    (\w+): (.*(?:\n {8}.*)*)", block, re.MULTILINE):
                found[name] = " ".join(words.split())
    return found


def ranges_of(cls: type) -> dict[str, str]:
    """Return the ranges that ``__post_init__`` of a class and its bases checks, as text."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        method = vars(base).get("__post_init__")
        if method is None or not inspect.isfunction(method):
            continue
        tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
        for node in ast.walk(tree):
            shown = CHECKS.get(ast.unparse(node.func)) if isinstance(node, ast.Call) else None
            if isinstance(node, ast.Call) and shown is not None:
                given: dict[str, Any] = {}
                for keyword in node.keywords:
                    value = _value(keyword.value, base, method)
                    given |= value if keyword.arg is None else {keyword.arg: value}
                for name, limits in given.items():
                    found[name] = shown.format(
                        *(limits if isinstance(limits, tuple) else (limits,))
                    )
    return found


def _value(node: ast.expr, cls: type, method: types.FunctionType) -> Any:
    names = method.__globals__ | {"self": cls}
    return eval(compile(ast.Expression(node), "<range>", "eval"), names)  # our own source


def _reached(cls: type, where: str = "") -> Iterator[tuple[type, str]]:
    """Yield a configuration class and all below it, each with its first dotted key."""
    seen: dict[type, str] = {}

    def walk(current: type, key: str) -> None:
        if current in seen:
            return
        seen[current] = key
        hints = typing.get_type_hints(current)
        for field in dataclasses.fields(typing.cast("Any", current)):
            for inner in _classes_in(hints[field.name]):
                walk(inner, f"{key}.{field.name}".strip("."))

    walk(cls, where)
    yield from seen.items()


def _classes_in(hint: Any) -> Iterator[type]:
    is_config = isinstance(hint, type) and dataclasses.is_dataclass(hint)
    if is_config and meanings_of(hint) and hint.__module__ not in NOT_KEYS:
        yield hint
    for inner in typing.get_args(hint):
        yield from _classes_in(inner)


NOT_KEYS = ("evdistill_core.foundation.labels",)  # class tables are written by ClassFile
WORDS = {
    int: "integer",
    float: "number",
    str: "text",
    bool: "true, false",
    Path: "path",
    object: "any",
}


def _type_words(hint: Any) -> str:  # noqa: PLR0911 - one branch a type
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Literal:
        return ", ".join(f"`{value}`" for value in inner)
    if origin in (typing.Union, types.UnionType):
        return " or ".join(dict.fromkeys(_type_words(t) for t in inner if t is not types.NoneType))
    if origin is tuple:
        if len(inner) == 2 and inner[1] is Ellipsis:
            return f"list of {_type_words(inner[0])}"
        return f"list of {len(inner)}: {', '.join(dict.fromkeys(_type_words(t) for t in inner))}"
    if origin is not None and issubclass(origin, typing.Mapping):
        return "keys" if inner[1] is object else f"name: {_type_words(inner[1])}"
    if dataclasses.is_dataclass(hint):
        return "keys"
    return WORDS.get(hint, getattr(hint, "__name__", str(hint)))


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        value = field.default
    elif field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
        if dataclasses.is_dataclass(value):
            return "its defaults"
    else:
        return "required"
    return _plain(value)


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "none"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, tuple):
        return f"`[{', '.join(_plain(v).strip('`') for v in value)}]`"
    if dataclasses.is_dataclass(value):
        return "its defaults"
    if isinstance(value, dict):
        shown = ", ".join(f"{k}: {v}" for k, v in value.items())
        return f"`{{{shown}}}`" if len(shown) < 60 else "see below"
    return f"`{value:g}`" if isinstance(value, float) else f"`{value}`"


def _unit(name: str) -> str:
    if name.endswith("_px_s"):
        return "px/s"
    return UNITS.get(name.rsplit("_", 1)[-1], "") if "_" in name else ""


def _cell(text: str) -> str:
    """Return a docstring's words for a cell of a table: Markdown code, links, a full stop."""
    text = text.replace("``", "`").replace("|", "\\|")
    text = re.sub(r"\bdocs/([\w-]+)/(\w[\w-]*)\.md", r"[\2](../\1/\2.md)", text)
    return text.replace("](../reference/", "](")


if __name__ == "__main__":
    main()
