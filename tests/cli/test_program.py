"""The program itself: arguments, help, exit codes, messages, and what it imports."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import mpncov_zoo
from mpncov_zoo import cli, quiet
from mpncov_zoo.cli import list_models
from tests.command_line import Capture, run
from tests.conftest import SPARE_VARIABLE

NAME = "mpncov_cifar_resnet20"
COMMANDS = tuple(command.__name__.rpartition(".")[2].replace("list_models", "list") for command in cli.COMMANDS)


def test_version(capsys: Capture) -> None:
    assert run(capsys, "--version") == (0, f"mpncov-zoo {mpncov_zoo.__version__}\n", "")


@pytest.mark.parametrize("arguments", [[], ["pedict"], ["list", "--jsn"], ["predict", NAME], ["info"]])
def test_wrong_arguments(capsys: Capture, arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments)
    assert (code, out) == (2, "") and err.startswith("usage: mpncov-zoo") and "error: " in err


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_every_help_shows_an_example_that_parses(capsys: Capture, command: str) -> None:
    code, out, err = run(capsys, *([command] if command else []), "--help")
    assert (code, err) == (0, "")
    example = out.partition("example:\n")[2].replace("\\\n", " ").strip().splitlines()[0]
    words = shlex.split(example.rpartition(" | ")[2])
    assert words[:2] == ["mpncov-zoo", command or "predict"]
    assert callable(cli.build_parser().parse_args(words[1:]).run)


def test_what_only_looks_up_does_not_import_tensorflow() -> None:
    code = f"""
import sys, time
from mpncov_zoo.cli import main
for arguments in (["list"], ["list", "--pretrained"], ["info", "mpncov_resnet50"], ["train", "--list"],
                  ["predict", "no_such_model", "{__file__}"], ["predict", "--help"],
                  ["convert", "{__file__}", "--model", "no_such_model", "--dry-run"],
                  ["convert", "{__file__}", "--model", "resnet18"]):
    try:
        main(arguments)
    except SystemExit:
        pass
    assert "tensorflow" not in sys.modules and "keras" not in sys.modules, arguments
print("seconds", time.process_time())
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(result.stdout.split("seconds ")[1]) < 2  # of the processor; importing TensorFlow alone takes 3


def test_a_normal_predict_is_silent_and_imports_no_more_than_it_needs(artifact_hub: Path, found: list[str]) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in (quiet.LOG_LEVEL, SPARE_VARIABLE)}
    code = """
import sys
from mpncov_zoo import cli, quiet
code = cli.main()
assert "keras" in sys.modules and not {*quiet.SPARED} & sys.modules.keys(), sys.modules.keys()
import pandas  # can be had all the same
sys.exit(code)
"""
    command = [sys.executable, "-c", code, "predict", NAME, found[0], "--hub", str(artifact_hub)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(f"{found[0]}: ")


def test_messages_held_back_are_shown_where_the_import_fails(capfd: pytest.CaptureFixture[str]) -> None:
    with quiet.native_stderr_held():
        os.write(2, b"noise\n")
    assert capfd.readouterr().err == ""
    with pytest.raises(RuntimeError), quiet.native_stderr_held():
        os.write(2, b"the reason\n")
        raise RuntimeError
    os.write(2, b"afterwards\n")
    assert capfd.readouterr().err == "the reason\nafterwards\n"


def test_a_reader_that_has_gone_ends_it_quietly() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    result = subprocess.run([sys.executable, "-m", "mpncov_zoo", "list"], stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (result.returncode, result.stderr) == (141, b"")


def test_a_full_disk_behind_standard_output_is_an_error() -> None:
    with open("/dev/full", "w") as full:
        result = subprocess.run([sys.executable, "-m", "mpncov_zoo", "list"], stdout=full, stderr=subprocess.PIPE)
    assert (result.returncode, result.stderr) == (2, b"mpncov-zoo: error: No space left on device\n")


def test_an_interruption(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object, **__: object) -> list[str]:
        raise KeyboardInterrupt

    monkeypatch.setattr(list_models, "list_models", interrupt)
    assert run(capsys, "list") == (130, "", "\nmpncov-zoo: interrupted\n")


def test_verbose_says_what_was_loaded(capsys: Capture, artifact_hub: Path, found: list[str]) -> None:
    code, _, err = run(capsys, "predict", NAME, found[0], "--hub", artifact_hub, "--verbose")
    assert code == 0 and f"{NAME}.test: " in err and f" variables loaded from {artifact_hub}" in err


@pytest.mark.parametrize(
    ("settings", "backend", "said"),
    [
        ({}, "nosuch", "Unable to import backend : nosuch"),
        ({"floatx": "foo"}, "tensorflow", "with what its keras.json says: Invalid `floatx` configuration"),
    ],
)
def test_keras_with_settings_it_cannot_have(settings: dict[str, str], backend: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "keras.json").write_text(json.dumps(settings))
    environment = {**os.environ, "KERAS_BACKEND": backend, "KERAS_HOME": str(tmp_path)}
    environment.pop(quiet.LOG_LEVEL, None)
    command = [sys.executable, "-m", "mpncov_zoo", "predict", NAME, "examples/images/ankle-boot.png"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (done.returncode, done.stdout, len(done.stderr.splitlines())) == (2, "", 1)
    assert said in done.stderr and ("set KERAS_BACKEND" in done.stderr) == (backend == "nosuch")
