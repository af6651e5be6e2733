"""`robot-wm calibrate identify`: the MuJoCo parameters of a body, from one log of it."""

from calibration.identification import IdentifyConfig, identify_body

__all__ = ["IdentifyConfig", "identify_body"]
