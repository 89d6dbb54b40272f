"""Where things are kept between runs."""

import os
from os import PathLike
from pathlib import Path

from platformdirs import user_cache_path

CACHE_VARIABLE = "MPNCOV_ZOO_CACHE"


def cache_root(cache_dir: str | PathLike[str] | None = None) -> Path:
    """The argument, else the directory in MPNCOV_ZOO_CACHE, else the platform's own place; it need not exist."""
    chosen = cache_dir or os.environ.get(CACHE_VARIABLE)
    return Path(chosen).expanduser().absolute() if chosen else user_cache_path("mpncov_zoo")
