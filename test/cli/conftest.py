import pytest
import typer

from evdistill_core.cli.main import build_app


@pytest.fixture(scope="session")
def commands():
    """Every subcommand by name."""
    return typer.main.get_command(build_app()).commands


@pytest.fixture
def text_file(tmp_path):
    """A small recording: 300 events of 8x4 pixels in 0.3 s."""
    path = tmp_path / "a.txt"
    lines = [f"{1000 * i} {i % 8} {i % 4} {i % 3 == 0:d}" for i in range(300)]
    path.write_text("8 4\n" + "\n".join(lines))
    return path
