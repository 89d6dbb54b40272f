"""docs/serving.md: its commands write the exports, and each snippet reads one and names the class."""

import re
import shlex
from pathlib import Path

import pytest
import tensorflow as tf

from tests.command_line import Capture, run

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
SNIPPETS = re.findall(r"```python\n(.*?)```", DOCUMENT, flags=re.DOTALL)
COMMANDS = re.findall(r"^mpncov-zoo (export .*)$", DOCUMENT, flags=re.MULTILINE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("serving")
    (directory / "examples").symlink_to(ROOT / "examples")
    return directory


def test_commands_and_snippets(folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.chdir(folder)
    assert len(COMMANDS) == 4 and len(SNIPPETS) == 6
    for command in COMMANDS:
        assert run(capsys, *shlex.split(command))[0] == 0
    names: dict[str, object] = {}
    for snippet in SNIPPETS:
        exec(snippet, names)
    assert capsys.readouterr().out.splitlines()[-4:] == ["Ankle boot"] * 4
    assert all(len([line for line in snippet.splitlines() if line]) < 10 for snippet in SNIPPETS)
    signature = tf.saved_model.load("exported/saved_model/1").signatures["serving_default"]  # pyright: ignore[reportAttributeAccessIssue]
    ((), inputs) = signature.structured_input_signature  # what TensorFlow Serving calls "instances": one named input
    assert list(inputs) == ["images"] and inputs["images"].shape.as_list() == [None, None, None, 1]
    assert {name: shape.as_list() for name, shape in signature.output_shapes.items()} == {"logits": [None, 10]}
