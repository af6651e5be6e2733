"""Lightning Fabric for one process or several: started here, or by torchrun."""

import logging
import multiprocessing
import os
import re
import time
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments import LightningEnvironment
from lightning_fabric.strategies import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.multiprocessing.spawn import ProcessException, ProcessRaisedException

from robot_wm.contracts.errors import UserError

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # for the first process, which decodes the data while the others wait
_GRACE_S = 10.0
_LOST = re.compile("gloo|NCCL|TCPStore")
for _name in ("lightning_fabric", "lightning_utilities", "torch.multiprocessing.spawn"):  # who joined, and who is ended
    logging.getLogger(_name).setLevel(logging.ERROR)


def start(accelerator: str, precision: str, devices: int, batch: int) -> Fabric:
    """A Fabric of `devices` processes on this machine, or of those that torchrun has started.

    Raises:
        UserError: the batch does not divide, torchrun started another number, or there is no such accelerator.
    """
    external = torch.distributed.is_torchelastic_launched()
    here = int(os.environ["LOCAL_WORLD_SIZE"]) if external else devices
    nodes = int(os.environ["WORLD_SIZE"]) // here if external else 1
    rank = int(os.environ["RANK"]) if external else 0
    if here != devices:
        raise same(
            UserError(
                f"training.devices is {devices}, but torchrun started {here} processes on this machine",
                f"Give training.devices={here}, or torchrun --nproc-per-node {devices}",
            ),
            rank,
        )
    if batch % (here * nodes):
        near = batch - batch % (here * nodes) or here * nodes
        raise same(
            UserError(
                f"training.batch is {batch}, which {here * nodes} processes cannot share evenly",
                f"Give training.batch={near}, the batch of all processes together, or another training.devices",
            ),
            rank,
        )
    several = here * nodes > 1
    try:
        return Fabric(
            accelerator=accelerator,
            devices=here,
            num_nodes=nodes,
            precision=precision,  # type: ignore[arg-type]
            strategy=DDPStrategy(start_method="popen" if external else "spawn", timeout=_PATIENCE)
            if several
            else "auto",
            plugins=[LightningEnvironment()] if several and not external else None,  # whatever Slurm says of its job
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise UserError(
            f"training on accelerator {accelerator!r} with precision {precision!r} and {devices} device(s) does not"
            f" start ({error})",
            "Give training.accelerator=auto, training.precision=32-true and training.devices=1",
        ) from error


def launch(fabric: Fabric, function: Callable[..., T], *arguments: Any) -> T:
    """Call `function(fabric, *arguments)` in every process; returns what the first one returns.

    The first error of any process ends all and is raised here.
    """
    found: T
    if fabric.world_size == 1:
        found = fabric.launch(function, *arguments)
        return found
    # Bound, not as arguments: among those Lightning refuses frozen dataclasses.
    work = partial(_member, function=function, arguments=arguments)
    if torch.distributed.is_torchelastic_launched():
        found = fabric.launch(work)
        return found
    told = multiprocessing.get_context("spawn").SimpleQueue()
    before = set(multiprocessing.active_children())
    try:
        found = fabric.launch(partial(work, told=told))
        return found
    except ProcessException as error:
        if not told.empty():
            raise told.get() from error
        if isinstance(error, ProcessRaisedException):  # before its work began
            raise
        raise UserError(
            f"a process of the training was ended from outside ({str(error).strip()})",
            "Look for lack of memory, then run the same command again: it goes on from its last checkpoint",
        ) from error
    finally:  # an interruption reaches this process alone
        for child in set(multiprocessing.active_children()) - before:
            child.kill()
            child.join(_GRACE_S)


def same(error: UserError, rank: int) -> BaseException:
    """What to raise where every process comes to the same error: the first one tells it.

    The others wait to be ended by whoever started them, and say nothing.
    """
    if rank == 0:
        return error
    time.sleep(_GRACE_S)
    return SystemExit(2)


def _member(fabric: Fabric, function: Callable[..., T], arguments: tuple[Any, ...], told: Any = None) -> T:
    """The work of one process; the queue `told` takes its error to the process that started it."""
    try:
        found = function(fabric, *arguments)
        torch.distributed.destroy_process_group()
        return found
    except Exception as error:
        if _LOST.search(str(error)):  # another one is gone: who started them finds out why, and ends this one
            time.sleep(_GRACE_S)
        if told is not None:
            told.put(_portable(error))
        raise


def _portable(error: Exception) -> Exception:
    """The error as one that can cross to another process, which not every class can."""
    if isinstance(error, UserError):
        return error
    if isinstance(error, OSError):
        return OSError(error.errno, error.strerror, error.filename)
    return RuntimeError(f"{type(error).__name__}: {error}")
