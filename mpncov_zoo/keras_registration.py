"""Tells Keras of this package's classes as soon as both are imported, in whichever order.

`keras.models.load_model` only finds classes whose modules have been imported, and `import mpncov_zoo` imports neither
them nor Keras. So that a `.keras` file reloads all the same, the import of Keras is followed by theirs; where a module
of this package imports Keras, they follow when that module is complete, since they may need it. Python itself finds and
loads all of these; if anything goes wrong here, they are imported as if this module did not exist.
"""

import logging
import sys
from collections.abc import Sequence
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import ModuleType
from typing import Any

logger = logging.getLogger(__name__)

_REGISTERING = ("mpncov_zoo.classifier", "mpncov_zoo.representations")


def register_with_keras() -> None:
    """Import the modules that register classes: now where Keras is imported, else right after it."""
    if "keras" in sys.modules:
        _register()
    else:
        sys.meta_path.insert(0, _AfterKeras())


def _register() -> None:
    try:
        for name in _REGISTERING:
            import_module(name)
    except Exception as error:  # whatever it is, it is met again where a class is used, and must not stop this import
        logger.warning("mpncov_zoo's classes are not registered with Keras: %s", error)


class _AfterKeras(MetaPathFinder):
    """Lets Python find Keras and our modules among its other finders, and has our classes registered after them.

    Attributes:
        executing: how many of our modules are being executed, each imported by the one before.
    """

    def __init__(self) -> None:
        self.looking, self.executing = False, 0

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if self.looking or not (fullname == "keras" or _is_ours(fullname)):
            return None
        self.looking = True
        try:
            spec = find_spec(fullname)  # which passes over finders of the old kind, as some stand in Colab
        except Exception:
            return None  # Python asks the other finders next, and reports what they say
        finally:
            self.looking = False
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _ThenRegister(spec.loader, self)
        return spec

    def executed(self) -> None:
        """Register, if Keras is there and no module of ours is half executed."""
        if "keras" in sys.modules and not self.executing and self in sys.meta_path:
            sys.meta_path.remove(self)
            _register()


def _is_ours(fullname: str) -> bool:
    return fullname.partition(".")[0] == "mpncov_zoo"


class _ThenRegister(Loader):
    """Another loader, which is put back before it executes the module; the finder is told afterwards."""

    def __init__(self, loader: Any, finder: _AfterKeras) -> None:
        self.loader, self.finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        """Forward what else is asked of a loader, such as `get_data`, to the real one."""
        if name == "loader":  # which a copy has not yet
            raise AttributeError(name)
        return getattr(self.loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self.loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        module.__loader__ = self.loader
        if module.__spec__ is not None:
            module.__spec__.loader = self.loader
        ours = _is_ours(module.__name__)
        self.finder.executing += ours
        try:
            self.loader.exec_module(module)
        finally:
            self.finder.executing -= ours
        self.finder.executed()
