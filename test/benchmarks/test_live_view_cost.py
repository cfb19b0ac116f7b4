"""The benchmark of the live view runs and tells the conditions apart."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("aiohttp", reason="needs aiohttp: pip install .[view]")

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "live_view.py"


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_each_condition_is_measured(tiny_student, tmp_path):
    path = tmp_path / "cost.json"
    command = [sys.executable, str(BENCHMARK), "--seconds", "2", "--rounds", "1"]
    subprocess.run(
        [*command, "--student", str(tiny_student), "--json", str(path)], check=True, timeout=350
    )
    rows = {row["condition"]: row for row in json.loads(path.read_text())["rounds"]}
    assert list(rows) == ["no page", "nobody looks", "a viewer", "a stalled viewer"]
    assert all(row["windows"] > 0 for row in rows.values())
    assert rows["no page"]["view_cpu_percent"] == 0
    assert rows["a viewer"]["view_cpu_percent"] > 0
    assert rows["a viewer"]["pictures_per_s"] > 1
    assert rows["a stalled viewer"]["pictures_per_s"] < rows["a viewer"]["pictures_per_s"]
    assert rows["a stalled viewer"]["pictures_dropped"] > 0
