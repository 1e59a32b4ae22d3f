"""Sphinx: ``sphinx-build docs docs/_build`` after ``pip install -e ".[docs]"``."""

from __future__ import annotations

from importlib.metadata import version as installed_version

project = "labctl"
copyright = "2026, the labctl authors"
version = release = installed_version("labctl")

extensions = ["myst_parser"]
html_theme = "furo"
html_title = f"labctl {release}"
exclude_patterns = ["_build"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 3
nitpicky = True
