"""Every help text at 80 columns: examples that parse, choices, no loose ends, one name a thing."""

import re
import shlex
from typing import get_args

import pytest
import typer
from typer.testing import CliRunner

from evdistill_core.cli import _options, _reading
from evdistill_core.cli._command import GROUPS
from evdistill_core.cli.main import build_app
from evdistill_core.inference import runner as core
from evdistill_core.recordings.encoders.packets import ENCODINGS
from evdistill_core.recordings.read_options import TIME_UNITS_US

NAMES = [
    "info", "view", "cut", "convert", "hot-pixels", "run", "report",
    "demo", "live", "record", "play", "doctor",
    "simulate", "train", "distill-on", "evaluate", "export", "import-checkpoint",
]  # fmt: skip
# What several commands have, they call the same and explain alike.
ONE_MEANING = ("--topic", "--start", "--end", "--overwrite", "--json", "--student", "--params-file")


def help_of(*arguments):
    result = CliRunner().invoke(
        build_app(), [*arguments, "--help"], prog_name="evdistill", env={"COLUMNS": "80"}
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def options_of(command):
    return [p for p in command.params if p.param_type_name == "option" and not p.hidden]


def test_every_command_is_listed_in_its_group(commands):
    text = help_of()
    assert list(commands) == NAMES
    sections = re.split(r"^(\w+):\n", text, flags=re.MULTILINE)
    found = dict(zip(sections[1::2], sections[2::2], strict=True))
    assert list(found) == ["Options", *GROUPS]
    listed = [n for group in GROUPS for n in re.findall(r"^  (\S+)  ", found[group], re.MULTILINE)]
    assert listed == NAMES
    assert "..." not in "".join(found[group] for group in GROUPS), "a short text is cut off"


@pytest.mark.parametrize("name", NAMES)
def test_help_reads_well_at_80_columns(name):
    text = help_of(name)
    for line in text.splitlines():
        assert len(line) <= 80 or line.lstrip().startswith("evdistill "), line
    for loose in ("<bool>", "[default: ]", "[default: None]", "default: ]", "TEXT", "<str>"):
        assert loose not in text
    assert not re.search(r"<(path|int|float)\b", text), "a value without a name of its own"


@pytest.mark.parametrize("name", NAMES)
def test_what_an_option_takes_has_a_name_or_its_choices(commands, name):
    for option in options_of(commands[name]):
        record = option.get_help_record(typer.Context(commands[name]))
        assert record[1], f"{option.opts} has no help"
        takes_value = not (option.is_flag or option.count)
        if takes_value and not option.metavar:
            assert re.search(r"[<\[]\w+(\|\w+)+[>\]]", record[0]), f"{record[0]}: no metavar"


@pytest.mark.parametrize("name", NAMES)
def test_examples_parse(commands, name):
    lines = help_of(name).partition("Examples:\n")[2].partition("\n\n")[0].splitlines()
    assert lines
    for line in lines:
        program, subcommand, *arguments = shlex.split(line)
        assert program == "evdistill"
        # Raises where an option does not exist, a choice is none, or an argument is missing.
        commands[subcommand].make_context(subcommand, arguments)
    assert any(shlex.split(line)[1] == name for line in lines)


def test_an_option_means_the_same_everywhere(commands):
    texts = {}
    for command in commands.values():
        for option in options_of(command):
            for name in set(ONE_MEANING) & set(option.opts):
                texts.setdefault(name, set()).add(option.help)
    assert {name: len(text) for name, text in texts.items()} == dict.fromkeys(ONE_MEANING, 1)


def test_what_makes_something_takes_out_and_overwrite(commands):
    only_shows = {"info", "live", "play", "doctor"}
    names = {n: {o for p in options_of(c) for o in p.opts} for n, c in commands.items()}
    for name, options in names.items():
        assert ({"--out", "-o"} <= options) == (name not in only_shows), name
        assert ("--overwrite" in options) == (name != "doctor"), name
    reads_recordings = ("info", "view", "cut", "convert", "hot-pixels", "run", "play")
    for name in reads_recordings:
        assert {"--topic", "--start", "--end"} <= names[name], name
    for name in ("info", "run", "convert", "cut", "evaluate", "report", "doctor", "hot-pixels",
                 "export"):  # fmt: skip
        assert "--json" in names[name], name
    assert all({"--verbose", "-v", "--help"} <= options | {"--help"} for options in names.values())


def test_choices_are_those_of_the_core():
    assert get_args(_options.Device) == get_args(core.Device)
    assert get_args(_options.Encoding) == tuple(ENCODINGS)
    literal = get_args(get_args(get_args(_reading.TimeUnit)[0])[0])
    assert literal == tuple(TIME_UNITS_US)
