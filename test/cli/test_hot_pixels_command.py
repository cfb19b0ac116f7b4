import json

import numpy as np
import pytest
from typer.testing import CliRunner

from evdistill_core.cli.main import build_app
from evdistill_core.events.filters import HotPixels
from evdistill_core.foundation.errors import OutputError, RecordingError


def run(*arguments):
    result = CliRunner().invoke(build_app(), ["hot-pixels", *map(str, arguments)])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_the_list_holds_the_pixels_that_fire_alone(tmp_path):
    rows = [(t, 3, 2, 1) for t in range(0, 1_000_000, 2000)]
    rows += [(t, (t // 1000) % 8, (t // 7000) % 6, 0) for t in range(500, 1_000_000, 20_000)]
    path = tmp_path / "a.txt"
    path.write_text("8 6\n" + "\n".join(" ".join(map(str, r)) for r in sorted(rows)))
    result = run(path, tmp_path / "hot.txt", "--seconds", "0.9")
    assert "1 hot pixels of 48" in result.stdout
    mask = HotPixels.load(tmp_path / "hot.txt").mask
    assert np.argwhere(mask).tolist() == [[2, 3]]
    assert "0 hot pixels" in run(path, tmp_path / "none.txt", "--min-hz", "1000").stdout
    facts = json.loads(run(path, "--out", tmp_path / "b.txt", "--start", "0.5", "--json").stdout)
    assert (facts["hot_pixels"], facts["pixels"]) == (1, 48)
    assert facts["span_us"] == pytest.approx(500_000, abs=3000)
    with pytest.raises(OutputError, match="--overwrite"):
        run(path, tmp_path / "b.txt")


def test_a_recording_without_time_is_refused(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("8 6\n5 1 1 1\n")
    with pytest.raises(RecordingError, match="span any time"):
        run(path, tmp_path / "hot.txt")
    assert not (tmp_path / "hot.txt").exists()
