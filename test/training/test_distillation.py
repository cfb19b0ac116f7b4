"""Teacher and distillation: whole runs on tiny networks, and what each promises."""

import itertools
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from onnx_models import export_segmenter, write_model

from evdistill_core.data.build import SourceConfig
from evdistill_core.data.labelled_images import ImagesConfig
from evdistill_core.data.simulated import SimulationConfig
from evdistill_core.data.stills import StillsConfig
from evdistill_core.data.unlabelled import RecordingsConfig
from evdistill_core.data.unpaired import DistillDataConfig, TeacherDataConfig
from evdistill_core.events.array import Events, Triggers
from evdistill_core.export.student import export_student
from evdistill_core.foundation.class_maps import NINETEEN_TO_SIX
from evdistill_core.foundation.config import dump_yaml, from_mapping, to_mapping
from evdistill_core.foundation.errors import ConfigError, StudentError, TrainingError
from evdistill_core.foundation.labels import SIX_CLASSES
from evdistill_core.inference.student import StudentFile
from evdistill_core.losses.segmentation import SegmentationBatch, cross_entropy
from evdistill_core.models.checkpoint import load_checkpoint
from evdistill_core.models.discriminators import DiscriminatorOptions
from evdistill_core.models.generators import GeneratorOptions
from evdistill_core.models.network import logits_of, parameter_count
from evdistill_core.recordings.base import Frame
from evdistill_core.recordings.opening import open_recording
from evdistill_core.recordings.writers.aedat4 import Aedat4Writer
from evdistill_core.recordings.writers.npz import NpzWriter
from evdistill_core.representations import InputSpec
from evdistill_core.training.calibration import training_windows
from evdistill_core.training.config import (
    LargerConfig,
    LossConfig,
    NetworkConfig,
    OptimiserConfig,
    TrainConfig,
)
from evdistill_core.training.distill_config import (
    FADING_TERMS,
    FEATURE_TERMS,
    FRAME_TERMS,
    GENERATOR_TERMS,
    INSTANCE_TERMS,
    PICTURE_TERMS,
    SELF_TERMS,
    TERMS,
    THROUGH_TEACHER_TERMS,
    TRANSLATED_TERMS,
    AdversaryConfig,
    DistillConfig,
    TeacherConfig,
    TransferConfig,
    ViewConfig,
)
from evdistill_core.training.distill_terms import activity_weights
from evdistill_core.training.distillation import DistillTrainer
from evdistill_core.training.onnx_teacher_config import OnnxTeacherConfig
from evdistill_core.training.report import write_training_report
from evdistill_core.training.run_log import read_records
from evdistill_core.training.sessions import Sessions
from evdistill_core.training.stages import load_experiment, make_trainer
from evdistill_core.training.tasks import pixel_weights
from evdistill_core.training.teacher import TeacherTrainer, load_teacher

ROOT = Path(__file__).resolve().parents[2]
SPEC = InputSpec(bins=2, window_us=10_000, size_multiple=8, scale=1.0)
TINY = NetworkConfig(name="onboard-seg", options={"width": 0.25, "dropout": 0.2})
FAST = OptimiserConfig(lr=5e-3, warmup_steps=0, ema_decay=0.9)
PAIRED = set(FRAME_TERMS)
HEADED = replace(TINY, options={**TINY.options, "instances": True})
HEAD_LOSSES = LossConfig(weights={"cross_entropy": 1.0, "dice": 0.5, "centre": 0.1, "offset": 1.0})


def write_recording(path):
    """A bright bar that moves right over noise: something that generators can learn."""
    rng = np.random.default_rng(0)
    t = np.sort(rng.integers(0, 300_000, 40_000))
    bar = rng.random(len(t)) < 0.7
    x = np.where(bar, (t // 5000 + rng.integers(0, 3, len(t))) % 48, rng.integers(0, 48, len(t)))
    p = np.where(bar, 1, rng.integers(0, 2, len(t)))
    events = Events.from_columns(x, rng.integers(0, 40, len(t)), t, p, width=48, height=40)
    with NpzWriter(path, width=48, height=40) as writer:
        writer.write(events, Triggers.empty())


@pytest.fixture(scope="module")
def root(tmp_path_factory, make_camvid):
    folder = tmp_path_factory.mktemp("distillation")
    make_camvid(folder / "camvid")
    make_camvid(folder / "camvid", split="val")
    write_recording(folder / "a.npz")
    return folder


def images(root, split="train", **changes):
    return StillsConfig(images=ImagesConfig(root=root / "camvid", split=split), **changes)


def teacher_config(root, **changes):
    defaults = {
        "name": "teacher",
        "steps": 30,
        "batch_size": 2,
        "network": TINY,
        "optimiser": FAST,
        "workers": 0,
        "device": "cpu",
        "threads": 1,
        "data": TeacherDataConfig(
            stills=images(root, crop=(32, 48), flip=0.5, jitter=0.2),
            validation_stills={"val": images(root, "val", multiple=8)},
        ),
    }
    return TeacherConfig(**{**defaults, **changes})


@pytest.fixture(scope="module")
def teacher(root):
    trainer = TeacherTrainer(teacher_config(root), root / "teacher")
    assert trainer.run()
    return root / "teacher" / "last.pt"


def simulated(root, split="train"):
    return SourceConfig(
        name="sim",
        count=2,
        simulation=SimulationConfig(
            images=ImagesConfig(root=root / "camvid", split=split),
            height=32,
            width=48,
            unique=2,
            cache=root / "windows",
        ),
    )


def config(root, teacher, *, without=PAIRED, **changes):
    defaults = {
        "name": "student",
        "steps": 4,
        "batch_size": 2,
        "network": TINY,
        "input": SPEC,
        "loss": LossConfig(weights={"cross_entropy": 1.0, "dice": 0.5}),
        "optimiser": FAST,
        "workers": 0,
        "device": "cpu",
        "threads": 1,
        "validate_every": 0,
        "data": DistillDataConfig(
            stills=images(root, crop=(32, 48), flip=0.5),
            recordings=RecordingsConfig(
                paths=(root / "a.npz",), cache=root / "cache", crop=(32, 48)
            ),
            train=(simulated(root),),
            validation=(simulated(root, "val"),),
        ),
        "teacher": teacher,
        "terms": {n: 0.0 if n in (*without, *INSTANCE_TERMS) else 1.0 for n in TERMS},
        "transfer": TransferConfig(affinity_graph="grid", affinity_nodes=4, confidence="max"),
        "adversary": AdversaryConfig(
            generator=GeneratorOptions(base_channels=4, halvings=1, blocks=1),
            discriminator=DiscriminatorOptions(base_channels=4, layers=1),
        ),
        "frame_network": TINY,
    }
    return DistillConfig(**{**defaults, **changes})


def losses(out):
    return [r for r in read_records(out / "metrics.jsonl") if r["kind"] == "step"]


def test_the_teacher_learns_and_is_no_student(root, teacher):
    log = losses(root / "teacher")
    assert np.mean([r["loss"] for r in log[-5:]]) < 0.7 * log[0]["loss"]
    saved = load_checkpoint(teacher)
    assert saved.network == "image:onboard-seg"
    with pytest.raises(ConfigError, match="is a teacher"):
        saved.build()
    loaded = load_teacher(teacher, SIX_CLASSES, torch.device("cpu"))
    assert loaded.class_map is None
    assert not any(p.requires_grad for p in loaded.network.parameters())
    assert not loaded.network.training


def test_a_student_is_no_teacher(root, teacher, tmp_path):
    trainer = DistillTrainer(config(root, teacher), tmp_path)
    trainer.save()
    with pytest.raises(StudentError, match="stage: teacher"):
        load_teacher(tmp_path / "last.pt", SIX_CLASSES, torch.device("cpu"))


def test_windows_for_8_bits_are_those_that_the_distillation_sees_first(root, teacher, tmp_path):
    trainer = DistillTrainer(config(root, teacher), tmp_path)
    trainer.save()
    found, words = training_windows(load_checkpoint(tmp_path / "last.pt"), 5)
    first = [trainer.unpaired.sample(i) for i in range(5)]
    seen = [x for s in first for x in (s.window, s.labelled) if x is not None][:5]
    assert len(found) == 5
    assert words.startswith("5 training windows of ")
    for x, sample in zip(found, seen, strict=True):
        np.testing.assert_array_equal(x, sample.input)
    assert any(x.any() for x in found)


def test_every_term_is_finite_logged_twice_and_adds_up(root, teacher, tmp_path):
    trainer = DistillTrainer(config(root, teacher), tmp_path)
    assert trainer.run()
    log = losses(tmp_path)
    expected = set(TERMS) - PAIRED - set(INSTANCE_TERMS)
    for record in log:
        terms = {k.removeprefix("loss_"): v for k, v in record.items() if k.startswith("loss_")}
        critics = {"critic_image", "critic_event", "critic_output", "critic_output_penalty"}
        assert set(terms) == expected | {f"{n}_scaled" for n in expected} | critics
        assert all(np.isfinite(v) for v in terms.values())
        total = sum(v for n, v in terms.items() if n.endswith("_scaled"))
        assert record["loss"] == pytest.approx(total, rel=1e-5)
        # Cells that are lit, and how much of it is ON: real and generated windows side by side.
        for name in ("lit_target", "lit_generated", "on_target", "on_generated"):
            assert 0 < record[f"watch_{name}"] < 1
        for name in ("sure_image", "sure_reconstructed"):
            assert 1 / 11 < record[f"watch_{name}"] <= 1
    assert len(log) == 4


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["counts2", "time_surface", "histogram"])
def test_every_representation_is_distilled_into(root, teacher, tmp_path, kind):
    spec = replace(SPEC, kind=kind, normalisation="auto")
    trainer = DistillTrainer(config(root, teacher, steps=2, input=spec), tmp_path)
    trainer.run()
    for record in losses(tmp_path):
        assert np.isfinite(record["loss"])
        assert 0 < record["watch_lit_generated"] < 1
        assert 0 < record["watch_on_target"] < 1
    assert [len(shown.heads) for shown in trainer.panels()] == [4, 5]


def test_the_objective_falls(root, teacher, tmp_path):
    # A game has no value that must fall, and what S alone learns says nothing of translation.
    quiet = PAIRED | {"output", "gan_image", "gan_event"}
    quiet |= {"kd_simulated", "affinity_simulated", "density_mix", "entropy"}
    trainer = DistillTrainer(config(root, teacher, without=quiet, steps=60), tmp_path)
    trainer.run()
    values = [r["loss"] for r in losses(tmp_path)]
    assert np.mean(values[-10:]) < 0.8 * np.mean(values[:5])
    # Not kd_event: before G_ei has learnt to draw, its teacher knows nothing to disagree about.
    for name in ("kd_generated", "task_generated", "cycle_image", "cycle_event"):
        series = [r[f"loss_{name}"] for r in losses(tmp_path)]
        assert np.mean(series[-10:]) < np.mean(series[:5]), name


def test_same_seed_same_losses_and_resume_goes_on_identically(root, teacher, tmp_path):
    whole = DistillTrainer(config(root, teacher), tmp_path / "whole")
    whole.run()
    part = DistillTrainer(config(root, teacher), tmp_path / "part")

    def stop_after_two(report):
        if report.step == 2:
            part.stop()

    assert not part.run(stop_after_two)
    rest = DistillTrainer(config(root, teacher), tmp_path / "part", resume=True)
    assert rest.state.step == 2
    rest.run()
    one, two = losses(tmp_path / "whole"), losses(tmp_path / "part")
    assert [r["loss"] for r in one] == [r["loss"] for r in two]
    assert one == two
    for mine, other in (
        (whole.state.network, rest.state.network),
        (whole.translation, rest.translation),
        (whole.frame_student, rest.frame_student),
    ):
        for (key, a), b in zip(mine.state_dict().items(), other.state_dict().values(), strict=True):
            assert torch.equal(a, b), key


def test_the_student_holds_nothing_of_what_was_trained_beside_it(root, teacher, tmp_path):
    only_student = {n: float(n == "task_events") for n in TERMS}
    full = DistillTrainer(config(root, teacher), tmp_path / "full")
    bare = DistillTrainer(config(root, teacher, terms=only_student), tmp_path / "bare")
    built, stored = [], []
    for trainer, name in ((full, "full"), (bare, "bare")):
        trainer.save()
        checkpoint = load_checkpoint(tmp_path / name / "last.pt")
        built.append(checkpoint.build())
        export_student(checkpoint, tmp_path / f"{name}.evstudent", onnx=False)
        student = StudentFile.open(tmp_path / f"{name}.evstudent")
        stored.append({key: value.shape for key, value in student.weights().items()})
    counts = [parameter_count(network) for network in built]
    assert counts[0] == counts[1] == parameter_count(full.state.network)
    assert parameter_count(full.translation) > 0
    assert stored[0] == stored[1]
    # What a robot runs is one network with other numbers in it, so the latency is equal too;
    # `benchmarks/inference.py --student A --student B` measures it.
    assert str(built[0]) == str(built[1])


def one_step(trainer):
    batch = next(iter(trainer._batches()))
    return batch, trainer._step_of(batch)


# Which networks a term moves: student, G_ei, G_ie, student of frames.
MOVES = {
    "task_generated": "S ie",
    "task_events": "S",
    "task_reconstructed": "ei",
    "gan_image": "ei",
    "gan_event": "ie",
    "cycle_image": "ei ie",
    "cycle_event": "ei ie",
    "paired": "ei",
    "paired_simulated": "ei",
    "consistency_image": "ie",
    "consistency_event": "ei",
    "kd_generated": "S ie",
    "kd_event": "S",
    "task_paired": "S",
    "kd_paired": "S",
    "kd_ensemble": "S",
    "kd_instances_generated": "S ie",
    "kd_instances_event": "S",
    "kd_simulated": "S",
    "matching_generated": "S ie",
    "matching_event": "S",
    "affinity_generated": "S ie",
    "affinity_event": "S",
    "affinity_paired": "S",
    "affinity_simulated": "S",
    "mutual": "S A",
    "mutual_task": "A",
    "output": "S",
    "pseudo_label": "S",
    "class_mix": "S",
    "density_mix": "S",
    "entropy": "S",
}


@pytest.fixture(scope="module")
def headed_teacher(root):
    """A teacher with an instance head."""
    trained = teacher_config(root, network=HEADED, loss=HEAD_LOSSES)
    assert TeacherTrainer(trained, root / "headed").run()
    return root / "headed" / "last.pt"


@pytest.fixture(scope="module")
def trained_student(root, teacher):
    """A student of events that has seen a little."""
    trainer = DistillTrainer(config(root, teacher), root / "trained")
    assert trainer.run()
    return root / "trained" / "last.pt"


@pytest.fixture(scope="module")
def all_on(root, headed_teacher, trained_student):
    path = root / "frames" / "a.aedat4"
    path.parent.mkdir()
    with open_recording(root / "a.npz") as recording:
        events = Events.concatenate([b.events for b in recording.batches()])
    with Aedat4Writer(path, width=48, height=40, frame_size=(48, 40)) as writer:
        writer.write(events, Triggers.empty())
        writer.write_frame(Frame(np.zeros((40, 48), np.uint8), 0, 0), 0)
    recordings = RecordingsConfig(
        paths=(path,), cache=root / "cache", crop=(32, 48), frame_within_us=1
    )
    base = config(root, headed_teacher)
    full = config(
        root,
        headed_teacher,
        data=replace(base.data, recordings=recordings),
        network=HEADED,
        loss=HEAD_LOSSES,
        terms=dict.fromkeys(TERMS, 1.0),
        larger=LargerConfig(student=str(trained_student)),
    )
    trainer = DistillTrainer(full, root / "all_on")
    batch, _ = one_step(trainer)
    generator = torch.Generator().manual_seed(0)
    frame = torch.rand(batch.frame.shape, generator=generator) * 2 - 1
    return trainer, replace(batch, frame=frame, has_frame=torch.ones(2))


@pytest.mark.parametrize("name", sorted(TERMS))
def test_each_term_moves_exactly_whom_it_should(all_on, name):
    trainer, batch = all_on
    assert set(MOVES) == set(TERMS)
    parts = {
        "S": trainer.state.network,
        "ei": trainer.translation.to_image,
        "ie": trainer.translation.to_event,
        "A": trainer.frame_student,
        "critics": torch.nn.ModuleList(
            [
                trainer.translation.image_critic,
                trainer.translation.event_critic,
                trainer.translation.output_critic,
            ]
        ),
        "T": trainer.teacher.network,
    }
    for part in parts.values():
        part.zero_grad(set_to_none=True)
    value = trainer._step_of(batch).terms()[name]()
    value.backward()
    moved = {
        key
        for key, part in parts.items()
        if any(p.grad is not None and float(p.grad.abs().sum()) > 0 for p in part.parameters())
    }
    assert moved == set(MOVES[name].split())
    assert torch.isfinite(value)


def test_instances_of_labelled_images_and_windows_teach_the_head(all_on):
    """The supervised terms move the head, and less is learnt where nobody knows the things."""
    trainer, batch = all_on
    assert (batch.image_instances > 0).any()
    assert (batch.labelled.instances > 0).any()
    unknown = replace(
        batch,
        image_instances=torch.full_like(batch.image_instances, -1),
        labelled=replace(batch.labelled, instances=None),
    )
    head = trainer.state.network.instance_head
    for name in ("task_generated", "task_events"):
        moved = []
        for known in (batch, unknown):
            head.zero_grad(set_to_none=True)
            trainer._step_of(known).terms()[name]().backward()
            moved.append(sum(float(p.grad.abs().sum()) for p in head.parameters()))
        assert moved[0] > 0
        assert moved[1] == 0


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_instances_need_a_head_on_both_sides(root, teacher, headed_teacher, tmp_path, which):
    given = config(
        root,
        headed_teacher if which == "student" else teacher,
        **({} if which == "student" else {"network": HEADED, "loss": HEAD_LOSSES}),
    )
    given = replace(given, terms={**given.terms, "kd_instances_event": 1.0})
    with pytest.raises(ConfigError, match="need an instance head in student and teacher"):
        DistillTrainer(given, tmp_path)


def test_configurations_from_before_do_not_name_the_terms_of_instances(root, teacher):
    known = config(root, teacher)
    terms = {n: w for n, w in known.terms.items() if n not in INSTANCE_TERMS}
    older = replace(known, terms=terms)
    assert older.weights_at(0) == known.weights_at(0)
    assert not older.passes_instances
    assert "kd_instances_event" not in to_mapping(older)["terms"]


def gradient_of_student_and_generator(trainer, batch, factor):
    """Return the gradients of ``kd_generated`` in S and in G_ie under a ``generator_gradient``."""
    transfer = replace(trainer.config.transfer, generator_gradient=factor)
    known, trainer.config = trainer.config, replace(trainer.config, transfer=transfer)
    parts = [trainer.state.network, trainer.translation.to_event]
    try:
        for part in parts:
            part.zero_grad(set_to_none=True)
        torch.manual_seed(0)
        trainer._step_of(batch).terms()["kd_generated"]().backward()
    finally:
        trainer.config = known
    grads = [[p.grad.flatten() for p in x.parameters() if p.grad is not None] for x in parts]
    return [torch.cat(g) if g else None for g in grads]


def test_the_gradient_into_the_generator_is_scaled_and_that_of_the_student_is_not(all_on):
    student, generator = gradient_of_student_and_generator(*all_on, 1.0)
    same_student, less = gradient_of_student_and_generator(*all_on, 0.25)
    torch.testing.assert_close(same_student, student, rtol=0, atol=0)
    torch.testing.assert_close(less, 0.25 * generator)
    assert float(generator.abs().max()) > 0
    same_student, none = gradient_of_student_and_generator(*all_on, 0.0)
    torch.testing.assert_close(same_student, student, rtol=0, atol=0)
    assert none is None


def on_one_batch(trainer, batch, terms, **transfer):
    """Return values of terms under changed options, all networks in evaluation mode."""
    known = trainer.config
    trainer.config = replace(known, transfer=replace(known.transfer, **transfer))
    networks = (trainer.state.network, trainer.translation)
    try:
        for network in networks:
            network.eval()
        torch.manual_seed(0)
        step = trainer._step_of(batch)
        return [float(step.terms()[name]()) for name in terms]
    finally:
        for network in networks:
            network.train()
        trainer.config = known


def test_what_the_teacher_sees_of_a_simulated_window_is_its_picture(all_on):
    """The same windows as target with their pictures as frames give the paired terms."""
    trainer, batch = all_on
    labelled = batch.labelled
    same = replace(
        batch,
        input=labelled.input,
        active=labelled.active,
        valid=torch.ones_like(batch.valid),
        frame=labelled.picture,
    )
    for graph in ("events", "grid", "scaled"):
        values = on_one_batch(
            trainer,
            same,
            ["affinity_simulated", "affinity_paired"],
            affinity_graph=graph,
            affinity_nodes=8,
        )
        assert values[0] == pytest.approx(values[1], rel=1e-5)
        assert values[0] > 0
    # kd_simulated counts pixels near events, kd_paired does where it is told to.
    names = ["kd_simulated", "kd_paired"]
    one, two = on_one_batch(trainer, same, names, activity_weighted=True)
    assert one == pytest.approx(two, rel=1e-5)
    assert one > 0


def test_two_judges_teach_where_there_is_a_frame_and_one_elsewhere(all_on, trained_student):
    trainer, batch = all_on
    student = load_checkpoint(trained_student).build().eval()
    size = tuple(batch.input.shape[2:])

    def posterior(logits):
        whole = torch.nn.functional.interpolate(logits, size=size, mode="bilinear")
        return whole.softmax(1)

    def by_hand(has_frame):
        with torch.no_grad():
            of_events = posterior(student(batch.input))
            of_frame = posterior(trainer.teacher.see(batch.frame).logits)
            own = posterior(logits_of(trainer.state.network, batch.input))
        a = 0.5 * has_frame[:, None, None, None]
        both = (1 - a) * of_events + a * of_frame
        apart = (both * (both.log() - own.log())).sum(1)
        return float((apart * batch.valid).sum() / batch.valid.sum())

    for has_frame in (torch.ones(2), torch.zeros(2), torch.tensor([0.0, 1.0])):
        given = replace(batch, has_frame=has_frame)
        trainer.state.network.eval()
        wanted = by_hand(has_frame)
        (value,) = on_one_batch(trainer, given, ["kd_ensemble"])
        assert value == pytest.approx(wanted, rel=1e-3)


def test_labels_that_the_teacher_gives_frames_are_learnt_as_labels_are(all_on):
    trainer, batch = all_on
    trainer.state.network.eval()
    with torch.no_grad():
        label = trainer.teacher.see(batch.frame).logits
        size = tuple(batch.input.shape[2:])
        label = torch.nn.functional.interpolate(label, size=size, mode="bilinear")
        posterior, label = label.softmax(1).max(1)
        own = logits_of(trainer.state.network, batch.input)
        own = torch.nn.functional.interpolate(own, size=size, mode="bilinear")
    learnt = replace(trainer.config.loss, weights={"cross_entropy": 1.0})
    changed = replace(trainer.config, loss=learnt)
    weight = posterior * torch.tensor([0.0, 1.0])[:, None, None]
    weighted = SegmentationBatch(own, label, weight, trainer.class_weight_K)
    known = trainer.config
    trainer.config = changed
    try:
        given = replace(batch, has_frame=torch.tensor([0.0, 1.0]))
        (value,) = on_one_batch(trainer, given, ["task_paired"])
    finally:
        trainer.config = known
    assert value == pytest.approx(float(cross_entropy(weighted)), rel=1e-3)
    assert value > 0


def test_the_term_of_two_judges_and_the_second_judge_need_each_other(root, teacher):
    known = config(root, teacher)
    with pytest.raises(ConfigError, match=r"kd_ensemble and larger\.student need each other"):
        replace(known, larger=LargerConfig(student="street6"))
    with pytest.raises(ConfigError, match=r"kd_ensemble and larger\.student need each other"):
        replace(known, terms=known.terms | {"kd_ensemble": 1.0})


@pytest.mark.parametrize("graph", ["events", "grid", "batch"])
def test_affinity_of_frames_looks_at_windows_with_a_frame_alone(all_on, graph):
    trainer, batch = all_on
    frames = torch.stack([batch.frame, -batch.frame])
    values = [
        on_one_batch(
            trainer,
            replace(batch, frame=torch.stack([f[0], g[1]]), has_frame=has),
            ["affinity_paired"],
            affinity_graph=graph,
            affinity_nodes=4,
        )[0]
        for f, g, has in (
            (frames[0], frames[0], torch.tensor([1.0, 0.0])),
            (frames[0], frames[1], torch.tensor([1.0, 0.0])),
            (frames[0], frames[1], torch.ones(2)),
        )
    ]
    assert values[0] == values[1]
    assert graph == "batch" or values[2] != values[1]


def test_entropy_counts_places_where_the_target_is_usually_active(all_on):
    trainer, batch = all_on
    usual = trainer._usual_activity_HW
    assert usual.shape == batch.active.shape[1:]
    assert 0 <= float(usual.min()) <= float(usual.max()) <= 1
    step = trainer._step_of(batch)
    with torch.no_grad():
        p = step.s_event[0].softmax(1)
    entropy = -(p * p.log()).sum(1) / np.log(6)
    weight = batch.valid * usual
    expected = float((entropy * weight).sum() / weight.sum())
    assert float(step.terms()["entropy"]()) == pytest.approx(expected, rel=1e-4)
    assert DistillTrainer(
        replace(trainer.config, terms=trainer.config.terms | {"entropy": 0.0}),
        trainer.out.parent / "no_entropy",
    )._usual_activity_HW is None  # fmt: skip


def test_labelled_windows_alone_move_the_statistics_where_asked(root, teacher, tmp_path):
    base = config(root, teacher)
    names = ("task_events", "pseudo_label", "class_mix", "density_mix", "entropy", "kd_generated")
    own = replace(
        base,
        terms={n: float(n in names) for n in TERMS},
        transfer=replace(base.transfer, labelled_statistics=True, pseudo_threshold=0.0),
    )
    trainer = DistillTrainer(own, tmp_path)
    _, step = one_step(trainer)
    network = trainer.state.network
    before = statistics(network)
    total = step.terms()["kd_generated"]() + step.terms()["entropy"]()
    for name in ("pseudo_label", "class_mix", "density_mix"):
        total = total + step.terms()[name]()
    assert torch.equal(statistics(network), before)
    # What is seen so is what evaluation gives, drop-out aside.
    network.eval()
    with torch.no_grad():
        expected = step._see(network, step.batch.input)[0]
    network.train()
    for module in network.modules():
        if isinstance(module, torch.nn.Dropout2d):
            module.eval()
    torch.testing.assert_close(step._see_aside(step.batch.input)[0], expected)
    total = total + step.terms()["task_events"]()
    assert not torch.equal(statistics(network), before)
    total.backward()  # statistics that moved since do not disturb it
    assert all(p.grad is not None for p in network.parameters())


def test_the_terms_that_move_a_generator_are_known():
    assert set(GENERATOR_TERMS) == {
        n for n, who in MOVES.items() if {"ei", "ie"} & set(who.split())
    }


@pytest.mark.parametrize(
    ("term", "seen_by"),
    [("task_generated", "s_generated"), ("task_events", "s_labelled"), ("mutual_task", None)],
)
def test_labels_of_none_of_these_reach_every_supervised_term(all_on, term, seen_by):
    trainer, batch = all_on
    excluded = torch.tensor([[False] * 4 + [True] * 2, [True] + [False] * 5])
    labelled = replace(
        batch.labelled,
        label=torch.full_like(batch.labelled.label, 254),
        excluded=excluded,
        instances=None,
    )
    batch = replace(
        batch,
        image_label=torch.full_like(batch.image_label, 254),
        image_excluded=excluded,
        image_instances=None,
        labelled=labelled,
    )
    step = trainer._step_of(batch)
    networks = (trainer.state.network, step.networks.frame_student)
    for network in networks:
        network.eval()  # two passes drop the same
    with torch.no_grad():
        logits = (getattr(step, seen_by) if seen_by else step._see_frame(batch.image))[0]
        weight = torch.ones_like(logits[:, 0])
        if term == "task_events":
            weight = activity_weights(labelled.active, trainer.config.loss)
        of_excluded = (logits.softmax(1) * excluded[:, :, None, None]).sum(1)
        expected = float((-torch.log1p(-of_excluded) * weight).sum() / weight.sum())
        loss = trainer.config.loss.weights["cross_entropy"] * expected
        assert float(step.terms()[term]()) == pytest.approx(loss, rel=1e-3)
    for network in networks:
        network.train()


def test_activity_weights_are_those_of_the_loop():
    active = (torch.rand(2, 20, 30, generator=torch.Generator().manual_seed(0)) < 0.02).byte()
    for radius in (-1, 0, 3):
        loss = LossConfig(activity_radius_px=radius, inactive_weight=0.2)
        torch.testing.assert_close(activity_weights(active, loss), pixel_weights(active, loss))


def test_what_is_watched_is_the_share_of_lit_cells_and_of_on(all_on):
    trainer, batch = all_on
    events = torch.zeros_like(batch.input)
    events[:, 0, :4] = 3.0
    events[:, 1, 4:8] = -1.0
    step = trainer._step_of(replace(batch, input=events))
    assert step.watched() == {}
    step.fake_event  # noqa: B018 - made on demand
    watched = step.watched()
    valid = float(batch.valid.sum())
    lit = float((batch.valid[:, :8] > 0).sum()) / valid
    assert float(watched["watch_lit_target"]) == pytest.approx(lit)
    assert float(watched["watch_on_target"]) == pytest.approx(0.75)


def test_what_is_watched_is_how_sure_the_teacher_is(all_on):
    trainer, batch = all_on
    step = trainer._step_of(batch)
    step.t_fake  # noqa: B018 - made on demand
    watched = step.watched()
    assert set(watched) == {"watch_sure_reconstructed"}
    step.t_image  # noqa: B018
    for name, image in (("image", batch.image), ("reconstructed", step.fake_image)):
        with torch.no_grad():
            logits = step._see(trainer.teacher.network, image)[0]
            sure = trainer.teacher.log_posterior(logits).exp().max(1).values.mean()
        assert float(step.watched()[f"watch_sure_{name}"]) == pytest.approx(float(sure))


def test_discriminators_learn_and_move_nobody_else(all_on):
    trainer, batch = all_on
    for part in (trainer.state.network, trainer.translation, trainer.frame_student):
        part.zero_grad(set_to_none=True)
    terms = trainer._step_of(batch).critic_terms()
    assert set(terms) == {"critic_image", "critic_event", "critic_output", "critic_output_penalty"}
    torch.stack([term() for term in terms.values()]).sum().backward()
    assert all(p.grad is not None for p in trainer.translation.critic_parameters())
    assert all(p.grad is None for p in trainer.translation.generator_parameters())
    assert all(p.grad is None for p in trainer.state.network.parameters())


def test_terms_of_weight_zero_cost_nothing(root, teacher, tmp_path):
    terms = {n: float(n == "task_events") for n in TERMS}
    trainer = DistillTrainer(config(root, teacher, terms=terms), tmp_path)
    _, step = one_step(trainer)
    trainer._current = step
    made = step.terms()["task_events"]()
    assert torch.isfinite(made)
    assert not {"fake_image", "fake_event", "t_fake", "s_event"} & set(vars(step))
    assert step.critic_terms() == {}


@pytest.mark.parametrize("stride", [2, 4])
def test_losses_that_look_at_fewer_labels_are_nearly_the_same(all_on, stride):
    trainer, batch = all_on
    sparse = DistillTrainer(
        replace(trainer.config, loss=replace(trainer.config.loss, label_stride=stride)),
        trainer.out.parent / f"stride{stride}",
    )
    values = []
    for each in (trainer, sparse):
        each.state.network.eval()
        torch.manual_seed(0)
        values.append({n: float(t().detach()) for n, t in each._step_of(batch).terms().items()})
    assert all(np.isfinite(v) for v in values[1].values())
    for name in ("task_generated", "kd_event", "kd_generated", "matching_event", "mutual_task"):
        assert values[1][name] == pytest.approx(values[0][name], rel=0.35, abs=1e-3), name


def test_translation_alone_may_be_trained_now_and_then(root, teacher, tmp_path):
    base = config(root, teacher)
    trainer = DistillTrainer(replace(base, adversary=replace(base.adversary, every=3)), tmp_path)
    critics = []
    weight = next(trainer.translation.image_critic.parameters())
    generator = next(trainer.translation.to_event.parameters())
    before = [generator.detach().clone()]

    def keep(report):
        critics.append(weight.detach().clone())
        before.append(generator.detach().clone())

    assert trainer.run(on_step=keep)
    log = losses(tmp_path)
    for name in ("loss_gan_event", "loss_cycle_image", "loss_critic_image"):
        assert [name in r for r in log] == [True, False, False, True]
    for name in ("loss_kd_event", "loss_task_generated"):
        assert all(name in r for r in log)
    assert torch.equal(critics[0], critics[1])
    assert torch.equal(critics[1], critics[2])
    assert not torch.equal(critics[2], critics[3])
    page = write_training_report(trainer, {}, Sessions(tmp_path, 0), "finished").read_text()
    assert "<b>critic_image</b>" in page
    # What the student is asked of generated windows moves the generator all the time.
    assert all(not torch.equal(a, b) for a, b in itertools.pairwise(before))


def test_weights_follow_the_step(root, teacher):
    base = config(root, teacher)
    fading = replace(
        base,
        steps=10,
        adversary=replace(base.adversary, every=2),
        transfer=replace(base.transfer, teacher_fade=0.5),
    )
    weights = [fading.weights_at(step) for step in range(10)]
    assert [w["gan_image"] > 0 for w in weights] == [True, False] * 5
    for name in FADING_TERMS:
        whole = fading.terms[name]
        assert [w[name] for w in weights[:5]] == pytest.approx(
            [whole * k for k in (1.0, 0.8, 0.6, 0.4, 0.2)]
        )
        assert not any(w[name] for w in weights[5:])
    assert all(w["pseudo_label"] == fading.terms["pseudo_label"] > 0 for w in weights)
    assert base.weights_at(9) == base.terms  # nothing fades where nobody asked for it


def test_the_student_looks_at_translations_in_a_share_of_the_steps(root, teacher):
    base = config(root, teacher)
    for share, count in ((0.05, 5), (0.5, 50), (1.0, 100), (0.0, 0)):
        some = replace(base, steps=100, transfer=replace(base.transfer, translated_share=share))
        weights = [some.weights_at(step) for step in range(100)]
        for name in set(TRANSLATED_TERMS) - set(INSTANCE_TERMS):
            assert sum(w[name] > 0 for w in weights) == count
        steps = [k for k, w in enumerate(weights) if w["kd_event"]]
        assert len(set(np.diff(steps))) <= 1  # evenly spread
        others = set(TERMS) - set(TRANSLATED_TERMS)
        assert all({n: w[n] for n in others} == {n: some.terms[n] for n in others} for w in weights)


def test_the_student_learns_from_its_own_answers_from_a_step_on(root, teacher, tmp_path):
    base = config(root, teacher)
    later = replace(
        base, transfer=replace(base.transfer, pseudo_from=0.5, pseudo_ramp=0.5), steps=4
    )
    for step in range(4):
        weights = later.weights_at(step)
        assert all((weights[n] > 0) == (step >= 2) for n in SELF_TERMS)
        assert weights["task_events"] == base.terms["task_events"]
    trainer = DistillTrainer(later, tmp_path)
    for step, share in ((2, 0.0), (3, 0.5)):
        trainer.state.step = step
        assert one_step(trainer)[1]._ramp() == share


def test_what_the_target_does_not_move_yet_labelled_windows_move(root, teacher, tmp_path):
    base = config(root, teacher)
    names = ("task_events", "pseudo_label")
    later = replace(
        base,
        terms={n: float(n in names) for n in TERMS},
        transfer=replace(base.transfer, target_statistics=True, pseudo_from=0.5),
    )
    trainer = DistillTrainer(later, tmp_path)
    before = statistics(trainer.state.network)
    one_step(trainer)[1].terms()["task_events"]()
    assert not torch.equal(statistics(trainer.state.network), before)


@pytest.mark.parametrize("step", [0, 1])
def test_the_target_moves_the_statistics_when_no_term_asks_for_it_now(
    root, teacher, tmp_path, step
):
    """At step 0 `consistency_event` sees the target, at step 1 no term does."""
    base = config(root, teacher)
    names = ("consistency_event", "pseudo_label", "task_events")
    lazy = replace(
        base,
        terms={name: float(name in names) for name in TERMS},
        adversary=replace(base.adversary, every=2),
        transfer=replace(
            base.transfer, target_statistics=True, view=ViewConfig(strength=(0.5, 0.6))
        ),
    )
    trainer = DistillTrainer(lazy, tmp_path)
    trainer.state.step = step
    _, seen = one_step(trainer)
    before = statistics(trainer.state.network)
    for name, weight in lazy.weights_at(step).items():
        if weight > 0:
            seen.terms()[name]()
    assert not torch.equal(statistics(trainer.state.network), before)


def statistics(network):
    return torch.cat([b for n, b in network.named_buffers() if n.endswith("running_mean")])


def test_translation_is_trained_at_every_step_where_nothing_else_is(root, teacher, tmp_path):
    base = config(root, teacher)
    terms = {name: float(name == "paired_simulated") for name in TERMS}
    lazy = replace(base, terms=terms, adversary=replace(base.adversary, every=3))
    assert DistillTrainer(lazy, tmp_path).run()
    assert all("loss_paired_simulated" in r for r in losses(tmp_path))


def test_a_window_without_a_valid_pixel_does_no_harm(all_on):
    trainer, batch = all_on
    nothing = replace(
        batch,
        valid=torch.zeros_like(batch.valid),
        image_valid=torch.zeros_like(batch.image_valid),
        image_label=torch.full_like(batch.image_label, 255),
        has_frame=torch.zeros(2),
        labelled=replace(batch.labelled, label=torch.full_like(batch.labelled.label, 255)),
    )
    step = trainer._step_of(nothing)
    for name, term in step.terms().items():
        value = term()
        assert torch.isfinite(value), name
        # These look at whole pictures, and the last at labelled windows, which are valid here.
        exempt = ("gan_image", "gan_event", "output", *PICTURE_TERMS)
        if name not in exempt and "affinity" not in name:
            assert float(value.detach()) == 0.0, name


def test_a_run_that_leaves_the_numbers_keeps_its_batch(root, teacher, tmp_path):
    trainer = DistillTrainer(config(root, teacher), tmp_path)
    with torch.no_grad():
        next(trainer.translation.to_event.parameters()).fill_(float("nan"))
    with pytest.raises(TrainingError, match=r"nonfinite_batch\.pt"):
        trainer.run()
    kept = torch.load(tmp_path / "nonfinite_batch.pt", weights_only=True)
    assert kept["image"].shape == (2, 1, 32, 48)


def test_another_teacher_is_not_taken_for_the_first(root, teacher, tmp_path):
    mine = tmp_path / "teacher.pt"
    mine.write_bytes(teacher.read_bytes())
    trainer = DistillTrainer(config(root, mine), tmp_path / "run")
    trainer.save()
    other = TeacherTrainer(teacher_config(root, seed=1), tmp_path / "other")
    other.save()
    mine.write_bytes((tmp_path / "other" / "last.pt").read_bytes())
    with pytest.raises(ConfigError, match="not the teacher"):
        DistillTrainer(config(root, mine), tmp_path / "run", resume=True)


def test_another_trained_student_is_not_taken_for_the_first(all_on, trained_student, tmp_path):
    mine = tmp_path / "student.pt"
    mine.write_bytes(trained_student.read_bytes())
    given = replace(all_on[0].config, larger=LargerConfig(student=str(mine)))
    DistillTrainer(given, tmp_path / "run").save()
    content = torch.load(mine, weights_only=True)
    content["training"] = {"steps": 7}
    torch.save(content, mine)
    with pytest.raises(ConfigError, match=r"not the larger\.student that this run"):
        DistillTrainer(given, tmp_path / "run", resume=True)


@pytest.fixture(scope="module")
def onnx_teacher(root):
    """A segmenter of rgb images to 19 classes, as torch exports it, and its description."""
    path = root / "segmenter.onnx"
    model = export_segmenter(path)
    return model, OnnxTeacherConfig(
        onnx=path, classes="cityscapes19", normalise="imagenet", output="logits",
        features="features",
    )  # fmt: skip


def test_an_onnx_teacher_serves_every_term_without_a_gradient_through_it(
    root, onnx_teacher, tmp_path
):
    _, described = onnx_teacher
    off = PAIRED | set(THROUGH_TEACHER_TERMS) | set(INSTANCE_TERMS)
    given = config(root, described, without=off)
    trainer = DistillTrainer(given, tmp_path / "run")
    assert trainer.run()
    log = losses(tmp_path / "run")
    assert len(log) == 4
    for name in set(TERMS) - off:
        assert all(np.isfinite(r[f"loss_{name}"]) for r in log), name
    for name in ("kd_generated", "kd_event", "matching_event", "affinity_event"):
        assert log[0][f"loss_{name}"] > 0
    assert [len(shown.rows) for shown in trainer.panels()] == [2, 2]
    # The configuration beside the run starts it again, and half a run goes on as the whole.
    assert load_experiment(tmp_path / "run" / "config.yaml") == given
    half = DistillTrainer(given, tmp_path / "half")
    half.run(on_step=lambda report: half.stop() if report.step == 2 else None)
    assert DistillTrainer(given, tmp_path / "half", resume=True).run()
    assert [r["loss"] for r in losses(tmp_path / "half")] == [r["loss"] for r in log]


def test_kd_from_an_onnx_teacher_is_kd_from_its_model_in_torch(root, onnx_teacher, tmp_path):
    model, described = onnx_teacher
    trainer = DistillTrainer(
        config(
            root, described, without=set(TERMS) - {"kd_generated", "matching_generated"},
            transfer=TransferConfig(),
        ),
        tmp_path,
    )  # fmt: skip
    batch, step = one_step(trainer)
    grey = (batch.image + 1) / 2
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.485, 0.456, 0.406),
                                                            (0.229, 0.224, 0.225)))  # fmt: skip
    with torch.no_grad():
        logits = model((grey - mean) / std)[0]
        p = torch.nn.functional.interpolate(logits, size=grey.shape[2:], mode="bilinear").softmax(1)
        teacher = torch.zeros(len(p), 6, *p.shape[2:])
        teacher.index_add_(1, torch.tensor(NINETEEN_TO_SIX), p)
        student = step.s_generated[0].log_softmax(1)
        valid = batch.image_valid.float()
        apart = (teacher * (teacher.log() - student)).sum(1)
        expected = (apart * valid).sum() / valid.sum()
        torch.testing.assert_close(step.terms()["kd_generated"](), expected, rtol=1e-3, atol=1e-5)


def test_classes_that_the_student_lacks_do_not_teach(root, tmp_path):
    weights = np.random.default_rng(0).normal(0, 1, (7, 3, 1, 1)).astype(np.float32)
    weights[6] = 40  # bright pixels are of a class that has no place, dark ones are not
    path = write_model(
        tmp_path / "m.onnx",
        [("Conv", ["image", "w"], "logits", {})],
        constants={"w": weights},
    )
    described = OnnxTeacherConfig(
        onnx=path,
        classes=(*SIX_CLASSES.names, "cat"),
        normalise="-1..1",
        class_map={n: n for n in SIX_CLASSES.names},
    )
    given = config(
        root, described, without=set(TERMS) - {"kd_generated"}, transfer=TransferConfig()
    )
    trainer = DistillTrainer(given, tmp_path / "run")
    batch, _ = one_step(trainer)
    image = torch.ones_like(batch.image)
    image[:, :, :, :24] = -1.0
    step = trainer._step_of(replace(batch, image=image))
    dark = torch.zeros_like(batch.image_valid)
    dark[:, :, :24] = 1
    by_hand = trainer._step_of(replace(batch, image=image, image_valid=batch.image_valid * dark))
    torch.manual_seed(0)
    got = step.terms()["kd_generated"]()
    torch.manual_seed(0)
    torch.testing.assert_close(got, by_hand.terms()["kd_generated"](), rtol=1e-4, atol=1e-6)
    assert float(step._known(step.t_image)[:, :, 24:].max()) < 1e-6
    assert float(step._known(step.t_image)[:, :, :24].min()) > 1 - 1e-6


def test_terms_that_an_onnx_teacher_cannot_serve_are_refused_all_at_once(root, onnx_teacher):
    _, described = onnx_teacher
    blind = replace(described, features="")
    with pytest.raises(ConfigError, match=r"no gradient.*task_reconstructed, consistency_event to 0"
                       ) as caught:  # fmt: skip
        config(root, blind)
    assert "affinity_generated, affinity_event, affinity_simulated compare features" in str(
        caught.value
    )
    assert "config/train/onnx-teacher.yaml" in str(caught.value)
    for name in THROUGH_TEACHER_TERMS:
        off = PAIRED | set(THROUGH_TEACHER_TERMS) - {name}
        with pytest.raises(ConfigError, match=f"set the weights of {name} to 0") as caught:
            config(root, described, without=off)
        assert "features" not in str(caught.value)
    for name in set(FEATURE_TERMS) - PAIRED:
        off = PAIRED | {*THROUGH_TEACHER_TERMS, *FEATURE_TERMS} - {name}
        with pytest.raises(ConfigError, match=rf"{name} compare features.*teacher\.features"):
            config(root, blind, without=off)
    config(root, blind, without=PAIRED | {*THROUGH_TEACHER_TERMS, *FEATURE_TERMS})


def test_the_terms_that_need_a_gradient_through_the_teacher_are_known(all_on, monkeypatch):
    trainer, batch = all_on
    needed = set()
    see = trainer.teacher.see

    def watched(image):
        if image.requires_grad and torch.is_grad_enabled():
            needed.add(name)
        return see(image)

    monkeypatch.setattr(type(trainer.teacher), "see", lambda _, image: watched(image))
    for name in TERMS:
        others = dict.fromkeys(TERMS, 0.0) | {name: 1.0}
        known = trainer.config
        larger = known.larger if name == "kd_ensemble" else LargerConfig()
        trainer.config = replace(known, terms=others, larger=larger)
        try:
            trainer._step_of(batch).terms()[name]()
        finally:
            trainer.config = known
    assert needed == set(THROUGH_TEACHER_TERMS)


def test_a_path_of_a_model_is_no_checkpoint(root, onnx_teacher):
    _, described = onnx_teacher
    with pytest.raises(ConfigError, match=r"segmenter\.onnx; a path names .*teacher: \{onnx: FILE"):
        config(root, described.onnx)


def test_a_classifier_teaches_no_segmentation(root, tmp_path):
    nodes = [
        ("Conv", ["image", "w"], "dense", {}),
        ("ReduceMean", ["dense"], "logits", {"axes": [2, 3], "keepdims": 0}),
    ]
    path = write_model(
        tmp_path / "m.onnx", nodes, constants={"w": np.ones((6, 3, 1, 1), np.float32)}
    )
    described = OnnxTeacherConfig(onnx=path, classes="street6", normalise="0..1")
    given = config(root, described, without=set(TERMS) - {"kd_generated"})
    with pytest.raises(ConfigError, match="is for recognition, and network onboard-seg for segm"):
        DistillTrainer(given, tmp_path / "run")


def test_generators_can_start_from_an_earlier_run(root, teacher, tmp_path):
    first = DistillTrainer(config(root, teacher, seed=5), tmp_path / "first")
    first.save()
    adversary = replace(
        config(root, teacher).adversary, start_from=str(tmp_path / "first" / "last.pt")
    )
    second = DistillTrainer(config(root, teacher, adversary=adversary), tmp_path / "second")
    for a, b in zip(first.translation.parameters(), second.translation.parameters(), strict=True):
        assert torch.equal(a, b)


def test_the_report_shows_both_sides(root, teacher, tmp_path):
    trainer = DistillTrainer(config(root, teacher, steps=1, tensorboard=True), tmp_path)
    found = {}
    trainer.run(on_validation=found.update)
    sessions = Sessions(tmp_path, 0)
    page = write_training_report(trainer, found, sessions, "finished").read_text(encoding="utf-8")
    assert "reconstruction" in page
    assert "kd_event" in page
    assert [len(shown.heads) for shown in trainer.panels()] == [4, 5]
    shown = sum(len(s.rows) * len(s.heads) for s in trainer.panels())
    assert page.count("<img ") >= shown > 8
    assert list((tmp_path / "tensorboard").iterdir())
    assert all(p.shape == (32, 48, 3) for s in trainer.panels() for row in s.rows for p in row)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("kd_event"), "has no weight"),
        (lambda t: t.update(kd=1.0), "unknown term 'kd'"),
        (lambda t: t.update(kd_event=-1.0), "must be a number"),
        (lambda t: t.update(paired=1.0), "frame_within_us"),
        (lambda t: t.update(dict.fromkeys(t, 0.0)), "above 0"),
    ],
)
def test_bad_terms_are_refused(root, change, message):
    terms = {n: float(n not in PAIRED) for n in TERMS}
    change(terms)
    with pytest.raises(ConfigError, match=message):
        config(root, root / "t.pt", terms=terms)


def test_labelled_windows_are_needed_by_their_term(root):
    data = replace(config(root, root / "t.pt").data, train=())
    with pytest.raises(ConfigError, match="task_events needs"):
        config(root, root / "t.pt", data=data)


def test_configurations_round_trip_and_stages_choose_their_trainer(root, teacher, tmp_path):
    for stage, experiment in (
        ("distill", config(root, teacher)),
        ("teacher", teacher_config(root)),
    ):
        plain = json.loads(json.dumps(to_mapping(experiment)))
        assert from_mapping(type(experiment), plain) == experiment
        path = tmp_path / f"{stage}.yaml"
        path.write_text(f"stage: {stage}\n" + dump_yaml(experiment))
        assert load_experiment(path) == experiment
        trainer = make_trainer(load_experiment(path), tmp_path / stage)
        assert type(trainer).__name__.lower().startswith(stage)
    path.write_text("stage: sleep\n")
    with pytest.raises(ConfigError, match="stage must be one of student, teacher, distill"):
        load_experiment(path)
    assert issubclass(DistillConfig, TrainConfig)


def test_the_tiny_profiles_run_with_every_term_on(tmp_path, make_camvid):
    for split in ("train", "val"):
        make_camvid(tmp_path / "camvid", split=split, height=240, width=320)
    first = _moved(load_experiment(ROOT / "config/train/teacher-tiny.yaml"), tmp_path)
    teacher_run = make_trainer(replace(first, steps=20), tmp_path / "teacher")
    assert teacher_run.run()
    second = _moved(load_experiment(ROOT / "config/train/distill-tiny.yaml"), tmp_path)
    assert all(weight > 0 for weight in second.terms.values())
    second = replace(second, steps=3, teacher=tmp_path / "teacher" / "last.pt")
    trainer = make_trainer(second, tmp_path / "student")
    assert trainer.run()
    log = losses(tmp_path / "student")
    assert len(log) == 3
    assert all(np.isfinite(v) for r in log for k, v in r.items() if k.startswith("loss"))
    assert log[-1]["loss"] < log[0]["loss"]
    # The configuration beside the run starts it again.
    assert load_experiment(tmp_path / "student" / "config.yaml") == second


def _moved(experiment, root):
    """Return the experiment with its images and caches below a folder of the test."""
    plain = to_mapping(experiment)

    def move(value):
        if isinstance(value, dict):
            return {k: str(root / "cache") if k == "cache" else move(v) for k, v in value.items()}
        if isinstance(value, list):
            return [move(v) for v in value]
        if value == "data/camvid":
            return str(root / "camvid")
        return str(ROOT / value) if str(value).startswith("demo/") else value

    return from_mapping(type(experiment), move(plain))


@pytest.fixture(scope="module")
def recurrent(root, teacher):
    """A trainer of a recurrent student with every term on, and a batch of sequences."""
    network = NetworkConfig(
        name="onboard-seg", options={"width": 0.25, "dropout": 0.2, "recurrent": True}
    )
    changed = config(
        root, teacher, network=network, input=replace(SPEC, sequence=3), without=PAIRED
    )
    return DistillTrainer(changed, root / "recurrent")


def test_every_term_of_a_recurrent_student_is_finite_and_moves_its_memory(recurrent):
    network = recurrent.state.network
    torch.nn.init.normal_(network.recall.weight, std=0.1)
    batch = next(iter(recurrent._unpaired(0, 1)))
    assert batch.sequence.shape[1] == batch.labelled.sequence.shape[1] == 3
    # The generated window has no past: everything else reaches the memory's own weights.
    step = recurrent._step_of(batch)
    for name, term in step.terms().items():
        if recurrent.config.terms[name] == 0:
            continue
        loss = term()
        assert torch.isfinite(loss), name
        network.zero_grad()
        loss.backward(retain_graph=True)
        grad = network.memory.candidate.weight.grad
        moved = grad is not None and bool(grad.abs().sum() > 0)
        over_time = {"task_events", "kd_event", "matching_event", "affinity_event", "output"}
        if name in over_time | {"pseudo_label", "class_mix"}:
            assert moved, name
        if name.startswith(("gan", "cycle")):
            assert not moved, name


def test_the_student_sees_the_sequence_and_the_generators_the_last_window(recurrent):
    step = recurrent._step_of(next(iter(recurrent._unpaired(0, 1))))
    other = replace(step.batch, past=torch.zeros_like(step.batch.past))
    recurrent.state.network.eval()
    again = recurrent._step_of(other)
    with torch.no_grad():
        assert not torch.equal(step.s_event[0], again.s_event[0])
        torch.testing.assert_close(step.fake_image, again.fake_image)
        assert not torch.equal(step.pseudo_labels[1], torch.zeros_like(step.pseudo_labels[1]))
    recurrent.state.network.train()


def test_a_recurrent_distillation_runs_and_resumes(root, teacher, tmp_path):
    network = NetworkConfig(name="onboard-seg", options={"width": 0.25, "recurrent": True})
    given = config(root, teacher, network=network, input=replace(SPEC, sequence=2), steps=3)
    assert DistillTrainer(given, tmp_path / "whole").run()
    parts = DistillTrainer(given, tmp_path / "parts")
    assert not parts.run(on_step=lambda r: parts.stop() if r.step == 1 else None)
    assert DistillTrainer(given, tmp_path / "parts", resume=True).run()
    assert losses(tmp_path / "parts") == losses(tmp_path / "whole")


def test_a_view_changes_all_windows_of_a_sample_alike(root, teacher):
    view = ViewConfig(dropout=0.5, strength=(0.5, 2.0))
    network = NetworkConfig(name="onboard-seg", options={"width": 0.25, "recurrent": True})
    given = config(
        root,
        teacher,
        network=network,
        input=replace(SPEC, sequence=3),
        transfer=TransferConfig(view=view, affinity_graph="grid", affinity_nodes=4),
    )
    trainer = DistillTrainer(given, root / "view")
    batch = next(iter(trainer._unpaired(0, 1)))
    full = replace(batch, input=torch.ones_like(batch.input), past=torch.ones_like(batch.past))
    seen = trainer._step_of(full)._student_inputs["view"]()
    assert seen.shape == full.sequence.shape
    for t in range(3):
        torch.testing.assert_close(seen[:, t], seen[:, 0])
    assert 0.2 < float((seen[:, 0] == 0).float().mean()) < 0.8


def test_teacher_and_frame_student_have_no_memory(root, teacher):
    recurrent_network = NetworkConfig(
        name="onboard-seg", options={"width": 0.25, "recurrent": True}
    )
    with pytest.raises(ConfigError, match=r"input.sequence"):
        TeacherTrainer(teacher_config(root, network=recurrent_network), root / "no")
    terms = {name: float(name == "mutual_task") for name in TERMS}
    given = config(root, teacher, terms=terms, frame_network=recurrent_network)
    with pytest.raises(ConfigError, match="frame_network sees single frames"):
        DistillTrainer(given, root / "no")
