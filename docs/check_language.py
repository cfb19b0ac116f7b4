"""Check the language of documents and code; needs nothing but Python.

Run: python docs/check_language.py          (make lint does)

- No sentence above 30 words in pages, in docstrings that the page of the API shows, and in the help
  of commands.
- Pages of docs/ have at most 1,500 words, README.md 900; pages made from the code may have more.
- Private words, for which the field has others, in documents, docstrings, comments and messages.
"""

from __future__ import annotations

import ast
import io
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_WORDS = 30
PAGE_WORDS, README_WORDS = 1500, 900
MADE = "<!-- made by docs/make_reference.py"
#: What not to write -> what to write.
PRIVATE = {
    r"films?": "video, recording",
    r"mend(s|ed|ing)?": "fix",
    r"(cameras?'?s? (own )?pictures?|pictures? (of|from) (a|the) camera)": "image",
    r"quiet (camera|one)s?|cameras? (that )?(went|goes|is|are) quiet": "stalled camera",
    r"leaves? behind": "writes",
    r"(can|cannot|could not) be told from|be told apart": "no measurable difference; distinguish",
    r"without a word": "silently",
    r"whatever is not told": "guessed",
    r"anew": "again",
}
PRIVATE_WORDS = re.compile(
    "|".join(rf"(?P<p{n}>\b(?:{words})\b)" for n, words in enumerate(PRIVATE)), re.IGNORECASE
)
CODE = (".py", ".yaml", ".yml", ".toml", ".sh")
SKIPPED = ("CHANGELOG.md", "docs/check_language.py", "test/docs/test_language.py")
_FENCE = re.compile(r"^(\s*)(```|~~~).*?^\1\2\s*$", re.MULTILINE | re.DOTALL)
# Code, paths and options, names of arguments in docstrings, commands: no prose.
_NAMES = re.compile(r"`+[^`\n]*`+|\{[^}]*\}|\S*[/_.]\w\S*|-\w+|^\s+\w+: |^\s+(evdistill|python) .*")
_WORD = re.compile(r"[\w§µ]")
_END = re.compile(r"(?<=[.!?])[\"')\]*]*\s+(?=[\"'(\[*`]*[A-Z0-9`])|:\s*$")
_ABBREVIATIONS = re.compile(r"\b(e\.g|i\.e|etc|vs|al|sec|resp|approx)\.")


def main() -> int:
    """Print what is wrong, and return 1 if something is."""
    wrong = 0
    for path in documents():
        text = path.read_text(encoding="utf-8")
        name = str(path.relative_to(ROOT))
        wrong += _say_long(name, 0, text)
        most = README_WORDS if path.name == "README.md" and path.parent == ROOT else PAGE_WORDS
        count = words_of(text)
        if count > most and not text.startswith(MADE):
            wrong += 1
            _say(f"{name}: error: {count} words, at most {most}: split or shorten the page")
    for path, line, text in docstrings_of_pages():
        wrong += _say_long(str(path.relative_to(ROOT)), line, text)
    for path in written():
        name = str(path.relative_to(ROOT))
        for line, found, better in private_words(path):
            wrong += 1
            _say(f"{name}:{line}: error: write {better!r}, not {found!r}")
    return 1 if wrong else 0


def documents() -> list[Path]:
    """Return the pages whose sentences are counted."""
    return [p for p in written() if p.suffix == ".md"]


def docstrings_of_pages() -> Iterator[tuple[Path, int, str]]:
    """Yield file, line and text of the docstrings that pages show, and of the help of options."""
    api = (ROOT / "docs" / "reference" / "python-api.md").read_text(encoding="utf-8")
    for name in re.findall(r"^::: (\S+)$", api, re.MULTILINE):
        path = ROOT / f"{name.replace('.', '/')}.py"
        shown = None  # a module is shown whole
        if not path.is_file():
            path, shown = path.parent.with_suffix(".py"), path.stem
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            member = getattr(node, "name", "_")
            if member == shown or (shown is None and not member.startswith("_")):
                yield from _public_docstrings(path, node)
    for path in sorted(ROOT.glob("evdistill_*/cli/*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name == "command":
                yield from _public_docstrings(path, node)
            is_help = isinstance(node, ast.keyword) and node.arg == "help"
            if is_help and isinstance(node.value, ast.Constant):
                yield path, node.value.lineno, str(node.value.value)


def _public_docstrings(path: Path, node: ast.AST) -> Iterator[tuple[Path, int, str]]:
    if isinstance(node, ast.ClassDef | ast.FunctionDef):
        yield path, node.lineno, as_markdown(ast.get_docstring(node) or "")
    for member in node.body if isinstance(node, ast.ClassDef) else ():
        if not getattr(member, "name", "_").startswith("_"):
            yield from _public_docstrings(path, member)


def as_markdown(docstring: str) -> str:
    """Return a docstring in which arguments are items of lists, and code is in one backtick."""
    text = re.sub(r"^ {4}[\w*]+: ", "- ", docstring.replace("``", "`"), flags=re.MULTILINE)
    return re.sub(r"^\w+:$", "", text, flags=re.MULTILINE)


def written() -> Iterator[Path]:
    """Yield every file of the repository with words of ours."""
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in listed.splitlines():
        path = ROOT / name
        if name not in SKIPPED and path.suffix in (".md", *CODE) and path.is_file():
            yield path


def long_sentences(text: str) -> Iterator[tuple[int, str, int]]:
    """Yield line, text and words of each sentence of Markdown above 30 words."""
    for line, block in blocks_of(text):
        for sentence in _END.split(_ABBREVIATIONS.sub(r"\1", block)):
            words = count_words(sentence or "")
            if words > MOST_WORDS:
                yield line, " ".join(sentence.split()), words


def blocks_of(text: str) -> Iterator[tuple[int, str]]:
    """Yield paragraphs, list items and cells of tables with the line in which they begin."""
    text = without_code(text)
    start, lines = 1, list[str]()
    for number, line in enumerate([*text.splitlines(), ""], 1):
        begins = re.match(r"\s*([-*] |\d+\. |\||#|>|<!--)", line) or not line.strip()
        if begins and lines:
            yield start, " ".join(lines)
            lines = []
        if line.lstrip().startswith("|"):
            # In cells, semicolons separate entries of a list.
            cells = re.split(r"(?<!\\)\||; ", line)
            yield from ((number, cell) for cell in cells if cell.strip())
        elif line.strip() and not line.lstrip().startswith(("#", "<!--")):
            start = start if lines else number
            lines.append(re.sub(r"^\s*([-*] |\d+\. )", "", line))


def without_code(text: str) -> str:
    """Return Markdown with fenced code emptied, line numbers kept, and links as their text."""
    text = _FENCE.sub(lambda m: "\n" * m[0].count("\n"), text)
    text = re.sub(r"`[^`\n]*`", "`x`", text)
    return re.sub(r"!?\[([^\]]*)\]\([^)]*\)", r"\1", text)


def count_words(text: str) -> int:
    """Return how many words a text has; code in backticks is one, punctuation none."""
    return sum(1 for word in text.split() if _WORD.search(word))


def words_of(text: str) -> int:
    """Return the words of a page, tables included and fenced code left out."""
    return count_words(without_code(text).replace("|", " "))


def private_words(path: Path) -> Iterator[tuple[int, str, str]]:
    """Yield line, word and better word wherever prose of a file has a private one."""
    text = path.read_text(encoding="utf-8")
    for line, prose in prose_of(path.suffix, text):
        for found in PRIVATE_WORDS.finditer(_NAMES.sub(" ", prose)):
            number = int((found.lastgroup or "p0")[1:])
            yield line, found[0], list(PRIVATE.values())[number]


def prose_of(suffix: str, text: str) -> Iterator[tuple[int, str]]:
    """Yield the lines of a file that hold words for people: prose, comments and strings."""
    if suffix == ".py":
        for token in tokenize.generate_tokens(io.StringIO(text).readline):
            kinds = (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1))
            if token.type in kinds and (token.type == tokenize.COMMENT or " " in token.string):
                for number, line in enumerate(token.string.splitlines()):
                    yield token.start[0] + number, line
    elif suffix == ".md":
        yield from enumerate(without_code(text).splitlines(), 1)
    else:
        for number, line in enumerate(text.splitlines(), 1):
            yield number, line.partition("#")[2]


def _say_long(name: str, before: int, text: str) -> int:
    found = list(long_sentences(text))
    for line, sentence, words in found:
        _say(f"{name}:{before + line}: error: {words} words in a sentence: {sentence[:90]}...")
    return len(found)


def _say(text: str) -> None:
    sys.stderr.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
