"""`mpncov-zoo convert`: what it prints and where, what it writes, and how it refuses; nothing in a file is run."""

import hashlib
import io
import json
import os
import pickle
import re
import shlex
import zipfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import conversion
import mpncov_zoo
from conversion.certificate import CERTIFICATE_FILE, REPORT_FILE, Case, Certificate, Parity, StageErrors
from conversion.readers import read_checkpoint
from conversion.writers.pytorch import write_pth
from mpncov_zoo import cli
from mpncov_zoo.errors import NoPretrainedWeights
from tests import networks
from tests.command_line import Capture, Result, assert_refused, run
from tests.conversion.checkpoints import CLASSES, MODEL, save, tensors

ALIAS = "isqrtcovresnet18"  # pytorchcv's name
COUNTER = "bn1.num_batches_tracked"  # no weight
Names = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def weights() -> Names:
    return {**tensors(), COUNTER: np.array(7)}


@pytest.fixture(scope="module")
def checkpoint(weights: Names, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "net.pth"
    write_pth(weights, path)
    return path


@pytest.fixture(scope="module")
def artifact(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{MODEL}.converted")


@pytest.fixture(scope="module")
def converted(checkpoint: Path, artifact: Path) -> Result:
    """What the conversion of the checkpoint to the artifact printed."""
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        code = cli.main(["convert", str(checkpoint), "--model", ALIAS, "--output", str(artifact)])
    return code, out.getvalue(), err.getvalue()


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# --- there, and back --------------------------------------------------------------------------------------------------


def test_results_on_standard_output_and_the_log_on_standard_error(
    converted: Result, checkpoint: Path, artifact: Path, weights: Names
) -> None:
    code, out, err = converted
    assert (code, out.splitlines()) == (
        0,
        [
            f"{artifact}: {MODEL}.converted, {CLASSES} classes",
            "source      net.pth, PyTorch zip, upstream PyTorch",
            f"sha256      {sha256(checkpoint)} (not a published file)",
            f"tensors     {len(weights) - 1} placed, each once; 1 left out",
            "parity      not checked (--parity)",
        ],
    )
    assert err.splitlines() == [
        f"{checkpoint}: PyTorch zip, upstream PyTorch, sha256 {sha256(checkpoint)}",
        f"{len(weights) - 1} tensors placed, each once",
        f"{artifact}: the classes have no names (labels= gives them to write, --labels to convert)",
        f"{artifact} written",
        f"mpncov-zoo predict {artifact} photo.jpg",
    ]


@pytest.mark.usefixtures("converted")
def test_the_artifact_is_what_the_other_commands_take(capsys: Capture, artifact: Path, tmp_path: Path) -> None:
    model = mpncov_zoo.load(ALIAS, pretrained=True, hub=artifact)
    assert (model.name, model.num_classes, model.load_report.fresh) == (MODEL, CLASSES, ())
    picture = Path(__file__).parents[2] / "examples" / "images" / "ankle-boot.png"
    code, out, _ = run(capsys, "predict", MODEL, picture, "--hub", artifact, "--json")
    expected = model.decode(model(model.preprocess(picture)), top=CLASSES)[0]
    answers = [(item["label"], item["probability"]) for item in json.loads(out)["predictions"]]
    assert code == 0 and answers == [(label, pytest.approx(p, rel=1e-4)) for label, p in expected]


def test_a_checkpoint_without_a_classifier(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, weights: Names, tmp_path: Path
) -> None:
    monkeypatch.setattr("mpncov_zoo.artifact.write", lambda *_, **__: None)  # tests of the converter write it
    write_pth({name: array for name, array in weights.items() if not name.startswith("fc.")}, tmp_path / "net.pth")
    artifact = tmp_path / "trunk"
    code, out, err = run(capsys, "convert", tmp_path / "net.pth", "--model", MODEL, "--output", artifact)
    assert code == 0 and out.splitlines()[0] == f"{artifact}: {MODEL}.converted, no classifier"
    assert err.splitlines()[-1] == f"mpncov-zoo features {artifact} photos --output features.npz"


def test_json_is_the_certificate(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("mpncov_zoo.artifact.write", lambda *_, **__: None)  # it is tested above, and takes its time
    labels = tmp_path / "labels.txt"
    labels.write_text("ant\nbee\nwasp\n")
    arguments = ["--model", MODEL, "--output", tmp_path / "new", "--tag", "insects", "--labels", labels, "--json"]
    code, out, err = run(capsys, "convert", checkpoint, *arguments)
    certificate = Certificate.model_validate_json(out)
    assert code == 0 and err
    assert (certificate.model, certificate.tag, certificate.unused) == (MODEL, "insects", [COUNTER])
    assert certificate.source.sha256 == sha256(checkpoint)


def test_a_key_says_which_weights_are_meant(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, weights: Names, tmp_path: Path
) -> None:
    monkeypatch.setattr("mpncov_zoo.artifact.write", lambda *_, **__: None)
    path = tmp_path / "training.pth.tar"
    save({"epoch": 3, "model": {"last": weights, "ema": {**weights, "fc.bias": weights["fc.bias"] + 1}}}, path)
    start = ["convert", path, "--model", MODEL]
    for more in (["--dry-run"], ["--output", tmp_path / "new"]):
        listed = f"'model.last' ({len(weights)} tensors), 'model.ema' ({len(weights)} tensors)"
        assert_one_line(run(capsys, *start, *more), listed, "--key model.ema")
        assert_one_line(run(capsys, *start, *more, "--key", "ema"), "no state_dict under the key 'ema'", listed)
    code, out, err = run(capsys, *start, "--key", "model.ema", "--output", tmp_path / "new")
    assert code == 0 and "key         model.ema" in out.splitlines() and "PyTorch zip under the key model.ema" in err
    out = run(capsys, *start, "--key", "model.ema", "--output", tmp_path / "new", "--json")[1]
    assert Certificate.model_validate_json(out).key == "model.ema"
    out = run(capsys, *start, "--key", "model.ema", "--dry-run")[1]
    assert out.splitlines()[0].endswith("tensors under the key model.ema")
    plan = json.loads(run(capsys, *start, "--key", "model.ema", "--dry-run", "--json")[1])
    assert (plan["key"], plan["notes"]) == ("model.ema", [])


@pytest.mark.usefixtures("converted")
def test_the_certificate_lies_in_the_artifact(artifact: Path, checkpoint: Path) -> None:
    certificate = json.loads((artifact / CERTIFICATE_FILE).read_text())
    assert (certificate["source"]["sha256"], certificate["verdict"]) == (sha256(checkpoint), "unchecked")


@pytest.mark.usefixtures("converted")
@pytest.mark.parametrize(("suffix", "hub"), [(".pth", False), (".safetensors", True)])
def test_back_to_pytorch_is_bit_exact(
    capsys: Capture, artifact: Path, weights: Names, tmp_path: Path, suffix: str, hub: bool
) -> None:
    """From an artifact, or from a directory that holds it."""
    if suffix == ".safetensors":
        pytest.importorskip("safetensors", reason="needs safetensors")
    back = tmp_path / f"back{suffix}"
    source = artifact.parent if hub else artifact
    code, out, _ = run(capsys, "convert", source, "--model", MODEL, "--output", back, "--to", "pytorch")
    assert code == 0 and out.splitlines()[:2] == [
        f"{back}: {MODEL}.converted, {CLASSES} classes",
        f"source      {artifact.name}, artifact, upstream PyTorch",
    ]
    stored = read_checkpoint(back).tensors
    assert list(stored) == [name for name in weights if name != COUNTER]
    assert all(array.tobytes() == np.ascontiguousarray(weights[name]).tobytes() for name, array in stored.items())
    assert [path.name for path in tmp_path.iterdir()] == [back.name]


def test_the_examples_of_the_help_are_true(capsys: Capture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each is run, on a smaller network under the same file name; a --parity that needs PyTorch is tested below."""
    names = tensors()
    write_pth(names, tmp_path / "mpncovresnet50-15991845.pth")
    monkeypatch.chdir(tmp_path)
    examples = run(capsys, "convert", "--help")[1].partition("example:\n")[2].strip().splitlines()
    assert len(examples) == 4
    monkeypatch.setattr("conversion.parity.ODD_SIZES", ((1, (33, 65)),))
    outputs = []
    for example in examples:
        program, *words = shlex.split(example)
        left_out = () if "itself" in words else ("--parity",)
        words = [MODEL if word == "mpncov_resnet50" else word for word in words if word not in left_out]
        code, out, err = run(capsys, *words)
        assert (program, code) == ("mpncov-zoo", 0), err
        outputs.append(out)
    assert outputs[1] == f"{conversion.plan('mpncovresnet50-15991845.pth', model=MODEL)}\n"
    assert outputs[2].startswith("reference   the network itself in float64 on the CPU\n") and "passed: " in outputs[2]
    back = read_checkpoint(tmp_path / "resnet50.pth").tensors
    assert all(array.tobytes() == np.ascontiguousarray(names[name]).tobytes() for name, array in back.items())


@pytest.mark.parity
def test_a_conversion_whose_parity_is_checked(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("conversion.parity.ODD_SIZES", ((1, (33, 65)),))
    output = tmp_path / "new"
    code, out, err = run(capsys, "convert", checkpoint, "--model", MODEL, "--output", output, "--parity")
    assert code == 0 and "parity      passed: logits within " in out and "top-5       100%" in out, err
    assert "<svg" in (output / REPORT_FILE).read_text()


def test_a_check_that_drifts_writes_nothing_and_says_no(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    monkeypatch.setattr("conversion.parity.measure", failed)
    arguments = ["convert", checkpoint, "--model", MODEL, "--parity", "--reference", "itself"]
    code, out, _ = run(capsys, *arguments)
    assert code == 1 and "parity      failed: " in out and "drift       stage1 differs by 2.5e-01" in out
    code, out, _ = run(capsys, *arguments, "--json")
    assert code == 1 and Parity.model_validate_json(out) == failed()
    assert list(tmp_path.iterdir()) == []


# --- the plan ---------------------------------------------------------------------------------------------------------


def test_dry_run_prints_a_line_a_tensor_and_writes_nothing(
    capsys: Capture, checkpoint: Path, weights: Names, tmp_path: Path
) -> None:
    output = tmp_path / "artifact"
    arguments = ["convert", checkpoint, "--model", ALIAS, "--output", output, "--dry-run"]
    code, out, err = run(capsys, *arguments)
    head, *lines, unused = out.splitlines()
    assert (code, err) == (0, "")
    assert head == f"{MODEL}, {CLASSES} classes, from upstream PyTorch: {len(weights) - 1} tensors"
    assert lines[0] == "conv1.weight (64, 3, 7, 7) -> features/stem_conv/kernel (7, 7, 3, 64), OIHW to HWIO"
    assert "bn1.running_var (64,) -> features/stem_bn/moving_variance (64,), as it is" in lines
    assert f"fc.weight ({CLASSES}, 32896) -> classifier/logits/kernel (32896, {CLASSES}), transposed" in lines
    assert [line.split()[0] for line in lines] == [name for name in weights if name != COUNTER]
    assert unused == f"{COUNTER}: not used, counts training steps"
    assert not output.exists() and run(capsys, *arguments[:4], "--dry-run") == (0, out, "")


def test_dry_run_as_json(capsys: Capture, checkpoint: Path, weights: Names) -> None:
    code, out, _ = run(capsys, "convert", checkpoint, "--model", MODEL, "--dry-run", "--json")
    plan = json.loads(out)
    assert (code, plan["model"], plan["num_classes"], plan["unused"]) == (0, MODEL, CLASSES, [COUNTER])
    assert plan["map_sha256"] == conversion.plan(checkpoint, model=MODEL).digest
    shapes = {row["source"]: tuple(row["source_shape"]) for row in plan["placements"]}
    assert shapes == {name: array.shape for name, array in weights.items() if name != COUNTER}
    assert plan["placements"][0] == {
        "source": "conv1.weight",
        "target": "features/stem_conv/kernel",
        "transform": "OIHW to HWIO",
        "source_shape": [64, 3, 7, 7],
        "target_shape": [7, 7, 3, 64],
    }


@pytest.mark.usefixtures("converted")
def test_dry_run_of_the_way_back(capsys: Capture, checkpoint: Path, artifact: Path) -> None:
    there = run(capsys, "convert", checkpoint, "--model", MODEL, "--dry-run")[1]
    code, back, _ = run(capsys, "convert", artifact, "--model", MODEL, "--dry-run", "--to", "pytorch")
    assert (code, back.splitlines()) == (0, [line for line in there.splitlines() if COUNTER not in line])


# --- what is refused --------------------------------------------------------------------------------------------------


def assert_one_line(result: Result, *pieces: str, exit_code: int = 2) -> None:
    assert_refused(result, *pieces, exit_code=exit_code, lines=1)


def test_arguments_that_cannot_be_used(capsys: Capture, checkpoint: Path, tmp_path: Path) -> None:
    before = sorted(tmp_path.iterdir())
    start, new = ["convert", checkpoint, "--model"], tmp_path / "new"
    assert_one_line(run(capsys, *start, "isqrtcovresnet19"), "Unknown model 'isqrtcovresnet19'", f"'{ALIAS}'")
    assert_one_line(run(capsys, *start, MODEL), "convert needs --output (or --dry-run, or --parity,")
    assert_one_line(
        run(capsys, *start, MODEL, "--output", tmp_path), f"{tmp_path} exists already; give a new directory"
    )
    assert_one_line(run(capsys, *start, MODEL, "--output", new, "--labels", "/no"), "/no cannot be read")
    missing = checkpoint.with_name("missing.pth")
    for more in (["--output", new], ["--dry-run"]):
        result = run(capsys, "convert", missing, "--model", MODEL, *more)
        assert_one_line(result, f"{missing} cannot be read: No such file or directory")
    code, out, err = run(capsys, "convert", checkpoint, "--output", new)
    assert (code, out) == (2, "") and err.endswith("error: the following arguments are required: --model\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.usefixtures("converted")
def test_ways_back_that_are_none(capsys: Capture, checkpoint: Path, artifact: Path, tmp_path: Path) -> None:
    start = ["convert", artifact, "--to", "pytorch", "--model"]
    for output, message in ((tmp_path / "a.h5", "must end with .pth or .safetensors"), (checkpoint, "exists already")):
        code, out, err = run(capsys, *start, MODEL, "--output", output)
        assert (code, out) == (2, "") and message in err.splitlines()[-1]
    assert_one_line(run(capsys, *start, "resnet18", "--output", tmp_path / "a.pth"), f"weights of '{MODEL}', not of")
    assert list(tmp_path.iterdir()) == []


def test_another_network_is_refused_with_the_lists_of_both_sides(
    capsys: Capture, checkpoint: Path, weights: Names, tmp_path: Path
) -> None:
    result = run(capsys, "convert", checkpoint, "--model", "vgg16_bn", "--output", tmp_path / "new")
    assert_one_line(result, f"{checkpoint}: The file's {len(weights)} tensors are not those of vgg16_bn")
    hint = rf"They are those of {MODEL}: pass that as the model\. Here "
    pattern = hint + r"(\d+) tensors without a variable: (.*?); (\d+) variables without a tensor: (.*?)\.$"
    sides = re.search(pattern, result[2].strip())
    assert sides is not None
    expected = networks.bare("vgg16_bn", 1).named_variables()
    for count, text, names in (
        (sides[1], sides[2], [name for name in weights if name != COUNTER]),
        (sides[3], sides[4], list(expected)),
    ):
        assert int(count) == len(names)
        assert text == f"{', '.join(sorted(names)[:10])}, ... and {len(names) - 10} more"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_a_gpu_that_is_not_there(capsys: Capture, checkpoint: Path, tmp_path: Path) -> None:
    import tensorflow as tf

    if tf.config.list_physical_devices("GPU"):
        pytest.skip("there is one")
    arguments = ["--model", MODEL, "--output", tmp_path / "new", "--parity", "--device", "gpu"]
    assert_one_line(run(capsys, "convert", checkpoint, *arguments), "device='gpu': TensorFlow", "no GPU here.")
    assert list(tmp_path.iterdir()) == []


# --- hostile files ----------------------------------------------------------------------------------------------------


class Call:
    """Unpickled, it would run a command of the shell."""

    def __init__(self, command: str):
        self.command = command

    def __reduce__(self) -> Any:
        return os.system, (self.command,)


def zip_pth(path: Path, mark: Path) -> str:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"conv1.weight": Call(f"touch {mark}")}, protocol=2))
        archive.writestr("archive/version", "3\n")
    return "system"


def legacy_pth(path: Path, mark: Path) -> str:
    system = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"short": 2, "int": 4, "long": 4}}
    parts = (0x1950A86A20F9469CFC6C, 1001, system, {"state_dict": Call(f"touch {mark}")}, [])
    path.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    return "system"


def safetensors_of_a_longer_file(path: Path, mark: Path) -> str:
    pytest.importorskip("safetensors", reason="needs safetensors")
    tensor = {"dtype": "F32", "shape": [10**6, 10**6], "data_offsets": [0, 4 * 10**12]}
    header = json.dumps({"conv1.weight": tensor}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(64))
    return "safetensors"


def safetensors_of_a_longer_header(path: Path, mark: Path) -> str:
    pytest.importorskip("safetensors", reason="needs safetensors")
    path.write_bytes((2**32 - 1).to_bytes(8, "little") + b'{"conv1.weight":')
    return "safetensors"


def mat_of_an_object(path: Path, mark: Path) -> str:
    scipy_io = pytest.importorskip("scipy.io", reason="needs scipy")
    cells = np.empty((1, 2), object)
    cells[0, 0], cells[0, 1] = np.ones((7, 7, 3, 64), np.float32), {"command": f"touch {mark}"}
    scipy_io.savemat(path, {"params": cells})
    return "params[1] is a struct"


def h5_with_a_link_to_another_file(path: Path, mark: Path) -> str:
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    with h5py.File(path.with_name("private.h5"), "w") as private:
        private["key"] = np.arange(4, dtype=np.float32)
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"conv"]
        group = file.create_group("conv")
        group.attrs["weight_names"] = [b"kernel:0"]
        group["kernel:0"] = h5py.ExternalLink("private.h5", "/key")
    return "link"


HOSTILE: dict[str, Callable[[Path, Path], str]] = {
    "os.system.pth": zip_pth,
    "os.system.pth.tar": legacy_pth,
    "offsets.safetensors": safetensors_of_a_longer_file,
    "header.safetensors": safetensors_of_a_longer_header,
    "struct.mat": mat_of_an_object,
    "link.h5": h5_with_a_link_to_another_file,
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("dry", [False, True], ids=["convert", "dry run"])
def test_hostile_files_are_refused_with_one_line(capsys: Capture, tmp_path: Path, name: str, dry: bool) -> None:
    path, mark = tmp_path / name, tmp_path / "it-ran"
    message = HOSTILE[name](path, mark)
    before = {found: found.read_bytes() for found in tmp_path.iterdir()}
    arguments = ["--dry-run"] if dry else ["--output", tmp_path / "artifact"]
    assert_one_line(run(capsys, "convert", path, "--model", MODEL, *arguments), f"error: {path}", message)
    assert {found: found.read_bytes() for found in tmp_path.iterdir()} == before


def test_the_hostile_pickles_would_run(tmp_path: Path) -> None:
    """Python itself runs what the command refuses."""
    zip_pth(tmp_path / "a.pth", tmp_path / "it-ran")
    with zipfile.ZipFile(tmp_path / "a.pth") as archive:
        pickle.loads(archive.read("archive/data.pkl"))
    assert (tmp_path / "it-ran").exists()


# --- a network that does not compute the same -------------------------------------------------------------------------


def failed(*_: object) -> Parity:
    stages = [
        StageErrors(stage="stem", pytorch=1e-6, ours=1e-6, bound=4.2e-5),
        StageErrors(stage="stage1", pytorch=1e-6, ours=0.25, bound=4.2e-5),
        StageErrors(stage="logits", pytorch=1e-6, ours=0.5, bound=4.2e-5),
    ]
    case = Case(weights="as read", shape=(1, 224, 224, 3), stages=stages, top5_agreement=0.4)
    return Parity(device="cpu", reference="the published network", cases=[case])


def test_a_failed_parity_leaves_the_evidence_and_no_weights(
    capsys: Capture, monkeypatch: pytest.MonkeyPatch, checkpoint: Path, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    monkeypatch.setattr("conversion.parity.measure", failed)
    monkeypatch.setattr("conversion.parity.require_parity", lambda device, report: None)
    monkeypatch.setattr("conversion.parity.torch_version", lambda: "2.13.0")
    output = tmp_path / "artifact"
    code, out, err = run(capsys, "convert", checkpoint, "--model", MODEL, "--output", output, "--parity")
    assert (code, out) == (1, "")
    drift = (
        "stage1 differs by 2.5e-01 of its largest value (bound 4.2e-05) for images (1, 224, 224, 3), weights as read"
    )
    error = f"mpncov-zoo: error: {drift}. See {output / REPORT_FILE}; no weights were written."
    assert err.splitlines()[-1] == error
    assert sorted(path.name for path in output.iterdir()) == [CERTIFICATE_FILE, REPORT_FILE]
    assert conversion.read_certificate(output).verdict == "failed"
    assert "First drift: stage1" in (output / REPORT_FILE).read_text()
    with pytest.raises(NoPretrainedWeights, match="holds no weights"):
        mpncov_zoo.load(MODEL, pretrained=True, hub=output)
