"""The colours of all figures: told apart by colour-blind readers, too."""

from __future__ import annotations

MEASURED, MODEL, ACCENT, QUIET = "#1f6fb2", "#c2410c", "#15803d", "#6b7280"
