"""The progress bar."""

import sys

from tqdm import tqdm


def progress_bar(total: int | None, unit: str, *, label: str | None = None, show: bool = True) -> tqdm:
    """A bar on standard error: live on a terminal, in a log file a line every 10 s.

    Unit "B" is of downloads: shown as MB and GB, and not at all where they take no time.
    """
    seconds = 0.1 if sys.stderr.isatty() else 10
    download = unit == "B"
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=download,
        delay=0.5 if download else 0,
        desc=label,
        file=sys.stderr,
        mininterval=seconds,
        disable=not show,
    )
