"""A teacher in ONNX Runtime: what its file promises is checked before the first step.

Shape letters: see ``teacher_base``. No gradient passes through the model.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime
import torch
import torch.nn.functional as F
from torch import Tensor

from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.foundation.labels import IGNORE, ClassTable
from evdistill_core.foundation.plugins import in_one_line
from evdistill_core.foundation.suggestions import did_you_mean, near_path
from evdistill_core.inference.onnx_runner import ORT_ERRORS, session_options
from evdistill_core.models.network import Seen
from evdistill_core.models.task_name import TaskName
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig
from evdistill_core.training.teacher_base import Teacher, class_ids

_log = logging.getLogger(__name__)
Array = npt.NDArray[Any]
Answer = Literal["logits", "probabilities", "labels"]
_FLOATS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(double)": np.float64}
_INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
# An entry {key: "location", value: path} of an external tensor, as protobuf writes it; the length
# of the path is one byte, or two from 128 on.
_LOCATION = re.compile(rb"\x0a\x08location\x12([\x01-\x7f]|[\x80-\xff][\x01-\x7f])")
# What a model of free size is tried with; a multiple of 32, as most networks want it.
_TRIAL_SIZE = (224, 224)
_SUM_TOLERANCE = 1e-2  # of probabilities in half precision
_SMALLEST = 1e-7  # a probability of 0 has no logarithm


@dataclass(frozen=True)
class _Input:
    """The image input of a model.

    Attributes:
        name: of the tensor.
        dtype: that it wants.
        size: (height, width) that images are resized to; None: they stay as they are.
        one_by_one: whether it takes a single image at a time.
    """

    name: str
    dtype: npt.DTypeLike
    size: tuple[int, int] | None
    one_by_one: bool


class OnnxTeacher(Teacher):
    """A model of another library; see ``OnnxTeacherConfig`` for what is known of it.

    Logits are those of the model; the logarithms of probabilities where it ends in a softmax; and
    where it gives labels, those of a distribution with ``label_smoothing``, with one class more for
    the label 255 and no place for it.

    Args:
        config: the model's description.
        classes: of the student.
        device: CUDA is used where ONNX Runtime has it.

    Raises:
        StudentError: the file is missing, damaged, or refused by ONNX Runtime.
        ConfigError: the model and its description differ; names the value and the cure.
    """

    def __init__(
        self, config: OnnxTeacherConfig, classes: ClassTable, device: torch.device
    ) -> None:
        self.path = config.onnx
        self.num_classes = len(classes)
        self._config = config
        self.sha256 = _digest(_files_of(self.path))
        names = config.class_names()
        self._own_classes = len(names)
        self.class_map = class_ids(names, classes, config.class_map)
        self._tell_dropped(names)
        self._session = _open_session(self.path, device)
        self._input = self._inspect_input()
        self._outputs = self._choose_outputs()
        self._device = device
        shape = (1, config.num_channels, 1, 1)
        mean, std = config.normalisation.mean, config.normalisation.std
        self._mean = torch.tensor(mean).view(1, -1, 1, 1).expand(shape)
        self._std = torch.tensor(std).view(1, -1, 1, 1).expand(shape)
        self._answer, self._task = self._try()
        if self._answer == "labels":
            self.class_map = (*(self.class_map or range(self._own_classes)), IGNORE)

    @property
    def task(self) -> TaskName:
        """As the shape of its predictions says."""
        return self._task

    def see(self, image_B1HW: Tensor) -> Seen:
        """Return logits and features; see ``Teacher.see``."""
        # Terms that need this gradient are refused with the configuration.
        assert not (image_B1HW.requires_grad and torch.is_grad_enabled())
        answer, *features = self._run(self._prepared(image_B1HW))
        logits = self._as_logits(answer).to(image_B1HW.device)
        if not features:
            return Seen(logits, None)
        return Seen(logits, _as_map(features[0]).to(image_B1HW.device))

    def _prepared(self, image_B1HW: Tensor) -> Array:
        image = image_B1HW.detach().float().cpu()
        size = self._input.size
        if size is not None and tuple(image.shape[2:]) != size:
            image = F.interpolate(
                image, size=size, mode="bilinear", align_corners=False, antialias=True
            )
        prepared = ((image + 1) / 2 - self._mean) / self._std
        return np.ascontiguousarray(prepared.numpy(), dtype=self._input.dtype)

    def _run(self, images: Array) -> list[Array]:
        parts = np.split(images, len(images)) if self._input.one_by_one else [images]
        try:
            results = [self._session.run(self._outputs, {self._input.name: x}) for x in parts]
        except ORT_ERRORS as error:
            height, width = images.shape[2:]
            raise ConfigError(
                f"teacher {self.path} does not take {len(parts[0])} images of {height}x{width} "
                f"(height x width): {in_one_line(error)}; set teacher.size to a size that it "
                "takes, or export it with dynamic axes for batch, height and width"
            ) from error
        return [np.concatenate(r) if len(r) > 1 else r[0] for r in zip(*results, strict=True)]

    def _as_logits(self, answer: Array) -> Tensor:
        if self._answer == "labels":
            return self._of_labels(answer)
        logits = torch.from_numpy(np.ascontiguousarray(answer, dtype=np.float32))
        if self._task == "recognition":
            logits = logits.flatten(1)
        return logits.clamp_min(_SMALLEST).log() if self._answer == "probabilities" else logits

    def _of_labels(self, answer: Array) -> Tensor:
        label = torch.from_numpy(answer.astype(np.int64))
        label = label[:, 0] if label.ndim == 4 else label
        known = self._own_classes
        wrong = label[(label < 0) | ((label >= known) & (label != IGNORE))]
        if len(wrong):
            raise ConfigError(
                f"teacher {self.path} gives the label {int(wrong.max())}, and teacher.classes "
                f"names {known}: labels are 0..{known - 1}, and {IGNORE} for none; name all "
                "classes of the model in its order"
            )
        one_hot = F.one_hot(label.clamp_max(known), known + 1).movedim(-1, 1).float()
        own, none = one_hot[:, :known], one_hot[:, known:]
        smoothing = self._config.label_smoothing
        own = own * (1 - smoothing) + (1 - none) * smoothing / known
        return torch.cat([own, none], 1).clamp_min(_SMALLEST).log()

    # What the file promises.

    def _inspect_input(self) -> _Input:
        inputs = self._session.get_inputs()
        if len(inputs) != 1:
            named = ", ".join(f"{v.name} {v.shape}" for v in inputs) or "none"
            raise ConfigError(
                f"teacher {self.path} has {len(inputs)} inputs ({named}); a teacher has one, the "
                "image: export a module whose forward takes the image alone"
            )
        (image,) = inputs
        if image.type not in _FLOATS:
            raise ConfigError(
                f"teacher {self.path} takes {image.type}; allowed are {', '.join(_FLOATS)}: export "
                "the network without the conversion of 8 bit images, which teacher.normalise does"
            )
        shape = list(image.shape)
        if len(shape) != 4:
            raise ConfigError(
                f"teacher {self.path} takes {shape}; images are (batch, channels, height, width): "
                "export it with an input of four axes"
            )
        self._check_channels(shape)
        batch = shape[0]
        if isinstance(batch, int) and batch > 1:
            raise ConfigError(
                f"teacher {self.path} takes exactly {batch} images at a time; export it with a "
                "dynamic batch axis, or with an example of one image"
            )
        if batch == 1:
            _log.info(
                "teacher %s takes one image at a time; a dynamic batch axis is faster", self.path
            )
        size = self._size_of(shape)
        return _Input(image.name, _FLOATS[image.type], size, batch == 1)

    def _check_channels(self, shape: list[int | str | None]) -> None:
        found, wanted = shape[1], self._config.num_channels
        if not isinstance(found, int) or found == wanted:
            return
        if shape[3] in (1, 3) and found not in (1, 3):
            cure = "channels come second: export it as (batch, channels, height, width)"
        elif found in (1, 3):
            cure = f"set teacher.channels to {'grey' if found == 1 else 'rgb or bgr'}"
        else:
            cure = "a teacher looks at images of 1 or 3 channels"
        raise ConfigError(
            f"teacher {self.path} takes {found} channels ({shape}), and teacher.channels: "
            f"{self._config.channels} gives {wanted}; {cure}"
        )

    def _size_of(self, shape: list[int | str | None]) -> tuple[int, int] | None:
        wanted = self._config.size
        fixed = [n if isinstance(n, int) else None for n in shape[2:]]
        if wanted is None:
            if None not in fixed:
                return (int(fixed[0] or 0), int(fixed[1] or 0))
            if any(n is not None for n in fixed):
                raise ConfigError(
                    f"teacher {self.path} takes {shape}, one side of it fixed: set teacher.size to "
                    "[height, width]"
                )
            return None
        if any(n is not None and n != w for n, w in zip(fixed, wanted, strict=True)):
            raise ConfigError(
                f"teacher {self.path} takes {shape}, and teacher.size says {list(wanted)}: leave "
                "size out, or export it with dynamic axes for height and width"
            )
        return wanted

    def _choose_outputs(self) -> list[str]:
        outputs = {v.name: v for v in self._session.get_outputs()}
        listed = ", ".join(f"{v.name} {v.shape}" for v in outputs.values())
        config = self._config
        for key, name in (("output", config.output), ("features", config.features)):
            if name and name not in outputs:
                raise ConfigError(
                    f"teacher {self.path} has no output {name!r} (teacher.{key}); its outputs: "
                    f"{listed}{did_you_mean(name, outputs)}"
                )
        left = [name for name in outputs if name != config.features]
        if not config.output and len(left) != 1:
            raise ConfigError(
                f"teacher {self.path} has {len(left)} outputs that may be the prediction: set "
                f"teacher.output to one of {listed}"
            )
        chosen = config.output or left[0]
        return [chosen, config.features] if config.features else [chosen]

    def _try(self) -> tuple[Answer, TaskName]:
        """Return what the model gives for two images of noise."""
        count = 1 if self._input.one_by_one else 2
        noise = (
            torch.rand(count, 1, *(self._input.size or _TRIAL_SIZE), generator=_seeded()) * 2 - 1
        )
        answer, *features = self._run(self._prepared(noise))
        if len(answer) != count:
            raise ConfigError(
                f"teacher {self.path} gives {len(answer)} answers for {count} images: its batch "
                "axis is fixed inside; export it with a dynamic batch axis"
            )
        if features and features[0].ndim not in (2, 4):
            raise ConfigError(
                f"teacher {self.path}: features {self._config.features!r} have the shape "
                f"{features[0].shape}; allowed are (B, C, h, w) and (B, C)"
            )
        if answer.dtype.name in _INTEGERS:
            return self._try_labels(answer)
        return self._try_scores(answer)

    def _try_labels(self, answer: Array) -> tuple[Answer, TaskName]:
        if not (answer.ndim == 3 or (answer.ndim == 4 and answer.shape[1] == 1)):
            raise ConfigError(
                f"teacher {self.path} gives {answer.dtype} of the shape {answer.shape}; labels are "
                "(B, h, w) or (B, 1, h, w): export the logits instead"
            )
        self._of_labels(answer)
        return "labels", "segmentation"

    def _try_scores(self, answer: Array) -> tuple[Answer, TaskName]:
        if answer.dtype.kind != "f" or answer.ndim not in (2, 4):
            raise ConfigError(
                f"teacher {self.path} gives {answer.dtype} of the shape {answer.shape}; allowed "
                "are logits or probabilities (B, K, h, w), or (B, K) for recognition, and labels "
                "(B, h, w) of whole numbers: set teacher.output, or export such a tensor"
            )
        if answer.shape[1] != self._own_classes:
            raise ConfigError(
                f"teacher {self.path} gives {answer.shape[1]} classes (its output has the shape "
                f"{answer.shape}), and teacher.classes names {self._own_classes}: name every class "
                "in the order of the outputs, a background class too"
            )
        if not np.isfinite(answer).all():
            raise ConfigError(
                f"teacher {self.path} gives values that are not finite for an image of noise: "
                "export it in float32, and check teacher.normalise"
            )
        whole = answer.ndim == 2 or answer.shape[2:] == (1, 1)
        return self._kind_of(answer), "recognition" if whole else "segmentation"

    def _kind_of(self, answer: Array) -> Answer:
        if answer.min() < 0 or answer.max() > 1 + _SUM_TOLERANCE:
            return "logits"
        if np.abs(answer.sum(1, dtype=np.float64) - 1).max() < _SUM_TOLERANCE:
            return "probabilities"
        _log.warning(
            "teacher %s gives values in 0..1 that do not add up to 1, as a sigmoid does; they are "
            "taken for logits, which makes every prediction unsure: export the logits",
            self.path,
        )
        return "logits"

    def _tell_dropped(self, names: Sequence[str]) -> None:
        if self.class_map is None or IGNORE not in self.class_map:
            return
        dropped = [n for n, k in zip(names, self.class_map, strict=True) if k == IGNORE]
        _log.info(
            "teacher %s: %d of %d classes have no place among the student's and are left out: %s",
            self.path,
            len(dropped),
            len(names),
            ", ".join(dropped[:20]) + (", ..." if len(dropped) > 20 else ""),
        )


def _open_session(path: Path, device: torch.device) -> onnxruntime.InferenceSession:
    options = session_options(torch.get_num_threads())
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=_providers(device))
    except ORT_ERRORS as error:
        raise StudentError(
            f"ONNX Runtime {onnxruntime.__version__} refuses the teacher {path}: "
            f"{in_one_line(error)}; is it an ONNX model? Export it with standard operators and an "
            "older opset_version, or update onnxruntime"
        ) from error
    if device.type == "cuda" and session.get_providers()[0] != "CUDAExecutionProvider":
        _log.warning(
            "teacher %s runs on the CPU: this ONNX Runtime has no CUDA; install onnxruntime-gpu",
            path,
        )
    return session


def _providers(device: torch.device) -> list[str | tuple[str, dict[str, str]]]:
    cuda = "CUDAExecutionProvider"
    if device.type != "cuda" or cuda not in onnxruntime.get_available_providers():
        return ["CPUExecutionProvider"]
    return [(cuda, {"device_id": str(device.index or 0)}), "CPUExecutionProvider"]


def _files_of(path: Path) -> list[Path]:
    """Return a model and the files beside it in which it keeps its weights.

    Raises:
        StudentError: one is missing, or lies outside the model's folder.
    """
    if not path.is_file():
        what = "is a folder" if path.is_dir() else "does not exist"
        raise StudentError(
            f"the teacher {path} {what}; teacher.onnx names an ONNX file{near_path(path)}"
        )
    try:
        content = path.read_bytes()
    except OSError as error:
        raise StudentError(f"cannot read the teacher {path}: {error}") from error
    files = [path]
    for name in sorted(_locations(content)):
        beside = path.parent / name
        if Path(name).is_absolute() or ".." in Path(name).parts:
            raise StudentError(
                f"the teacher {path} needs {name!r}; its weights must lie in its own "
                "folder: export it again"
            )
        if not beside.is_file():
            raise StudentError(
                f"the teacher {path} keeps its weights in {name!r}, which does not exist: copy it "
                "to the folder of the model, or export with external_data=False"
            )
        files.append(beside)
    return files


def _locations(content: bytes) -> set[str]:
    names = set()
    for found in _LOCATION.finditer(content):
        length = found[1][0] & 0x7F
        if len(found[1]) == 2:
            length += found[1][1] << 7
        names.add(content[found.end() : found.end() + length].decode("utf-8", "replace"))
    return names


def _digest(files: Sequence[Path]) -> str:
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            for block in iter(lambda: file.read(1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _as_map(features: Array) -> Tensor:
    found = torch.from_numpy(np.ascontiguousarray(features, dtype=np.float32))
    return found[:, :, None, None] if found.ndim == 2 else found


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)
