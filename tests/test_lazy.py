"""The packages whose public names are imported when they are first used."""

from importlib import import_module

import pytest


@pytest.mark.parametrize("name", ["conversion", "mpncov_zoo", "mpncov_zoo.features", "mpncov_zoo.training"])
def test_every_public_name_resolves_to_its_home(name: str) -> None:
    package = import_module(name)
    assert package.__all__ == sorted(set(package.__all__))
    assert set(package.__all__) <= set(dir(package)) and dir(package) == sorted(dir(package))
    for public in package.__all__:
        value = getattr(package, public)
        assert value.__name__ == public
        assert value is getattr(import_module(value.__module__), public)
    with pytest.raises(AttributeError, match=f"module '{name}' has no attribute 'lod'"):
        _ = package.lod
