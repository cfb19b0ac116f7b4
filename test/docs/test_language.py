"""The check of the language: what it counts (`make lint` runs it on all pages)."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def check():
    path = ROOT / "docs" / "check_language.py"
    spec = importlib.util.spec_from_file_location("check_language", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_long_sentences_are_found_with_their_line(check):
    long = " ".join(["Words", *["word"] * 35])
    text = f"# Title\n\nShort one. {long}.\n\n- item `a b c` [b](c.md)\n- {long} end"
    found = [(line, words) for line, _, words in check.long_sentences(text)]
    assert found == [(3, 36), (6, 37)]


@pytest.mark.parametrize(
    "text",
    [
        "```\n" + "word " * 50 + "\n```",  # code
        "| " + " | ".join(["a b c d e"] * 10) + " |",  # cells are sentences of their own
        "\n".join("- " + "word " * 10 for _ in range(5)),  # items too
        "word " * 20 + "ends. " + "It " * 20,
        "`" + "word " * 40 + "`",
    ],
)
def test_what_is_no_long_sentence(check, text):
    assert list(check.long_sentences(text)) == []


def test_words_of_a_page_leave_out_code_and_links(check):
    table = "| three | [four](x/y.md) |\n|---|---|\n"
    text = f"# One two\n\n```\nnot these\n```\n{table}`five six` - seven"
    assert check.words_of(text) == 6


def test_private_words_are_found_in_prose_alone(check, tmp_path):
    path = tmp_path / "a.py"
    path.write_text(
        '''"""The film of a quiet camera."""
film = "film"
path = "a film_0000/b.film of `film` and --film"
message = f"{film} was lost without a word"
'''
    )
    found = [(line, word) for line, word, _ in check.private_words(path)]
    assert found == [(1, "film"), (1, "quiet camera"), (4, "without a word")]
    page = tmp_path / "a.md"
    page.write_text("A film.\n```\nfilm\n```\n[film](films.md) `film`")
    assert [line for line, _, _ in check.private_words(page)] == [1, 5]


def test_pages_and_what_they_show_of_the_code_are_checked(check):
    pages = {str(p.relative_to(ROOT)) for p in check.documents()}
    assert {"README.md", "demo/README.md", "docs/reference/experiment.md"} <= pages
    shown = [(str(p.relative_to(ROOT)), text) for p, _, text in check.docstrings_of_pages()]
    for path, words in (
        ("evdistill_core/perception/student.py", "A trained student"),
        ("evdistill_core/representations/represent.py", "Return the input"),
        ("evdistill_core/cli/cut.py", "Copy a span"),
        ("evdistill_core/cli/cut.py", "File to make"),
    ):
        assert any(p == path and text.startswith(words) for p, text in shown), path


def test_arguments_of_a_docstring_are_sentences_of_their_own(check):
    docstring = f"One.\n\nArgs:\n    a: {'word ' * 20}\n    b: {'word ' * 10}\n        {'x ' * 10}"
    assert list(check.long_sentences(check.as_markdown(docstring))) == []
    long = docstring + "x " * 11
    assert [words for *_, words in check.long_sentences(check.as_markdown(long))] == [31]
