"""Takes report-*.webp: the report of each command, in Chromium.

Run: python docs/images/make_reports.py [FOLDER]

Makes the reports from what a clone has: drawn images and the demo recording. That takes ten
minutes on one core. FOLDER keeps them (default: out/reports); those that are there are not made
again; it counts from the top of the repository, so that no picture shows a path of a machine.
Needs `pip install -e ".[train,test]"` and Chromium.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np

ROOT = Path(__file__).parents[2]
DEMO = "demo/davis346_street.mcap"
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
WIDTH_PX, HEIGHT_PX = 1000, 1250
QUALITY = 82


def commands(folder: Path) -> dict[str, list[list[str]]]:
    """Return what makes each report, by the name of its picture, in the order to run it."""
    drawn, street, nano = (str(folder / name) for name in ("drawn", "street", "nano"))
    tiny = "config/train/{}-tiny.yaml"
    steps = ["--teacher-steps", "60", "--steps", "60"]
    return {
        "run": [["run", DEMO, "--out", street]],
        "report": [
            ["run", DEMO, "--student", "street6-nano", "--out", nano, "--no-pictures"],
            ["report", f"{nano}/masks.mcap", "--labels", f"{street}/masks.mcap",
             "--out", str(folder / "report.html")],
        ],
        "distill-on": [
            ["distill-on", DEMO, "--images", drawn, "--profile", tiny.format("distill"),
             "--teacher-profile", tiny.format("teacher"), *steps,
             "--out", str(folder / "my-camera")],
        ],
        "train": [],  # a stage of the former
        "evaluate": [
            ["simulate", drawn, str(folder / "simulated"), "--count", "24"],
            ["evaluate", str(folder / "my-camera" / "student.evstudent"),
             str(folder / "simulated"), "--out", str(folder / "evaluation")],
        ],
    }  # fmt: skip


def pages(folder: Path) -> dict[str, Path]:
    """Return the report of each command."""
    return {
        "run": folder / "street" / "report.html",
        "report": folder / "report.html",
        "distill-on": folder / "my-camera" / "report.html",
        "train": folder / "my-camera" / "student" / "report.html",
        "evaluate": folder / "evaluation" / "report.html",
    }


def make(folder: Path) -> None:
    """Run the commands whose reports are missing."""
    if not (ROOT / folder / "drawn").exists():
        _call("examples/draw_images.py", str(folder / "drawn"), "40")
    for name, lines in commands(folder).items():
        if not (ROOT / pages(folder)[name]).exists():
            for line in lines:
                _call("-m", "evdistill_core", *line)


def _call(*arguments: str) -> None:
    subprocess.run([sys.executable, *arguments], cwd=ROOT, check=True)


def shoot(page: Path, *, dark: bool = False, height_px: int = HEIGHT_PX) -> np.ndarray:
    """Return the upper part of a page as it looks in a browser, (height_px, WIDTH_PX, 3) BGR."""
    from playwright.sync_api import sync_playwright  # noqa: PLC0415 - a tool of tests

    browser = next(filter(None, map(shutil.which, BROWSERS)))
    with sync_playwright() as running:
        chromium = running.chromium.launch(
            executable_path=browser, args=["--no-sandbox", "--disable-gpu"]
        )
        opened = chromium.new_page(
            viewport={"width": WIDTH_PX, "height": height_px},
            color_scheme="dark" if dark else "light",
            offline=True,
        )
        opened.goto(page.resolve().as_uri())
        data = opened.screenshot()
        chromium.close()
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(image, np.uint8)


def main() -> None:
    """Make the reports and take their pictures."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("out/reports")
    make(folder)
    for name, page in pages(folder).items():
        image = shoot(ROOT / page, dark=name == "report")  # one of them in the dark
        _, data = cv2.imencode(".webp", image, [cv2.IMWRITE_WEBP_QUALITY, QUALITY])
        target = Path(__file__).parent / f"report-{name}.webp"
        target.write_bytes(data.tobytes())
        print(f"{target.name}: {len(data) / 1000:.0f} kB")  # noqa: T201 - a tool for people


if __name__ == "__main__":
    main()
