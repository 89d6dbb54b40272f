"""When Keras is imported, in whichever order and however often it is looked for; with a stand-in for Keras."""

import subprocess
import sys
from pathlib import Path

import pytest

PRELUDE = """
import sys, importlib.util
sys.path[:0] = [{scratch!r}]
import mpncov_zoo
from mpncov_zoo import keras_registration
keras_registration._REGISTERING = ("recorder",)
hooks = lambda: sum(isinstance(finder, keras_registration._AfterKeras) for finder in sys.meta_path)
"""
LATER = """
assert hooks() == 1 and "keras" not in sys.modules
assert importlib.util.find_spec("keras").origin == importlib.util.find_spec("keras").origin  # TensorFlow looks, too
assert "recorder" not in sys.modules
import keras
assert keras.ready and "recorder" in sys.modules and hooks() == 0
"""
EARLIER = """
import keras
del sys.modules["recorder"]
keras_registration.register_with_keras()
assert "recorder" in sys.modules and hooks() == 0
"""
BROKEN_AT_FIRST = """
sys.broken = True
try:
    import keras
except RuntimeError:
    sys.broken = False
assert "recorder" not in sys.modules
import keras
assert "recorder" in sys.modules and hooks() == 0
"""
ABSENT = """
sys.path.remove({scratch!r})
sys.meta_path[:] = [finder for finder in sys.meta_path if isinstance(finder, keras_registration._AfterKeras)]
try:
    import keras
except ModuleNotFoundError as error:
    assert error.name == "keras"
else:
    raise AssertionError("found nowhere")
"""


STRANGE_FINDERS = """
class Old:
    def find_module(self, name, path=None): return None
class Failing:
    def find_spec(self, name, path=None, target=None):
        if failing: raise RuntimeError("of another's finder")
failing = True
sys.meta_path.insert(0, Old())
sys.meta_path.append(Old())
import json.tool, pkgutil
assert pkgutil.get_data("keras", "recorder.py").startswith(b"import keras")  # which imports Keras on its way
import keras
assert keras.ready and "recorder" in sys.modules and hooks() == 0
assert type(keras.__loader__) is type(keras.__spec__.loader) is type(json.tool.__loader__)
del sys.modules["keras"], sys.modules["recorder"]
keras_registration.register_with_keras()
sys.meta_path.insert(0, Failing())
try:
    import keras
except RuntimeError as error:
    assert "of another's finder" in str(error)
failing = False
import keras
assert "recorder" in sys.modules and hooks() == 0
"""
UNREGISTRABLE = """
keras_registration._REGISTERING = ("nothing_of_that_name",)
import keras
assert keras.ready and hooks() == 0
"""


@pytest.mark.parametrize(
    "script",
    [LATER, EARLIER, BROKEN_AT_FIRST, ABSENT, STRANGE_FINDERS, UNREGISTRABLE],
    ids=["later", "earlier", "again", "no", "strange", "unregistrable"],
)
def test_classes_are_registered_right_after_keras_is_imported(script: str, tmp_path: Path) -> None:
    (tmp_path / "keras.py").write_text("import sys\nif getattr(sys, 'broken', 0): raise RuntimeError\nready = True\n")
    (tmp_path / "recorder.py").write_text("import keras\nassert keras.ready\n")
    code = (PRELUDE + script).replace("{scratch!r}", repr(str(tmp_path)))
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("first", ["mpncov_zoo.representations.bcnn", "mpncov_zoo.assembly", "mpncov_zoo.zoo"])
def test_any_module_may_be_the_first_to_import_keras(first: str) -> None:
    """The classes, which are imported because Keras is, need that module itself or its package."""
    registered = "keras.saving.get_registered_object('mpncov_zoo>ImageClassifier')"
    code = f"import {first}, keras; assert {registered} is not None"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0 and "not registered" not in result.stderr, result.stderr
