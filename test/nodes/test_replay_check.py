"""What a replay is made of, checked before anything starts. Needs no ROS."""

from pathlib import Path

import pytest

from evdistill_core.foundation.errors import EvdistillError
from evdistill_ros.nodes.replay_check import Replay, check, main

ROOT = Path(__file__).resolve().parents[2]
STREET = str(ROOT / "demo" / "davis346_street.mcap")


def replay(**changes):
    given = {
        "node": "auto", "student": "", "params_file": "", "bag": STREET,
        "events": "/event_camera/events", "labels": "",
    }  # fmt: skip
    return Replay(**{**given, **changes})


def test_the_student_says_which_node(tiny_student, tiny_recogniser):
    assert check(replay(student=str(tiny_student))) == "seg"
    assert check(replay(student=str(tiny_recogniser))) == "recognition"
    assert check(replay(node="recognition", student=str(tiny_recogniser))) == "recognition"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"bag": "/nowhere/bag.mcap"}, "/nowhere/bag.mcap"),
        ({"events": "/other/events"}, "/other/events"),
        ({"student": "/nowhere.evstudent"}, "no student file at /nowhere.evstudent"),
        ({"labels": "/nowhere.csv"}, "there are no labels /nowhere.csv"),
        ({"params_file": "/nowhere.yaml"}, "/nowhere.yaml"),
    ],
)
def test_what_is_missing_is_named(tiny_student, changes, words):
    with pytest.raises(EvdistillError, match=words):
        check(replay(**{"student": str(tiny_student), **changes}))


def test_a_student_of_the_other_task_is_refused(tiny_student):
    with pytest.raises(EvdistillError, match="is a student of segmentation"):
        check(replay(node="recognition", student=str(tiny_student)))


def test_a_damaged_student_is_one_line_and_an_exit_code(tmp_path, capsys):
    broken = tmp_path / "broken.evstudent"
    broken.write_bytes(b"PK\x03\x04 no zip")
    with pytest.raises(SystemExit) as ended:
        main(["auto", str(broken), "", STREET, "/event_camera/events", ""])
    assert ended.value.code == 2
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1
    assert said[0].startswith("replay: error: ")
    assert "broken.evstudent" in said[0]


def test_what_ros_cannot_play_is_refused_with_the_way_out(tiny_student, tmp_path):
    text = tmp_path / "events.csv"
    text.write_text("t,x,y,p\n" + "".join(f"{i},1,1,1\n" for i in range(50)))
    with pytest.raises(EvdistillError):
        check(replay(student=str(tiny_student), bag=str(text)))
