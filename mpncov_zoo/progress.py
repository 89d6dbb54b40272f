"""The progress bar."""

import sys

from tqdm import tqdm


def progress_bar(total: int, unit: str, *, label: str | None = None, show: bool = True) -> tqdm:
    """A bar on standard error: live on a terminal, in a log file a line every 10 s. Unit "B" is shown as MB and GB."""
    seconds = 0.1 if sys.stderr.isatty() else 10
    return tqdm(
        total=total,
        unit=unit,
        unit_scale=unit == "B",
        desc=label,
        file=sys.stderr,
        mininterval=seconds,
        disable=not show,
    )
