"""Modulators that need no vendor's library."""

from drivers.modulators.region import REGION, Region, RegionOptions, SequenceRegion

__all__ = ["REGION", "Region", "RegionOptions", "SequenceRegion"]
