"""serve: a twin in real time, for whoever controls it over a local socket."""

from dataclasses import dataclass
from pathlib import Path

from deploy.drivers.server import Server
from deploy.drivers.twin_process import HostedTwin, TwinSettings, serve_twin
from robot_wm import console
from robot_wm.contracts.embodiment import Embodiment
from robot_wm.contracts.errors import UserError


@dataclass(frozen=True)
class ServeConfig:
    """Configuration of `robot-wm serve`.

    Attributes:
        embodiment: the body.
        severity: of its hidden faults, 0 to 1.
        preset: which faults the severity turns up.
        port: where it listens; 0 takes a free one.
        host: an address of this computer, which nobody else can reach.
    """

    embodiment: Embodiment
    severity: float = 0.0
    preset: str = "all"
    port: int = 0
    host: str = "127.0.0.1"
    seed: int = 0


def serve(config: ServeConfig) -> Path | None:
    """Serve until Ctrl-C. A client that leaves or falls silent finds the twin at rest when it comes back.

    Raises:
        UserError: a port that is taken, a host that others could reach, or a body that does not load.
    """
    if not 0 <= config.port < 1 << 16:
        raise UserError(f"port is {config.port}", "Give 0 (a free one) to 65535")
    settings = TwinSettings(config.embodiment, config.severity, config.preset, config.seed, 0, config.host, config.port)

    def ready(server: Server, _: HostedTwin) -> None:
        address = f"{config.host}:{server.port}"
        console.say(f"serve: {config.embodiment.name} at {address}, until Ctrl-C")
        console.say(f"       robot-wm run bundle=RUN embodiment=... robot=remote address={address}")

    try:
        serve_twin(settings, lambda: False, ready)
    except KeyboardInterrupt:
        console.say("serve: ended")
    return None
