"""Windows as bytes for the page, read back by a decoder that is written from the description."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from evdistill_core.events.array import Events
from evdistill_core.inference.prediction import Detection, Guess, Prediction, Recognition
from evdistill_core.viewing.live.frames import Shot, encode, pack_events, pack_mask


def read(data):
    """The header, and the planes as arrays of pixels."""
    assert data[:4] == b"EVV1"
    (length,) = struct.unpack_from("<I", data, 4)
    assert length % 4 == 0
    header = json.loads(data[8 : 8 + length])
    body = data[8 + length :]
    shape = (header["height"], header["width"])
    planes = {}
    for name, (offset, size) in header["planes"].items():
        assert offset % 4 == 0
        plane = body[offset : offset + size]
        assert len(plane) == size
        planes[name] = {"events": unpack_events, "mask": unpack_mask, "grey": unpack_grey}[name](
            plane, shape
        )
    return header, planes


def unpack_events(plane, shape):
    count = shape[0] * shape[1]
    return np.array([(plane[i // 4] >> 2 * (i % 4)) & 3 for i in range(count)]).reshape(shape)


def unpack_mask(plane, shape):
    runs = len(plane) // 3
    lengths = np.frombuffer(plane, "<u2", runs)
    return np.repeat(np.frombuffer(plane, np.uint8, runs, 2 * runs), lengths).reshape(shape)


def unpack_grey(plane, shape):
    return np.frombuffer(plane, np.uint8).reshape(shape)


def some_events(width=5, height=3):
    x, y, p = [0, 4, 2, 2], [0, 2, 1, 1], [1, 0, 0, 1]
    return Events.from_columns(x, y, [1, 2, 3, 4], p, width=width, height=height)


def shot(answer=None, events=None, **more):
    events = some_events() if events is None else events
    return Shot(7, 1000, 51_000, 1_700_000_000_500_000_000, events, answer, **more)


def prediction(mask, *detections):
    return Prediction(mask, np.zeros(mask.shape, np.float32), detections)


def test_the_last_event_of_a_pixel_decides_and_sizes_need_not_fill_a_byte():
    expected = [[2, 0, 0, 0, 0], [0, 0, 2, 0, 0], [0, 0, 0, 0, 1]]
    assert unpack_events(pack_events(some_events(), (3, 5)), (3, 5)).tolist() == expected


def test_large_sensors_are_shown_smaller_and_no_event_is_lost_at_the_edge():
    events = Events.from_columns([0, 1919], [0, 1079], [1, 2], [0, 1], width=1920, height=1080)
    mask = np.full((1080, 1920), 255, np.uint8)
    mask[540:] = 3
    header, planes = read(encode(shot(prediction(mask), events), wants_image=False))
    assert (header["width"], header["height"], header["sensor"]) == (960, 540, [1920, 1080])
    assert planes["events"][0, 0] == 1
    assert planes["events"][-1, -1] == 2
    assert np.count_nonzero(planes["events"]) == 2
    assert np.array_equal(planes["mask"], mask[::2, ::2])


@given(
    st.lists(st.tuples(st.integers(0, 255), st.integers(1, 30)), min_size=1, max_size=40),
)
def test_a_mask_comes_back_as_it_was(runs):
    flat = np.repeat([v for v, _ in runs], [n for _, n in runs]).astype(np.uint8)
    mask = flat.reshape(1, -1)
    assert np.array_equal(unpack_mask(pack_mask(mask), mask.shape), mask)


@pytest.mark.parametrize("length", [65_535, 65_536, 131_070, 200_000])
def test_runs_longer_than_a_length_can_say_are_split(length):
    mask = np.concatenate([np.full(length, 255), [4], np.full(length, 1)]).astype(np.uint8)[None]
    assert np.array_equal(unpack_mask(pack_mask(mask), mask.shape), mask)


def test_a_window_of_a_student_has_mask_boxes_and_numbers():
    mask = np.array([[255, 255, 1, 1, 1], [0, 0, 0, 5, 5], [5, 5, 5, 5, 255]], np.uint8)
    box = Detection(5, 0.51234, (3, 1, 5, 3), 6, 12, "vehicle", velocity_px_s=(-3.25, 10.0))
    header, planes = read(encode(shot(prediction(mask, box), latency_ms=12.345), wants_image=True))
    assert np.array_equal(planes["mask"], mask)
    assert header["boxes"] == [[5, 12, 0.512, 3, 1, 5, 3, -3.2, 10.0]]
    assert (header["events"], header["on"], header["off"]) == (4, 2, 2)
    assert (header["t_start_us"], header["t_end_us"]) == (1000, 51_000)
    assert header["latency_ms"] == pytest.approx(12.345, abs=0.006)
    assert header["stamp_s"] == 1_700_000_000.5
    assert set(planes) == {"events", "mask"}, "no camera, so no image of one"


def test_guesses_come_without_a_mask():
    answer = Recognition((Guess(2, 0.75, "ball"), Guess(0, 0.2, "cup")))
    header, planes = read(encode(shot(answer), wants_image=False))
    assert header["guesses"] == [[2, 0.75], [0, 0.2]]
    assert set(planes) == {"events"}


def test_the_cameras_image_is_made_only_for_those_who_want_it():
    asked = []

    def image():
        asked.append(1)
        return np.full((6, 10, 3), 90, np.uint8)

    _, planes = read(encode(shot(camera_image=image), wants_image=False))
    assert (set(planes), asked) == ({"events"}, [])
    _, planes = read(encode(shot(camera_image=image), wants_image=True))
    assert np.array_equal(planes["grey"], np.full((3, 5), 90))


def test_a_window_without_events_is_a_picture_too():
    nothing = Events.from_columns([], [], [], [], width=5, height=3)
    header, planes = read(encode(shot(events=nothing), wants_image=False))
    assert header["events"] == 0
    assert not planes["events"].any()
