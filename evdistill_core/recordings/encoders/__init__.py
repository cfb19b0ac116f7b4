"""Encoders: events to the bytes that drivers send, cut into messages."""
