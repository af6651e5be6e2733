"""What stands inside what, where a body is at home: a joint between two such parts is stuck."""

from sims.simulation import Simulation

_DEEP_M = 3.5e-3  # soft fingers and feet sink in by less


def inside_each_other(simulation: Simulation) -> list[tuple[str, str, float]]:
    """Pairs of parts that pass through each other in the present pose, and how deep [m]; the deepest of each pair.

    MuJoCo leaves out a part and the one that carries it, unless that one is fixed to the world: there a turntable that
    reaches into its pedestal does not turn.
    """
    model, deepest = simulation.model, dict[tuple[str, str], float]()
    for contact in simulation.data.contact:
        if contact.dist < -_DEEP_M:
            one, other = sorted(model.body(model.geom_bodyid[g]).name or "a body without name" for g in contact.geom)
            deepest[one, other] = max(deepest.get((one, other), 0.0), -float(contact.dist))
    return [(one, other, depth_m) for (one, other), depth_m in deepest.items()]
