"""Hooks of mkdocs: the order of the pages, and links to files outside of docs/.

A page stands in the menu of its folder as soon as it lies there; the folder's ``README.md`` comes
first and its links give the order of the pages. Links to files of the repository (``config``,
``examples``) point to copies in the site. Links to its folders become plain text. A list or a table
may follow a paragraph without an empty line, as on GitHub.
"""

from __future__ import annotations

import os
import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = {
    "tutorials": "Tutorials",
    "how-to": "How-to",
    "reference": "Reference",
    "explanation": "Explanation",
    "models": "Models",
    "adr": "Decisions",
}
LINK = re.compile(r"(?<!!)\[([^\]]*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
BLOCK = re.compile(r"([-*] |\d+\. |\|)")  # begins an item of a list or a row of a table
COPIES = "repository"  # folder of the site with files from outside of docs/


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Build the menu from the folders."""
    docs = Path(config.docs_dir)
    nav: list[Any] = [{"Start": "README.md"}]
    nav += [{"Glossary": "glossary.md"}] if (docs / "glossary.md").is_file() else []
    nav[1:1] = [{title: pages_of(docs, name)} for name, title in SECTIONS.items()]
    config.nav = nav
    return config


def pages_of(docs: Path, folder: str) -> list[str]:
    """Return the pages of a folder: its index, those that the index links to, then the others."""
    index = docs / folder / "README.md"
    linked = [target for _, target, _ in LINK.findall(index.read_text(encoding="utf-8"))]
    there = sorted(path.name for path in (docs / folder).glob("*.md") if path != index)
    ordered = dict.fromkeys([name for name in linked if name in there] + there)
    return [f"{folder}/README.md", *(f"{folder}/{name}" for name in ordered)]


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the files of the repository that pages link to."""
    wanted = set()
    for page in files.documentation_pages():
        for _, target, _ in LINK.findall(page.content_string):
            path = outside(page.src_uri, target)
            if path is not None and (ROOT / path).is_file():
                wanted.add(path)
    for path in sorted(wanted):
        files.append(
            File.generated(config, f"{COPIES}/{path}.txt", content=(ROOT / path).read_bytes())
        )
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Point links that leave docs/ to the copies, and set lists and tables apart."""
    here = page.file.src_uri

    def replaced(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = outside(here, target)
        if path is None:
            return match[0]
        if (ROOT / path).is_file():
            link = posixpath.relpath(f"{COPIES}/{path}.txt", posixpath.dirname(here) or ".")
            return f"[{text}]({link})"
        return text if (ROOT / path).exists() else match[0]  # mkdocs names a link that is dead

    return LINK.sub(replaced, set_apart(markdown))


def set_apart(markdown: str) -> str:
    """Put an empty line before a list or table that follows a paragraph or code.

    GitHub needs none; Python-Markdown would make all of it one paragraph.
    """
    lines: list[str] = []
    in_code = False
    for line in markdown.split("\n"):
        before = lines[-1] if lines else ""
        begins = BLOCK.match(line) and not re.match(r"$| |#|<", before) and not BLOCK.match(before)
        if begins and not in_code:
            lines.append("")
        if line.startswith("```"):
            in_code = not in_code
        lines.append(line)
    return "\n".join(lines)


def outside(page: str, target: str) -> str | None:
    """Return the path from the repository's root of a link that leaves docs/, else None."""
    if "://" in target or target.startswith("mailto:"):
        return None
    path = os.path.normpath(Path("docs") / posixpath.dirname(page) / target)
    return None if path.startswith("docs" + os.sep) or path.startswith("..") else path
