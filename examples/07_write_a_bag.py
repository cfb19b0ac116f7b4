"""Write events as a rosbag2 that `ros2 bag play`, Foxglove and `evdistill run` open.

python examples/07_write_a_bag.py
"""

import numpy as np

import evdistill_core as evdistill

path = "out/examples/mine.mcap"
rng = np.random.default_rng(0)
size = {"width": 640, "height": 480}
with evdistill.create_recording(path, **size, encoding="evt3", overwrite=True) as recording:
    for start_us in range(0, 200_000, 10_000):
        events = evdistill.Events.from_columns(
            x=rng.integers(0, 640, 1000),
            y=rng.integers(0, 480, 1000),
            t_us=np.sort(rng.integers(start_us, start_us + 10_000, 1000)),
            p=rng.integers(0, 2, 1000),
            **size,
        )
        recording.write_events(events)

with evdistill.open_recording(path) as written:
    count = sum(len(batch.events) for batch in written.batches())
    print(f"{path}: {count:,} events in {written.info.encoding}, {written.info.topic}")
