"""Cyclone DDS through ctypes: the library, the structures and the calls that we use.

Why not the Python classes of ``cyclonedds``: their write and take hold the interpreter lock (a
blocked reliable writer freezes every thread of the process) and turn octet sequences into lists.
ctypes releases the lock around every call. Only the shared library of the wheel is used; any
Cyclone DDS 11 serves (the 0.10 of ROS 2 Jazzy lacks ``dds_get_entity_sertype``).

Serialized bytes pass unchanged because topics are created with a type of one octet: Cyclone checks
that the first byte is there and keeps the whole payload (every ROS message has a byte). ROS
matches endpoints by topic and type name, and like rmw_cyclonedds we send no XTypes type
information, so nobody compares fields.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
import threading
from ctypes import (
    POINTER,
    Structure,
    byref,
    c_bool,
    c_char_p,
    c_int32,
    c_int64,
    c_size_t,
    c_uint32,
    c_uint64,
    c_void_p,
)
from pathlib import Path
from typing import Final

from evdistill_core.foundation.errors import EvdistillError
from evdistill_core.foundation.extras import install_command

LIBRARY_ENV = "EVDISTILL_LIBDDSC"
"""Path of a libddsc to use instead of the wheel's."""

INFINITY_NS: Final = 2**63 - 1
ANY_STATE: Final = 0x7F

OK: Final = 0
PRECONDITION_NOT_MET: Final = -4
ALREADY_DELETED: Final = -9
TIMEOUT: Final = -10

SDK_DATA: Final = 2  # enum ddsi_serdata_kind

OFFERED_INCOMPATIBLE_QOS: Final = 1 << 3
REQUESTED_INCOMPATIBLE_QOS: Final = 1 << 4
SAMPLE_LOST: Final = 1 << 5
PUBLICATION_MATCHED: Final = 1 << 11
SUBSCRIPTION_MATCHED: Final = 1 << 12

BUILTIN_PUBLICATION: Final = 0x7FFF0000 + 3
BUILTIN_SUBSCRIPTION: Final = 0x7FFF0000 + 4

POLICY_NAMES: Final = {2: "durability", 4: "deadline", 8: "liveliness", 11: "reliability"}

_TOPIC_RESTRICT_DATA_REPRESENTATION: Final = 1 << 7
_FLAG_XCDR1: Final = 1
# Serializer program of `struct { octet first; }`: field of one byte at offset 0, end.
_ONE_OCTET: Final = ((0x01 << 24) | (0x01 << 16), 0, 0)


class DdsError(EvdistillError):
    """DDS is not available or refused a call."""


class TypeMeta(Structure):
    """``struct dds_type_meta_ser``: serialized XTypes information; ours is always empty."""

    _fields_ = (("data", c_void_p), ("size", c_uint32))


class TopicDescriptor(Structure):
    """``dds_topic_descriptor_t``."""

    _fields_ = (
        ("size", c_uint32),
        ("align", c_uint32),
        ("flagset", c_uint32),
        ("nkeys", c_uint32),
        ("typename", c_char_p),
        ("keys", c_void_p),
        ("nops", c_uint32),
        ("ops", POINTER(c_uint32)),
        ("meta", c_char_p),
        ("type_information", TypeMeta),
        ("type_mapping", TypeMeta),
        ("restrict_data_representation", c_uint32),
    )


class SampleInfo(Structure):
    """``dds_sample_info_t``."""

    _fields_ = (
        ("sample_state", c_uint32),
        ("view_state", c_uint32),
        ("instance_state", c_uint32),
        ("valid_data", c_bool),
        ("source_timestamp", c_int64),
        ("instance_handle", c_uint64),
        ("publication_handle", c_uint64),
        ("disposed_generation_count", c_uint32),
        ("no_writers_generation_count", c_uint32),
        ("sample_rank", c_uint32),
        ("generation_rank", c_uint32),
        ("absolute_generation_rank", c_uint32),
    )


class BuiltinEndpoint(Structure):
    """``dds_builtintopic_endpoint_t``."""

    _fields_ = (
        ("key", ctypes.c_ubyte * 16),
        ("participant_key", ctypes.c_ubyte * 16),
        ("participant_instance_handle", c_uint64),
        ("topic_name", c_char_p),
        ("type_name", c_char_p),
        ("qos", c_void_p),
    )


class IoVec(Structure):
    """``ddsrt_iovec_t``, which is ``struct iovec``."""

    _fields_ = (("base", c_void_p), ("length", c_size_t))


class IncompatibleQosStatus(Structure):
    """``dds_requested_incompatible_qos_status_t`` and its offered twin."""

    _fields_ = (
        ("total_count", c_uint32),
        ("total_count_change", c_int32),
        ("last_policy_id", c_uint32),
    )


class SampleLostStatus(Structure):
    """``dds_sample_lost_status_t``."""

    _fields_ = (("total_count", c_uint32), ("total_count_change", c_int32))


class MatchedStatus(Structure):
    """``dds_subscription_matched_status_t`` and its publication twin."""

    _fields_ = (
        ("total_count", c_uint32),
        ("total_count_change", c_int32),
        ("current_count", c_uint32),
        ("current_count_change", c_int32),
        ("last_handle", c_uint64),
    )


_E = c_int32  # dds_entity_t, dds_return_t
_P = c_void_p
_PROTOTYPES: Final[dict[str, tuple[object, tuple[object, ...]]]] = {
    "dds_create_domain": (_E, (c_uint32, c_char_p)),
    "dds_create_participant": (_E, (c_uint32, _P, _P)),
    "dds_create_topic": (_E, (_E, POINTER(TopicDescriptor), c_char_p, _P, _P)),
    "dds_create_reader": (_E, (_E, _E, _P, _P)),
    "dds_create_writer": (_E, (_E, _E, _P, _P)),
    "dds_create_waitset": (_E, (_E,)),
    "dds_create_readcondition": (_E, (_E, c_uint32)),
    "dds_create_guardcondition": (_E, (_E,)),
    "dds_set_guardcondition": (_E, (_E, c_bool)),
    "dds_waitset_attach": (_E, (_E, _E, ctypes.c_ssize_t)),
    "dds_waitset_detach": (_E, (_E, _E)),
    "dds_waitset_wait": (_E, (_E, POINTER(ctypes.c_ssize_t), c_size_t, c_int64)),
    "dds_set_status_mask": (_E, (_E, c_uint32)),
    "dds_delete": (_E, (_E,)),
    "dds_get_guid": (_E, (_E, _P)),
    "dds_get_entity_sertype": (_E, (_E, POINTER(_P))),
    "dds_get_matched_publications": (_E, (_E, POINTER(c_uint64), c_size_t)),
    "dds_get_matched_publication_data": (POINTER(BuiltinEndpoint), (_E, c_uint64)),
    "dds_get_matched_subscription_data": (POINTER(BuiltinEndpoint), (_E, c_uint64)),
    "dds_builtintopic_free_endpoint": (None, (POINTER(BuiltinEndpoint),)),
    "dds_get_matched_subscriptions": (_E, (_E, POINTER(c_uint64), c_size_t)),
    "dds_get_requested_incompatible_qos_status": (_E, (_E, POINTER(IncompatibleQosStatus))),
    "dds_get_offered_incompatible_qos_status": (_E, (_E, POINTER(IncompatibleQosStatus))),
    "dds_get_sample_lost_status": (_E, (_E, POINTER(SampleLostStatus))),
    "dds_get_publication_matched_status": (_E, (_E, POINTER(MatchedStatus))),
    "dds_get_subscription_matched_status": (_E, (_E, POINTER(MatchedStatus))),
    "dds_take": (_E, (_E, POINTER(_P), POINTER(SampleInfo), c_size_t, c_uint32)),
    "dds_return_loan": (_E, (_E, POINTER(_P), c_int32)),
    "dds_takecdr": (_E, (_E, POINTER(_P), c_uint32, POINTER(SampleInfo), c_uint32)),
    "dds_writecdr": (_E, (_E, _P)),
    "dds_wait_for_acks": (_E, (_E, c_int64)),
    "ddsi_serdata_from_ser_iov": (_P, (_P, ctypes.c_int, c_size_t, POINTER(IoVec), c_size_t)),
    "ddsi_serdata_size": (c_uint32, (_P,)),
    "ddsi_serdata_to_ser_ref": (_P, (_P, c_size_t, c_size_t, POINTER(IoVec))),
    "ddsi_serdata_to_ser_unref": (None, (_P, POINTER(IoVec))),
    "ddsi_serdata_unref": (None, (_P,)),
    "dds_create_qos": (_P, ()),
    "dds_delete_qos": (None, (_P,)),
    "dds_qset_reliability": (None, (_P, ctypes.c_int, c_int64)),
    "dds_qset_durability": (None, (_P, ctypes.c_int)),
    "dds_qset_durability_service": (
        None,
        (_P, c_int64, ctypes.c_int, c_int32, c_int32, c_int32, c_int32),
    ),
    "dds_qset_history": (None, (_P, ctypes.c_int, c_int32)),
    "dds_qset_lifespan": (None, (_P, c_int64)),
    "dds_qset_writer_data_lifecycle": (None, (_P, c_bool)),
    "dds_qset_userdata": (None, (_P, c_char_p, c_size_t)),
    "dds_qget_reliability": (c_bool, (_P, POINTER(ctypes.c_int), POINTER(c_int64))),
    "dds_qget_durability": (c_bool, (_P, POINTER(ctypes.c_int))),
    "dds_qget_history": (c_bool, (_P, POINTER(ctypes.c_int), POINTER(c_int32))),
    "dds_qget_lifespan": (c_bool, (_P, POINTER(c_int64))),
    "dds_qget_userdata": (c_bool, (_P, POINTER(_P), POINTER(c_size_t))),
    "dds_free": (None, (_P,)),
    "dds_strretcode": (c_char_p, (_E,)),
}

_lock = threading.Lock()
_library: ctypes.CDLL | None = None


def find_library() -> str:
    """Return the path or name of a Cyclone DDS library.

    The environment variable EVDISTILL_LIBDDSC comes first, then the ``cyclonedds`` wheel.

    Raises:
        DdsError: there is none.
    """
    named = os.environ.get(LIBRARY_ENV)
    if named:
        return named
    spec = importlib.util.find_spec("cyclonedds")
    if spec is not None and spec.submodule_search_locations:
        package = Path(spec.submodule_search_locations[0])
        for folder in (package.parent / "cyclonedds.libs", package / ".dylibs"):
            found = sorted(folder.glob("libddsc*"))
            if found:
                return str(found[0])
    raise DdsError(
        f"Cyclone DDS is not installed: {install_command('dds')} (Python 3.10 to 3.13), or name "
        f"the libddsc.so of a Cyclone DDS 11 in {LIBRARY_ENV}; with ROS 2 sourced, the rclpy node "
        "needs neither"
    )


def library() -> ctypes.CDLL:
    """Return the loaded library with its prototypes; loaded once a process.

    Raises:
        DdsError: it is missing, or too old to have a call that we need.
    """
    global _library  # noqa: PLW0603 - one shared library a process
    with _lock:
        if _library is None:
            _library = _load(find_library())
        return _library


def _load(path: str) -> ctypes.CDLL:
    try:
        dds = ctypes.CDLL(path)
        for name, (result, arguments) in _PROTOTYPES.items():
            function = getattr(dds, name)
            function.restype = result
            function.argtypes = arguments
    except (OSError, AttributeError) as error:
        raise DdsError(f"{path} cannot be used as Cyclone DDS library: {error}") from error
    return dds


def check(returned: int, what: str) -> int:
    """Return the handle or count of a call, or raise DdsError naming what failed."""
    if returned < 0:
        reason = library().dds_strretcode(returned).decode()
        raise DdsError(f"DDS could not {what}: {reason} ({returned})")
    return returned


def opaque_descriptor(dds_type_name: str) -> TopicDescriptor:
    """Return a type of this name whose payload Cyclone passes unchanged.

    Args:
        dds_type_name: e.g. ``sensor_msgs::msg::dds_::Image_``.
    """
    return TopicDescriptor(
        size=1,
        align=1,
        flagset=_TOPIC_RESTRICT_DATA_REPRESENTATION,
        nkeys=0,
        typename=dds_type_name.encode(),
        keys=None,
        nops=len(_ONE_OCTET),
        ops=(c_uint32 * len(_ONE_OCTET))(*_ONE_OCTET),
        meta=b"",
        restrict_data_representation=_FLAG_XCDR1,  # ROS speaks nothing else
    )


def guid_of(entity: int) -> bytes:
    """Return the 16 bytes that name an entity on the network; ROS calls them gid."""
    buffer = (ctypes.c_ubyte * 16)()
    check(library().dds_get_guid(entity, byref(buffer)), "read the guid of an entity")
    return bytes(buffer)
