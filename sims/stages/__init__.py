"""Stages that need MuJoCo: record."""
