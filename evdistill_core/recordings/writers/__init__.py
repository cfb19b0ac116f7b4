"""Writers: one file a format; ``recordings.convert`` and ``sinks`` use them."""
