"""Run a student on events that your own code reads, for example from a camera's SDK.

python examples/06_own_camera.py
"""

import numpy as np

import evdistill_core as evdistill

WIDTH, HEIGHT = 346, 260


def read_my_camera():
    """Stand in for an SDK: a bar of events that moves to the right, in packets of 10 ms."""
    for packet in range(20):
        t_us = np.arange(2000) * 5 + packet * 10_000
        x = (50 + 8 * packet + np.arange(2000) % 20) % WIDTH
        y = 100 + np.arange(2000) % 60
        yield x, y, t_us, np.arange(2000) % 2


stream = evdistill.Student.load().stream()
for x, y, t_us, p in read_my_camera():
    events = evdistill.Events.from_columns(x, y, t_us, p, width=WIDTH, height=HEIGHT)
    for result in stream.push(events):  # a result as soon as a window of 50 ms is complete
        print(result)
for result in stream.flush():
    print(result)
