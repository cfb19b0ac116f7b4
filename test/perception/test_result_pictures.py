import threading

import cv2
import numpy as np
import pytest

from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.perception import result_pictures
from evdistill_core.perception.result_pictures import FILM, SHEET, PictureCounts, ResultPictures

av = pytest.importorskip("av")
STEP_NS = 50_000_000


def picture(value):
    return lambda: np.full((20, 30, 3), value, np.uint8)


def levels(folder):
    with av.open(str(folder / FILM)) as film:
        return [frame.to_ndarray(format="gray8").mean() for frame in film.decode(video=0)]


def test_every_window_is_drawn_in_order_and_beside_the_caller(tmp_path):
    threads = set()

    def draw(value):
        threads.add(threading.current_thread().name)
        return picture(value)()

    with ResultPictures(tmp_path, SIX_CLASSES) as pictures:
        for i in range(40):
            pictures.add(lambda i=i: draw(5 * i), i * STEP_NS, str(i), size_bytes=1)
    assert pictures.counts == PictureCounts(drawn=40)
    assert threads == {"pictures"}
    found = levels(tmp_path)
    assert len(found) == 40
    assert found == sorted(found)
    sheet = cv2.imread(str(tmp_path / SHEET))
    shown = {int(v) for v in np.unique(sheet[:, :, 0])} & set(range(0, 200, 5))
    assert {0, 195} <= shown


def test_a_slow_hand_draws_less_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(result_pictures, "_QUEUE_ITEMS", 4)
    may_go = threading.Event()

    def slow():
        assert may_go.wait(20)
        return picture(9)()

    with ResultPictures(tmp_path) as pictures:
        for i in range(20):
            pictures.add(slow, i * STEP_NS, "", size_bytes=1)
        assert pictures.counts.too_slow >= 15  # one may be in the hand, four wait
        may_go.set()
    counts = pictures.counts
    assert counts.drawn + counts.too_slow == 20
    assert len(levels(tmp_path)) == counts.drawn > 0


def test_who_waits_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(result_pictures, "_QUEUE_ITEMS", 2)
    with ResultPictures(tmp_path) as pictures:
        for i in range(30):
            pictures.add(picture(i), i * STEP_NS, "", size_bytes=1, wait=True)
    assert pictures.counts == PictureCounts(drawn=30)


def test_at_most_sixty_pictures_a_second(tmp_path):
    with ResultPictures(tmp_path) as pictures:
        for i in range(1000):  # a second of windows of 1 ms
            pictures.add(picture(0), i * 1_000_000, "", size_bytes=1, wait=True)
        # A bag that is played again restarts.
        pictures.add(picture(0), 0, "", size_bytes=1, wait=True)
    assert pictures.counts.above_rate + pictures.counts.drawn == 1001
    assert 60 <= pictures.counts.drawn <= 65


def test_jitter_of_stamps_costs_no_picture(tmp_path):
    rng = np.random.default_rng(0)
    with ResultPictures(tmp_path) as pictures:
        for i in range(100):
            stamp_ns = i * 20_000_000 + int(rng.integers(0, 15_000_000))
            pictures.add(picture(0), stamp_ns, "", size_bytes=1, wait=True)
    assert pictures.counts == PictureCounts(drawn=100)


@pytest.mark.parametrize(
    ("error", "raised"),
    [(OSError(28, "No space left on device"), OSError), (KeyError("x"), RuntimeError)],
)
def test_what_goes_wrong_while_drawing_is_raised_and_leaves_nothing(tmp_path, error, raised):
    def broken():
        raise error

    def run():
        with ResultPictures(tmp_path) as pictures:
            pictures.add(picture(1), 0, "", size_bytes=1)
            pictures.add(broken, STEP_NS, "", size_bytes=1)

    with pytest.raises(raised, match=r"No space|pictures failed: KeyError"):
        run()
    assert list(tmp_path.iterdir()) == []


def test_an_interrupted_block_leaves_nothing_and_does_not_draw_what_waits(tmp_path):
    drawn = []

    def run():
        with ResultPictures(tmp_path) as pictures:
            for i in range(400):
                pictures.add(lambda i=i: drawn.append(i) or picture(0)(), i * STEP_NS, "",
                             size_bytes=1)  # fmt: skip
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert list(tmp_path.iterdir()) == []
    assert len(drawn) < 400


def test_no_window_no_files(tmp_path):
    (tmp_path / SHEET).write_text("of an earlier run")
    with ResultPictures(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []
