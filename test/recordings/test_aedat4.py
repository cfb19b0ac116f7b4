import hashlib

import numpy as np
import pytest

from evdistill_core.events.array import Events
from evdistill_core.foundation.errors import RecordingError
from evdistill_core.recordings.opening import open_recording

STREET = "recordings/davis346_street_frames.aedat4"
SHORT = "recordings/davis346_street_short.aedat4"


def read(path, **span):
    with open_recording(path) as recording:
        return Events.concatenate([b.events for b in recording.batches(**span)])


@pytest.mark.parametrize(
    ("name", "events", "width", "height", "frames"),
    [
        ("davis346_street_frames", 78_830, 346, 260, 59),
        ("davis346_street_short", 6_676, 346, 260, 4),
        ("davis346_robot_arm", 117_667, 346, 260, 3),
        ("dvxplorer_person", 111_954, 320, 240, 0),
    ],
)
def test_real_recordings(shared_data, name, events, width, height, frames):  # noqa: PLR0917
    with open_recording(shared_data / "recordings" / f"{name}.aedat4") as recording:
        assert (recording.info.format, recording.info.topic) == ("aedat4", "events")
        assert (recording.info.width, recording.info.height) == (width, height)
        batches = list(recording.batches())
        assert sum(len(b.events) for b in batches) == events == recording.counters["events"]
        assert all(b.stamp_ns == int(b.events.t_us[-1]) * 1000 for b in batches)
        pictures = list(recording.frames())
    assert len(pictures) == frames
    assert all(f.image.shape == (height, width) and f.image.dtype == np.uint8 for f in pictures)
    assert all(f.stamp_ns == f.t_us * 1000 for f in pictures)


# SHA3-224 of the columns and of all pixels of this file as the `aedat` library (Rust) reads them,
# from its own tests: tests/assets.py of github.com/neuromorphicsystems/aedat at 40b5236.
DIGESTS = {
    "t_us": ("<u8", "f1e093cad5afb6ecb971dfa2ef7646ab4ae0f467f73a48804e40bb68"),
    "x": ("<u2", "1d8ea97b0febadfde24dd0b9e608682fc6934fc88656823b15f0e7a7"),
    "y": ("<u2", "18f89da35f8f10b24c3407b03aa7f82bdd7c8e6ab5369e2c30f8bad0"),
    "p": ("?", "6f99cf01187da8a05e1a032f3782de51b87e51bdc31356669bdd7cb9"),
}
FRAMES_DIGEST = "6dbd0c0ea251788515bce54edf50b9f29d1995a0330a8b623504379b"


def test_an_independent_reader_finds_the_same_events_and_pixels(shared_data):
    events = read(shared_data / STREET)
    for name, (dtype, digest) in DIGESTS.items():
        column = getattr(events, name).astype(dtype).tobytes()
        assert hashlib.sha3_224(column).hexdigest() == digest
    with open_recording(shared_data / STREET) as recording:
        frames = list(recording.frames())
    pixels = b"".join(f.image.tobytes() for f in frames)
    assert hashlib.sha3_224(pixels).hexdigest() == FRAMES_DIGEST
    assert abs(np.diff([f.t_us for f in frames]) - 40_000).max() <= 1  # 25 Hz


def test_iterations_start_afresh_and_spans_are_parts_of_the_whole(shared_data):
    whole = read(shared_data / SHORT)
    first = int(whole.t_us[0])
    part = read(shared_data / SHORT, start_us=first + 50_000, end_us=first + 90_000)
    keep = (whole.t_us >= first + 50_000) & (whole.t_us < first + 90_000)
    assert part.equals(whole[keep])
    with open_recording(shared_data / SHORT) as recording:
        one = next(recording.batches())
        assert next(recording.batches()).events.equals(one.events)


@pytest.mark.parametrize("size", [14, 100, 200_000])
def test_cut_off_files_are_refused_in_one_line(shared_data, tmp_path, size):
    path = tmp_path / "a.aedat4"
    path.write_bytes((shared_data / SHORT).read_bytes()[:size])
    with pytest.raises(RecordingError, match="cut off or damaged") as caught:
        read(path)
    assert "\n" not in str(caught.value)


def test_a_stream_that_is_not_there_is_named(shared_data):
    with pytest.raises(RecordingError, match="no event stream 'frames'; it has: events"):
        open_recording(shared_data / SHORT, topic="frames")
