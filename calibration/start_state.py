"""Where a body was, and how fast it moved, at the row from which a log is simulated."""

import numpy as np

from calibration.signals import Array, Log, noise

_REST_S = 0.5


def start_state(log: Log, stretch: slice, row: int) -> tuple[Array, Array]:
    """Position and velocity at a row: the mean while the robot rests, else as measured, where velocities are, else a
    cubic through the samples around it."""
    sigma, least = noise(log)[: len(log.joints)], max(3, int(np.ceil(0.05 / log.period_s)))
    ahead = log.position_NJ[row : min(stretch.stop, row + int(_REST_S / log.period_s) + least)]
    moving = np.abs(ahead - np.median(ahead[:least], axis=0)) > 6 * sigma + 2e-4
    still = int(np.argmax(moving.any(axis=1))) if moving.any() else len(moving)
    if still >= least:
        return ahead[:still].mean(axis=0), np.zeros(len(log.joints))
    if log.velocity_NJ is not None:
        return log.position_NJ[row], log.velocity_NJ[row]
    around = slice(max(stretch.start, row - least), min(stretch.stop, row + least + 1))
    t = log.time_s[around] - log.time_s[row]
    fitted = np.polynomial.polynomial.polyfit(t, log.position_NJ[around], 3 if around.start < row else 2)
    return fitted[0], fitted[1]
