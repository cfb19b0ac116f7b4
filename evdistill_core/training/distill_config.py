"""Configuration of the two stages of EvDistill: the teacher, and the distillation."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from evdistill_core.data.unpaired import DistillDataConfig, TeacherDataConfig
from evdistill_core.foundation.config import LATER
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.ranges import (
    BELOW_ONE,
    check_at_least,
    check_intervals,
    check_ranges,
)
from evdistill_core.losses.terms import check_weights
from evdistill_core.models.discriminators import DiscriminatorOptions
from evdistill_core.models.generators import GeneratorOptions
from evdistill_core.models.registry import IMAGE_PREFIX, network_task
from evdistill_core.representations.spec import InputSpec
from evdistill_core.training.config import NetworkConfig, TrainConfig
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig

# Every term of the objective; docs of each stand with its function in ``losses``.
TERMS: dict[str, str] = {
    "task_generated": "supervised losses of S(G_ie(x_i)) against the image's labels",
    "task_events": "supervised losses of S on labelled event windows, simulated or real",
    "task_reconstructed": "supervised losses of T(G_ei(x)), x a labelled window, to G_ei alone",
    "gan_image": "LSGAN: G_ei(x_e) looks like an image",
    "gan_event": "LSGAN: G_ie(x_i) looks like a window of the target camera",
    "cycle_image": "L1 of G_ei(G_ie(x_i)) and x_i",
    "cycle_event": "L1 of G_ie(G_ei(x_e)) and x_e",
    "paired": "L1 of G_ei(x_e) and the frame of the same moment",
    "paired_simulated": "L1 of G_ei of a simulated labelled window and the image behind it",
    "consistency_image": "KL(T(x_i) || S(G_ie(x_i))), to G_ie alone",
    "consistency_event": "KL(S(x_e) || T(G_ei(x_e))), to G_ei alone",
    "kd_generated": "pixel KD of T(x_i) onto S(G_ie(x_i))",
    "kd_event": "pixel KD of T(G_ei(x_e)) onto S(x_e)",
    "kd_paired": "pixel KD of T(frame) onto S(x_e): the paper's baseline with events and frames",
    "task_paired": "supervised losses of S(x_e) against the classes that T(frame) is surest of",
    "kd_simulated": "pixel KD of T(image) onto S, of simulated labelled windows",
    "matching_generated": "pooled class posteriors of T(x_i) and S(G_ie(x_i))",
    "matching_event": "pooled class posteriors of T(G_ei(x_e)) and S(x_e)",
    "affinity_generated": "affinity graphs of T(x_i) and S(G_ie(x_i))",
    "affinity_event": "affinity graphs of T(G_ei(x_e)) and S(x_e)",
    "kd_instances_generated": "centres and offsets of T(x_i) onto S(G_ie(x_i)), where both have an "
    "instance head",
    "kd_instances_event": "centres and offsets of T(G_ei(x_e)) onto S(x_e)",
    "affinity_paired": "affinity graphs of T(frame) and S(x_e)",
    "kd_ensemble": "pixel KD of the mean of T(frame) and a trained student (larger.student) onto "
    "S(x_e)",
    "affinity_simulated": "affinity graphs of T(image) and S, of simulated labelled windows",
    "mutual": "S(x_e) and a student of frames pull each other, where there are frames",
    "mutual_task": "supervised losses of the student of frames on labelled images",
    "output": "WGAN: S(x_e) looks like a posterior of the teacher",
    "pseudo_label": "cross entropy of S(x_e) and labels on which teacher and averaged S agree",
    "class_mix": "pseudo labels on windows with pasted classes of labelled ones",
    "density_mix": "pseudo labels with pasted regions where the densities of events differ",
    "entropy": "entropy of S(x_e), weighed by how often the target is active at a place",
}

# Those between the instance heads of teacher and student.
INSTANCE_TERMS = ("kd_instances_generated", "kd_instances_event")
# Those that came later: configurations that do not name them have them off.
LATER_TERMS = (
    *INSTANCE_TERMS,
    "kd_simulated",
    "affinity_paired",
    "affinity_simulated",
    "density_mix",
    "entropy",
    "kd_ensemble",
    "task_paired",
)

# Those that train translation and nothing else: they may be computed at some steps only.
TRANSLATION_TERMS = (
    "task_reconstructed",
    "gan_image",
    "gan_event",
    "cycle_image",
    "cycle_event",
    "paired",
    "paired_simulated",
    "consistency_image",
    "consistency_event",
)

# Those whose gradient reaches a generator.
GENERATOR_TERMS = (
    *TRANSLATION_TERMS,
    "task_generated",
    "kd_generated",
    "matching_generated",
    "affinity_generated",
    "kd_instances_generated",
)


# Those in which the teacher judges reconstructions for the student.
FADING_TERMS = ("kd_event", "matching_event", "affinity_event", "kd_instances_event")

# Those in which the student learns from what a generator made.
TRANSLATED_TERMS = (
    *FADING_TERMS,
    "task_generated",
    "kd_generated",
    "matching_generated",
    "affinity_generated",
    "kd_instances_generated",
)

# Those in which the student learns from its own answers.
SELF_TERMS = ("pseudo_label", "class_mix", "density_mix", "entropy")

# Those that need the image behind a simulated labelled window.
PICTURE_TERMS = ("paired_simulated", "kd_simulated", "affinity_simulated")

# Those that need a frame of the moment of a target window.
FRAME_TERMS = ("paired", "task_paired", "kd_paired", "affinity_paired", "mutual", "kd_ensemble")

# Those that learn from labelled windows or need one beside a target window.
LABELLED_TERMS = ("task_events", "task_reconstructed", "density_mix", *PICTURE_TERMS)

# Those whose gradient passes through the teacher to a generator: it must be one of ours.
THROUGH_TEACHER_TERMS = ("task_reconstructed", "consistency_event")

# Those that compare a feature map of the teacher.
FEATURE_TERMS = (
    "affinity_generated",
    "affinity_event",
    "affinity_paired",
    "affinity_simulated",
)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig(TrainConfig):
    """Train a network on labelled images.

    Attributes:
        data: labelled images.
        input: only its single channel counts; a teacher sees grey images in -1..1.
    """

    data: TeacherDataConfig
    input: InputSpec = field(default_factory=lambda: InputSpec(kind="voxel", bins=1))

    def __post_init__(self) -> None:
        """Refuse an input of several channels."""
        super().__post_init__()
        if self.input.channels != 1:
            raise ConfigError("a teacher sees grey images: remove the key input")
        images = [self.data.stills, *self.data.validation_stills.values()]
        recognises = network_task(self.network.name) == "recognition"
        if any(s.images.is_recognition != recognises for s in images):
            raise ConfigError(
                f"network {self.network.name} needs images of "
                f"{'one class each' if recognises else 'dense labels'}"
            )

    @property
    def checkpoint_network(self) -> str:
        """A name that no student has: weights for images must not be fed events."""
        return IMAGE_PREFIX + self.network.name


@dataclass(frozen=True, kw_only=True)
class ViewConfig:
    """How a target window is changed before the student sees it, in terms with pseudo-labels.

    The networks that make the pseudo-labels see the window unchanged.

    Attributes:
        dropout: share of the cells that are emptied.
        strength: (low, high) of a random factor on the input.
        shift_px: largest random shift along each axis, in cells (recognition).
    """

    dropout: float = 0.0
    strength: tuple[float, float] = (1.0, 1.0)
    shift_px: int = 0

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_ranges(self, dropout=(0, BELOW_ONE), shift_px=(0, 64))
        check_intervals(self, strength=(1e-6, 100))

    @property
    def changes(self) -> bool:
        """Whether the student sees anything else than the judges."""
        return self != ViewConfig()


@dataclass(frozen=True, kw_only=True)
class TransferConfig:
    """How the teacher's knowledge is passed on.

    Attributes:
        temperature: temperature of the pixel KD.
        confidence: how the weight of a pixel follows from the certainty of the teacher: ``max`` is
            its largest probability, ``entropy`` is 1 minus the normalised entropy, ``none`` is 1.
        confidence_floor: pixels below this certainty do not count.
        activity_weighted: on real windows, pixels far from events count ``loss.inactive_weight``.
        matching_cells: regions per axis of the distribution matching; 1: the whole image.
        affinity_graph: nodes that are compared. ``scaled``: windows of ``pool_scale``, as in the
            authors' release. ``grid``: dense. ``events``: cells of the student's feature map where
            events are. ``batch``: each image of the batch is a node (recognition).
        pool_scale: size of the windows of the scaled graph; 0.8 gives 2x2 nodes.
        affinity_nodes: nodes per axis of the dense graph. Its square is the largest number of nodes
            of the graph of cells with events.
        affinity_norm: norm of the differences between similarities.
        pseudo_threshold: certainty from which a pseudo-label counts without agreement.
        pseudo_judges: networks that make pseudo-labels. ``both``: the teacher on the reconstruction
            and the averaged student. ``averaged``: the averaged student alone, where it is sure
            (self-training); this needs no generator.
        pseudo_mean: ``pseudo_label`` is a mean over the pixels that are ``kept``, or over ``all``
            pixels. With ``all`` it counts less where few pixels are sure.
        pseudo_ramp: share of the run over which ``pseudo_label`` and ``entropy`` grow from 0 to
            their weights.
        pseudo_from: share of the run before which terms with the student's own answers
            (``SELF_TERMS``) are off. The ramp begins there. Batch norms of a pretrained encoder
            need some hundred steps to leave the statistics of images; earlier answers are noise.
        teacher_fade: share of the run over which terms with the teacher's answers on
            reconstructions (``FADING_TERMS``) shrink from their weights to 0; 0: they keep them.
            These answers help early, and are later worse than the student's.
        translated_share: share of the steps, evenly spread, in which the student learns from
            generated windows and reconstructions (``TRANSLATED_TERMS``); 1: all. Translations have
            errors, and few of them suffice (5 % in HPL-ESS, CVPR 2024). Steps without them are also
            much cheaper.
        density_regions: rectangles per axis into which ``density_mix`` cuts windows.
        generator_gradient: factor on the gradient that reaches G_ie from the student's terms on
            generated windows (``task_generated``, ``kd_generated``, ...). 1: the whole gradient. 0:
            G_ie learns from its own terms alone. Weights that suit the student may be hundreds of
            times those of the discriminators; G_ie then draws patterns that the student can read
            instead of events.
        view: changes of the windows in terms with pseudo-labels.
        joint_batch: the student sees labelled and target windows in one pass, and passes of
            generated windows do not update its running statistics. Batch norm then has one set of
            statistics, from windows of sensors. Otherwise each kind of window is normalised apart
            in training, and all by one average afterwards. Inputs must have one size.
        target_statistics: every kind of windows is normalised by its own batch. Only unchanged
            windows of the target update the running statistics, so the student is later normalised
            by its own camera (AdaBN at every step). One set of statistics for both fits neither
            where simulator and camera differ.
        labelled_statistics: the opposite: only labelled windows update the running statistics. All
            other windows are normalised by them in training too, as in use. With a pretrained
            encoder, statistics of the target cost points.
    """

    temperature: float = 1.0
    confidence: Literal["none", "max", "entropy"] = "none"
    confidence_floor: float = 0.0
    activity_weighted: bool = False
    matching_cells: int = 1
    affinity_graph: Literal["scaled", "grid", "events", "batch"] = "scaled"
    pool_scale: float = 0.8
    affinity_nodes: int = 16
    affinity_norm: Literal["l1", "l2"] = "l2"
    pseudo_threshold: float = 0.968
    pseudo_judges: Literal["both", "averaged"] = "both"
    pseudo_mean: Literal["kept", "all"] = "kept"
    pseudo_ramp: float = 0.0
    pseudo_from: float = field(default=0.0, metadata=LATER)
    teacher_fade: float = 0.0
    translated_share: float = field(default=1.0, metadata=LATER)
    density_regions: int = field(default=8, metadata=LATER)
    generator_gradient: float = field(default=1.0, metadata=LATER)
    view: ViewConfig = field(default_factory=ViewConfig)
    joint_batch: bool = False
    target_statistics: bool = False
    labelled_statistics: bool = field(default=False, metadata=LATER)

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        if self.joint_batch + self.target_statistics + self.labelled_statistics > 1:
            raise ConfigError(
                "joint_batch, target_statistics and labelled_statistics exclude each other: leave "
                "one of them on"
            )
        check_ranges(
            self,
            temperature=(1e-3, 1e3),
            confidence_floor=(0.0, 1.0),
            matching_cells=(1, 256),
            pool_scale=(1e-3, 1.0),
            affinity_nodes=(1, 64),
            pseudo_threshold=(0.0, 2.0),
            pseudo_ramp=(0.0, 1.0),
            pseudo_from=(0.0, 1.0),
            translated_share=(0.0, 1.0),
            density_regions=(2, 64),
            teacher_fade=(0.0, 1.0),
            generator_gradient=(0.0, 1.0),
        )


@dataclass(frozen=True, kw_only=True)
class AdversaryConfig:
    """Generators, discriminators and how they are trained (Adam, as in CycleGAN: a [choice]).

    Attributes:
        generator: size of both generators.
        discriminator: size of all discriminators.
        lr: highest learning rate of the generators; the schedule is that of the student.
        beta1: first moment of Adam.
        critic_lr: learning rate of the discriminators.
        gradient_penalty: weight of the gradient penalty of the output discriminator (WGAN-GP).
        every: discriminators and terms that train translation alone are computed at every Nth
            step. The other terms train the generators at every step. 1: always, as in the paper. 3
            takes two thirds of the time on a CPU.
        start_from: checkpoint of a distillation from which generators and discriminators start;
            empty: random weights.
    """

    generator: GeneratorOptions = field(default_factory=GeneratorOptions)
    discriminator: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)
    lr: float = 2e-4
    beta1: float = 0.5
    critic_lr: float = 2e-4
    gradient_penalty: float = 10.0
    every: int = 1
    start_from: str = ""

    def __post_init__(self) -> None:
        """Refuse numbers out of range."""
        check_ranges(
            self,
            lr=(1e-12, 1.0),
            critic_lr=(1e-12, 1.0),
            beta1=(0.0, 0.9999),
            gradient_penalty=(0.0, 1e6),
            every=(1, 1000),
        )


@dataclass(frozen=True, kw_only=True)
class DistillConfig(TrainConfig):
    """Train a student of events from labelled images and unlabelled, unpaired events.

    ``network``, ``input``, ``loss``, ``optimiser`` are the student's; ``loss.weights`` are the
    supervised losses within ``mutual_task`` and the terms ``task_...``.

    Attributes:
        data: labelled images and unlabelled events.
        teacher: checkpoint of the teacher stage, or a model from elsewhere in an ONNX file.
        terms: a weight for every name in ``TERMS``; 0 switches a term off. Those in
            ``LATER_TERMS`` may be left out.
        transfer: how knowledge is passed on.
        adversary: generators and discriminators.
        frame_network: student of frames for the mutual terms.
    """

    data: DistillDataConfig
    teacher: Path | OnnxTeacherConfig
    terms: dict[str, float]
    transfer: TransferConfig = field(default_factory=TransferConfig)
    adversary: AdversaryConfig = field(default_factory=AdversaryConfig)
    frame_network: NetworkConfig = field(default_factory=NetworkConfig)

    def __post_init__(self) -> None:
        """Refuse weights that do not name exactly the terms, and terms without their data."""
        super().__post_init__()
        check_weights(self.all_terms, TERMS, "term")
        check_at_least(self, terms=0)
        if not any(self.terms.values()):
            raise ConfigError("one term needs a weight above 0")
        for name in LABELLED_TERMS:
            if self.all_terms[name] > 0 and not self.data.train:
                raise ConfigError(
                    f"the term {name} needs labelled windows in data.train; "
                    "give it the weight 0 to go without"
                )
        self._check_task()
        self._check_pictures()
        self._check_teacher()
        if (self.all_terms["kd_ensemble"] > 0) != bool(self.larger.student):
            raise ConfigError(
                "in the stage distill, the term kd_ensemble and larger.student need each other: "
                "name a trained student of events in larger.student and give the term a weight, or "
                "leave both out"
            )
        for name in FRAME_TERMS:
            if self.all_terms[name] > 0 and not self.data.has_frames:
                raise ConfigError(
                    f"the term {name} needs recordings with frames: set "
                    "data.recordings.frame_within_us, or give the term the weight 0"
                )

    @property
    def all_terms(self) -> dict[str, float]:
        """A weight for every term, those left out too."""
        return {**dict.fromkeys(LATER_TERMS, 0.0), **self.terms}

    @property
    def passes_instances(self) -> bool:
        """Whether a term passes on what the teacher's instance head says."""
        return any(self.all_terms[name] > 0 for name in INSTANCE_TERMS)

    @property
    def translates(self) -> bool:
        """Whether a term moves a generator."""
        return any(self.all_terms[name] > 0 for name in GENERATOR_TERMS)

    def weights_at(self, step: int) -> dict[str, float]:
        """Return the weight of every term at a step of the run; 0: not computed."""
        weights = self.all_terms
        if step % self.translation_every:
            weights |= dict.fromkeys(TRANSLATION_TERMS, 0.0)
        share = self.transfer.translated_share
        if int((step + 1) * share) == int(step * share):
            weights |= dict.fromkeys(TRANSLATED_TERMS, 0.0)
        if step < self.transfer.pseudo_from * self.steps:
            weights |= dict.fromkeys(SELF_TERMS, 0.0)
        if self.transfer.teacher_fade > 0:
            left = max(0.0, 1 - step / (self.transfer.teacher_fade * self.steps))
            weights |= {name: left * weights[name] for name in FADING_TERMS}
        return weights

    @property
    def translation_every(self) -> int:
        """Steps between two that train translation: all, where nothing else is trained."""
        others = any(w > 0 for name, w in self.terms.items() if name not in TRANSLATION_TERMS)
        return self.adversary.every if others else 1

    def _check_teacher(self) -> None:
        """Refuse terms that a teacher in ONNX Runtime cannot serve, all of them at once."""
        teacher = self.teacher
        if isinstance(teacher, Path):
            if teacher.suffix.lower() in (".onnx", ".yaml", ".yml"):
                raise ConfigError(
                    f"teacher is {teacher}; a path names a checkpoint of the teacher stage. Write "
                    "an ONNX model as a mapping: teacher: {onnx: FILE, classes: ..., normalise: "
                    "imagenet} (docs/how-to/onnx-teacher.md)"
                )
            return
        through = [n for n in THROUGH_TEACHER_TERMS if self.all_terms[n] > 0]
        reasons = []
        if through:
            reasons.append(
                "a teacher in an ONNX file gives no gradient: set the weights of "
                f"{', '.join(through)} to 0"
            )
        compared = [n for n in FEATURE_TERMS if self.all_terms[n] > 0 and not teacher.features]
        if compared:
            reasons.append(
                f"{', '.join(compared)} compare features of the teacher: set these weights to 0, "
                "or name an output of features in teacher.features"
            )
        if self.passes_instances:
            reasons.append(
                "a teacher in an ONNX file has no instance head of ours: leave "
                f"{' and '.join(INSTANCE_TERMS)} out"
            )
        if reasons:
            raise ConfigError(
                f"{'; '.join(reasons)} (config/train/onnx-teacher.yaml is such a profile)"
            )

    def _check_pictures(self) -> None:
        """Refuse terms of the image behind a window where a source has none, before step 1."""
        asked = [n for n in PICTURE_TERMS if self.all_terms[n] > 0]
        blind = [s.name for s in self.data.train if s.is_own_unlabelled]
        if asked and blind:
            raise ConfigError(
                f"{', '.join(asked)} need the image behind every labelled window, and source "
                f"{blind[0]!r} has none: give these terms the weight 0, or leave the source out"
            )

    def _check_task(self) -> None:
        recognises = network_task(self.network.name) == "recognition"
        if recognises != self.data.stills.images.is_recognition:
            raise ConfigError(
                f"network {self.network.name} and images of layout "
                f"{self.data.stills.images.layout} are of different tasks"
            )
        if not recognises and self.transfer.view.shift_px:
            raise ConfigError(
                "view.shift_px moves windows away from their dense labels: leave it 0"
            )
        if recognises and self.transfer.affinity_graph == "events":
            raise ConfigError("affinity_graph: events is for segmentation: take batch or grid")
        for name in PICTURE_TERMS:
            if recognises and self.all_terms[name] > 0:
                raise ConfigError(
                    f"the term {name} needs images at the ends of windows, which "
                    "moving_stills does not keep: give it the weight 0"
                )
        for name in ("output", "class_mix", "density_mix"):
            if recognises and self.all_terms[name] > 0:
                raise ConfigError(
                    f"the term {name} looks at dense predictions; recognition has one a window: "
                    "give it the weight 0"
                )
