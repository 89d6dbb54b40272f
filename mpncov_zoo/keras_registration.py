"""Tells Keras of this package's classes as soon as both are imported, in whichever order.

`keras.models.load_model` only finds classes whose modules have been imported, and `import mpncov_zoo` imports neither
them nor Keras. So that a `.keras` file reloads all the same, the import of Keras is followed by theirs.
"""

import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

_REGISTERING = ("mpncov_zoo.classifier", "mpncov_zoo.representations")


def register_with_keras() -> None:
    """Import the modules that register classes: now where Keras is imported, else right after it."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register() -> None:
    for name in _REGISTERING:
        import_module(name)


class _AfterKeras(MetaPathFinder):
    """Finds Keras as Python would have, and adds to its loading. Who only looks for Keras changes nothing."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "keras":
            return None
        others = (finder.find_spec(fullname, path, target) for finder in sys.meta_path if finder is not self)
        spec = next(filter(None, others), None)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            sys.meta_path.remove(self)
            _register()

        spec.loader.exec_module = execute_and_register
        return spec
