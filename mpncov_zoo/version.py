"""The version of this package, and those of others."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import packages_distributions, version

__version__ = "0.1.0"


def versions_of(modules: Iterable[str]) -> dict[str, str]:
    """The versions of the packages that hold these modules here, by the packages' names; none for what is missing."""
    holding = _packages_by_module()
    names = {name for module in modules for name in holding.get(module, ())}
    return {name: version(name) for name in sorted(names)}


@cache
def _packages_by_module() -> Mapping[str, list[str]]:
    """Read once: it opens the list of files of every package, which takes half a second where there are many."""
    return packages_distributions()
