"""What is printed: the table of rows, camera x drive, per-class IoU, label shift."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from methods import Methods
from scoring import TO_SIX, interval, resampled

from evdistill_core.foundation.labels import SIX_CLASSES

Entry = dict[str, Any]
TEST, SECOND = "target_target", "run"


def summarise(entry: Entry) -> Entry:
    """Return scores by seed, their mean, and the interval of the mean over blocks of time."""
    runs = entry["runs"]
    summary: Entry = {"seeds": [run["seed"] for run in runs], "scores": {}, "interval_95": {}}
    for name in (TEST, SECOND):
        summary["scores"][name] = [run["sets"][name]["miou_6"] for run in runs]
        summary["interval_95"][name] = interval(_draws(entry, name))
    return summary


def print_tables(methods: Methods, entries: list[Entry]) -> None:
    """Print everything that is known of one budget."""
    entries = [e for e in entries if e["runs"]]
    if not entries:
        print("no results yet")
        return
    by_name = {e["name"]: e for e in entries}
    _print_rows(entries, by_name)
    _print_profiles(entries, by_name)
    _print_removals(entries, by_name)
    _print_classes(entries)
    _print_cameras(by_name)
    _print_gap(entries, by_name)
    _print_label_shift(methods)


def _print_rows(entries: list[Entry], by_name: dict[str, Entry]) -> None:
    whole = [e for e in entries if "-without-" not in e["name"]]
    print(
        "\n| row | test mIoU, 6 classes | by seed | 11 classes | near events | run | minus source |"
    )
    print("|---|---|---|---|---|---|---|")
    for e in whole:
        low, high = e["interval_95"][TEST]
        print(
            f"| {e['title']} | {_mean(e, TEST):.1f} [{low:.1f}, {high:.1f}] | {_by_seed(e)} | "
            f"{_mean(e, TEST, 'miou_11'):.1f} | {_mean(e, TEST, 'near_events_6'):.1f} | "
            f"{_mean(e, SECOND):.1f} | {_difference(e, by_name.get('source'))} |"
        )


def _print_profiles(entries: list[Entry], by_name: dict[str, Entry]) -> None:
    """Print by how much the method, with and without frames, is above every row, on both tests."""
    for profile in ("onboard", "onboard-frames"):
        if profile not in by_name:
            continue
        print(f"\n| {by_name[profile]['title']} minus | test | run |\n|---|---|---|")
        for e in entries:
            if "-without-" not in e["name"] and e["name"] != profile:
                cells = [_difference(by_name[profile], e, name) for name in (TEST, SECOND)]
                print(f"| {e['title']} | {' | '.join(cells)} |")


def _print_removals(entries: list[Entry], by_name: dict[str, Entry]) -> None:
    """Print what each part of a row is worth: the whole minus the row without it."""
    wholes = {e["name"].split("-without-")[0] for e in entries if "-without-" in e["name"]}
    for name in sorted(wholes & by_name.keys()):
        whole = by_name[name]
        print(
            f"\n| {whole['title']} ({_by_seed(whole)}) without | test | run | what it is worth | "
            "by seed |\n|---|---|---|---|---|"
        )
        for e in entries:
            if e["name"].startswith(f"{name}-without-"):
                common = sorted(set(e["seeds"]) & set(whole["seeds"]))
                single = [_mean(whole, TEST, seeds={s}) - _mean(e, TEST, seeds={s}) for s in common]
                print(
                    f"| {e['name'].split('-without-')[1]} | {_mean(e, TEST):.1f} | "
                    f"{_mean(e, SECOND):.1f} | {_difference(whole, e)} | "
                    f"{', '.join(f'{d:+.1f}' for d in single)} |"
                )


def _by_seed(entry: Entry) -> str:
    return ", ".join(f"{_mean(entry, TEST, seeds={s}):.1f}" for s in entry["seeds"])


def _print_classes(entries: list[Entry]) -> None:
    print(f"\n| IoU on the test | {' | '.join(SIX_CLASSES.names)} |")
    print("|---" * (1 + len(SIX_CLASSES)) + "|")
    for e in entries:
        if "-without-" in e["name"]:
            continue
        values = [
            [run["sets"][TEST]["iou_6"][name] for run in e["runs"]] for name in SIX_CLASSES.names
        ]
        shown = [f"{np.mean(v):.1f}" if None not in v else "-" for v in values]
        print(f"| {e['title']} | {' | '.join(shown)} |")


def _print_cameras(by_name: dict[str, Entry]) -> None:
    for name in ("source", "wide"):
        if name in by_name:
            e = by_name[name]
            print(f"\n| {e['title']}, mIoU 6 | source drive | target drive |\n|---|---|---|")
            for camera in ("source", "target"):
                cells = [_mean(e, f"{camera}_{drive}") for drive in ("source", "target")]
                print(f"| {camera} camera | {cells[0]:.1f} | {cells[1]:.1f} |")


def _print_gap(entries: list[Entry], by_name: dict[str, Entry]) -> None:
    if "source" not in by_name:
        return
    source = by_name["source"]
    floor = _mean(source, TEST)
    camera = _mean(source, "source_target") - floor
    print(f"\nCamera gap (clean simulator, target drive): {camera:.1f} points.")
    bounds = [_mean(e, TEST) - floor for e in entries if not e["label_free"]]
    upper = max(bounds, default=None)
    for e in entries:
        if e["label_free"] and e["name"] not in ("prior", "source") and camera > 0:
            gain = _mean(e, TEST) - floor
            text = f"- {e['title']}: {gain / camera:.0%} of the camera gap"
            if upper is not None and upper > 0:
                text += f", {gain / upper:.0%} of source to upper bound"
            print(text)


def _print_label_shift(methods: Methods) -> None:
    shares = {name: _label_shares(methods, name) for name in ("source", TEST, SECOND)}
    print(f"\n| share of labels, % | {' | '.join(SIX_CLASSES.names)} | distance to source |")
    print("|---" * (2 + len(SIX_CLASSES)) + "|")
    for name, share in shares.items():
        distance = 50 * np.abs(share - shares["source"]).sum()
        print(f"| {name} | {' | '.join(f'{100 * s:.1f}' for s in share)} | {distance:.1f} |")


def _label_shares(methods: Methods, name: str) -> npt.NDArray[np.float64]:
    windows = methods.windows(name)
    counts = np.zeros(len(SIX_CLASSES))
    for i in range(len(windows)):
        fine = np.bincount(windows.sample(i).label.ravel(), minlength=256)[: len(TO_SIX)]
        np.add.at(counts, TO_SIX, fine)
    return counts / counts.sum()


def _difference(entry: Entry, other: Entry | None, name: str = TEST) -> str:
    """Return the paired difference on a test over the seeds that both have."""
    if other is None or entry is other:
        return "-"
    common = set(entry["seeds"]) & set(other["seeds"])
    if not common:
        return "-"
    draws = _draws(entry, name, common) - _draws(other, name, common)
    low, high = interval(draws)
    value = _mean(entry, name, seeds=common) - _mean(other, name, seeds=common)
    return f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"


def _draws(entry: Entry, name: str, seeds: set[int] | None = None) -> npt.NDArray[np.float64]:
    return resampled([run["sets"][name]["blocks_6"] for run in _runs(entry, seeds)])


def _mean(entry: Entry, name: str, key: str = "miou_6", seeds: set[int] | None = None) -> float:
    return float(np.mean([run["sets"][name][key] for run in _runs(entry, seeds)]))


def _runs(entry: Entry, seeds: set[int] | None) -> list[Entry]:
    return [run for run in entry["runs"] if seeds is None or run["seed"] in seeds]
