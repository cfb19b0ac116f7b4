"""Cut a recording into windows and make the grid that a network is fed.

python examples/02_iterate_windows.py [RECORDING]
"""

import sys

import evdistill_core as evdistill

path = sys.argv[1] if len(sys.argv) > 1 else "demo/davis346_street.mcap"
spec = evdistill.InputSpec(kind="voxel", bins=5, window_us=50_000)

with evdistill.open_recording(path) as recording:
    info = recording.info
    print(f"{info.path.name}: {info.format}, {info.width}x{info.height}")
    for window in recording.windows(duration_us=spec.window_us, end_s=0.5):
        grid = evdistill.represent(window, spec)  # (5, H, W) float32
        print(f"{window.t_start_us} us: {window.events}, grid {grid.shape}, sum {grid.sum():.0f}")
