"""From a calibrated model to a robot under control: export, runtime, drivers, evaluation, and the command line."""
