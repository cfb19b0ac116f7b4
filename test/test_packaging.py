"""What is handed out: metadata, extras, wheel and source archive, images, pixi, licences."""

import ast
import email
import json
import re
import shutil
import subprocess
import sys
import tarfile
import xml.etree.ElementTree as ET
import zipfile
from fnmatch import fnmatch
from pathlib import Path

import pytest

from evdistill_core.foundation.extras import EXTRAS
from evdistill_core.foundation.version import VERSION

ROOT = Path(__file__).parent.parent
# Names on PyPI that differ from those of their modules.
MODULES = {
    "dv_processing": "dv-processing",
    "lightning_fabric": "lightning-fabric",
    "rerun": "rerun-sdk",
    "foxglove": "foxglove-sdk",
}
NOT_IN_ALL = {"rerun", "foxglove"}  # viewers of others: large, and rerun-sdk wants NumPy 2


@pytest.fixture(scope="module")
def built(project_copy, tmp_path_factory):
    """The wheel and the source archive of the files that git knows, and the wheel's metadata."""
    source = shutil.copytree(project_copy, tmp_path_factory.mktemp("built") / "source")
    out = tmp_path_factory.mktemp("dist")
    # setuptools changes sys.argv, so the folder is read first.
    code = (
        "import setuptools.build_meta as b, sys; out = sys.argv[1]; b.build_sdist(out);"
        "b.build_wheel(out)"
    )
    subprocess.run(
        [sys.executable, "-c", code, out], cwd=source, check=True, capture_output=True, text=True
    )
    with zipfile.ZipFile(next(out.glob("*.whl"))) as wheel:
        names = wheel.namelist()
        (metadata,) = [n for n in names if n.endswith(".dist-info/METADATA")]
        facts = email.message_from_string(wheel.read(metadata).decode())
    with tarfile.open(next(out.glob("*.tar.gz"))) as archive:
        inside = [m.name.partition("/")[2] for m in archive.getmembers() if m.isfile()]
    return facts, names, inside


def test_the_metadata_tell_a_stranger_what_this_is(built):
    facts, *_ = built
    assert (facts["Name"], facts["Version"]) == ("evdistill_ros", VERSION)
    assert facts["Author"] == "evdistill maintainers"
    assert facts["License"] == "Apache-2.0" or facts["License-Expression"] == "Apache-2.0"
    assert facts["Home-page"].startswith("https://")
    assert facts["Requires-Python"] == ">=3.10"
    assert "Typing :: Typed" in facts.get_all("Classifier")
    assert facts["Description-Content-Type"] == "text/markdown"
    assert facts.get_payload() == (ROOT / "README.md").read_text(encoding="utf-8")
    assert set(facts.get_all("License-File")) == {"LICENSE", "THIRD_PARTY.md"}


def test_extras_hold_what_the_code_asks_for(built):
    facts, *_ = built
    found = {extra: set() for extra in facts.get_all("Provides-Extra")}
    for row in facts.get_all("Requires-Dist"):
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", row)
        if extra:
            found[extra[1]].add(re.match(r"[\w.-]+", row)[0].lower())
    assert set(found) >= {*EXTRAS, "robot", "all", "docs", "test"}
    for extra, modules in EXTRAS.items():
        assert {MODULES.get(m, m) for m in modules} <= found[extra], extra
        assert (found[extra] <= found["all"]) == (extra not in NOT_IN_ALL)
    assert found["robot"] == found["dds"] | found["inivation"] | found["openvino"]
    assert not {"pytest", "mkdocs"} & found["all"]


def test_the_wheel_holds_what_runs_and_no_more(built):
    _, names, _ = built
    tops = {name.partition("/")[0].partition("-")[0] for name in names}
    assert tops == {"evdistill_core", "evdistill_ros"}
    for path in [*ROOT.glob("evdistill_core/assets/*"), *ROOT.glob("evdistill_*/py.typed")]:
        assert path.relative_to(ROOT).as_posix() in names
    known = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard", "evdistill_core", "evdistill_ros"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    assert {n for n in names if n.startswith(("evdistill_core/", "evdistill_ros/"))} == set(known)


def test_the_source_archive_builds_the_same_and_has_the_demo(built):
    _, names, inside = built
    assert "demo/davis346_street.mcap" in inside
    for name in ("LICENSE", "THIRD_PARTY.md", "package.xml", "resource/evdistill_ros", "setup.py"):
        assert name in inside
    for top in ("test/", "docs/", "benchmarks/", ".ci/", "docker/", ".devcontainer/"):
        assert not [name for name in inside if name.startswith(top)], top
    packages = {n for n in names if n.startswith(("evdistill_core/", "evdistill_ros/"))}
    assert packages <= set(inside)
    for folder in ("launch", "rviz", "config"):
        files = {p.relative_to(ROOT).as_posix() for p in ROOT.glob(f"{folder}/**/*.*")
                 if "__pycache__" not in p.parts}  # fmt: skip
        assert files <= set(inside)


def test_all_versions_are_one():
    (setup,) = re.findall(r'version="([\d.]+)"', (ROOT / "setup.py").read_text())
    package = ET.parse(ROOT / "package.xml").getroot().findtext("version")
    assert setup == package == VERSION


def test_pixi_installs_the_extras_that_there_are():
    tomllib = pytest.importorskip("tomllib")
    content = tomllib.loads((ROOT / "pixi.toml").read_text(encoding="utf-8"))
    workspace = content["workspace"]
    assert (workspace["name"], workspace["version"]) == ("evdistill_ros", VERSION)
    assert (ROOT / workspace["license-file"]).is_file()
    features = content["feature"]
    asked = [content["pypi-dependencies"], *(f["pypi-dependencies"] for f in features.values())]
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    for table in asked:
        ours = table["evdistill_ros"]
        assert ours["path"] == "."
        for extra in ours["extras"]:
            assert (
                f'        "{extra}": [' in setup or f'        "{extra}": {extra.upper()},' in setup
            )
    for names in content["environments"].values():
        assert set(names) <= set(features)
    (least,) = re.findall(r'python_requires=">=([\d.]+)"', setup)
    assert content["dependencies"]["python"].startswith(f">={least},")


def ignored(name, patterns):
    return any(fnmatch(name, p) or name.startswith(f"{p}/") for p in patterns)


@pytest.mark.parametrize("path", sorted(ROOT.glob("docker/*.Dockerfile")), ids=lambda p: p.name)
def test_images_copy_what_there_is(path):
    text = path.read_text(encoding="utf-8").replace("\\\n", " ")
    lines = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    patterns = [line for line in lines if line and not line.startswith("#")]
    copied = [line.split()[1:-1] for line in text.splitlines() if line.startswith("COPY ")]
    assert copied
    for name in (n for names in copied for n in names):
        assert (ROOT / name).exists(), name
        assert not ignored(name, patterns), name
    assert "Never built" in text  # until somebody has
    user = re.search(r"^USER (\S+)", text, re.MULTILINE)
    assert user is None or user[1].isdecimal()
    for entry in re.findall(r"^COPY (docker/\S+)", text, re.MULTILINE):
        assert (ROOT / entry).stat().st_mode & 0o111, entry
    hadolint = shutil.which("hadolint")
    if hadolint:
        subprocess.run([hadolint, path], check=True)


def test_the_images_have_every_file_that_setup_reads():
    text = (ROOT / "docker" / "cpu.Dockerfile").read_text(encoding="utf-8")
    before = text[: text.index("RUN pip")]
    copied = {n for line in before.splitlines() if line.startswith("COPY ") for n in line.split()}
    read = set(re.findall(r'"(README\.md|LICENSE|THIRD_PARTY\.md|package\.xml)"',
                          (ROOT / "setup.py").read_text()))  # fmt: skip
    assert {"README.md", "LICENSE", "THIRD_PARTY.md"} <= read <= copied


def test_the_devcontainer_calls_a_target_that_there_is():
    content = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    command, target = content["postCreateCommand"].split()
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    names = dict(re.findall(r"^(\w+) := (.+)$", makefile, re.MULTILINE))
    assert command == "make"
    assert target == names["ALL"].replace("$(VENV)", names["VENV"])


def test_every_bundled_weight_has_its_terms():
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    for path in ROOT.glob("evdistill_core/assets/*"):
        assert f"`{path.relative_to(ROOT)}`" in text, path
    for path in ROOT.glob("docs/models/*.md"):
        if path.name != "README.md":
            card = path.read_text(encoding="utf-8")
            assert "## Licence" in card
            assert "non-commercial" in card
            assert "Apache-2.0" in card
    licence = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert "END OF TERMS AND CONDITIONS" in licence


def test_the_release_page_names_every_key_of_rosdep():
    page = (ROOT / "docs" / "how-to" / "release.md").read_text(encoding="utf-8")
    root = ET.parse(ROOT / "package.xml").getroot()
    for tag in ("depend", "exec_depend", "build_depend", "test_depend"):
        for element in root.iter(tag):
            assert f"`{element.text}`" in page, element.text
    tree = ast.parse((ROOT / "setup.py").read_text(encoding="utf-8"))
    (required,) = [k.value for n in ast.walk(tree) if isinstance(n, ast.Call) for k in n.keywords
                   if k.arg == "install_requires"]  # fmt: skip
    from_ros = {"numpy", "opencv-python-headless", "pyyaml", "setuptools"}
    for row in ast.literal_eval(required):
        name = re.match(r"[\w-]+", row)[0]
        assert name in from_ros or name in page, name
