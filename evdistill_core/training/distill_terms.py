"""The objective of EvDistill on one batch: what the networks see, and every term of it.

Shape letters: B batch, C channels, K classes, H and W the input. Notation of the paper: x_i, y an
image with labels, x_e a window of the target camera, T teacher, S student, G_ei and G_ie the
generators. Nothing is computed that no term with a weight asks for.

With ``input.sequence`` above 1, x_e and labelled windows are the last of several in a row: the
student is rolled over all of them, teacher, generators and discriminators see the last. What a
generator makes of an image is one window, before which there was nothing: the state is zero.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from evdistill_core.data.batches import Batch
from evdistill_core.data.unpaired import UnpairedBatch
from evdistill_core.foundation.errors import ConfigError
from evdistill_core.losses.adversarial import (
    gradient_penalty,
    lsgan_discriminator,
    lsgan_generator,
    wgan_critic,
    wgan_generator,
)
from evdistill_core.losses.affinity import (
    affinity_kd,
    batch_nodes,
    event_nodes,
    grid_nodes,
    scaled_nodes,
)
from evdistill_core.losses.consistency import (
    as_judge,
    normalised_as_in_use,
    semantic_consistency,
    statistics_kept,
)
from evdistill_core.losses.distillation import (
    distribution_matching,
    mutual_distillation,
    posterior_kd,
)
from evdistill_core.losses.divergence import (
    confidence_weight,
    log_posterior,
    mean_log_posterior,
)
from evdistill_core.losses.instances import instance_kd, instance_targets, nearest
from evdistill_core.losses.pseudo_labels import (
    averaged_pseudo_labels,
    changed_view,
    class_mix,
    density_mix,
    hybrid_pseudo_labels,
    weighted_entropy,
)
from evdistill_core.losses.reconstruction import reconstruction_l1
from evdistill_core.losses.segmentation import (
    INSTANCE_LOSSES,
    SegmentationBatch,
    cross_entropy,
    weighted_sum,
)
from evdistill_core.models.discriminators import OutputDiscriminator, PatchDiscriminator
from evdistill_core.models.generators import (
    IMAGE_CHANNELS,
    event_to_image,
    image_to_event,
)
from evdistill_core.models.joined import (
    joined_batch,
    joined_draw,
    joined_gather,
    joined_mean,
    joined_sums,
)
from evdistill_core.models.network import InstanceMaps, Seen, StudentNetwork, seen_by
from evdistill_core.models.registry import build_student
from evdistill_core.representations.spec import InputSpec
from evdistill_core.training.config import LossConfig
from evdistill_core.training.distill_config import AdversaryConfig, DistillConfig
from evdistill_core.training.larger import LargerStudent
from evdistill_core.training.tasks import Task
from evdistill_core.training.teacher_base import Teacher

# Which terms ask what the student says of which input; see ``DistillStep`` for ``event`` and
# ``view``.
STUDENT_INPUTS = {
    "labelled": ("task_events", "kd_simulated", "affinity_simulated"),
    "event": (
        "consistency_event",
        "kd_event",
        "task_paired",
        "kd_paired",
        "matching_event",
        "affinity_event",
        "kd_instances_event",
        "affinity_paired",
        "mutual",
        "output",
        "entropy",
        "kd_ensemble",
    ),
    "view": ("pseudo_label",),
}


class Translation(nn.Module):
    """Everything that is trained beside the student and thrown away after it."""

    def __init__(self, config: AdversaryConfig, spec: InputSpec, num_classes: int) -> None:
        super().__init__()
        self.to_image = event_to_image(spec, config.generator)
        self.to_event = image_to_event(spec, config.generator)
        self.image_critic = PatchDiscriminator(IMAGE_CHANNELS, config.discriminator)
        self.event_critic = PatchDiscriminator(spec.channels, config.discriminator)
        self.output_critic = OutputDiscriminator(num_classes, config.discriminator)

    def generator_parameters(self) -> list[nn.Parameter]:
        """Return what the generators learn."""
        return [*self.to_image.parameters(), *self.to_event.parameters()]

    def critic_parameters(self) -> list[nn.Parameter]:
        """Return what the discriminators learn."""
        return [p for name, p in self.named_parameters() if "_critic." in name]


def build_frame_student(config: DistillConfig, num_classes: int) -> StudentNetwork | None:
    """Return the student of frames that the mutual terms need, or None where they are off."""
    if not (config.terms["mutual"] > 0 or config.terms["mutual_task"] > 0):
        return None
    frame = config.frame_network
    student = build_student(
        frame.name, frame.options, in_channels=IMAGE_CHANNELS, num_classes=num_classes
    )
    if student.state_channels:
        raise ConfigError("frame_network sees single frames: leave recurrent out of its options")
    return student


@dataclass(frozen=True)
class Networks:
    """Who takes part in a step.

    Attributes:
        student: S.
        averaged: S with its averaged weights, in evaluation mode, without gradient.
        translation: generators and discriminators.
        teacher: T.
        frame_student: S_a, or None.
        task: what the student does.
        thing_ids: ids of the thing classes.
        mixed: gives the context that networks run in (mixed precision or not).
        usual_activity: (H, W), how often the target has an event near a pixel, 0..1; None where no
            term asks for it.
        trained: a trained student of events, frozen; None where no term asks for it.
    """

    student: StudentNetwork
    averaged: Callable[[Tensor], Tensor]
    translation: Translation
    teacher: Teacher
    frame_student: StudentNetwork | None
    task: Task
    thing_ids: tuple[int, ...]
    mixed: Callable[[], AbstractContextManager[object]]
    usual_activity: Tensor | None = None
    trained: LargerStudent | None = None


class DistillStep:
    """The views of one batch, each made at most once, and the terms on them.

    Args:
        batch: on the device of the networks.
        networks: who takes part.
        config: of the run.
        class_weight_K: of the supervised losses.
        step: steps done before.
    """

    def __init__(
        self,
        batch: UnpairedBatch,
        networks: Networks,
        config: DistillConfig,
        class_weight_K: Tensor,
        *,
        step: int,
    ) -> None:
        self._progress = step / config.steps
        self._translates = step % config.translation_every == 0
        self._weights = config.weights_at(step)
        self.batch, self.networks, self.config = batch, networks, config
        self._class_weight_K = class_weight_K
        self._transfer = config.transfer

    def terms(self) -> dict[str, Callable[[], Tensor]]:
        """Return every term of ``TERMS`` as a function."""
        translation = self.networks.translation
        return {
            "task_generated": self._task_generated,
            "task_events": self._task_events,
            "task_reconstructed": self._task_reconstructed,
            "gan_image": lambda: self._fool(translation.image_critic, self.fake_image),
            "gan_event": lambda: self._fool(translation.event_critic, self.fake_event),
            "cycle_image": self._cycle_image,
            "cycle_event": self._cycle_event,
            "paired": lambda: reconstruction_l1(
                self.fake_image, self.batch.frame, self._frame_weight()
            ),
            "paired_simulated": self._paired_simulated,
            "consistency_image": self._consistency_image,
            "consistency_event": self._consistency_event,
            "kd_generated": lambda: self._kd(self.s_generated, self.t_image, self._image_weight()),
            "kd_event": lambda: self._kd(self.s_event, self.t_fake, self._event_weight()),
            "kd_paired": lambda: self._kd(
                self.s_event, self.t_frame, self._with_frame() * self._event_weight()
            ),
            "task_paired": self._task_paired,
            "kd_simulated": lambda: self._kd(
                self.s_labelled, self.t_picture, self._labelled_weight()
            ),
            "matching_generated": lambda: self._matching(
                self.s_generated, self.t_image, self._image_weight()
            ),
            "matching_event": lambda: self._matching(
                self.s_event, self.t_fake, self._event_weight()
            ),
            "affinity_generated": lambda: self._affinity(
                self.s_generated, self.t_image, self._lit(self.fake_event)
            ),
            "affinity_event": lambda: self._affinity(self.s_event, self.t_fake, self.batch.active),
            "affinity_paired": lambda: self._affinity(
                self.s_event, self.t_frame, self.batch.active, self.batch.has_frame
            ),
            "kd_ensemble": self._kd_ensemble,
            "affinity_simulated": lambda: self._affinity(
                self.s_labelled, self.t_picture, self._labelled().active
            ),
            "kd_instances_generated": lambda: self._kd_instances(
                self.s_generated, self.t_image, self._image_weight()
            ),
            "kd_instances_event": lambda: self._kd_instances(
                self.s_event, self.t_fake, self._event_weight()
            ),
            "mutual": lambda: mutual_distillation(
                self.s_event[0], self.a_frame[0], self._with_frame()
            ),
            "mutual_task": lambda: self._supervised_by_images(self._see_frame(self.batch.image)),
            "output": self._output,
            "pseudo_label": self._pseudo_label,
            "class_mix": self._class_mix,
            "density_mix": self._density_mix,
            "entropy": self._entropy,
        }

    def critic_terms(self) -> dict[str, Callable[[], Tensor]]:
        """Return what the discriminators learn from; generated samples are detached."""
        translation, batch = self.networks.translation, self.batch
        terms: dict[str, Callable[[], Tensor]] = {}
        if self.config.terms["gan_image"] > 0:
            terms["critic_image"] = lambda: self._tell_apart(
                translation.image_critic, batch.image, self.fake_image
            )
        if self.config.terms["gan_event"] > 0:
            terms["critic_event"] = lambda: self._tell_apart(
                translation.event_critic, batch.input, self.fake_event
            )
        if self.config.terms["output"] > 0:
            terms["critic_output"] = self._judge_outputs
            terms["critic_output_penalty"] = self._slope_of_output_critic
        return terms

    def watched(self) -> dict[str, Tensor]:
        """Return figures that show where generators go astray, of what this step has computed.

        The share of valid cells that are lit, and the share of their sum that is ON, in target
        windows and in generated ones; the pitfall of an image-to-event generator is texture that
        it paints everywhere. T's mean largest posterior on images and on reconstructions; that of
        an event-to-image generator is the negative, which events allow and T cannot read.
        """
        figures: dict[str, Tensor] = {}
        for name, made_by in (("image", "t_image"), ("reconstructed", "t_fake")):
            if made_by in vars(self):
                logits = getattr(self, made_by)[0].detach()
                posterior = self.networks.teacher.log_posterior(logits).exp()
                figures[f"watch_sure_{name}"] = joined_mean(posterior.amax(1))
        return figures | self._watched_events()

    def _watched_events(self) -> dict[str, Tensor]:
        if "fake_event" not in vars(self):
            return {}
        made = self.fake_event.detach()
        sides = {
            "target": (self.batch.input, self.batch.valid),
            "generated": (made, self.batch.image_valid),
        }
        figures: dict[str, Tensor] = {}
        for name, (events_BCHW, valid_BHW) in sides.items():
            on, off = self.config.input.representation.polarities(events_BCHW)
            lit = ((on + off) > 0) & (valid_BHW > 0)
            some, all_, ons, offs = joined_sums(lit.sum(), valid_BHW.sum(), on.sum(), off.sum())
            figures[f"watch_lit_{name}"] = some / all_.clamp_min(1)
            figures[f"watch_on_{name}"] = ons / (ons + offs).clamp_min(1e-6)
        return figures

    # What the networks see. Logits come at the size of the labels, with a feature map beside.

    @cached_property
    def fake_event(self) -> Tensor:
        """G_ie(x_i), (B, C, h, w)."""
        with self.networks.mixed():
            return self.networks.translation.to_event(self.batch.image).float()  # type: ignore[no-any-return]

    @cached_property
    def fake_image(self) -> Tensor:
        """G_ei(x_e), (B, 1, H, W)."""
        wanted = torch.is_grad_enabled() and self._translates
        with self.networks.mixed(), torch.set_grad_enabled(wanted):
            return self.networks.translation.to_image(self.batch.input).float()  # type: ignore[no-any-return]

    @cached_property
    def fake_labelled(self) -> Tensor:
        """G_ei of labelled windows, (B, 1, H, W)."""
        with self.networks.mixed():
            return self.networks.translation.to_image(self._labelled().input).float()  # type: ignore[no-any-return]

    @cached_property
    def s_generated(self) -> Seen:
        """S(G_ie(x_i)); what reaches G_ie of the gradient is ``generator_gradient``."""
        shown = scaled_gradient(self.fake_event, self._transfer.generator_gradient)
        return self._see_student(shown) if self._all_alike else self._see_aside(shown)

    @cached_property
    def s_labelled(self) -> Seen:
        """S of labelled windows."""
        return self._student("labelled")

    @cached_property
    def s_event(self) -> Seen:
        """S(x_e)."""
        return self._student("event")

    @cached_property
    def s_view(self) -> Seen:
        """S of x_e as the student is shown it where it learns pseudo-labels."""
        return self._student("view") if self._transfer.view.changes else self.s_event

    @cached_property
    def _seen_jointly(self) -> dict[str, Seen]:
        """What the student sees in one pass: all that any term with a weight will ask for."""
        inputs = {name: make() for name, make in self._student_inputs.items() if self._asks(name)}
        sizes = {tuple(x.shape[1:]) for x in inputs.values()}
        if len(sizes) > 1:
            raise ConfigError(
                f"joint_batch needs inputs of one size, got {sorted(sizes)}: give all the same crop"
            )
        joined = torch.cat([*inputs.values()])
        whole = self._see(self.networks.student, joined)
        seen, first = {}, 0
        for name, x_BCHW in inputs.items():
            part = slice(first, first + len(x_BCHW))
            seen[name], first = _part_of(whole, part), part.stop
        return seen

    @cached_property
    def _student_inputs(self) -> dict[str, Callable[[], Tensor]]:
        view = self._transfer.view
        return {
            "labelled": lambda: self._labelled().sequence,
            "event": lambda: self.batch.sequence,
            "view": lambda: _together(
                self.batch.sequence,
                lambda x: changed_view(
                    x, dropout=view.dropout, strength=view.strength, shift_px=view.shift_px
                ),
            ),
        }

    def _asks(self, name: str) -> bool:
        readers = STUDENT_INPUTS[name]
        if name == "event" and not self._transfer.view.changes:
            readers = (*readers, "pseudo_label")
        if name == "view" and not self._transfer.view.changes:
            return False
        return any(self._weights[term] > 0 for term in readers)

    def _student(self, name: str) -> Seen:
        if self._transfer.joint_batch and self._asks(name):
            return self._seen_jointly[name]
        made = self._student_inputs[name]()
        transfer = self._transfer
        if transfer.labelled_statistics:
            return self._see_student(made) if name == "labelled" else self._see_aside(made)
        early = self._progress < transfer.pseudo_from  # no term may ask for the target yet
        if not transfer.target_statistics or name == "event" or early:
            return self._see_student(made)
        if name == "view" and not self._asks("event"):
            with torch.no_grad():  # for the statistics alone
                self._see_student(self._student_inputs["event"]())
        return self._see_aside(made)

    @cached_property
    def t_image(self) -> Seen:
        """T(x_i)."""
        with torch.no_grad():
            return self._see_teacher(self.batch.image)

    @cached_property
    def t_fake(self) -> Seen:
        """T(G_ei(x_e)); the gradient reaches G_ei."""
        asked = self._translates and self.config.terms["consistency_event"] > 0
        wanted = torch.is_grad_enabled() and asked
        with torch.set_grad_enabled(wanted):
            return self._see_teacher(self.fake_image)

    @cached_property
    def t_frame(self) -> Seen:
        """T(frame)."""
        with torch.no_grad():
            return self._see_teacher(self.batch.frame)

    @cached_property
    def t_picture(self) -> Seen:
        """T of the images behind simulated labelled windows."""
        with torch.no_grad():
            return self._see_teacher(self._picture())

    @cached_property
    def a_frame(self) -> Seen:
        """S_a(frame)."""
        return self._see_frame(self.batch.frame)

    @cached_property
    def pseudo_labels(self) -> tuple[Tensor, Tensor]:
        """Labels and weights of target windows, made by the judges that are configured."""
        with torch.no_grad(), self.networks.mixed():
            logits = self.networks.averaged(self.batch.sequence)
        averaged = log_posterior(self._at_labels(logits, self.batch.input))
        threshold = self._transfer.pseudo_threshold
        if self._transfer.pseudo_judges == "averaged":
            label, weight = averaged_pseudo_labels(averaged, threshold=threshold)
        else:
            teacher = self.networks.teacher.log_posterior(self.t_fake[0].detach())
            label, weight = hybrid_pseudo_labels(teacher, averaged, threshold=threshold)
            weight = weight * self._known(self.t_fake)
        return label, weight * self._event_weight()

    # The terms.

    def _task_generated(self) -> Tensor:
        return self._supervised_by_images(self.s_generated)

    def _task_events(self) -> Tensor:
        return self._supervised_by_windows(self.s_labelled)

    def _task_reconstructed(self) -> Tensor:
        seen = self._see_teacher(self.fake_labelled)
        # Log posteriors are logits of themselves, in the student's classes.
        posterior = self.networks.teacher.log_posterior(seen.logits)
        return self._supervised_by_windows(seen._replace(logits=posterior))

    def _cycle_image(self) -> Tensor:
        with self.networks.mixed():
            back = self.networks.translation.to_image(self.fake_event)
        return reconstruction_l1(back, self.batch.image, self._image_valid())

    def _cycle_event(self) -> Tensor:
        with self.networks.mixed():
            back = self.networks.translation.to_event(self.fake_image)
        return reconstruction_l1(back, self.batch.input, self.batch.valid.float())

    def _paired_simulated(self) -> Tensor:
        return reconstruction_l1(self.fake_labelled, self._picture())

    def _consistency_image(self) -> Tensor:
        with as_judge(self.networks.student):
            after = self._see(self.networks.student, self.fake_event).logits
        before = self.networks.teacher.log_posterior(self.t_image[0])
        weight = self._image_weight() * self._known(self.t_image)
        return semantic_consistency(before, log_posterior(after), weight)

    def _consistency_event(self) -> Tensor:
        after = self.networks.teacher.log_posterior(self.t_fake[0])
        before = log_posterior(self.s_event[0])
        weight = self._valid_weight() * self._known(self.t_fake)
        return semantic_consistency(before, after, weight)

    def _task_paired(self) -> Tensor:
        """Return the supervised losses, class weights too, against what T takes a frame for."""
        of_frame = self.networks.teacher.log_posterior(self.t_frame.logits)
        weight_BHW = self._with_frame() * self._event_weight() * self._certainty(self.t_frame)
        batch = SegmentationBatch(
            self.s_event.logits, of_frame.argmax(1), weight_BHW, self._class_weight_K
        )
        weights = self.config.loss.weights
        dense = {name: w for name, w in weights.items() if name not in INSTANCE_LOSSES}
        return weighted_sum(batch, dense)[0]

    def _certainty(self, teacher: Seen) -> Tensor:
        """Return what a pixel counts because of what the teacher says there."""
        sure = confidence_weight(
            self.networks.teacher.log_posterior(teacher.logits),
            kind=self._transfer.confidence,
            floor=self._transfer.confidence_floor,
        )
        return sure * self._known(teacher)

    def _kd(self, student: Seen, teacher: Seen, weight_BHW: Tensor) -> Tensor:
        return posterior_kd(
            student[0],
            teacher[0],
            weight_BHW * self._certainty(teacher),
            temperature=self._transfer.temperature,
            class_map=self.networks.teacher.class_map,
        )

    def _kd_ensemble(self) -> Tensor:
        """Return the KD of two judges that err in different places: one sees the frame, one events.

        Where there is no frame, or T speaks of classes that the student lacks, the other judge
        decides alone.
        """
        assert self.networks.trained is not None  # the configuration refuses the term without
        logits, task = self.s_event.logits, self.networks.task
        with self.networks.mixed():
            of_events = self.networks.trained.log_posterior(
                self.batch.sequence, (logits.shape[2], logits.shape[3]), task
            )
        of_frame = self.networks.teacher.log_posterior(self.t_frame.logits)
        share = 0.5 * task.at_label_size(
            self.batch.has_frame[:, None, None].expand_as(self.batch.valid).float()
        )
        both = mean_log_posterior(of_events, of_frame, share * self._known(self.t_frame))
        return posterior_kd(logits, both, self._event_weight())

    def _kd_instances(self, student: Seen, teacher: Seen, weight_BHW: Tensor) -> Tensor:
        # The run refuses the term where one of them has no head.
        assert student.instances is not None
        assert teacher.instances is not None
        posterior = self.networks.teacher.log_posterior(teacher.logits.detach()).exp()
        thing_BHW = posterior[:, list(self.networks.thing_ids)].sum(1)
        cells = (student.instances.centre.shape[2], student.instances.centre.shape[3])
        known = weight_BHW * self._known(teacher)
        return instance_kd(
            student.instances, teacher.instances, nearest(known, cells), nearest(thing_BHW, cells)
        )

    def _matching(self, student: Seen, teacher: Seen, weight_BHW: Tensor) -> Tensor:
        task = self.networks.task
        seen = [student[0], teacher[0], weight_BHW * self._known(teacher)]
        if task.pools_samples:
            seen = [joined_gather(x) for x in seen]
        student_logits, teacher_logits, weight = (task.as_regions(x) for x in seen)
        with _the_same_everywhere(task.pools_samples):
            return distribution_matching(
                student_logits,
                teacher_logits,
                weight,
                cells=self._transfer.matching_cells,
                class_map=self.networks.teacher.class_map,
            )

    def _affinity(
        self,
        student: Seen,
        teacher: Seen,
        active_BHW: Tensor,
        counts_B: Tensor | None = None,
    ) -> Tensor:
        transfer = self._transfer
        # The configuration refuses the term without.
        assert student.features is not None
        assert teacher.features is not None
        if transfer.affinity_graph == "events":
            of_student, of_teacher, lit_BN = event_nodes(
                student.features, teacher.features, active_BHW, transfer.affinity_nodes**2
            )
            if counts_B is not None:
                lit_BN = lit_BN * counts_B[:, None]
            return affinity_kd(of_student, of_teacher, lit_BN, norm=transfer.affinity_norm)

        def nodes(features_BCHW: Tensor) -> Tensor:
            if transfer.affinity_graph == "batch":
                return batch_nodes(joined_gather(features_BCHW.mean((2, 3))))
            if transfer.affinity_graph == "scaled":
                return scaled_nodes(features_BCHW, transfer.pool_scale)
            return grid_nodes(features_BCHW, transfer.affinity_nodes)

        student_nodes, teacher_nodes = nodes(student.features), nodes(teacher.features)
        weight_BN: Tensor | None = None
        if counts_B is not None and transfer.affinity_graph == "batch":
            weight_BN = joined_gather(counts_B)[None]
        elif counts_B is not None:
            weight_BN = counts_B[:, None].expand(-1, student_nodes.shape[2])
        with _the_same_everywhere(transfer.affinity_graph == "batch"):
            return affinity_kd(student_nodes, teacher_nodes, weight_BN, norm=transfer.affinity_norm)

    def _output(self) -> Tensor:
        posterior = log_posterior(self.s_event[0]).exp()
        critic = self.networks.translation.output_critic
        with as_judge(critic):
            return wgan_generator(critic(posterior))

    def _pseudo_label(self) -> Tensor:
        label, weight = self.pseudo_labels
        loss = self._cross_entropy(self.s_view[0], label, weight)
        if self._transfer.pseudo_mean == "all":
            kept, all_ = joined_sums(weight.sum(), self._event_weight().sum())
            loss = loss * kept / all_.clamp_min(1e-6)
        return loss * self._ramp()

    def _ramp(self) -> float:
        """Return the share of their weights that pseudo-labels and entropy have now."""
        ramp, start = self._transfer.pseudo_ramp, self._transfer.pseudo_from
        return min(1.0, max(0.0, self._progress - start) / ramp) if ramp > 0 else 1.0

    def _entropy(self) -> Tensor:
        usual_HW = self.networks.usual_activity
        assert usual_HW is not None  # the trainer measures it where the term has a weight
        weight_BHW = self.batch.valid.float() * usual_HW
        weight_BHW = self.networks.task.at_label_size(weight_BHW)
        return weighted_entropy(self.s_event.logits, weight_BHW) * self._ramp()

    def _class_mix(self) -> Tensor:
        target = self.batch.sequence
        if self.batch.labelled is not None:
            source = (self.batch.labelled.sequence, self.batch.labelled.label)
        else:
            # A generated window has no past: the mixture has none either.
            source, target = (self.fake_event.detach(), self.batch.image_label), self.batch.input
        classes = len(self._class_weight_K)
        draw_BK = joined_draw(lambda n: torch.rand(n, classes), len(self.batch.input))
        # Whole cells are pasted, so labels are put back to the size of the input for it.
        label, weight = (_enlarged(x, source[1].shape[1:]) for x in self.pseudo_labels)
        mixture = class_mix(
            (_stacked(source[0]), source[1]), (_stacked(target), label, weight), draw_BK
        )
        return self._learn_mixture(mixture, target)

    def _density_mix(self) -> Tensor:
        target, labelled = self.batch.sequence, self._labelled()
        label, weight = (_enlarged(x, labelled.label.shape[1:]) for x in self.pseudo_labels)
        mixture = density_mix(
            (_stacked(labelled.sequence), labelled.label),
            (_stacked(target), label, weight),
            (labelled.active, self.batch.active),
            regions=self._transfer.density_regions,
        )
        return self._learn_mixture(mixture, target)

    def _learn_mixture(self, mixture: tuple[Tensor, Tensor, Tensor], like: Tensor) -> Tensor:
        mixed, label, weight = mixture
        label, weight = (self.networks.task.labels(x) for x in (label, weight))
        # With joint_batch a mixture moves the statistics, as it always did.
        aside = self._transfer.target_statistics or self._transfer.labelled_statistics
        seen = (self._see_aside if aside else self._see_student)(mixed.view_as(like))
        return self._cross_entropy(seen.logits, label, weight)

    # The discriminators.

    def _fool(self, critic: nn.Module, fake_BCHW: Tensor) -> Tensor:
        with as_judge(critic), self.networks.mixed():
            return lsgan_generator(critic(fake_BCHW))

    def _tell_apart(self, critic: nn.Module, real_BCHW: Tensor, fake_BCHW: Tensor) -> Tensor:
        with self.networks.mixed():
            return lsgan_discriminator(critic(real_BCHW), critic(fake_BCHW.detach()))

    def _posteriors(self) -> tuple[Tensor, Tensor]:
        real = self.networks.teacher.log_posterior(self.t_image[0]).exp()
        fake = log_posterior(self.s_event[0].detach()).exp()
        return real, fake

    def _judge_outputs(self) -> Tensor:
        critic = self.networks.translation.output_critic
        real, fake = self._posteriors()
        return wgan_critic(critic(real), critic(fake))

    def _slope_of_output_critic(self) -> Tensor:
        real, fake = (_square(p) for p in self._posteriors())
        mix_B = joined_draw(torch.rand, len(real)).to(real.device)
        return gradient_penalty(self.networks.translation.output_critic, real, fake, mix_B)

    # What counts, and how much.

    def _image_valid(self) -> Tensor:
        return self.batch.image_valid.float()

    # Of the pixels of inputs (..._valid, _frame_weight), and of labels and posteriors.

    def _known(self, teacher: Seen) -> Tensor:
        """Return how much of what the teacher says is about classes of the student."""
        return self.networks.teacher.known_mass(teacher[0])

    def _image_weight(self) -> Tensor:
        return self.networks.task.at_label_size(self._image_valid())

    def _valid_weight(self) -> Tensor:
        return self.networks.task.at_label_size(self.batch.valid.float())

    def _event_weight(self) -> Tensor:
        valid = self.batch.valid.float()
        if self._transfer.activity_weighted:
            valid = valid * activity_weights(self.batch.active, self.config.loss)
        return self.networks.task.at_label_size(valid)

    def _with_frame(self) -> Tensor:
        return self.networks.task.at_label_size(self._frame_weight())

    def _frame_weight(self) -> Tensor:
        return self.batch.valid.float() * self.batch.has_frame[:, None, None]

    def _labelled_weight(self) -> Tensor:
        near = activity_weights(self._labelled().active, self.config.loss)
        return self.networks.task.at_label_size(near)

    def _lit(self, events_BCHW: Tensor) -> Tensor:
        """Return (B, H, W), above 0 where a generated window has an event."""
        return events_BCHW.detach().abs().amax(1) * self.batch.image_valid

    def _picture(self) -> Tensor:
        picture = self._labelled().picture
        if picture is None:
            raise ConfigError(
                "the terms paired_simulated, kd_simulated and affinity_simulated need windows of "
                "data.train that know their image, as simulated street scenes do (a simulation, "
                "a folder): give them the weight 0"
            )
        return picture

    def _labelled(self) -> Batch:
        assert self.batch.labelled is not None  # the configuration refuses the term without
        return self.batch.labelled

    def _see(self, network: StudentNetwork, x: Tensor) -> Seen:
        with self.networks.mixed():
            seen = seen_by(network, x)
        return self._whole(seen, x)

    def _see_teacher(self, image_B1HW: Tensor) -> Seen:
        with self.networks.mixed():
            seen = self.networks.teacher.see(image_B1HW)
        return self._whole(seen, image_B1HW)

    def _whole(self, seen: Seen, x: Tensor) -> Seen:
        """Return logits at the size of the labels and the rest as it is, all float32."""
        logits, features, instances = seen
        return Seen(
            self._at_labels(logits, x),
            None if features is None else features.float(),
            None if instances is None else InstanceMaps(*(part.float() for part in instances)),
        )

    def _see_student(self, x: Tensor) -> Seen:
        return self._see(self.networks.student, x)

    def _see_aside(self, x: Tensor) -> Seen:
        """Return what the student sees in windows that leave its running statistics alone."""
        kept = normalised_as_in_use if self._transfer.labelled_statistics else statistics_kept
        with kept(self.networks.student):
            return self._see_student(x)

    @property
    def _all_alike(self) -> bool:
        """Whether every kind of windows moves the running statistics."""
        transfer = self._transfer
        return not (
            transfer.joint_batch or transfer.target_statistics or transfer.labelled_statistics
        )

    def _at_labels(self, logits: Tensor, x: Tensor) -> Tensor:
        return self.networks.task.at_labels(logits, (x.shape[-2], x.shape[-1]))

    def _see_frame(self, x_BCHW: Tensor) -> Seen:
        assert self.networks.frame_student is not None  # built where a term needs it
        return self._see(self.networks.frame_student, x_BCHW)

    def _supervised(  # noqa: PLR0913 - what is said, and what is known of it
        self,
        seen: Seen,
        label_BHW: Tensor,
        *,
        pixel_weight_BHW: Tensor,
        weight_BHW: Tensor,
        excluded_BK: Tensor | None,
        instances_BHW: Tensor | None,
    ) -> Tensor:
        """Return the supervised losses.

        Args:
            seen: what a network says.
            label_BHW: labels at the size of the input.
            pixel_weight_BHW: what a pixel of the input counts.
            weight_BHW: what a label that is compared counts.
            excluded_BK: see ``SegmentationBatch``.
            instances_BHW: see ``Batch.instances``.
        """
        weights, instances = self.config.loss.weights, None
        if seen.instances is None:  # of a network without an instance head
            weights = {n: w for n, w in weights.items() if n not in INSTANCE_LOSSES}
        else:
            cells = (seen.instances.centre.shape[2], seen.instances.centre.shape[3])
            known = torch.full_like(label_BHW, -1) if instances_BHW is None else instances_BHW
            targets = instance_targets(
                known,
                label_BHW,
                pixel_weight_BHW,
                size=cells,
                thing_ids=self.networks.thing_ids,
                excluded_BK=excluded_BK,
            )
            instances = (seen.instances, targets)
        batch = SegmentationBatch(
            seen.logits,
            self.networks.task.labels(label_BHW),
            weight_BHW,
            self._class_weight_K,
            excluded_BK,
            instances,
        )
        return weighted_sum(batch, weights)[0]

    def _supervised_by_images(self, seen: Seen) -> Tensor:
        batch = self.batch
        weight_BHW = torch.ones_like(seen.logits[:, 0])
        return self._supervised(
            seen,
            batch.image_label,
            pixel_weight_BHW=batch.image_valid.float(),
            weight_BHW=weight_BHW,
            excluded_BK=batch.image_excluded,
            instances_BHW=batch.image_instances,
        )

    def _supervised_by_windows(self, seen: Seen) -> Tensor:
        labelled, task = self._labelled(), self.networks.task
        pixel_weight_BHW = activity_weights(labelled.active, self.config.loss)
        return self._supervised(
            seen,
            labelled.label,
            pixel_weight_BHW=pixel_weight_BHW,
            weight_BHW=task.at_label_size(pixel_weight_BHW),
            excluded_BK=labelled.excluded,
            instances_BHW=labelled.instances,
        )

    def _cross_entropy(self, logits_BKHW: Tensor, label_BHW: Tensor, weight_BHW: Tensor) -> Tensor:
        # Pseudo-labels are as rare as the classes are; class weights would multiply their errors.
        ones_K = torch.ones_like(self._class_weight_K)
        return cross_entropy(SegmentationBatch(logits_BKHW, label_BHW, weight_BHW, ones_K))


class _ScaledGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, factor: float) -> Tensor:
        ctx.factor = factor
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        return grads[0] * ctx.factor, None


def scaled_gradient(x: Tensor, factor: float) -> Tensor:
    """Return x itself; the gradient that comes back is multiplied by ``factor`` (0: none does)."""
    if factor == 1:
        return x
    if factor == 0:
        return x.detach()
    return cast("Tensor", _ScaledGradient.apply(x, factor))  # type: ignore[no-untyped-call]


def _part_of(seen: Seen, part: slice) -> Seen:
    """Return what was seen of some samples of a batch."""
    logits, features, instances = seen
    return Seen(
        logits[part],
        None if features is None else features[part],
        None if instances is None else InstanceMaps(*(m[part] for m in instances)),
    )


def _enlarged(x_Bhw: Tensor, size: tuple[int, ...]) -> Tensor:
    """Return labels or weights at another size: the nearest one's, whatever the type."""
    for axis, (few, many) in enumerate(zip(x_Bhw.shape[1:], size, strict=True), 1):
        if few != many:
            nearest = torch.arange(many, device=x_Bhw.device) * few // many
            x_Bhw = x_Bhw.index_select(axis, nearest)
    return x_Bhw


def activity_weights(active_BHW: Tensor, config: LossConfig) -> Tensor:
    """Return what ``tasks.pixel_weights`` returns, on the device of ``active``."""
    radius = config.activity_radius_px
    if radius < 0:
        return torch.ones_like(active_BHW, dtype=torch.float32)
    near = F.max_pool2d(active_BHW[:, None].float(), 2 * radius + 1, 1, radius)[:, 0]
    return near + (1 - near) * config.inactive_weight


def _the_same_everywhere(gathered: bool) -> AbstractContextManager[None]:
    # What every process computes of samples that it fetched must not be summed once more.
    return joined_batch(False) if gathered else nullcontext()


def _stacked(x: Tensor) -> Tensor:
    """Return windows in a row (B, T, C, H, W) as channels (B, T C, H, W); others as they are."""
    return x.flatten(1, 2) if x.ndim == 5 else x


def _together(x: Tensor, change: Callable[[Tensor], Tensor]) -> Tensor:
    """Return windows in a row changed all alike: what is drawn is drawn once for a sample."""
    return change(_stacked(x)).view_as(x)


def _square(posterior_BKHW: Tensor) -> Tensor:
    # Images and windows may differ in size; the mixtures of the penalty need one.
    return F.adaptive_avg_pool2d(posterior_BKHW, 65)
