"""Every command through every fault that a user can meet: one line each, and no traceback.

A child process has the fault in its world (a full or read-only file system of its own, no right to
write, no extras) and runs all commands there. Linux alone gives a process a world of its own;
where it does not, the test is skipped and says why.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from evdistill_core.cli.main import run
from evdistill_core.foundation.extras import EXTRAS

WALK = Path(__file__).parent / "fault_walk.py"
ROOT = Path(__file__).parents[2]
NO_CAMERA = "tcp://127.0.0.1:1"

# name: (arguments, whether the result is a file, what it ends in). OUT is where it goes, the other
# capitals are inputs, see `inputs`.
COMMANDS = {
    "info": ("info REC --plot OUT", True, ".png"),
    "view png": ("view REC OUT", True, ".png"),
    "view mp4": ("view REC OUT", True, ".mp4"),
    "cut": ("cut REC OUT", True, ".mcap"),
    "convert mcap": ("convert REC OUT", True, ".mcap"),
    "convert aedat4": ("convert REC --out OUT", True, ".aedat4"),
    "convert npz": ("convert REC OUT", True, ".npz"),
    "convert h5": ("convert REC OUT", True, ".h5"),
    "convert many": ("convert REC REC2 --out OUT", False, ""),
    "hot-pixels": ("hot-pixels REC OUT", True, ".txt"),
    "run": ("run REC --student STUDENT --out OUT --quiet", False, ""),
    "run many": ("run REC REC2 --student STUDENT --out OUT --quiet", False, ""),
    "report": ("report RESULTS -o OUT", True, ".json"),
    "demo": ("demo --recording REC --student STUDENT --out OUT", False, ""),
    "live": ("live --student STUDENT --timeout 0.1 --result-log OUT", True, ".jsonl"),
    "play": ("play REC --rate 100 --send-log OUT", True, ".jsonl"),
    "record": (f"record --camera {NO_CAMERA} --timeout 1 OUT", True, ".mcap"),
    "simulate": ("simulate IMAGES OUT --config SIMULATE --count 2", False, ""),
    "simulate preview": (
        "simulate IMAGES SET --config SIMULATE --count 2 --resume --preview OUT", True, ".png",
    ),
    "train": ("train TRAIN --out OUT", False, ""),
    "distill-on": (
        "distill-on REC --images IMAGES --profile PUPIL --teacher-profile TEACHER --out OUT",
        False, "",
    ),
    "evaluate": ("evaluate STUDENT SETS --out OUT", False, ""),
    "export": ("export CHECKPOINT OUT --no-onnx", True, ".evstudent"),
    "import-checkpoint": ("import-checkpoint RELEASE OUT --no-onnx", True, ".evstudent"),
}  # fmt: skip
# What only shows or listens has no result; it must bear the other faults.
INPUTS = {
    "info": "info IN", "view": "view IN OUT.mp4", "cut": "cut IN OUT.mcap",
    "convert": "convert IN OUT.npz", "hot-pixels": "hot-pixels IN OUT.txt",
    "run": "run IN --student STUDENT --out OUT", "run student": "run REC --student IN --out OUT",
    "run params": "run REC --params-file IN --out OUT", "report": "report IN",
    "report labels": "report RESULTS --labels IN", "demo": "demo --recording IN --out OUT",
    "live": "live --student IN --timeout 0.1",
    "live params": "live --params-file IN --timeout 0.1",
    "play": "play IN", "doctor": "doctor --events= --params-file IN",
    "simulate": "simulate IN OUT", "simulate config": "simulate IMAGES OUT --config IN",
    "train": "train IN --out OUT",
    "distill-on": "distill-on IN --images IMAGES --out OUT",
    "distill-on images": "distill-on REC --images IN --out OUT",
    "distill-on profile": "distill-on REC --images IMAGES --profile IN --out OUT",
    "evaluate": "evaluate IN SETS --out OUT", "evaluate sets": "evaluate STUDENT IN --out OUT",
    "export": "export IN OUT.evstudent", "export card": "export CHECKPOINT OUT.evstudent --card IN",
    "import-checkpoint": "import-checkpoint IN OUT.evstudent",
    "import-checkpoint classes": "import-checkpoint RELEASE OUT.evstudent --classes IN",
}  # fmt: skip


@pytest.fixture(scope="session")
def inputs(tmp_path_factory, tiny_student, make_camvid):
    """What the commands read, by the capitals that stand for it."""
    folder = tmp_path_factory.mktemp("inputs")
    rng = np.random.default_rng(0)
    t_us = np.sort(rng.integers(0, 200_000, 20_000))
    rows = np.stack([t_us, *(rng.integers(0, n, len(t_us)) for n in (48, 40, 2))], axis=1)
    for name in ("rec.txt", "rec2.txt"):
        (folder / name).write_text("48 40\n" + "\n".join(" ".join(map(str, r)) for r in rows))
    make_camvid(folder / "images", stems=[f"0001TP_{k:06d}" for k in range(6)])
    for name, content in _configurations(folder).items():
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    found = {
        "REC": "rec.txt", "REC2": "rec2.txt", "IMAGES": "images", "SIMULATE": "simulate.yaml",
        "TRAIN": "train.yaml", "SETS": "sets.yaml", "PUPIL": "pupil.yaml",
        "TEACHER": "teacher.yaml", "RESULTS": "results/masks.mcap", "SET": "set",
        "CHECKPOINT": "checkpoint/last.pt", "RELEASE": "release.pth",
    }  # fmt: skip
    places = {key: folder / name for key, name in found.items()} | {"STUDENT": tiny_student}
    for line in (
        f"run {places['REC']} --student {tiny_student} -q -o {folder / 'results'}",
        f"simulate {places['IMAGES']} {places['SET']} --config {places['SIMULATE']} --count 2",
        f"train {places['TRAIN']} --out {folder / 'checkpoint'}",
    ):
        assert run(line.split()) == 0, line
    _write_release(places["RELEASE"])
    return places


def _configurations(folder):
    from evdistill_core.training.distill_config import TERMS

    simulation = {"images": {"root": str(folder / "images")}, "height": 32, "width": 48}
    small = {
        "steps": 1, "batch_size": 2, "threads": 1, "workers": 0, "device": "cpu",
        "network": {"name": "onboard-seg", "options": {"width": 0.25}}, "validate_every": 0,
    }  # fmt: skip
    stills = {"images": {"root": str(folder / "images")}, "crop": [32, 48]}
    whole = {"images": {"root": str(folder / "images")}, "multiple": 32}
    window = {"name": "stills", "simulation": {**simulation, "unique": 2}}
    return {
        "simulate.yaml": {"height": 32, "width": 48},
        "train.yaml": {
            **small, "name": "tiny", "input": {"bins": 2, "window_us": 20_000},
            "data": {"train": [window]},
        },
        "sets.yaml": {"sets": [{**window, "count": 2}]},
        "teacher.yaml": {
            **small, "stage": "teacher", "name": "t",
            "data": {"stills": stills, "validation_stills": {"val": whole}},
        },
        "pupil.yaml": {
            **small, "stage": "distill", "name": "s", "teacher": "elsewhere.pt",
            "input": {"bins": 2, "window_us": 20_000},
            "terms": {name: 0.0 for name in TERMS} | {"kd_event": 1.0, "task_events": 1.0},
            "adversary": {
                "generator": {"base_channels": 4, "halvings": 1, "blocks": 1},
                "discriminator": {"base_channels": 4, "layers": 1},
            },
            "data": {
                "stills": stills,
                "recordings": {"paths": ["x"], "crop": [32, 48], "cache": str(folder / "cache")},
                "train": [window],
            },
        },
    }  # fmt: skip


def _write_release(path):
    import torch

    sys.path.insert(0, str(ROOT / "test" / "models"))
    from reference_deeplab import published_shapes

    state = {
        key: torch.zeros(1).expand(shape) if shape else torch.tensor(1)
        for key, shape in published_shapes(6).items()
    }
    torch.save(state, path)


def words(line, inputs, **more):
    """The arguments of a line with its capitals replaced."""
    places = {**inputs, **more}
    found = []
    for word in line.split():
        key, dot, suffix = word.partition(".")
        found.append(f"{places[key]}{dot}{suffix}" if key in places else word)
    return found


# Every finder of modules, but blind to some.
NOT_INSTALLED = """
import sys

class Without:
    def __init__(self, finder):
        self.finder = finder

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in {0!r}:
            return self.finder.find_spec(name, path, target)

    def __getattr__(self, name):
        return getattr(self.finder, name)

sys.meta_path[:] = [Without(finder) for finder in sys.meta_path if hasattr(finder, "find_spec")]
"""


class World:
    """A child process with faults in its world, which runs all commands once.

    Args:
        folder: for what the commands write.
        inputs: what they read.
    """

    def __init__(self, folder, inputs):
        self.folder = folder
        self.inputs = inputs
        self.cases = []
        self.named = {}

    def add(self, fault, command, line, named, *, watched=None, **places):
        """Let a command meet a fault; its error must name a path."""
        key = f"{fault}: {command}"
        self.cases.append((key, words(line, self.inputs, **places), watched))
        self.named[key] = named

    def run(self, *, mounts=(), blocked=(), prefix=()):
        """Run the cases; return what became of them.

        Args:
            mounts: see fault_walk.py.
            blocked: modules that are not installed, in child processes too.
            prefix: command that runs the process.
        """
        spec = {"mounts": mounts, "folder": str(self.folder), "cases": self.cases}
        path = self.folder / "spec.json"
        path.write_text(json.dumps(spec, default=str), encoding="utf-8")
        for name in ("scratch", "site"):
            (self.folder / name).mkdir()
        (self.folder / "site" / "sitecustomize.py").write_text(NOT_INSTALLED.format(set(blocked)))
        environment = os.environ | {
            "PYTHONPATH": f"{self.folder / 'site'}{os.pathsep}{ROOT}",
            "TMPDIR": str(self.folder / "scratch"),
            "COLUMNS": "200",
        }
        done = subprocess.run(
            [*prefix, sys.executable, WALK, path],
            capture_output=True, text=True, timeout=170, check=False, env=environment,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert [r["name"] for r in rows] == [key for key, *_ in self.cases], done.stderr[-2000:]
        return {row["name"]: row | {"named": str(self.named[row["name"]])} for row in rows}


def check(result, *, code=(1, 2), lines=3):
    """One clear line: not a crash, no traceback, the path is named, no half of a file stays."""
    err = result["err"]
    assert result["code"] in code, result
    assert "Traceback" not in err, result
    assert "unexpected" not in err, result
    assert ": error: " in err.strip().splitlines()[-1], result
    assert len(err.strip().splitlines()) <= lines, result
    assert result["named"] in err, result
    assert not [name for name in result["left"] if ".part" in name], result


def own_mounts():
    """Return what runs a process with mounts of its own; skip where that cannot be had."""
    ways = [["unshare", "--mount"], ["unshare", "--user", "--map-root-user", "--mount"]]
    for way in ways if shutil.which("unshare") else []:
        probe = [*way, "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
        if subprocess.run(probe, capture_output=True, check=False, timeout=10).returncode == 0:
            return way
    return pytest.skip("no mount of one's own here: neither as root nor in a user namespace")


def without_root_rights():
    """Return what runs a process that permissions hold for, as they do for users."""
    if os.geteuid() != 0:
        return []
    way = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    if shutil.which("setpriv") is None or subprocess.run([*way, "true"], check=False).returncode:
        pytest.skip("root may do everything, and setpriv cannot take that away here")
    return way


# An empty parameter file, card or configuration is one, and no mistake.
MAY_BE_EMPTY = {"run params", "live params", "doctor", "simulate config", "export card"}
WRONG = [
    (fault, command)
    for fault in ("missing", "empty", "garbage", "folder")
    for command in INPUTS
    if fault != "empty" or command not in MAY_BE_EMPTY
]


# --- results that cannot go where they should, and inputs that are none


@pytest.fixture(scope="module")
def plain(inputs, tmp_path_factory):
    """A world without any special right: what is wrong is what stands at the paths."""
    folder = tmp_path_factory.mktemp("plain")
    world = World(folder, inputs)
    (folder / "file").write_text("precious")
    (folder / "folder").mkdir()
    for name, (line, is_file, suffix) in COMMANDS.items():
        wrong = folder / ("folder" if is_file else "file")
        world.add("wrong kind", name, line, wrong, OUT=wrong)
        below = folder / "file" / f"x{suffix}"
        world.add("below a file", name, line, below, OUT=below)
        there = folder / f"there_{len(world.cases)}{suffix}"
        _make_former(there, name)
        world.add("there already", name, line, there, OUT=there)
    (folder / "empty").write_bytes(b"")
    (folder / "garbage").write_bytes(b"\x00\xff\x13\x37" * 64)
    for fault, name in WRONG:
        out = folder / f"out_{len(world.cases)}"
        world.add(fault, name, INPUTS[name], folder / fault, IN=folder / fault, OUT=out)
    results = world.run()
    assert (folder / "file").read_text() == "precious"
    assert list((folder / "folder").iterdir()) == []
    return results


def _make_former(target, command):
    """Put there what an earlier run of the command would have left."""
    inside = {
        "run": "report.json", "run many": "rec/report.json", "convert many": "rec2.mcap",
        "demo": "masks.mcap", "simulate": "index.json", "train": "last.pt",
        "distill-on": "student.evstudent", "evaluate": "report.html",
    }  # fmt: skip
    path = target / inside[command] if command in inside else target
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("precious")


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", ["wrong kind", "below a file", "there already"])
def test_a_result_that_cannot_go_there(plain, fault, command):
    result = plain[f"{fault}: {command}"]
    if fault == "there already" and command == "simulate preview":
        assert result["code"] == 0  # --resume goes on, and the preview with it
        return
    check(result, code=(2,))
    assert fault != "there already" or "--overwrite" in result["err"]


@pytest.mark.parametrize(("fault", "command"), WRONG)
def test_an_input_that_is_none(plain, fault, command):
    check(plain[f"{fault}: {command}"])


# --- permissions


@pytest.fixture(scope="module")
def rights(inputs, tmp_path_factory):
    """A world in which permissions hold, also for root."""
    prefix = without_root_rights()
    folder = tmp_path_factory.mktemp("rights")
    world = World(folder, inputs)
    locked = folder / "locked"
    locked.mkdir(mode=0o500)
    for name, (line, _, suffix) in COMMANDS.items():
        world.add("locked", name, line, locked, OUT=locked / f"x{suffix}")
        long = folder / ("n" * 300 + suffix)
        world.add("long name", name, line, "n" * 300, OUT=long)
    secret = folder / "secret"
    secret.write_text("8 4\n1000 1 2 1\n")
    secret.chmod(0)
    for name, line in INPUTS.items():
        out = folder / f"out_{len(world.cases)}"
        world.add("unreadable", name, line, secret, IN=secret, OUT=out)
    results = world.run(prefix=prefix)
    locked.chmod(0o700)
    assert list(locked.iterdir()) == []
    return results


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("fault", ["locked", "long name"])
def test_no_permission_and_names_that_are_too_long(rights, fault, command):
    check(rights[f"{fault}: {command}"])


@pytest.mark.parametrize("command", INPUTS)
def test_an_input_that_may_not_be_read(rights, command):
    check(rights[f"unreadable: {command}"])


# --- disks


@pytest.fixture(scope="module")
def readonly(inputs, tmp_path_factory):
    """A file system that takes no writes."""
    prefix = own_mounts()
    folder = tmp_path_factory.mktemp("readonly")
    world = World(folder, inputs)
    place = folder / "disk"
    place.mkdir()
    for name, (line, _, suffix) in COMMANDS.items():
        world.add("readonly", name, line, place, OUT=place / "deep" / f"x{suffix}")
    return world.run(mounts=[(place, "ro", None)], prefix=prefix)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_read_only_file_system(readonly, command):
    result = readonly[f"readonly: {command}"]
    check(result)
    assert "read-only" in result["err"]


def _full(inputs, folder, names, free_bytes):
    """Let commands write to a disk with so much room left."""
    prefix = own_mounts()
    world = World(folder, inputs)
    place = folder / "disk"
    place.mkdir()
    for name in names:
        line, _, suffix = COMMANDS[name]
        out = place / f"x{suffix}"
        world.add("full", name, line, out, watched=place, OUT=out)
    return world.run(mounts=[(place, "size=256k", free_bytes)], prefix=prefix)


# These compute for a while before they write, or start other processes.
LONG = ("demo", "live", "record", "simulate", "train", "distill-on", "evaluate", "export",
        "import-checkpoint")  # fmt: skip
SHORT = tuple(name for name in COMMANDS if name not in LONG)


@pytest.fixture(scope="module")
def full(inputs, tmp_path_factory):
    """A disk without any room."""
    return _full(inputs, tmp_path_factory.mktemp("full"), SHORT, 0)


@pytest.fixture(scope="module")
def full_long(inputs, tmp_path_factory):
    """The same for commands that take longer."""
    names = [n for n in LONG if n not in WITHOUT_DISK]
    return _full(inputs, tmp_path_factory.mktemp("full_long"), names, 0)


@pytest.fixture(scope="module")
def nearly_full(inputs, tmp_path_factory):
    """A disk that takes the beginning of a result and not all of it."""
    return _full(inputs, tmp_path_factory.mktemp("nearly"), LARGE, 16_384)


# Without a camera, or a topic, there is nothing to write; their own tests fill the disk.
WITHOUT_DISK = ("record", "live")
LARGE = tuple(n for n in SHORT if n not in ("info", "hot-pixels", "report", "play", "view png",
                                            "simulate preview"))  # fmt: skip


def check_full(result, command):
    if command in ("convert many", "run many"):  # both are told of; the last line counts
        assert "2 failed" in result["out"], result
    check(result, lines=9 if command == "demo" else 3)  # the demo says how far it is
    assert "No space left on device" in result["err"], result


@pytest.mark.parametrize("command", SHORT)
def test_a_full_disk(full, command):
    check_full(full[f"full: {command}"], command)


@pytest.mark.parametrize("command", LARGE)
def test_a_disk_that_fills_up(nearly_full, command):
    check_full(nearly_full[f"full: {command}"], command)


@pytest.mark.slow
@pytest.mark.parametrize("command", [n for n in LONG if n not in WITHOUT_DISK])
def test_a_full_disk_after_a_while(full_long, command):
    check_full(full_long[f"full: {command}"], command)


# --- extras

NEEDS = {
    "convert h5": "hdf5", "demo": "dds", "live": "dds", "play": "dds", "record": "inivation",
    "train": "train", "distill-on": "train", "export": "train",
    "import-checkpoint": "train",
}  # fmt: skip


@pytest.fixture(scope="module")
def bare(inputs, tmp_path_factory):
    """An installation without any extra."""
    folder = tmp_path_factory.mktemp("bare")
    world = World(folder, inputs)
    for name, (line, _, suffix) in COMMANDS.items():
        out = folder / f"out_{len(world.cases)}{suffix}"
        world.add("bare", name, line, "", OUT=out)
    world.add("bare", "doctor", "doctor --seconds 0.1 --student STUDENT", "")
    world.add("bare", "version", "--version", "")
    return world.run(blocked=[module for modules in EXTRAS.values() for module in modules])


@pytest.mark.parametrize("command", COMMANDS)
def test_without_extras(bare, command):
    """What needs one says which; everything else works."""
    result = bare[f"bare: {command}"]
    extra = NEEDS.get(command)
    if extra is None:
        assert result["code"] == 0, result
        return
    check(result)
    assert f'pip install "evdistill_ros[{extra}]"' in result["err"], result


def test_the_doctor_and_the_version_say_what_is_not_installed(bare):
    doctor, version = bare["bare: doctor"], bare["bare: version"]
    assert doctor["code"] == 1
    assert 'pip install "evdistill_ros[dds]"' in doctor["out"]
    assert "Traceback" not in doctor["err"]
    assert version["out"].count("not installed") == len(EXTRAS)
