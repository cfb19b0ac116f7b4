"""Errors that a user can cause, and so must be able to read.

Every error of ours says which value was wrong, what is allowed and what to do about it. The
command line turns them into one line on stderr and the exit code of the class.
"""

from __future__ import annotations


class EvdistillError(ValueError):
    """Base of all errors that come from input rather than from a mistake of ours.

    Attributes:
        exit_code: what the ``evdistill`` command returns when this error ends it.
    """

    exit_code = 2


class ConfigError(EvdistillError):
    """A configuration value, key or file is wrong."""


class PluginError(ConfigError):
    """A name leads to code that is not there, is broken, or may not be used."""


class EventsError(EvdistillError):
    """Columns hold what no event of a sensor can be."""


class RecordingError(EvdistillError):
    """A recording is missing, damaged, or of a kind that we do not read."""


class EncodingError(EvdistillError):
    """Event bytes carry an encoding that no decoder of ours knows."""


class MessageError(EvdistillError):
    """Serialized message bytes do not hold what their type promises."""


class StudentError(EvdistillError):
    """A student file or a checkpoint is missing, damaged, or does not fit."""


class OutputError(EvdistillError):
    """A result cannot be written where it was asked for."""


class ResultError(EvdistillError):
    """A result cannot give or be saved as what was asked of it."""


class DataError(EvdistillError):
    """A data set (labelled images, simulated windows) is missing or damaged."""


class TrainingError(EvdistillError):
    """A training run cannot start or go on."""


class CameraError(EvdistillError):
    """A camera is not there, cannot be opened, went away, or its library failed."""
