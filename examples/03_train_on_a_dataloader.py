"""Feed windows of your recordings to any torch model: here a small autoencoder.

python examples/03_train_on_a_dataloader.py [RECORDING OR FOLDER]
"""

import sys

import torch
from torch.utils.data import DataLoader

import evdistill_core as evdistill

path = sys.argv[1] if len(sys.argv) > 1 else "demo/davis346_street.mcap"
dataset = evdistill.WindowDataset(path, evdistill.InputSpec(bins=5), jitter=True, seed=0)
loader = DataLoader(dataset, batch_size=4, shuffle=True, num_workers=0)
model = torch.nn.Sequential(
    torch.nn.Conv2d(5, 8, 3, stride=2, padding=1),
    torch.nn.ReLU(),
    torch.nn.ConvTranspose2d(8, 5, 4, stride=2, padding=1),
)
optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
for epoch in range(2):
    dataset.set_epoch(epoch)  # draws the jitter again
    for grids in loader:  # (4, 5, H, W) float32
        loss = torch.nn.functional.mse_loss(model(grids), grids)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    print(f"epoch {epoch}: {len(dataset)} windows, loss {loss.item():.5f}")
