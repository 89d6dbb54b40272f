"""`mpncov-zoo predict`: the model's answers in order; weights that cannot be had or are not as published."""

import json
import shutil
import sys
from collections.abc import Callable, Iterator
from io import BytesIO, StringIO, TextIOWrapper
from pathlib import Path

import pytest
import requests
from PIL import Image

import mpncov_zoo
from mpncov_zoo import cli
from mpncov_zoo.cli.images import find_images
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from tests.command_line import Capture, assert_refused, run

NAME = "mpncov_cifar_resnet20"


@pytest.fixture
def damaged(artifact_hub: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the artifact, to be damaged."""
    copy = tmp_path / "hub" / f"{NAME}.test"
    shutil.copytree(artifact_hub / f"{NAME}.test", copy)
    yield copy
    shutil.rmtree(tmp_path / "hub")


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
