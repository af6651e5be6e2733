"""`robot-wm bench peers`: other people's methods beside ours, on the same data, pairs, budget and machine."""
