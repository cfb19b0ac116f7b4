"""Events: arrays, decoders with state across packets, clock, windows."""
