import subprocess
import sys

import pytest
import torch

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.models.registry import NETWORKS, build_network, build_student, network_task


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(
        ConfigError,
        match=r"unknown network .unet.; known: evdistill-2021, lite-cls, lite-seg, onboard-cls, on",
    ):
        build_network("unet", in_channels=5, num_classes=6)


def test_the_name_decides_the_task():
    assert [network_task(n) for n in ("onboard-seg", "onboard-cls")] == [
        "segmentation",
        "recognition",
    ]
    logits = build_student("onboard-cls", in_channels=2, num_classes=3).eval()
    assert logits(torch.zeros(1, 2, 34, 34)).shape == (1, 3)
    with pytest.raises(ConfigError, match="recognises"):
        build_network("onboard-cls", in_channels=2, num_classes=3)


@pytest.mark.parametrize(("channels", "classes"), [(0, 6), (5, 0), (5, 256), (100_000, 6)])
def test_sizes_out_of_range(channels, classes):
    with pytest.raises(ConfigError, match="must lie in 1"):
        build_network("onboard-seg", in_channels=channels, num_classes=classes)


def test_listing_networks_needs_no_torch():
    code = (
        "import sys; from evdistill_core.models.registry import NETWORKS; "
        "names = NETWORKS.names(); assert 'torch' not in sys.modules; print(*names)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.split() == NETWORKS.names()
