"""Messages of the common ROS 2 packages: time, header, images, diagnostics, log, graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar

import numpy as np
import numpy.typing as npt

from evdistill_core.foundation.errors import MessageError
from evdistill_core.messages.message import (
    Array,
    Bool,
    Byte,
    Bytes,
    Float64s,
    Int32,
    Message,
    Scalar,
    String,
    UInt8,
    UInt32,
)

NS_PER_S = 1_000_000_000
_FLOAT64 = Scalar("float64", "d")
_PIXELS: dict[str, tuple[type[np.generic], int]] = {
    "mono8": (np.uint8, 1),
    "8UC1": (np.uint8, 1),
    "mono16": (np.uint16, 1),
    "16UC1": (np.uint16, 1),
    "32FC1": (np.float32, 1),
    "rgb8": (np.uint8, 3),
    "bgr8": (np.uint8, 3),
    "8UC3": (np.uint8, 3),
    "8UC4": (np.uint8, 4),
    "16UC3": (np.uint16, 3),
    "16UC4": (np.uint16, 4),
    "rgb16": (np.uint16, 3),
    "bgr16": (np.uint16, 3),
    "rgba8": (np.uint8, 4),
    "bgra8": (np.uint8, 4),
    "rgba16": (np.uint16, 4),
    "bgra16": (np.uint16, 4),
    "yuv422": (np.uint8, 2),
    "yuv422_yuy2": (np.uint8, 2),
    "uyvy": (np.uint8, 2),
    "yuyv": (np.uint8, 2),
    **{f"bayer_{order}8": (np.uint8, 1) for order in ("rggb", "bggr", "gbrg", "grbg")},
    **{f"bayer_{order}16": (np.uint16, 1) for order in ("rggb", "bggr", "gbrg", "grbg")},
}


@dataclass(frozen=True)
class Time(Message):
    """A moment: seconds and nanoseconds since the epoch of its clock."""

    TYPE: ClassVar[str] = "builtin_interfaces/msg/Time"

    sec: Int32 = 0
    nanosec: UInt32 = 0

    @staticmethod
    def from_ns(stamp_ns: int) -> Time:
        """Split nanoseconds."""
        return Time(*divmod(stamp_ns, NS_PER_S))

    def to_ns(self) -> int:
        """Join to nanoseconds."""
        return self.sec * NS_PER_S + self.nanosec


@dataclass(frozen=True)
class Header(Message):
    """When and in which coordinate frame."""

    TYPE: ClassVar[str] = "std_msgs/msg/Header"

    stamp: Time = Time()
    frame_id: String = ""


NO_TIME = Time()
NO_HEADER = Header()


@dataclass(frozen=True)
class StringMessage(Message):
    """A text."""

    TYPE: ClassVar[str] = "std_msgs/msg/String"

    data: String = ""


@dataclass(frozen=True)
class Clock(Message):
    """The time that nodes with ``use_sim_time`` live in."""

    TYPE: ClassVar[str] = "rosgraph_msgs/msg/Clock"

    clock: Time = Time()


@dataclass(frozen=True)
class Image(Message):
    """An uncompressed image, row by row."""

    TYPE: ClassVar[str] = "sensor_msgs/msg/Image"

    header: Header = Header()
    height: UInt32 = 0
    width: UInt32 = 0
    encoding: String = ""
    is_bigendian: UInt8 = 0
    step: UInt32 = 0
    data: Bytes = b""

    @staticmethod
    def from_array(header: Header, pixels: npt.NDArray[np.generic], encoding: str) -> Image:
        """Wrap an array; C-contiguous pixels are not copied before they are serialized.

        Args:
            header: stamp and frame.
            pixels: (H, W) or (H, W, channels) of the dtype that the encoding fixes.
            encoding: as sensor_msgs/image_encodings.hpp names it.

        Raises:
            MessageError: shape or dtype do not fit the encoding, or it is unknown.
        """
        dtype, channels = _pixel_layout(encoding)
        expected = pixels.shape[:2] if channels == 1 else (*pixels.shape[:2], channels)
        if pixels.ndim not in (2, 3) or pixels.shape != expected or pixels.dtype != dtype:
            raise MessageError(
                f"{encoding} needs {np.dtype(dtype)} pixels with {channels} channel(s), "
                f"got {pixels.dtype} of shape {pixels.shape}"
            )
        contiguous = np.ascontiguousarray(pixels).view(np.uint8).reshape(-1)
        height, width = pixels.shape[:2]
        step = width * channels * np.dtype(dtype).itemsize
        return Image(header, height, width, encoding, 0, step, contiguous.data)

    def check(self) -> None:
        """Refuse an image whose bytes do not fit its size; costs nothing.

        Raises:
            MessageError: the encoding is unknown, or data and size disagree.
        """
        dtype, channels = _pixel_layout(self.encoding)
        row_bytes = self.width * channels * np.dtype(dtype).itemsize
        if self.step < row_bytes or len(self.data) < self.step * self.height:
            raise MessageError(
                f"Image {self.width}x{self.height} {self.encoding}: step {self.step} (at least "
                f"{row_bytes}) and {len(self.data)} data bytes do not fit"
            )

    def to_array(self) -> npt.NDArray[np.generic]:
        """Return the numbers as stored: (H, W) or (H, W, channels), a read-only view if possible.

        ``images.decode_image`` makes an image of them.

        Raises:
            MessageError: as ``check``.
        """
        self.check()
        dtype, channels = _pixel_layout(self.encoding)
        kind = np.dtype(dtype).newbyteorder(">" if self.is_bigendian else "<")
        row_bytes = self.width * channels * kind.itemsize
        rows = np.frombuffer(self.data, np.uint8, self.step * self.height)
        rows = rows.reshape(self.height, self.step)[:, :row_bytes]
        shape = (self.height, self.width) if channels == 1 else (self.height, self.width, channels)
        pixels = np.ascontiguousarray(rows).reshape(-1).view(kind).reshape(shape)
        pixels.flags.writeable = False
        return pixels


@dataclass(frozen=True)
class CompressedImage(Message):
    """An image as a JPEG or PNG file.

    ``format`` is free text. image_transport writes what the image was and what the file holds:
    ``"bgr8; jpeg compressed bgr8"``; other publishers write ``"jpeg"`` or ``"png"``.
    """

    TYPE: ClassVar[str] = "sensor_msgs/msg/CompressedImage"

    header: Header = Header()
    format: String = ""
    data: Bytes = b""

    @staticmethod
    def from_array(
        header: Header, pixels: npt.NDArray[np.uint8], encoding: str, file: str
    ) -> CompressedImage:
        """Compress an image as image_transport does.

        Args:
            header: stamp and frame.
            pixels: (H, W) of mono8, or (H, W, 3) of bgr8, uint8.
            encoding: ``mono8`` or ``bgr8``.
            file: ``png``, without loss and fast rather than small, or ``jpeg`` of quality 80.
        """
        import cv2  # noqa: PLC0415

        how = {
            "png": [cv2.IMWRITE_PNG_COMPRESSION, 1],
            "jpeg": [cv2.IMWRITE_JPEG_QUALITY, 80],
        }[file]
        _, data = cv2.imencode(f".{file}", pixels, how)
        held = encoding if pixels.ndim == 3 else ""
        return CompressedImage(header, f"{encoding}; {file} compressed {held}", data.data)


def _pixel_layout(encoding: str) -> tuple[type[np.generic], int]:
    if encoding not in _PIXELS:
        raise MessageError(
            f"unknown image encoding {encoding!r}; known: {', '.join(sorted(_PIXELS))}"
        )
    return _PIXELS[encoding]


@dataclass(frozen=True)
class RegionOfInterest(Message):
    """Part of an image."""

    TYPE: ClassVar[str] = "sensor_msgs/msg/RegionOfInterest"

    x_offset: UInt32 = 0
    y_offset: UInt32 = 0
    height: UInt32 = 0
    width: UInt32 = 0
    do_rectify: Bool = False


@dataclass(frozen=True)
class CameraInfo(Message):
    """Calibration of a camera; all zero when it is not calibrated."""

    TYPE: ClassVar[str] = "sensor_msgs/msg/CameraInfo"

    header: Header = Header()
    height: UInt32 = 0
    width: UInt32 = 0
    distortion_model: String = ""
    d: Float64s = ()
    k: Annotated[Sequence[float], Array(_FLOAT64, 9)] = (0.0,) * 9
    r: Annotated[Sequence[float], Array(_FLOAT64, 9)] = (0.0,) * 9
    p: Annotated[Sequence[float], Array(_FLOAT64, 12)] = (0.0,) * 12
    binning_x: UInt32 = 0
    binning_y: UInt32 = 0
    roi: RegionOfInterest = RegionOfInterest()


@dataclass(frozen=True)
class KeyValue(Message):
    """One line of a status."""

    TYPE: ClassVar[str] = "diagnostic_msgs/msg/KeyValue"

    key: String = ""
    value: String = ""


@dataclass(frozen=True)
class DiagnosticStatus(Message):
    """How one part of a robot is doing."""

    TYPE: ClassVar[str] = "diagnostic_msgs/msg/DiagnosticStatus"
    OK: ClassVar[int] = 0
    WARN: ClassVar[int] = 1
    ERROR: ClassVar[int] = 2
    STALE: ClassVar[int] = 3

    level: Byte = OK
    name: String = ""
    message: String = ""
    hardware_id: String = ""
    values: Sequence[KeyValue] = field(default=())


@dataclass(frozen=True)
class DiagnosticArray(Message):
    """What goes to /diagnostics."""

    TYPE: ClassVar[str] = "diagnostic_msgs/msg/DiagnosticArray"

    header: Header = Header()
    status: Sequence[DiagnosticStatus] = ()


@dataclass(frozen=True)
class Log(Message):
    """What goes to /rosout."""

    TYPE: ClassVar[str] = "rcl_interfaces/msg/Log"
    DEBUG: ClassVar[int] = 10
    INFO: ClassVar[int] = 20
    WARN: ClassVar[int] = 30
    ERROR: ClassVar[int] = 40
    FATAL: ClassVar[int] = 50

    stamp: Time = Time()
    level: UInt8 = INFO
    name: String = ""
    msg: String = ""
    file: String = ""
    function: String = ""
    line: UInt32 = 0
