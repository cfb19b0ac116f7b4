"""The version of both packages: one place for ``setup.py``, files that we write, and users."""

VERSION = "0.1.0"
