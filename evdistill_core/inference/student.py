"""Student files: everything the robot needs to run a student, and nothing that can run code.

A student file (``*.evstudent``) is a zip of

- ``student.json``: the manifest, see ``StudentInfo``, with size and SHA-256 of every other member;
- ``weights.safetensors``: weights and batch-norm statistics as trained, for torch;
- ``model.onnx``: the same network with free height and width, for ONNX Runtime, which folds the
  batch norms when it loads the model. Its weights are those of ``weights.safetensors``, which it
  refers to (ONNX external data): they are stored once. May be left out;
- ``model.int8.onnx``: the same in 8 bits, with its own weights. Only where it was asked for;
- ``MODEL_CARD.md``: the same facts for people.

Members are found by these names alone; other entries of the zip are ignored, nothing is unpacked
to disk, and no size that the zip declares is believed beyond fixed limits.

Files of format version 1 hold a second copy of the weights in ``model.onnx``, batch norms folded.
They are read as before; only version 2 is written.
"""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from evdistill_core.foundation.config import LATER, from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, PluginError, StudentError
from evdistill_core.foundation.files import atomic_path
from evdistill_core.foundation.labels import ClassTable
from evdistill_core.foundation.suggestions import near_path
from evdistill_core.inference.onnx_weights import put_in, take_out
from evdistill_core.models.registry import NETWORKS
from evdistill_core.representations.spec import InputSpec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

SUFFIX = ".evstudent"
ASSETS = Path(__file__).parents[1] / "assets"
FORMAT = "evdistill-student"
FORMAT_VERSION = 2
_READABLE_VERSIONS = (1, 2)
TASKS = ("segmentation", "recognition")

MANIFEST = "student.json"
WEIGHTS = "weights.safetensors"
ONNX = "model.onnx"
INT8 = "model.int8.onnx"
CARD = "MODEL_CARD.md"
# Far above what our networks need, far below what would fill a robot's memory.
_LIMIT_BYTES: Mapping[str, int] = {
    MANIFEST: 1 << 20,
    WEIGHTS: 1 << 30,
    ONNX: 1 << 30,
    INT8: 1 << 30,
    CARD: 1 << 20,
}
_MAX_RATIO = 100
_NETWORK_NAME = re.compile(r"[\w.:-]{1,200}")
_PACK_BELOW_BYTES = 32 << 20
_EXPORT_AGAIN = "copy the file again or export it again with `evdistill export`"
_DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class NetworkInfo:
    """The network in a student file.

    Attributes:
        name: in ``models.registry``, or of a plugin. ONNX Runtime runs the model in the file
            whatever its name; torch looks for the name.
        options: what it was built with, plain data.
        size_multiple: input height and width are multiples of this.
        output_stride: input cells per logit and axis.
        parameters: learned values.
        state_channels: channels of the state that it carries from window to window; 0: none.
        state_stride: input cells per cell of the state and axis.
        has_instances: whether it also says which cells belong to one thing: the centre heat map
            and the offsets of ``grouping.InstanceOutput``, for the thing classes of the table.
    """

    name: str
    options: dict[str, object] = field(default_factory=dict)
    size_multiple: int
    output_stride: int
    parameters: int
    state_channels: int = field(default=0, metadata=LATER)
    state_stride: int = field(default=0, metadata=LATER)
    has_instances: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse names and sizes that mean nothing."""
        if not _NETWORK_NAME.fullmatch(self.name):
            raise ConfigError(
                f"a network's name is made of letters, digits and _.:-, got {self.name!r}"
            )
        low, stride = min(self.state_channels, 1), self.state_stride
        if not 0 <= self.state_channels <= 4096 or not low <= stride <= 1024 * low:
            raise ConfigError(
                f"no network has a state of {self.state_channels} channels at stride {stride}"
            )
        if self.is_recurrent and self.size_multiple % stride:
            raise ConfigError(f"state_stride {stride} must divide {self.size_multiple}")
        for label in ("size_multiple", "output_stride"):
            if not 1 <= getattr(self, label) <= 1024:
                raise ConfigError(f"{label} must lie in 1..1024, got {getattr(self, label)}")

    @property
    def is_recurrent(self) -> bool:
        """Whether it carries a state from window to window."""
        return self.state_channels > 0

    def state_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Return the shape of the state for an input of this size; recurrent students only."""
        stride = self.state_stride
        return 1, self.state_channels, height // stride, width // stride


@dataclass(frozen=True, kw_only=True)
class StudentInfo:
    """What a student is: the manifest without its bookkeeping.

    Attributes:
        task: one of ``TASKS``.
        network: what computes.
        input: what it is fed.
        classes: what its outputs mean.
        provenance: plain data (JSON types): what it was trained on, how it scored, its licence.
        parity: plain data: how far the exported forms differ from the trained network.
    """

    task: str = "segmentation"
    network: NetworkInfo
    input: InputSpec
    classes: ClassTable
    provenance: Mapping[str, object] = field(default_factory=dict)
    parity: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse tasks that nothing of ours can do, and an input that the network cannot take."""
        if self.task not in TASKS:
            raise ConfigError(f"task must be one of {', '.join(TASKS)}, got {self.task!r}")
        own = NETWORKS.own.get(self.network.name)
        if own is not None and own.task != self.task:
            raise ConfigError(f"{self.network.name} is no network for {self.task}")
        if self.network.has_instances and (
            self.task != "segmentation" or not self.classes.thing_ids
        ):
            raise ConfigError(
                "an instance head needs the task segmentation and a class with is_thing: true, got "
                f"{self.task} of {', '.join(self.classes.names)}"
            )
        if self.input.size_multiple % self.network.size_multiple:
            raise ConfigError(
                f"size_multiple of the input must be a multiple of {self.network.size_multiple} "
                f"for this network, got {self.input.size_multiple}"
            )


class StudentFile:
    """An opened student file: the manifest is read and checked, the rest on demand.

    Attributes:
        path: where it was opened.
        info: what the student is.
    """

    def __init__(self, path: Path, info: StudentInfo, digests: Mapping[str, _Digest]) -> None:
        self.path = path
        self.info = info
        self._digests = digests

    @staticmethod
    def open(path: Path | str) -> StudentFile:
        """Open a student file.

        Args:
            path: of the file, or the name of a student of the package (``shipped_students``).

        Raises:
            StudentError: missing, not a student file, damaged, or written by a newer version.
            PluginError: its input is made by code which nobody allowed.
        """
        path = student_path(path)
        content = _manifest(path)
        try:
            info, digests = _read_info(content, str(path)), _read_digests(content)
        except PluginError:
            raise
        except (ValueError, TypeError) as error:  # ConfigError is a ValueError
            raise StudentError(
                f"{path} holds a student that this version cannot run: {error}; update evdistill, "
                f"or {_EXPORT_AGAIN}"
            ) from error
        if WEIGHTS not in digests:
            raise StudentError(f"{path} holds no weights; {_EXPORT_AGAIN}")
        return StudentFile(path, info, digests)

    @property
    def input(self) -> InputSpec:
        """What the student is fed."""
        return self.info.input

    @property
    def classes(self) -> ClassTable:
        """What its outputs mean."""
        return self.info.classes

    @property
    def has_onnx(self) -> bool:
        """Whether ONNX Runtime can run it."""
        return ONNX in self._digests

    @property
    def has_int8(self) -> bool:
        """Whether it has a model in 8 bits."""
        return INT8 in self._digests

    @property
    def checksum(self) -> str:
        """SHA-256 of its weights."""
        return self._digests[WEIGHTS].sha256

    @property
    def size_bytes(self) -> int:
        """Size of the file on disk."""
        return self.path.stat().st_size

    def weights(self) -> dict[str, npt.NDArray[np.generic]]:
        """Return the weights as trained, key to array.

        Raises:
            StudentError: the member is damaged.
        """
        import safetensors  # noqa: PLC0415 - only the torch path needs it
        import safetensors.numpy  # noqa: PLC0415

        data = self._read(WEIGHTS)
        try:
            arrays: dict[str, npt.NDArray[np.generic]] = safetensors.numpy.load(data)
        except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
            raise StudentError(f"{self.path}: damaged {WEIGHTS}: {error}") from error
        return arrays

    def onnx(self) -> bytes:
        """Return the ONNX model, weights included.

        Raises:
            StudentError: there is none, or it or the weights are damaged.
        """
        if not self.has_onnx:
            raise StudentError(
                f"{self.path} holds no ONNX model; run it with torch (runtime: torch) or export "
                "it again with `evdistill export --onnx`"
            )
        try:
            return put_in(self._read(ONNX), lambda: self._read(WEIGHTS), WEIGHTS)
        except StudentError:
            raise
        except ValueError as error:
            raise StudentError(f"{self.path}: {error}; {_EXPORT_AGAIN}") from error

    def onnx_int8(self) -> bytes:
        """Return the ONNX model in 8 bits, weights inside.

        Raises:
            StudentError: there is none, or it is damaged.
        """
        if not self.has_int8:
            raise StudentError(
                f"{self.path} holds no model in 8 bits; use precision fp32, or make one with "
                "`evdistill export STUDENT NEW --int8-from RECORDING`"
            )
        return self._read(INT8)

    def card(self) -> str:
        """Return the model card, Markdown.

        Raises:
            StudentError: it is damaged.
        """
        return self._read(CARD).decode("utf-8", "replace") if CARD in self._digests else ""

    def verify(self) -> None:
        """Read every member, compare its checksum, and look up the weights of the ONNX model.

        Raises:
            StudentError: a member is damaged, or the ONNX model needs weights that are missing.
        """
        for name in self._digests:
            self._read(name)
        if self.has_onnx:
            self.onnx()

    def _read(self, name: str) -> bytes:
        digest = self._digests[name]
        with _open_zip(self.path) as archive:
            data = _read_member(archive, self.path, name)
        if len(data) != digest.bytes or hashlib.sha256(data).hexdigest() != digest.sha256:
            raise StudentError(
                f"{self.path}: {name} differs from its checksum: the file was damaged or changed; "
                f"{_EXPORT_AGAIN}"
            )
        return data


def write_student(  # noqa: PLR0913 - the parts of a file
    path: Path,
    info: StudentInfo,
    *,
    weights: Mapping[str, npt.NDArray[np.generic]],
    onnx: bytes | None = None,
    int8: bytes | None = None,
    card: str = "",
) -> None:
    """Write a student file in one step.

    Args:
        path: where; by convention with the suffix ``.evstudent``.
        info: what the student is.
        weights: key to array, as trained (batch norms not folded).
        onnx: the network with free height and width, weights inside; None: torch only. Tensors
            that equal one of ``weights`` are stored as references to it.
        int8: the same in 8 bits, weights inside; None: none.
        card: Markdown for people.

    Raises:
        StudentError: a member is larger than a reader would accept.
    """
    import safetensors.numpy  # noqa: PLC0415 - readers on the ONNX path do without

    members = {WEIGHTS: safetensors.numpy.save({k: v.copy() for k, v in weights.items()})}
    if onnx is not None:
        members[ONNX] = take_out(onnx, members[WEIGHTS], WEIGHTS)
    if int8 is not None:
        members[INT8] = int8
    if card:
        members[CARD] = card.encode("utf-8")
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **to_mapping(info),
        "input": info.input.to_mapping(),
        "classes": info.classes.to_dict(),
        "members": {
            name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in members.items()
        },
    }
    text = json.dumps(manifest, indent=1, sort_keys=False, allow_nan=False)
    for name, size in [(MANIFEST, len(text))] + [(n, len(d)) for n, d in members.items()]:
        if size > _LIMIT_BYTES[name]:
            raise StudentError(f"{name} would have {size} bytes, above {_LIMIT_BYTES[name]}")
    with (
        atomic_path(path) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name, data in [(MANIFEST, text.encode("utf-8")), *members.items()]:
            # A fixed date: equal students give equal files.
            entry = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            entry.external_attr = 0o644 << 16
            # Weights shrink by 7 %: not worth the seconds where they are many.
            packed = len(data) < _PACK_BELOW_BYTES
            archive.writestr(entry, data, zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED)


@dataclass(frozen=True)
class _Digest:
    bytes: int
    sha256: str


def _open_zip(path: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(path)
    except FileNotFoundError as error:
        raise StudentError(
            f"no student file at {path}{near_path(path)}; students of the package, by name: "
            f"{', '.join(shipped_students()) or 'none'}"
        ) from error
    except OSError as error:
        raise StudentError(f"cannot read student file {path}: {error}") from error
    except _DAMAGE as error:
        raise StudentError(
            f"{path} is no student file, or only a part of one ({error}); {_EXPORT_AGAIN}. "
            "A checkpoint (*.pt) becomes a student by `evdistill export`"
        ) from error


def _read_member(archive: zipfile.ZipFile, path: Path, name: str) -> bytes:
    """Return one member, never more than the limit of its name."""
    entries = [entry for entry in archive.infolist() if entry.filename == name]
    if not entries and any(e.filename.endswith("/data.pkl") for e in archive.infolist()):
        raise StudentError(
            f"{path} is a checkpoint, not a student; make one of it: "
            f"`evdistill export {path} FILE.evstudent`"
        )
    if len(entries) != 1:
        raise StudentError(f"{path} holds {len(entries)} members {name}, not 1; {_EXPORT_AGAIN}")
    limit = _LIMIT_BYTES[name]
    if entries[0].file_size > limit:
        raise StudentError(
            f"{path}: {name} declares {entries[0].file_size} bytes, above the limit of {limit}"
        )
    # Trained weights shrink by a tenth; what shrinks a hundredfold is made to fill memory.
    if entries[0].file_size > _MAX_RATIO * entries[0].compress_size + (1 << 16):
        raise StudentError(
            f"{path}: {name} declares {entries[0].file_size} bytes in "
            f"{entries[0].compress_size} packed ones: no student of ours; {_EXPORT_AGAIN}"
        )
    try:
        with archive.open(entries[0]) as member:
            data = member.read(limit + 1)
    except (OSError, *_DAMAGE) as error:
        raise StudentError(f"{path}: cannot read {name}: {error}; {_EXPORT_AGAIN}") from error
    if len(data) > limit:
        raise StudentError(f"{path}: {name} is larger than the limit of {limit} bytes")
    return data


def shipped_students() -> list[str]:
    """Return the names of the students that come with the package."""
    return sorted(p.stem for p in ASSETS.glob(f"*{SUFFIX}"))


def student_path(student: Path | str) -> Path:
    """Return the path of a student: as it is, or that of one of the package by its name.

    A file or folder of that name in the working directory comes first.

    Args:
        student: a path, or one of ``shipped_students``.
    """
    path = Path(student).expanduser()
    if path.name == str(path) and not path.suffix and not path.exists():
        named = ASSETS / f"{path.name}{SUFFIX}"
        if named.is_file():
            return named
    return path


def _manifest(path: Path) -> Mapping[str, object]:
    with _open_zip(path) as archive:
        data = _read_member(archive, path, MANIFEST)
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise StudentError(f"{path}: {MANIFEST} is not JSON: {error}; {_EXPORT_AGAIN}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StudentError(f"{path} is a zip, but no student file; {_EXPORT_AGAIN}")
    if content.get("format_version") not in _READABLE_VERSIONS:
        raise StudentError(
            f"{path} has student format {content.get('format_version')!r}, this version reads "
            f"{' and '.join(map(str, _READABLE_VERSIONS))}; update evdistill or export the student "
            "again"
        )
    return content


def _read_info(content: Mapping[str, object], source: str) -> StudentInfo:
    def part(key: str) -> dict[str, object]:
        value = content.get(key)
        if not isinstance(value, dict):
            raise ConfigError(f"{key} must be a mapping, got {value!r}")
        return value

    return StudentInfo(
        task=str(content.get("task")),
        network=from_mapping(NetworkInfo, part("network"), "network"),
        input=InputSpec.from_mapping(part("input"), "input", source=source),
        classes=ClassTable.from_dict(content.get("classes")),
        provenance=part("provenance"),
        parity=part("parity"),
    )


def _read_digests(content: Mapping[str, object]) -> dict[str, _Digest]:
    members = content.get("members")
    if not isinstance(members, dict):
        raise ConfigError(f"members must be a mapping, got {members!r}")
    digests = {}
    for name in (WEIGHTS, ONNX, INT8, CARD):
        if name in members:
            if not isinstance(members[name], dict):
                raise ConfigError(f"members.{name} must be a mapping, got {members[name]!r}")
            digests[name] = from_mapping(_Digest, members[name], f"members.{name}")
    return digests
