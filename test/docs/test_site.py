"""The documentation as a site: it builds without a warning, and loads nothing from elsewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT, env=os.environ | {"NO_MKDOCS_2_WARNING": "1"}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


def test_every_page_is_in_the_site(site):
    for page in (ROOT / "docs").glob("**/*.md"):
        path = page.relative_to(ROOT / "docs").with_suffix(".html")
        if path.name == "README.html":
            path = path.with_name("index.html")
        assert (site / path).is_file(), path


def test_the_site_loads_nothing_from_elsewhere(site):
    pages = sorted(site.glob("**/*.html"))
    assert len(pages) > 40
    for page in pages:
        tags = re.findall(r"<(?:script|link|img|iframe)\b[^>]*>", page.read_text(encoding="utf-8"))
        elsewhere = [t for t in tags if re.search(r"""(?:src|href)=["']?(?:https?:)?//""", t)]
        assert elsewhere == [], page


def test_files_of_the_repository_that_pages_link_to_are_copied(site):
    copy = site / "repository" / "config" / "seg.yaml.txt"
    assert copy.read_bytes() == (ROOT / "config" / "seg.yaml").read_bytes()
    assert "../repository/config/seg.yaml.txt" in (site / "how-to" / "python.html").read_text()


def test_lists_and_tables_that_follow_a_paragraph_directly_are_lists_and_tables(site):
    for path in site.glob("**/*.html"):
        text = path.read_text(encoding="utf-8")
        for paragraph in re.findall(r"<p>(.*?)</p>", text, re.DOTALL):
            assert not re.search(r"^(?:[-*] |\|)", paragraph, re.MULTILINE), (path, paragraph)
