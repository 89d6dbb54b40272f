"""Finds out whether `import conversion` gives this project's package, or something of the user's with that name."""

from importlib.util import find_spec
from pathlib import Path

from mpncov_zoo.errors import ConversionError

OURS = Path(__file__).resolve().parents[1] / "conversion"  # both packages are always installed side by side


def require_conversion() -> None:
    """Refuse to go on where `import conversion` would give another module; nothing of it is run.

    Raises:
        ConversionError: a file or folder of that name comes first on Python's path, or there is no such package.

    Example:
        >>> require_conversion()
        >>> import conversion
    """
    spec = find_spec("conversion")
    if spec is None:
        raise ConversionError(f"{OURS} is missing, which converts checkpoints: install mpncov-zoo again.")
    places = [spec.origin] if spec.has_location and spec.origin else list(spec.submodule_search_locations or ())
    if not any(Path(place).resolve() == OURS / "__init__.py" for place in places):
        raise ConversionError(
            f"{', '.join(places)} hides the package 'conversion' of mpncov-zoo, which converts checkpoints: rename it, "
            "or start Python in another folder."
        )
