"""Python reads this first where PYTHONPATH names its folder: commands that tests start draw no figures either."""

import undrawing  # noqa: F401
