"""Lightning Fabric for one process or several: started here, or by torchrun."""

import logging
import multiprocessing
import os
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
from torch.multiprocessing.spawn import ProcessException, ProcessExitedException

from robot_wm.contracts.errors import UserError

T = TypeVar("T")
_PATIENCE = timedelta(days=1)  # for the first process, which decodes the data while the others wait
_GRACE_S = 10.0
logging.getLogger("lightning_fabric.utilities.distributed").setLevel(logging.WARNING)  # who joined whom


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
    if fabric.world_size == 1 or torch.distributed.is_torchelastic_launched():
        found = fabric.launch(function, *arguments)
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return found
    told = multiprocessing.get_context("spawn").SimpleQueue()
    before = set(multiprocessing.active_children())
    try:
        # Bound, not as arguments: among those Lightning refuses frozen dataclasses.
        found = fabric.launch(partial(_member, told=told, function=function, arguments=arguments))
        return found
    except ProcessException as error:
        if not told.empty():
            raise told.get() from error
        if isinstance(error, ProcessExitedException):
            raise UserError(
                f"a process of the training was ended from outside ({error})",
                "Look for lack of memory, then run the same command again: it goes on from its last checkpoint",
            ) from error
        raise
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


def _member(fabric: Fabric, told: Any, function: Callable[..., T], arguments: tuple[Any, ...]) -> T:
    try:
        found = function(fabric, *arguments)
        torch.distributed.destroy_process_group()
        return found
    except UserError as error:
        told.put(error)
        raise
    except OSError as error:
        told.put(OSError(error.errno, error.strerror, error.filename))
        raise
    except Exception as error:
        told.put(RuntimeError(f"{type(error).__name__}: {error}"))  # of whatever class: those do not all travel
        raise
