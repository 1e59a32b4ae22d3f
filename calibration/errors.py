"""Errors of data, fits and artefacts: each class owns its code, exit code and whether trying again may help."""

from __future__ import annotations

from groundwork.errors import CodedError


class CalibrationError(CodedError):
    """Data that cannot be used, a fit that cannot be trusted, a file that is not what it says."""

    code = "E-CAL-001"
    exit_code = 20


class BadScan(CalibrationError):
    """The scan itself makes no sense (no light, no fiducials): it is never fitted."""

    code = "E-CAL-002"


class Saturated(CalibrationError):
    """Pixels at full scale where counts are to be trusted."""

    code = "E-CAL-003"


class FitError(CalibrationError):
    """The fit did not converge or is not determined by the data."""

    code = "E-CAL-004"


class OutOfDomain(CalibrationError):
    """Operands or shapes outside what was calibrated."""

    code = "E-CAL-005"
    exit_code = 2


class ArtefactError(CalibrationError):
    """A calibration file, workload or checkpoint that is truncated, altered, or of another schema."""

    code = "E-CAL-006"
    exit_code = 2


class BadOperands(CalibrationError):
    """Operands that are not finite numbers of the stated shape."""

    code = "E-CAL-007"
    exit_code = 2


class BadObservations(CalibrationError):
    """Inputs, weights and readings that are no finite arrays of shapes that belong together."""

    code = "E-CAL-008"
    exit_code = 2


class NoResponse(FitError):
    """The readings do not follow the inputs: no light, shuffled rows, a saturated capture."""

    code = "E-CAL-009"
