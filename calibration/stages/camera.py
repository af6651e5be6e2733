"""`robot-wm calibrate camera`: a camera's lens and place, from a log in which the hand moves the board before it."""

from calibration.camera_placement import CameraConfig, calibrate_camera

__all__ = ["CameraConfig", "calibrate_camera"]
