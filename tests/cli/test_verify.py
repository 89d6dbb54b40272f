"""`mpncov-zoo verify`: what it finds right, in which order it looks, and that everything wrong is found and named."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpncov_zoo
from mpncov_zoo import cli
from mpncov_zoo.artifact.selftest import ANY_MACHINE as BOUND
from mpncov_zoo.hub.resolve import BUNDLED, TRUST_MANIFEST, TRUST_OWN
from mpncov_zoo.hub.verification import describe_files
from mpncov_zoo.quiet import LOG_LEVEL
from tests.command_line import Capture, Result, assert_refused, run
from tests.stored import key, read_tensors, write_tensors

MODEL = "mpncov_cifar_resnet20"
NAME = f"{MODEL}.fashion_mnist"
TEST = f"{MODEL}.test"
DATA, INDEX = "variables/variables.data-00000-of-00001", "variables/variables.index"


@pytest.fixture
def copy(artifact_hub: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of an artifact that the manifest does not know, to be damaged."""
    yield Path(shutil.copytree(artifact_hub / TEST, tmp_path / TEST))


def make_consistent(directory: Path) -> None:
    """Give model.json the digests of the files as they are now, as a forger would."""
    description = json.loads((directory / "model.json").read_text())
    description["files"] = [file.model_dump() for file in describe_files(directory)]
    (directory / "model.json").write_text(json.dumps(description))


def facts(directory: Path) -> tuple[int, int]:
    """How many files, and how many bytes, by the shell's own tools."""
    found = subprocess.run(["find", directory, "-type", "f", "-printf", "%s\n"], capture_output=True, text=True)
    sizes = [int(line) for line in found.stdout.split()]
    return len(sizes), sum(sizes)


# --- what is right ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("subject", [NAME, MODEL, "cifar_mpncovresnet20", str(BUNDLED / NAME)])
def test_published_weights(capsys: Capture, subject: str) -> None:
    """By their name, as the default ones, by an alias, as a directory: all against the manifest."""
    code, out, err = run(capsys, "verify", subject)
    count, size = facts(BUNDLED / NAME)
    model = mpncov_zoo.build(MODEL, num_classes=10, input_shape=(28, 28, 1))
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        f"{NAME} in {BUNDLED / NAME}",
        f"files     {count}, {size:,} bytes: {TRUST_MANIFEST}",
        f"weights   {len(model.weights)} variables, {mpncov_zoo.info(NAME).parameters:,} parameters: names, shapes and "
        "dtypes are the network's, all values finite",
    ]


def test_selftest_of_published_weights(capsys: Capture) -> None:
    code, out, _ = run(capsys, "verify", NAME, "--selftest")
    lines = [line.split() for line in out.splitlines()[3:]]
    stages = ["stem", "stage1", "stage2", "stage3", "reduction", "covariance", "representation", "logits"]
    assert code == 0 and [words[:2] for words in lines] == [["selftest", stage] for stage in stages]
    assert all(float(words[4]) <= BOUND for words in lines)


def test_artifact_that_the_manifest_does_not_know_as_json(
    capsys: Capture, copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(copy.parent)
    code, out, err = run(capsys, "verify", TEST, "--selftest", "--json")
    report, (count, size) = json.loads(out), facts(copy)
    selftest = report.pop("selftest")
    model = mpncov_zoo.load(MODEL, True, hub=copy)
    assert (code, err) == (0, "")
    assert report == {
        "subject": TEST,
        "verified": True,
        "name": TEST,
        "directory": str(copy),
        "trust": TRUST_OWN,
        "files": count,
        "bytes": size,
        "variables": len(model.weights),
        "parameters": model.num_parameters,
        "bound": BOUND,
    }
    assert tuple(selftest) == model.stages and max(selftest.values()) <= BOUND


def test_help_shows_examples_that_parse(capsys: Capture) -> None:
    code, out, _ = run(capsys, "verify", "--help")
    for line in out.partition("example:\n")[2].strip().splitlines():
        program, *words = shlex.split(line)
        assert (code, program) == (0, "mpncov-zoo") and callable(cli.build_parser().parse_args(words).run)


def test_a_trunk_is_verified_where_only_that_is_published(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr("mpncov_zoo.find.resolve", lambda *names, **_: asked.append(names) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(capsys, "verify", "mpncov_efficientnet_lite0")
    assert asked == [("efficientnet_lite0", "imagenet")]


# --- the files: before TensorFlow sees any ----------------------------------------------------------------------------


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["saved_model.pb", DATA, INDEX, "assets/labels.txt", "selftest.npz", "fingerprint.pb"])
def test_a_flipped_bit(capsys: Capture, copy: Path, file: str) -> None:
    flip(copy / file)
    assert_refused(run(capsys, "verify", copy), f"{copy}: {file!r}: expected sha256 ", exit_code=1, lines=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda copy: (copy / "keras_metadata.pb").touch(), "'keras_metadata.pb': expected no such file, got 0 bytes"),
        (lambda copy: (copy / INDEX).unlink(), f"{INDEX!r}: expected "),
        (lambda copy: (copy / DATA).write_bytes(b""), f"{DATA!r}: expected "),
        (lambda copy: (copy / "link").symlink_to("/etc/passwd"), "'link': expected a regular file, got a link"),
        (lambda copy: (copy / "model.json").write_text("{"), "model.json: not valid JSON"),
    ],
    ids=["extra", "missing", "truncated", "link", "model.json"],
)
def test_other_files(capsys: Capture, copy: Path, change: Callable[[Path], Any], message: str) -> None:
    change(copy)
    assert_refused(run(capsys, "verify", copy), str(copy), message, exit_code=1, lines=1)


def test_published_weights_that_were_forged(capsys: Capture, tmp_path: Path) -> None:
    """Together with their own list of digests: the manifest decides."""
    forged = Path(shutil.copytree(BUNDLED / NAME, tmp_path / "forged"))
    flip(forged / DATA)
    make_consistent(forged)
    assert_refused(run(capsys, "verify", forged), f"{forged}: 'model.json': expected ", exit_code=1, lines=1)


def test_damage_is_found_without_tensorflow(copy: Path) -> None:
    flip(copy / DATA)
    code = f"""
import sys
from mpncov_zoo.cli import main
code = main(["verify", {str(copy)!r}, "--selftest"])
print(code, {{"tensorflow", "keras"}} & set(sys.modules))
"""
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "1 set()\n"


# --- the weights and the record: of an artifact whose digests agree ---------------------------------------------------


def set_weight(directory: Path, value: float, name: str = "features/stem_conv/kernel") -> None:
    """Rewrite the checkpoint with one number changed."""
    tensors = read_tensors(directory)
    tensors[key(name)].flat[4] = value
    write_tensors(directory, tensors)
    make_consistent(directory)


def test_weights_that_are_not_finite(capsys: Capture, copy: Path) -> None:
    set_weight(copy, np.nan)
    code, out, err = run(capsys, "verify", copy)
    assert (code, len(out.splitlines())) == (1, 2) and out.splitlines()[1].endswith(TRUST_OWN)
    assert err == f"mpncov-zoo: error: {copy}: features/stem_conv/kernel holds NaN or infinity; nothing was loaded.\n"


def test_weights_of_another_network(capsys: Capture, copy: Path) -> None:
    description = json.loads((copy / "model.json").read_text())
    description["architecture"]["features_options"]["repeats"] = 2
    (copy / "model.json").write_text(json.dumps(description))
    code, out, err = run(capsys, "verify", copy)
    assert (code, len(out.splitlines())) == (1, 2)
    assert "the checkpoint is of another network; missing: features/stage1_block2_bn1/beta" in err


def change_record(directory: Path, **changes: Any) -> None:
    path = directory / "selftest.npz"
    with np.load(path) as record:
        arrays: dict[str, Any] = {name: record[name] for name in record.files}
    np.savez(path, **{name: array for name, array in (arrays | changes).items() if array is not None})
    make_consistent(directory)


def stage(directory: Path, name: str) -> np.ndarray:
    with np.load(directory / "selftest.npz") as record:
        return record[name]


def test_other_values_than_recorded(capsys: Capture, copy: Path) -> None:
    """Of weights with another bias: the stages before it do not differ."""
    set_weight(copy, 7.0, "classifier/logits/bias")
    code, out, err = run(capsys, "verify", copy, "--selftest")
    differences = {line.split()[1]: float(line.split()[4]) for line in out.splitlines()[3:]}
    logits = differences.pop("logits")
    assert code == 1 and f"logits differs by {logits:.1e} of its largest value from the record (bound 1e-04)" in err
    assert max(differences.values()) <= 1e-5 < 1e-2 < logits


@pytest.mark.parametrize(("factor", "code"), [(0.5, 0), (2, 1)])
def test_the_bound(capsys: Capture, copy: Path, factor: float, code: int) -> None:
    """Half of it passes, twice of it does not; it is relative to the stage's largest value."""
    logits = stage(copy, "logits")
    logits[np.abs(logits).argmin()] += factor * BOUND * np.abs(logits).max()
    change_record(copy, logits=logits)
    found, out, err = run(capsys, "verify", copy, "--selftest")
    assert found == code and ("logits differs by 2.0e-04 of its largest value" in err) == bool(code)
    assert len(out.splitlines()) == 3 + 8


def test_a_record_of_nan_as_json(capsys: Capture, copy: Path) -> None:
    change_record(copy, logits=stage(copy, "logits") * np.nan)
    code, out, _ = run(capsys, "verify", copy, "--selftest", "--json")
    report = json.loads(out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))
    assert (code, report["verified"], report["selftest"]["logits"]) == (1, False, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda copy: change_record(copy, logits=None), "selftest.npz does not describe"),
        (lambda copy: change_record(copy, pixels=None), "selftest.npz is no record of this network: "),
        (lambda copy: change_record(copy, pixels=np.zeros((2, 3))), "selftest.npz is no record of this network: "),
        (lambda copy: (copy / "selftest.npz").write_bytes(b"PK\3\4"), "selftest.npz is no record of this network: "),
        (
            lambda copy: np.savez(copy / "selftest.npz", pixels=np.array([print], object)),
            "selftest.npz is no record of this network: Object arrays cannot be loaded when allow_pickle=False",
        ),
    ],
    ids=["stage", "no pixels", "pixels", "no archive", "pickle"],
)
def test_records_that_are_none(capsys: Capture, copy: Path, change: Callable[[Path], Any], message: str) -> None:
    change(copy)
    make_consistent(copy)
    code, out, err = run(capsys, "verify", copy, "--selftest")
    assert (code, len(out.splitlines()), len(err.splitlines())) == (1, 3, 1) and message in err


# --- what cannot be verified ------------------------------------------------------------------------------------------


def test_an_artifact_without_a_record(capsys: Capture, copy: Path) -> None:
    (copy / "selftest.npz").unlink()
    make_consistent(copy)
    assert run(capsys, "verify", copy)[0] == 0
    code, _, err = run(capsys, "verify", copy, "--selftest")
    assert code == 2 and err.endswith(
        "holds no selftest.npz, so there is nothing to compare with: leave out --selftest\n"
    )


def test_directories_that_are_no_artifact(capsys: Capture, artifact_hub: Path, tmp_path: Path) -> None:
    assert_refused(run(capsys, "verify", tmp_path), f"{tmp_path} is no artifact: it holds no model.json", lines=1)
    for name in ("a.x", "b.x"):
        shutil.copytree(artifact_hub / TEST, tmp_path / "several" / name)
    assert_refused(run(capsys, "verify", tmp_path / "several"), "give one of a.x, b.x", lines=1)
    assert_refused(run(capsys, "verify", tmp_path / "none"), f"{tmp_path / 'none'}: no such directory", lines=1)
    assert_refused(run(capsys, "verify", tmp_path, "--json"), "is no artifact", lines=1)


def test_names_that_cannot_be_verified(capsys: Capture) -> None:
    assert_refused(run(capsys, "verify", "mpncov_cifar_resnet2O"), "Did you mean", f"'{MODEL}'", lines=1)
    assert_refused(run(capsys, "verify", "resnet26"), "'resnet26' has no such pretrained weights", lines=1)
    assert_refused(run(capsys, "verify", f"{MODEL}.imagenet"), "tag 'imagenet'; allowed: fashion_mnist", lines=1)
    code, out, err = run(capsys, "verify")
    assert (code, out) == (2, "") and "arguments are required: NAME|DIR" in err


def test_it_is_silent_on_standard_error() -> None:
    environment = {key: value for key, value in os.environ.items() if key != LOG_LEVEL}
    command = [sys.executable, "-m", "mpncov_zoo", "verify", NAME, "--selftest"]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert (result.returncode, result.stderr) == (0, "")


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"parameters": 5}, "model.json says 5 parameters, the network that it describes has"),
        ({"num_classes": 11}, "num_classes is 11, but assets/labels.txt has 10 labels"),
    ],
)
def test_a_description_that_contradicts_itself(
    capsys: Capture, artifact_hub: Path, tmp_path: Path, stated: dict[str, int], message: str
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact_hub / f"{MODEL}.test", copy)
    data = json.loads((copy / "model.json").read_text())
    (copy / "model.json").write_text(json.dumps({**data, **stated}))
    assert_refused_after(run(capsys, "verify", copy), message)


def assert_refused_after(result: Result, message: str) -> None:
    """After the files, which agree, the answer is 'no'."""
    code, out, err = result
    assert code == 1 and "files " in out and "weights " not in out and message in err


def test_a_record_that_would_fill_the_memory(capsys: Capture, artifact_hub: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(artifact_hub / f"{MODEL}.test", copy)
    np.savez_compressed(copy / "selftest.npz", pixels=np.zeros(2**27, np.uint8))
    data = json.loads((copy / "model.json").read_text())
    files = [file.model_dump() for file in describe_files(copy)]
    (copy / "model.json").write_text(json.dumps({**data, "files": files}))
    code, _, err = run(capsys, "verify", copy, "--selftest")
    assert code == 1 and "selftest.npz: expected at most 67,108,864 bytes when unpacked, got 134,217,8" in err
