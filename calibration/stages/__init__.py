"""Stages of calibration: calibrate."""
