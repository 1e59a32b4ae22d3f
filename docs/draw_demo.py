"""Draw ``demo.png`` of the README from a demonstration: ``labctl demo && python docs/draw_demo.py RUN/report.html``."""

from __future__ import annotations

import base64
import io
import re
import sys
from pathlib import Path

from PIL import Image

SHOWN = ("Products of the Transformer", "The whole Transformer in light")
WIDTH = 1240
GAP = 16


def main(report: Path) -> None:
    """Put the two figures that say most one above the other."""
    page = report.read_text()
    pictures = [_picture(page, title) for title in SHOWN]
    drawn = Image.new("RGB", (WIDTH, sum(each.height for each in pictures) + GAP), "white")
    top = 0
    for each in pictures:
        drawn.paste(each, (0, top))
        top += each.height + GAP
    drawn.quantize(128).save(Path(__file__).with_name("demo.png"), optimize=True)


def _picture(page: str, title: str) -> Image.Image:
    found = re.search(f"alt='{re.escape(title)}' src='data:image/png;base64,([^']+)'", page)
    if found is None:
        raise SystemExit(f"{title!r} is not in the report")
    picture = Image.open(io.BytesIO(base64.b64decode(found[1]))).convert("RGB")
    return picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
