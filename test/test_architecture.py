import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parent.parent
TOP_LEVEL = (
    "evdistill_ros", "evdistill_core", "launch", "config", "test",
    "package.xml", "setup.py", "README.md",
)  # fmt: skip
UNPICKLERS = ("pickle", "dill", "cloudpickle", "joblib")


def test_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--no-logo"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 kept, 0 broken" in done.stdout


def test_documents_name_only_files_that_exist():
    """A path of code in a document starts at the top, in a package, or is a bare file name."""
    folders = ("evdistill_core", "evdistill_ros", "benchmarks", "examples", "launch", "test")
    known = {path.name for folder in folders for path in ROOT.glob(f"{folder}/**/*.py")}
    missing = []
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")]:
        if page.name == "CHANGELOG.md":  # tells of what is gone
            continue
        for name in re.findall(r"`([\w./-]+\.py)\b", page.read_text(encoding="utf-8")):
            tops = (ROOT, ROOT / "evdistill_core", ROOT / "evdistill_ros", ROOT / "benchmarks")
            if not any((top / name).is_file() for top in tops) and name not in known:
                missing.append(f"{page.relative_to(ROOT)}: {name}")
    assert missing == []


def test_decisions_have_numbers_of_their_own():
    numbers = Counter(path.name[:4] for path in ROOT.glob("docs/adr/0*.md"))
    assert [number for number, count in numbers.items() if count > 1] == []
    for path in ROOT.glob("docs/adr/0*.md"):
        assert path.read_text(encoding="utf-8").startswith(f"# {int(path.name[:4])}. "), path.name


def test_test_files_have_names_of_their_own():
    """The pytest plugin of launch_testing, on every ROS 2 installation, refuses equal ones."""
    names = Counter(path.name for path in ROOT.glob("test/**/test_*.py"))
    assert [name for name, count in names.items() if count > 1] == []


def test_nothing_lies_loose_at_the_top_of_the_core():
    loose = {path.name for path in ROOT.glob("evdistill_core/*.py")}
    assert loose == {"__init__.py", "__main__.py"}


def test_the_fixed_top_level_is_there():
    assert [name for name in TOP_LEVEL if not (ROOT / name).exists()] == []


def test_nothing_unpickles():
    """torch.load without weights_only, pickle and numpy's allow_pickle run code from a file."""
    found = []
    for path in [*ROOT.glob("evdistill_core/**/*.py"), *ROOT.glob("evdistill_ros/**/*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                names = {a.name for a in node.names}
                modules = names | {getattr(node, "module", "") or ""}
                # torch raises pickle's error for a file that weights_only refuses.
                if names != {"UnpicklingError"} and modules & set(UNPICKLERS):
                    found.append(f"{path}:{node.lineno} imports {names}")
            if isinstance(node, ast.Call):
                keywords = {k.arg: ast.unparse(k.value) for k in node.keywords}
                called = ast.unparse(node.func)
                if called == "torch.load" and keywords.get("weights_only") != "True":
                    found.append(f"{path}:{node.lineno} torch.load without weights_only=True")
                if keywords.get("allow_pickle") == "True" or called in (
                    "yaml.load",
                    "eval",
                    "exec",
                ):
                    found.append(f"{path}:{node.lineno} {called}")
    assert found == []
