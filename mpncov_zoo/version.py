"""The version of this package, and those of others."""

from collections.abc import Iterable
from functools import cache
from importlib.metadata import packages_distributions, version

__version__ = "0.1.0"


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that hold these modules here, by the packages' names; none for what is missing."""
    holding = _holding()
    names = {name for module in modules for name in holding.get(module, ())}
    return {name: version(name) for name in sorted(names)}


_holding = cache(packages_distributions)  # it reads the list of files of every package, for half a second
