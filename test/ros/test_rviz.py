"""The RViz configurations, as far as they can be read without RViz."""

from pathlib import Path

import pytest
import yaml

from evdistill_core.perception.tasks import TASKS


@pytest.mark.parametrize(
    ("task", "names"),
    [("segmentation", {"overlay", "mask_color"}), ("recognition", {"overlay"})],
)
def test_the_rviz_configurations_show_our_topics(task, names):
    path = Path(__file__).resolve().parents[2] / "rviz" / f"{task}.rviz"
    content = yaml.safe_load(path.read_text())
    topics = {d["Topic"]["Value"] for d in content["Visualization Manager"]["Displays"]}
    assert topics == {f"/{task}/{name}" for name in names} | {"/event_camera/image_raw"}
    assert names <= set(TASKS[task].topics)
