"""The processes of a run: one, several on a machine, or several machines; lightning-fabric below.

Fabric starts processes, finds those that torchrun or a cluster started, puts each on its device,
joins them (gloo on CPUs, NCCL on GPUs) and knows the context of mixed precision. Batches, losses
and gradients are ours: ``models.joined`` and docs/adr/0014.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from datetime import timedelta
from typing import Literal

import psutil
import torch
import torch.distributed as dist
from lightning_fabric import Fabric
from lightning_fabric.plugins.precision import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.strategies.single_device import SingleDeviceStrategy
from lightning_fabric.strategies.strategy import Strategy
from torch import Tensor, nn

from evdistill_core.foundation.errors import ConfigError
from evdistill_core.foundation.signals import SIGNALS
from evdistill_core.training.config import TrainConfig

_log = logging.getLogger(__name__)

# While the first process validates, the others wait in the next step. A machine that is lost shows
# as a broken connection long before.
_PATIENCE = timedelta(hours=6)
_SAY_AFTER_S = 3.0
_MIXED: Mapping[str, Literal["bf16-mixed", "16-mixed"]] = {
    "bfloat16": "bf16-mixed",
    "float16": "16-mixed",
}


# Set by what starts the processes of a cluster; Fabric then knows where the first one is.
_OF_CLUSTERS = ("SLURM_JOB_ID", "LSB_JOBID", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE")


class Processes:
    """Who this process is, and what all of them do together.

    Every method but the properties must be called by all processes in the same order.

    Args:
        fabric: launched.
        precision: of the configuration.

    Attributes:
        device: of this process.
        rank: number of this process.
        count: of all processes.
        scaler: keeps gradients within the range of float16; does nothing in other precisions.
    """

    def __init__(self, fabric: Fabric, precision: str) -> None:
        self._fabric = fabric
        self.device = fabric.device
        self.rank, self.count = fabric.global_rank, fabric.world_size
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=precision == "float16")

    @property
    def is_first(self) -> bool:
        """Whether this one writes files and talks."""
        return self.rank == 0

    @property
    def part(self) -> tuple[int, int]:
        """Which part of every batch is this process's, of how many."""
        return self.rank, self.count

    def mixed(self) -> AbstractContextManager[object]:
        """Return the context that networks run in."""
        return self._fabric.autocast()

    def wait(self) -> None:
        """Go on when all are here."""
        self._fabric.barrier()

    def agree(self, flag: bool) -> bool:
        """Return whether the flag is set anywhere."""
        if self.count == 1:
            return flag
        raised = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(raised, dist.ReduceOp.MAX)
        return bool(raised)

    def share(self, *modules: nn.Module | None) -> None:
        """Give all processes the weights and buffers of the first."""
        if self.count == 1:
            return
        for module in modules:
            for tensor in module.state_dict().values() if module is not None else ():
                dist.broadcast(tensor, 0)

    def sum_gradients(self, parameters: Iterable[nn.Parameter]) -> None:
        """Give every parameter the sum of its gradients over the processes, in one message.

        A parameter that no process has a gradient of keeps none.
        """
        if self.count == 1:
            return
        moved = list(parameters)
        present = torch.tensor([float(p.grad is not None) for p in moved], device=self.device)
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in moved]
        flat = torch.cat([present, *(gradient.reshape(-1) for gradient in own)])
        dist.all_reduce(flat)
        known, *sums = torch.split(flat, [len(moved), *(p.numel() for p in moved)])
        for parameter, gradient, has, total in zip(moved, own, known.tolist(), sums, strict=True):
            parameter.grad = gradient.copy_(total.view(gradient.shape)) if has else None

    def gathered(self, content: object) -> object:
        """Return nested plain data whose tensors are those of all processes, joined by axis 0.

        A tensor that one of them lacks (None) becomes None, as in a batch of one process.
        """
        if isinstance(content, Mapping):
            return {key: self.gathered(value) for key, value in content.items()}
        if self.agree(not isinstance(content, Tensor)):
            return None if isinstance(content, Tensor) else content
        assert isinstance(content, Tensor)
        if self.count == 1:
            return content
        own = content.to(self.device).contiguous()
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        return torch.cat(parts).cpu()


def start_processes(config: TrainConfig) -> Processes:
    """Start the processes of a run, or join those that torchrun or a cluster started.

    The command that is running is started again for each further process of this machine; each
    comes here and goes on from here. Under torchrun its numbers count, not the configuration's.

    Raises:
        ConfigError: the device is not there, or not so often; the batch cannot be shared out.
    """
    device = pick_device(config.device)
    devices, nodes = _wanted(config)
    count = devices * nodes
    _check(config, device, devices, nodes)
    logging.getLogger("lightning_fabric").setLevel(logging.WARNING)
    strategy: Strategy = SingleDeviceStrategy(device=device)
    if count > 1:
        backend = "nccl" if device.type == "cuda" else "gloo"
        strategy = DDPStrategy(process_group_backend=backend, timeout=_PATIENCE)
    own = [device.index] if device.type == "cuda" and count == 1 else devices
    wanted = resolve_precision(config.precision, device)
    precision: Precision = Precision()
    if wanted in _MIXED:
        # On the CPU Fabric would refuse float16; the scaler is ours, for there is one of several
        # optimisers.
        precision = MixedPrecision(
            _MIXED[wanted],
            device.type,
            torch.amp.GradScaler(device.type, enabled=False) if wanted == "float16" else None,
        )
    fabric = Fabric(
        accelerator=device.type,
        strategy=strategy,
        devices=own,
        num_nodes=nodes,
        plugins=[precision],
    )
    with _waiting_for_machines(nodes):
        fabric.launch()
    return Processes(fabric, wanted)


@contextlib.contextmanager
def _waiting_for_machines(nodes: int) -> Iterator[None]:
    """While torch waits for other machines: say so after a while, and end on a signal.

    It waits in C++, for up to ``_PATIENCE``, and no handler of Python runs there. The number of a
    signal comes through a socket to a thread, which ends this process and those that it started.
    """
    if nodes == 1 or threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    place = f"{os.environ.get('MASTER_ADDR')}:{os.environ.get('MASTER_PORT', 'its default port')}"
    thread = threading.Thread(target=_end_on_a_signal, args=(reader, place, nodes), daemon=True)
    thread.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        writer.close()
        thread.join()
        reader.close()


def _end_on_a_signal(reader: socket.socket, place: str, nodes: int) -> None:
    if not select.select([reader], [], [], _SAY_AFTER_S)[0]:
        _log.warning("waiting for %d machines at %s", nodes, place)
    while numbers := reader.recv(64):
        ends = [number for number in numbers if number in SIGNALS]
        if ends:
            sys.stderr.write("evdistill: interrupted while waiting\n")
            sys.stderr.flush()
            for child in psutil.Process().children(recursive=True):
                with contextlib.suppress(psutil.Error):
                    child.terminate()
            os._exit(128 + ends[0])


def resolve_precision(name: str, device: torch.device) -> str:
    """Return the precision that a name means on a device.

    ``auto`` is bfloat16 on a GPU that has it, float32 elsewhere: on the one CPU that was tried,
    which has units for bfloat16, ``lite-seg`` was slower in it (docs/how-to/large-trainings.md).
    """
    if name != "auto":
        return name
    has_units = device.type == "cuda" and torch.cuda.is_bf16_supported()
    return "bfloat16" if has_units else "float32"


def pick_device(name: str) -> torch.device:
    """Return the device of a name; ``auto`` is CUDA where there is one.

    Raises:
        ConfigError: torch does not know the name, or has no such device here.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used here: {error}") from error
    if device.type == "cuda" and ":" not in name:
        return torch.device("cuda", torch.cuda.current_device())
    return device


def _wanted(config: TrainConfig) -> tuple[int, int]:
    """Return processes of this machine, and machines."""
    if "TORCHELASTIC_RUN_ID" in os.environ:
        own = int(os.environ["LOCAL_WORLD_SIZE"])
        return own, int(os.environ["WORLD_SIZE"]) // own
    return config.devices, config.nodes


def _check(config: TrainConfig, device: torch.device, devices: int, nodes: int) -> None:
    if device.type not in ("cpu", "cuda", "mps"):
        raise ConfigError(f"device must be auto, cpu, cuda or mps, got {config.device!r}")
    if config.batch_size % (devices * nodes):
        raise ConfigError(
            f"batch_size is that of all processes together and must be a multiple of their number "
            f"{devices * nodes}, got {config.batch_size}"
        )
    if devices * nodes == 1:
        return
    started = any(name in os.environ for name in ("TORCHELASTIC_RUN_ID", *_OF_CLUSTERS))
    if nodes > 1 and not started and "MASTER_ADDR" not in os.environ:
        raise ConfigError(
            f"nodes {nodes} needs MASTER_ADDR, MASTER_PORT and NODE_RANK in the environment of "
            "each machine, MASTER_ADDR is missing; set them, or start with torchrun "
            "(docs/how-to/large-trainings.md)"
        )
    if device.type == "mps" or ":" in config.device:
        raise ConfigError(
            f"device must be auto, cpu or cuda for {devices * nodes} processes, "
            f"got {config.device!r}"
        )
    if device.type == "cuda" and torch.cuda.device_count() < devices:
        raise ConfigError(
            f"devices must be at most {torch.cuda.device_count()}, the GPUs of this machine, "
            f"got {devices}"
        )
