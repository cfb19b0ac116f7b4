"""EMA self-training: simulated labels, and what the averaged student says of unlabelled windows."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor
from torch.func import functional_call

from evdistill_core.data.samples import Batch, SampleSource
from evdistill_core.losses.consistency import as_judge
from evdistill_core.training.loop import Trainer

THRESHOLD = 0.9
DROPPED = 0.2


class SelfTrainer(Trainer):
    """The student stage with a second term.

    Source:
        Mean teacher (Tarvainen and Valpola, 2017) with labels and the weight of their share of
        certain pixels as in DAFormer (Hoyer et al., 2022); the student sees windows with cells
        dropped and strength changed. The term grows linearly over the first half of the run.
    """

    target: SampleSource

    def _loss(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        total, terms = super()._loss(batch)
        numbers = range(batch.first_index, batch.first_index + len(batch.input))
        # The labels of these samples are not read.
        windows = np.stack([self.target.sample(i).input for i in numbers])
        x_BCHW = torch.from_numpy(windows).to(self.device)
        label_BHW, sure = self._labels(x_BCHW)
        with self._mixed():
            logits = self.state.network(_changed(x_BCHW)).float()
        loss = torch.nn.functional.cross_entropy(logits, label_BHW) * sure
        ramp = min(1.0, 2 * self.state.step / self.config.steps)
        return total + ramp * loss, {**terms, "self": loss}

    @torch.no_grad()
    def _labels(self, x_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        network = self.state.network
        with as_judge(network), self._mixed():
            logits = functional_call(network, self.state.average.weights(), (x_BCHW,))
        certainty, label = logits.float().softmax(1).max(1)
        return label, (certainty > THRESHOLD).float().mean()


def _changed(x_BCHW: Tensor) -> Tensor:
    keep = torch.rand(len(x_BCHW), 1, *x_BCHW.shape[2:]) >= DROPPED
    strength = 0.7 + 0.6 * torch.rand(len(x_BCHW), 1, 1, 1)
    return x_BCHW * (keep * strength).to(x_BCHW.device)
