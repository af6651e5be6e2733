"""Robots behind the live protocol (`robot_wm.contracts.robot`): one module per bus, simulator or file."""
