"""Whether a calibration is to be trusted: validation, comparison with the one before, the gate."""
