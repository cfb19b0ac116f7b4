import contextlib
import random
from pathlib import Path

import pytest

from evdistill_core.foundation.errors import EvdistillError, RecordingError
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.summary import summarise

GOLDEN = Path(__file__).resolve().parents[1] / "golden" / "bags"


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RecordingError, match=r"there is no recording .*nowhere\.mcap"):
        open_recording(tmp_path / "nowhere.mcap")


def test_an_empty_file_says_so(tmp_path):
    (tmp_path / "a.mcap").touch()
    with pytest.raises(RecordingError, match="is empty"):
        open_recording(tmp_path / "a.mcap")


@pytest.mark.parametrize(
    ("head", "says"),
    [
        (b"\x00\x01\x02\x03", "of a kind that we do not know"),
        (b"hello world\n", "of a kind that we do not know"),
        (b"#ROSBAG V1.2\n", "rosbag fix"),
    ],
)
def test_other_formats_are_named_and_a_list_of_ours_is_offered(tmp_path, head, says):
    path = tmp_path / "recording.aedat4"
    path.write_bytes(head)
    with pytest.raises(RecordingError, match=f"{says}.*info --formats"):
        open_recording(path)


def test_an_empty_directory_is_no_bag(tmp_path):
    with pytest.raises(RecordingError, match="holds no rosbag2 file"):
        open_recording(tmp_path)
    (tmp_path / "a.db3.zstd").write_bytes(b"\x28\xb5\x2f\xfd1234")
    with pytest.raises(RecordingError, match="does not decompress"):
        open_recording(tmp_path)


def test_the_name_does_not_matter(tmp_path):
    path = tmp_path / "events.mcap"
    path.write_text("1 2 3 0\n")
    with open_recording(str(path)) as recording:
        assert recording.info.format == "text"
    with pytest.raises(RecordingError, match="has no topics"):
        open_recording(path, topic="/events")


@pytest.mark.parametrize("seed", range(40))
@pytest.mark.parametrize(
    "name",
    ["evt3_vga_person/test_events_1.db3", "libcaer_cmp_davis346_tags/test_events_2_0.mcap"],
)
def test_flipped_bytes_give_events_or_an_error_of_ours(tmp_path, name, seed):
    damaged = bytearray((GOLDEN / name).read_bytes())
    rng = random.Random(seed)
    reach = len(damaged) if seed % 2 else 9000  # the head holds tables and headers
    for _ in range(rng.choice([1, 3, 20])):
        at = rng.randrange(reach)
        damaged[at : at + 4] = rng.randbytes(4)
    path = tmp_path / "a"
    path.write_bytes(damaged)
    with contextlib.suppress(EvdistillError), open_recording(path) as recording:
        summarise(recording)
        list(recording.frames())
