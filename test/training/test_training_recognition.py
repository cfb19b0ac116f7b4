"""Recognition through the same trainer: teacher, distillation, export, evaluation."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import yaml
from onnx_models import export_classifier
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.data.whole_recordings import read_whole
from evdistill_core.foundation.config import from_mapping
from evdistill_core.foundation.errors import ConfigError, StudentError
from evdistill_core.inference.ranking import softmax
from evdistill_core.inference.runtimes import make_runner
from evdistill_core.inference.student import StudentFile
from evdistill_core.losses.distillation import distribution_matching, posterior_kd
from evdistill_core.losses.segmentation import SegmentationBatch, weighted_sum
from evdistill_core.messages.vision import Classification
from evdistill_core.perception.front_end import check_student
from evdistill_core.perception.offline import run_recording
from evdistill_core.perception.parameters import RecognitionParameters, SegmentationParameters
from evdistill_core.recordings.opening import open_recording
from evdistill_core.representations import represent
from evdistill_core.training.distill_config import (
    FEATURE_TERMS,
    FRAME_TERMS,
    INSTANCE_TERMS,
    PICTURE_TERMS,
    TERMS,
    THROUGH_TEACHER_TERMS,
)
from evdistill_core.training.stages import load_experiment, make_trainer
from evdistill_core.training.tasks import Recognition

CONFIGS = Path(__file__).resolve().parents[2] / "config"
SIZE = 20


def invoke(*arguments):
    result = CliRunner().invoke(build_app(), [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output


def write_pictures(root, count=6):
    """Bars and discs of random place and size on black."""
    rng = np.random.default_rng(0)
    for name in ("bar", "disc"):
        (root / "train" / name).mkdir(parents=True)
        for i in range(count):
            picture = np.zeros((16, 16), np.uint8)
            x, y = (int(v) for v in rng.integers(5, 11, 2))
            if name == "bar":
                picture[2:14, x - 1 : x + 1] = 255
            else:
                cv2.circle(picture, (x, y), 4, 255, -1)
            cv2.imwrite(str(root / "train" / name / f"{i}.png"), picture)


def write_recordings(root, count=6, *, width=SIZE):
    """Five-byte files of two classes: a column, and a block, that move right."""
    rng = np.random.default_rng(1)
    for name in ("bar", "disc"):
        (root / name).mkdir(parents=True)
        for i in range(count):
            t = np.sort(rng.integers(0, 90_000, 300))
            y = rng.integers(2, 14 if name == "bar" else 8, 300)
            x = rng.integers(5, 7 if name == "bar" else 11, 300) + t // 30_000
            p = rng.integers(0, 2, 300)
            rows = np.stack([x, y, (p << 7) | (t >> 16), (t >> 8) & 255, t & 255], 1)
            (root / name / f"{i}.bin").write_bytes(rows.astype(np.uint8).tobytes())


def experiments(folder):
    images = {"root": str(folder / "pictures"), "layout": "class-folders"}
    stills = {"images": images, "crop": [SIZE, SIZE], "border": "edge", "scale": [0.9, 1.1]}
    common = {
        "batch_size": 4,
        "classes": ["bar", "disc"],
        "network": {"name": "onboard-cls", "options": {"width": 0.25, "stages": 2}},
        "threads": 1,
        "workers": 0,
        "device": "cpu",
        "optimiser": {"lr": 0.01, "warmup_steps": 0, "ema_decay": 0.5},
        "validate_every": 0,
    }
    teacher = common | {
        "stage": "teacher",
        "name": "teacher",
        "steps": 40,
        "data": {"stills": stills, "validation_stills": {"all": stills}},
    }
    moving = {"images": images, "height": 34, "width": 34}
    distill = common | {
        "stage": "distill",
        "name": "student",
        "steps": 4,
        "teacher": str(folder / "teacher" / "last.pt"),
        "frame_network": common["network"],
        "input": {"bins": 3, "window_us": 100_000, "size_multiple": 2},
        "data": {
            "stills": stills,
            "recordings": {"paths": [str(folder / "events")], "whole": True},
            "train": [{"name": "simulated", "moving_stills": moving}],
            "validation": [{"name": "simulated", "moving_stills": moving, "count": 4}],
        },
        "terms": {t: 0.0 if t in NOT_HERE else 1.0 for t in TERMS},
        "transfer": {"confidence": "max", "affinity_graph": "batch"},
        "adversary": {
            "generator": {"base_channels": 4, "halvings": 1, "blocks": 1},
            "discriminator": {"base_channels": 4, "layers": 1},
        },
    }
    return teacher, distill


# No frames in these recordings, no pictures behind moving stills; no dense predictions.
NOT_HERE = (*FRAME_TERMS, *PICTURE_TERMS, "output", "class_mix", "density_mix", *INSTANCE_TERMS)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A teacher and a student, trained, exported and scored by the command line."""
    folder = tmp_path_factory.mktemp("recognition")
    write_pictures(folder / "pictures")
    write_recordings(folder / "events")
    for experiment in experiments(folder):
        path = folder / f"{experiment['name']}.yaml"
        path.write_text(yaml.safe_dump(experiment), encoding="utf-8")
        invoke("train", path, "--out", folder / experiment["name"])
    invoke("export", folder / "student" / "last.pt", folder / "s.evstudent")
    sets = {
        "sets": [{"name": "real", "count": 12, "recognition": {"root": str(folder / "events")}}]
    }
    (folder / "sets.yaml").write_text(yaml.safe_dump(sets), encoding="utf-8")
    return folder


def records(run, kind):
    lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [r for r in map(json.loads, lines) if r["kind"] == kind]


def test_the_teacher_learns_the_images(runs):
    steps = [r["loss"] for r in records(runs / "teacher", "step")]
    assert np.mean(steps[-5:]) < 0.5 * np.mean(steps[:5])
    top1 = records(runs / "teacher", "validation")[-1]["sets"]["all"]["top1"]
    assert top1 >= 0.9
    page = (runs / "teacher" / "report.html").read_text(encoding="utf-8")
    assert "top-1" in page
    assert "Which class is taken" not in page  # that is of pixels
    assert 'table class="confusion"' in page


def test_every_term_of_the_distillation_counts(runs):
    last = records(runs / "student", "step")[-1]
    for name in TERMS:
        if name in NOT_HERE:
            assert f"loss_{name}" not in last
        else:
            assert np.isfinite(last[f"loss_{name}"]), name
            assert last[f"loss_{name}"] >= 0 or name.startswith("gan"), name
    assert last["loss_kd_event"] > 0
    assert last["loss_affinity_event"] > 0
    assert (runs / "student" / "report.html").exists()


def test_a_classifier_in_an_onnx_file_teaches(runs, tmp_path):
    export_classifier(tmp_path / "classifier.onnx")
    (tmp_path / "names.txt").write_text("one\ntwo\nthree\nfour\nfive\n", encoding="utf-8")
    experiment = experiments(runs)[1]
    experiment["teacher"] = {
        "onnx": str(tmp_path / "classifier.onnx"),
        "classes": "names.txt",
        "normalise": "0..1",
        "channels": "grey",
        "class_map": {"one": "bar", "two": "bar", "three": "disc"},
    }
    for name in (*THROUGH_TEACHER_TERMS, *FEATURE_TERMS):
        experiment["terms"][name] = 0.0
    (tmp_path / "student.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    invoke("train", tmp_path / "student.yaml", "--out", tmp_path / "run")
    steps = records(tmp_path / "run", "step")
    assert len(steps) == 4
    for name in ("kd_generated", "kd_event", "matching_generated", "pseudo_label"):
        assert all(np.isfinite(r[f"loss_{name}"]) for r in steps)
    assert steps[0]["loss_kd_event"] > 0
    # Kept with the run: the list of names may go.
    (tmp_path / "names.txt").unlink()
    kept = load_experiment(tmp_path / "run" / "config.yaml")
    assert kept.teacher.class_names() == ("one", "two", "three", "four", "five")


def test_affinity_graphs_of_places(runs, tmp_path):
    experiment = experiments(runs)[1] | {
        "steps": 1,
        "transfer": {"affinity_graph": "grid", "affinity_nodes": 2},
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    assert make_trainer(load_experiment(tmp_path / "grid.yaml"), tmp_path / "run").run()
    (step,) = records(tmp_path / "run", "step")
    batch = records(runs / "student", "step")[0]
    # The same batch and weights; four nodes an image instead of an image a node.
    assert step["loss_kd_generated"] > 0
    assert 0 < step["loss_affinity_generated"] != batch["loss_affinity_generated"]


def test_resume_goes_on_with_the_same_losses(runs, tmp_path):
    trainer = make_trainer(load_experiment(runs / "student.yaml"), tmp_path)
    trainer.run(on_step=lambda report: trainer.stop() if report.step == 2 else None)
    resumed = make_trainer(load_experiment(runs / "student.yaml"), tmp_path, resume=True)
    assert resumed.run()
    losses = [[r["loss"] for r in records(f, "step")] for f in (runs / "student", tmp_path)]
    assert losses[0] == losses[1]


def one_step(runs, out, *, steps=4, terms=None, **transfer):
    """A trainer of the given transfer, and the step that it would take first."""
    experiment = experiments(runs)[1]
    experiment["steps"] = steps
    experiment["transfer"] |= transfer
    if terms is not None:
        experiment["terms"] = {name: 0.0 for name in TERMS} | terms
    out.mkdir(exist_ok=True)
    (out / "experiment.yaml").write_text(yaml.safe_dump(experiment), encoding="utf-8")
    trainer = make_trainer(load_experiment(out / "experiment.yaml"), out / "run")
    return trainer, trainer._step_of(next(iter(trainer._batches())))


def test_one_pass_gives_what_two_passes_give(runs, tmp_path):
    values = []
    for joint in (False, True):
        trainer, step = one_step(runs, tmp_path / str(joint), joint_batch=joint)
        trainer.state.network.eval()  # fixed statistics, no drop-out: passes do not differ
        terms, weights = step.terms(), trainer.config.terms
        values.append({n: float(t().detach()) for n, t in terms.items() if weights[n] > 0})
    assert values[0].keys() == values[1].keys()
    for name, value in values[0].items():
        assert values[1][name] == pytest.approx(value, rel=1e-4, abs=1e-6), name


@pytest.mark.parametrize("joint", [False, True])
def test_one_pass_has_one_set_of_statistics(runs, tmp_path, joint):
    trainer, step = one_step(runs, tmp_path, joint_batch=joint)
    network = trainer.state.network.train()
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    inputs = []
    norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0]))
    before = norm.running_mean.clone()
    assert len(step.s_generated[0]) == 4
    # Windows that no sensor gave leave no trace in what the student is evaluated with.
    assert torch.equal(norm.running_mean, before) == joint
    assert norm.momentum == 0.1
    assert [len(seen.logits) for seen in (step.s_labelled, step.s_event)] == [4, 4]
    assert [len(x) for x in inputs] == ([4, 8] if joint else [4, 4, 4])
    assert not torch.equal(norm.running_mean, before)


@pytest.mark.parametrize("event_asked", [True, False])
def test_statistics_of_the_target_are_those_of_its_windows_alone(runs, tmp_path, event_asked):
    terms = {"task_events": 1.0, "pseudo_label": 1.0, "kd_event": float(event_asked)}
    trainer, step = one_step(
        runs, tmp_path, terms=terms, target_statistics=True, view={"dropout": 0.5}
    )
    network = trainer.state.network.train()
    norm = next(m for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d))
    inputs = []
    hook = norm.register_forward_pre_hook(lambda module, args: inputs.append(args[0].detach()))
    before = norm.running_mean.clone()
    assert len(step.s_labelled[0]) == len(step.s_generated[0]) == 4
    assert torch.equal(norm.running_mean, before)
    assert len(step.s_view[0]) == 4
    if event_asked:
        assert torch.equal(norm.running_mean, before)
        assert len(step.s_event[0]) == 4
    hook.remove()
    target = inputs[-1] if event_asked else inputs[-2]
    expected = 0.9 * before + 0.1 * target.float().mean((0, 2, 3))
    assert torch.allclose(norm.running_mean, expected, atol=1e-5)


def test_one_pass_needs_one_size(runs, tmp_path):
    trainer, _ = one_step(runs, tmp_path, joint_batch=True)
    batch = next(iter(trainer._batches()))
    step = trainer._step_of(dataclasses.replace(batch, input=batch.input[..., :-2]))
    with pytest.raises(ConfigError, match="one size"):
        step.s_event  # noqa: B018 - a property that computes


def test_self_training_needs_no_generator_and_grows(runs, tmp_path):
    trainer, step = one_step(
        runs,
        tmp_path,
        steps=3,
        terms={"task_events": 1.0, "pseudo_label": 2.0},
        pseudo_judges="averaged",
        pseudo_threshold=0.0,
        pseudo_mean="all",
        pseudo_ramp=1.0,
        view={"dropout": 0.2, "strength": [0.7, 1.3], "shift_px": 2},
        joint_batch=True,
    )
    assert float(step.terms()["pseudo_label"]().detach()) == 0.0
    assert "fake_image" not in vars(step)
    assert "fake_event" not in vars(step)
    assert not torch.equal(step.s_view[0], step.s_event[0])
    before = {n: p.clone() for n, p in trainer.translation.named_parameters()}
    assert trainer.run()
    assert all(torch.equal(p, before[n]) for n, p in trainer.translation.named_parameters())
    assert trainer.panels() == []  # of generators that nobody trained
    terms = [r["loss_pseudo_label"] for r in records(tmp_path / "run", "step")]
    assert terms[0] == 0.0
    assert min(terms[1:]) > 0


def test_few_sure_windows_count_little(runs, tmp_path):
    values = {}
    for mean in ("kept", "all"):
        _, step = one_step(
            runs,
            tmp_path / mean,
            terms={"pseudo_label": 1.0},
            pseudo_judges="averaged",
            pseudo_mean=mean,
        )
        label = torch.tensor([0, 255, 255, 255])[:, None, None]
        step.pseudo_labels = (label, (label != 255).float())
        step.s_view = (torch.zeros(4, 2, 1, 1), torch.zeros(4, 8, 1, 1))
        values[mean] = float(step.terms()["pseudo_label"]())
    assert values["kept"] == pytest.approx(np.log(2), rel=1e-5)
    assert values["all"] == pytest.approx(np.log(2) / 4, rel=1e-5)


def test_student_files_give_class_logits(runs):
    student = StudentFile.open(runs / "s.evstudent")
    assert student.info.task == "recognition"
    assert student.classes.names == ("bar", "disc")
    assert "Task: recognition" in student.card()
    x = np.random.default_rng(0).normal(0, 1, (3, 34, 34)).astype(np.float32)
    logits = [
        make_runner(student, runtime=r, device="cpu").run(x) for r in ("onnxruntime", "torch")
    ]
    assert [v.shape for v in logits] == [(2,), (2,)]
    np.testing.assert_allclose(logits[0], logits[1], atol=1e-4)


def test_the_pipeline_of_masks_refuses_it(runs):
    with pytest.raises(StudentError, match="recognition"):
        check_student(from_mapping(SegmentationParameters, {"student": str(runs / "s.evstudent")}))


def test_run_says_of_a_recording_what_evaluation_scores(runs, tmp_path):
    student = StudentFile.open(runs / "s.evstudent")
    runner = make_runner(student, device="cpu")
    parameters = RecognitionParameters(student=str(student.path), device="cpu", top_k=2)
    for path in sorted((runs / "events").glob("*/*.bin"))[::4]:
        events, start_us = read_whole(path, student.input.window_us)
        window = represent(events, student.input, start_us, start_us + student.input.window_us)
        expected = softmax(runner.run(window))
        run_recording(path, tmp_path, parameters, show_progress=False)
        with open_recording(tmp_path / "classifications.mcap") as recording:
            (packet,) = recording.packets(["/recognition/classification"])
        found = Classification.parse(packet.data).results
        scores = {int(h.class_id): h.score for h in found}
        assert scores == pytest.approx(dict(enumerate(expected)), abs=1e-6)
        assert found[0].score == max(scores.values())


def test_evaluate_counts_by_hand(runs, tmp_path):
    reports = []
    for name in ("student/last.pt", "s.evstudent"):
        invoke("evaluate", runs / name, runs / "sets.yaml", "--out", tmp_path, "--overwrite")
        reports.append(json.loads((tmp_path / "report.json").read_text())["sets"]["real"])
    assert reports[0] == reports[1]
    result = reports[0]
    assert result["windows"] == 12
    assert [result["classes"][n]["windows"] for n in ("bar", "disc")] == [6, 6]
    mean = np.mean([result["classes"][n]["accuracy"] for n in ("bar", "disc")])
    assert result["top1"] == pytest.approx(mean)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert 'table class="confusion"' in page
    assert page.count("<img ") == 8


def test_tasks_do_not_mix(runs):
    teacher, distill = experiments(runs)
    refused = (
        (distill, {"network": {"name": "onboard-seg"}}, "different tasks"),
        (teacher, {"network": {"name": "onboard-seg"}}, "dense labels"),
        (distill, {"terms": distill["terms"] | {"class_mix": 1.0}}, "class_mix"),
        (distill, {"classes": "seven"}, "classes must be one of"),
        (distill, {"transfer": {"view": {"dropout": 1.0}}}, "dropout"),
        (distill, {"transfer": {"view": {"strength": [0.0, 1.0]}}}, "strength"),
        (distill, {"transfer": {"pseudo_ramp": 1.5}}, "pseudo_ramp"),
    )
    for experiment, change, match in refused:
        path = runs / "refused.yaml"
        path.write_text(yaml.safe_dump(experiment | change), encoding="utf-8")
        with pytest.raises(ConfigError, match=match):
            load_experiment(path)


def test_recognition_losses_are_those_of_one_pixel():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(0), requires_grad=True)
    target = torch.tensor([0, 1, 2, 1, 255])
    batch = SegmentationBatch(
        Recognition().at_labels(logits, (34, 34)),
        target[:, None, None],
        torch.ones(5, 1, 1),
        torch.ones(3),
    )
    total, _ = weighted_sum(batch, {"cross_entropy": 1.0})
    expected = torch.nn.functional.cross_entropy(logits[:4], target[:4])
    torch.testing.assert_close(total, expected)
    total.backward()
    assert not logits.grad[4].any()
    assert logits.grad[:4].any()


def test_matching_pools_the_batch():
    task = Recognition()
    logits = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    seen = [task.at_labels(v, (9, 9)) for v in (logits, logits.flip(0))]
    weight = torch.ones(4, 1, 1)
    same = distribution_matching(*map(task.as_regions, (*seen, weight)))
    # The same guesses in another order: as a batch equal, one by one not.
    torch.testing.assert_close(same, torch.zeros(()))
    assert posterior_kd(*seen, weight) > 0.1
    expected = logits.softmax(1)[:2].mean(0)
    half = torch.tensor([1.0, 1.0, 0.0, 0.0])[:, None, None]
    uniform = distribution_matching(
        *map(task.as_regions, (torch.zeros_like(seen[0]), seen[0], half))
    )
    torch.testing.assert_close(uniform, (expected * (expected * 3).log()).sum())


def test_shipped_configurations_load():
    names = ("recognition-teacher-tiny", "recognition-tiny", "recognition", "recognition-evdistill")
    for name in names:
        config = load_experiment(CONFIGS / "train" / f"{name}.yaml")
        assert config.class_table().names == tuple("0123456789")
