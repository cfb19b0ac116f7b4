"""The formats that recordings come in, for people: what ``evdistill info --formats`` prints."""

from __future__ import annotations

#: format, and what of it is read
READ = (
    ("rosbag2", "directory, .mcap, .db3, zstd too: EventPacket, EventArray, Image"),
    ("ROS 1 bag", "the same messages (extra rosbag1)"),
    ("AEDAT4", "iniVation: events, images, triggers"),
    ("AEDAT 3.1", "cAER, uncompressed (DVS128 Gesture): events, frames, triggers"),
    ("AEDAT 2", "jAER: events of DVS128 and DAVIS cameras"),
    ("Prophesee RAW", "EVT2, EVT2.1, EVT3: events, triggers"),
    ("Prophesee DAT", "events"),
    (".es", "Event Stream 2, DVS and ATIS: events"),
    (".bin, .bs2", "N-MNIST and N-Caltech101, five bytes an event"),
    ("HDF5", "DSEC, M3ED, Metavision, event_utils, v2e, MVSEC, DDD17, DDD20 (extra hdf5)"),
    ("Matlab", "a struct of x, y, p, ts, or a table N x 4"),
    ("DDD17 of ESS", "a folder of events.dat.t and events.dat.xyp"),
    (".npz, .npy", "columns t, x, y, p, or a table: N x 4, 4 x N or structured"),
    ("text", "t x y p a line, CSV with or without a header, a zip of one"),
)
FORMATS_HINT = "`evdistill info --formats` lists what we read"
