"""A physical bench in software: display and SLM panels, relay optics, a camera with noise, on a virtual clock.

It shares no physics code with ``calibration``; its truth (`mock_hardware.truth`) is for tests and reports only.
"""

from mock_hardware.bench import MockBench
from mock_hardware.config import BenchConfig, parse

__all__ = ["BenchConfig", "MockBench", "parse"]
