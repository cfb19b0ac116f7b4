"""Train one experiment after the other: `python train_each.py DEVICES EXPERIMENT.yaml OUT ...`.

Run as a script, so that Fabric can start it again for each further process.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch.distributed as dist

from evdistill_core.training.stages import load_experiment, make_trainer


def main() -> None:
    devices, *pairs = sys.argv[1:]
    for path, out in zip(pairs[::2], pairs[1::2], strict=True):
        config = replace(load_experiment(Path(path)), devices=int(devices))
        trainer = make_trainer(config, Path(out))
        assert trainer.processes.count == int(devices)
        assert not dist.is_initialized() or dist.get_world_size() == int(devices)
        assert trainer.run()


if __name__ == "__main__":
    main()
