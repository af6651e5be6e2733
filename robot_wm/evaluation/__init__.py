"""How well a model or a controller does, with intervals: statistics and the results that evaluation writes."""
