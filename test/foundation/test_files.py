import pytest

from evdistill_core.foundation.files import atomic_path, write_text_atomic


def test_a_failed_write_keeps_the_old_file_and_leaves_nothing_else(tmp_path):
    target = tmp_path / "sub" / "a.txt"
    write_text_atomic(target, "old")

    def fail():
        with atomic_path(target) as path:
            path.write_text("half")
            raise RuntimeError("killed")

    with pytest.raises(RuntimeError, match="killed"):
        fail()
    assert target.read_text() == "old"
    assert [p.name for p in target.parent.iterdir()] == ["a.txt"]


def test_the_temporary_file_has_the_suffix_of_the_target(tmp_path):
    with atomic_path(tmp_path / "b.mp4") as path:
        assert path.suffix == ".mp4"
        path.write_bytes(b"x")
    assert (tmp_path / "b.mp4").read_bytes() == b"x"
