"""The station file: its tables and defaults, where each value comes from, and how it is written."""

from typing import TYPE_CHECKING

from groundwork.lazy import lazy_front

if TYPE_CHECKING:
    from labctl.station.loading import LoadedStation, find_station, load_station
    from labctl.station.model import Station
else:
    __getattr__, __dir__ = lazy_front(
        __name__,
        {
            "LoadedStation": "labctl.station.loading",
            "Station": "labctl.station.model",
            "find_station": "labctl.station.loading",
            "load_station": "labctl.station.loading",
        },
    )

__all__ = [
    "LoadedStation",
    "Station",
    "find_station",
    "load_station",
]
