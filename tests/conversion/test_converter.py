"""A checkpoint becomes an artifact with a certificate, or nothing at all; and back, bit for bit."""

import hashlib
import io
import json
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import conversion
import mpncov_zoo
from conversion import converter, export
from conversion.certificate import CERTIFICATE_FILE, Case, Parity, StageErrors
from conversion.maps import INVERSES, TRANSFORMS
from conversion.preparation import prepare
from conversion.readers import read_checkpoint
from conversion.report import html_report
from conversion.writers.pytorch import write_pth
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo import artifact
from mpncov_zoo.artifact import selftest
from mpncov_zoo.errors import ConversionError, InputError, ParityError, ZooError
from mpncov_zoo.hub.resolve import TRUST_OWN
from mpncov_zoo.manifest import Manifest, load_manifest
from tests import networks
from tests.command_line import Capture, assert_refused, run
from tests.conversion.checkpoints import CLASSES, MODEL, save, tensors

Names = dict[str, np.ndarray]


@pytest.fixture(scope="module")
def weights() -> Names:
    return {**tensors(), "bn1.num_batches_tracked": np.array(7)}


@pytest.fixture(scope="module")
def checkpoint(weights: Names, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("published") / "net.pth"
    write_pth(weights, path)
    return path


@pytest.fixture(scope="module")
def converted(checkpoint: Path) -> Path:
    """The artifact of the checkpoint, and its labels."""
    labels = checkpoint.with_name("labels.txt")
    labels.write_text("ant\nbee\nwasp\n")
    conversion.convert(checkpoint, model="mpncovresnet18", output=checkpoint.with_name("artifact"), labels=labels)
    return checkpoint.with_name("artifact")


def test_the_artifact_loads_and_holds_every_tensor(converted: Path, weights: Names) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, hub=converted)
    assert (model.num_classes, model.labels) == (CLASSES, ("ant", "bee", "wasp"))
    assert (model.load_report.weights, model.load_report.trust) == (f"{MODEL}.converted", TRUST_OWN)
    variables = model.named_variables()
    plan = conversion.plan(converted.with_name("net.pth"), model=MODEL)
    assert {p.step.target for p in plan.placements} == set(variables)
    for placement in plan.placements:
        expected = TRANSFORMS[placement.step.transform](weights[placement.step.source])
        np.testing.assert_array_equal(variables[placement.step.target].numpy(), expected)
    assert max(selftest.differences(model, converted).values()) < 1e-5


def test_the_certificate_says_what_was_converted_and_how(converted: Path, weights: Names) -> None:
    checkpoint = converted.with_name("net.pth")
    certificate = conversion.read_certificate(converted)
    assert certificate.source.model_dump() == {
        "name": "net.pth",
        "format": "PyTorch zip",
        "size": checkpoint.stat().st_size,
        "sha256": hashlib.sha256(checkpoint.read_bytes()).hexdigest(),
        "published": "unknown",
    }
    assert (certificate.model, certificate.tag, certificate.family) == (MODEL, "converted", "upstream PyTorch")
    assert (certificate.tensors, certificate.unused) == (len(weights) - 1, ["bn1.num_batches_tracked"])
    assert certificate.map_sha256 == conversion.plan(checkpoint, model=MODEL).digest
    assert (certificate.verdict, certificate.parity) == ("unchecked", None)
    description = json.loads((converted / "model.json").read_text())
    assert CERTIFICATE_FILE in {file["path"] for file in description["files"]}
    assert description["provenance"]["source"]["sha256"] == certificate.source.sha256


def test_an_edited_certificate_does_not_load(converted: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in converted.rglob("*"):
        if path.is_file():
            target = copy / path.relative_to(converted)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(path.read_bytes())
    (copy / CERTIFICATE_FILE).write_text((copy / CERTIFICATE_FILE).read_text().replace("unchecked", "passed!!!"))
    with pytest.raises(ZooError, match=CERTIFICATE_FILE):
        mpncov_zoo.load(MODEL, pretrained=True, hub=copy)


@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
def test_there_and_back_is_bit_exact(converted: Path, weights: Names, tmp_path: Path, suffix: str) -> None:
    output = tmp_path / f"back{suffix}"
    certificate = conversion.convert(converted, model=MODEL, output=output, to="pytorch")
    assert (certificate.source.format, certificate.verdict) == ("artifact", "unchecked")
    back = read_checkpoint(output).tensors
    assert list(back) == [name for name in weights if not name.endswith("num_batches_tracked")]
    for name, array in back.items():
        assert (array.dtype, array.tobytes()) == (np.float32, np.ascontiguousarray(weights[name]).tobytes()), name


def test_the_plan_of_the_way_back(converted: Path) -> None:
    there = conversion.plan(converted.with_name("net.pth"), model=MODEL)
    back = conversion.plan(converted, model=MODEL, to="pytorch")
    assert (back.placements, back.digest) == (there.placements, there.digest)


@pytest.fixture(scope="module")
def headless(weights: Names, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artifact of the checkpoint without its logits, as a pretraining without labels leaves a network."""
    path = tmp_path_factory.mktemp("headless") / "net.pth"
    write_pth({f"module.{name}": array for name, array in weights.items() if name.partition(".")[0] != "fc"}, path)
    certificate = conversion.convert(path, model=MODEL, output=path.with_name("artifact"))
    assert (certificate.num_classes, certificate.tensors) == (0, len(weights) - 3)
    assert any("load(..., num_classes=N)" in note for note in certificate.notes)
    return path.with_name("artifact")


def test_a_checkpoint_without_a_classifier(headless: Path, converted: Path, tmp_path: Path) -> None:
    model = mpncov_zoo.load(MODEL, pretrained=True, hub=headless)
    assert (model.classifier, model.labels, model.load_report.fresh) == (None, None, ())
    signatures = tf.saved_model.load(str(headless)).signatures
    images = np.random.default_rng(0).normal(0, 1, (1, 224, 224, 3)).astype(np.float32)
    (served,) = signatures["serving_default"](tf.constant(images)).items()
    assert served[0] == "representation"
    whole = mpncov_zoo.load(MODEL, pretrained=True, hub=converted, num_classes=0)
    for values in (served[1], model(images)):
        np.testing.assert_allclose(values, whole(images), rtol=1e-4, atol=1e-5)
    new = mpncov_zoo.load(MODEL, pretrained=True, hub=headless, num_classes=4)
    assert (new.num_classes, new.load_report.fresh) == (4, ("classifier/logits/kernel", "classifier/logits/bias"))
    export.write_pytorch(model, tmp_path / "back.pth")
    assert read_checkpoint(tmp_path / "back.pth").tensors.keys() == {
        name for name in tensors() if not name.startswith("fc.")
    }


def test_commands_on_an_artifact_without_a_classifier(headless: Path, tmp_path: Path, capsys: Capture) -> None:
    picture = Path(__file__).parents[2] / "examples" / "images" / "ankle-boot.png"
    assert_refused(run(capsys, "predict", headless, picture), "mpncov_resnet18 has no classifier: its output is the")
    assert run(capsys, "features", headless, picture, "--output", tmp_path / "features.npy")[0] == 0
    assert np.load(tmp_path / "features.npy").shape == (1, 32_896)
    assert run(capsys, "verify", headless, "--selftest")[0] == 0


def test_half_a_classifier_is_refused(weights: Names, tmp_path: Path) -> None:
    path = tmp_path / "net.pth"
    write_pth({name: array for name, array in weights.items() if name != "fc.bias"}, path)
    with pytest.raises(ConversionError, match=r"1 variables without a tensor: classifier/logits/bias"):
        conversion.plan(path, model=MODEL)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "back.pt"}, r"must end with \.pth or \.safetensors"),
        ({"output": "net.pth"}, "exists already"),
        ({"tag": "mine"}, "no place for a tag"),
        ({"to": "jax"}, "to must be 'tensorflow' or 'pytorch'"),
    ],
)
def test_back_cannot(converted: Path, changes: dict[str, str], message: str) -> None:
    output = converted.with_name(changes.pop("output", "back.pth"))
    with pytest.raises(InputError, match=message):
        conversion.convert(converted, model=MODEL, output=output, **{"to": "pytorch", **changes})
    assert not converted.with_name("back.pth").exists()


def test_networks_that_no_pytorch_code_has(artifact_hub: Path, tmp_path: Path) -> None:
    model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True, hub=artifact_hub)
    with pytest.raises(ConversionError, match="No published PyTorch code is known for mpncov_cifar_resnet20"):
        conversion.write_pytorch(model, tmp_path / "net.pth")
    assert list(tmp_path.iterdir()) == []


# --- training checkpoints ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def training(weights: Names, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Plain and averaged weights in one file, as timm writes them."""
    path = tmp_path_factory.mktemp("training") / "model_best.pth.tar"
    averaged = {**weights, "fc.bias": weights["fc.bias"] + 1}
    save({"epoch": 9, "arch": "resnet18", "state_dict": weights, "state_dict_ema": averaged}, path)
    return path


def test_which_weights_were_taken_is_said_everywhere(
    training: Path, weights: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[Any] = []
    monkeypatch.setattr("mpncov_zoo.artifact.write", lambda model, *_, **options: written.append((model, options)))
    certificate = conversion.convert(training, model=MODEL, output=tmp_path / "new", key="state_dict_ema")
    model, options = written[0]
    assert (certificate.key, options["provenance"]["key"]) == ("state_dict_ema", "state_dict_ema")
    taken = model.named_variables()["classifier/logits/bias"].numpy()
    np.testing.assert_array_equal(taken, weights["fc.bias"] + 1)
    plan = conversion.plan(training, model=MODEL, key="state_dict_ema")
    assert plan.key == "state_dict_ema"
    assert str(plan).splitlines()[0].endswith(f"{len(weights) - 1} tensors under the key state_dict_ema")


def test_what_was_left_out_of_the_names_is_said(
    weights: Names, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("mpncov_zoo.artifact.write", lambda *_, **__: None)
    compiled = {f"model._orig_mod.{name}": array for name, array in weights.items()}
    save({"net": {**compiled, "version": 3}}, tmp_path / "net.pth", protocol=4)
    certificate = conversion.convert(tmp_path / "net.pth", model=MODEL, output=tmp_path / "new")
    notes = [
        "All names in the file begin with 'model._orig_mod.', which was left out.",
        "Beside the tensors lie values that are none, which were passed over: version.",
    ]
    assert (certificate.key, certificate.notes) == ("net", notes)
    plan = conversion.plan(tmp_path / "net.pth", model=MODEL)
    assert list(plan.notes) == notes and f"note: {notes[0]}" in str(plan).splitlines()


def test_a_head_under_a_key_of_its_own_is_said(weights: Names, tmp_path: Path) -> None:
    """A file of the parts of one network: its head's names have no layer, and so it is no network by itself."""
    body = {name: array for name, array in weights.items() if not name.startswith("fc.")}
    head = {name.removeprefix("fc."): array for name, array in weights.items() if name.startswith("fc.")}
    beside = (
        "The tensors under the key backbone were read. Those under other keys were passed over: 'head' (2 tensors)."
    )
    save({"backbone": body, "head": head}, tmp_path / "parts.pth")
    with pytest.raises(ConversionError, match="2 variables without a tensor: classifier") as caught:
        conversion.plan(tmp_path / "parts.pth", model=MODEL)
    parts = "If all belong to one network, save them in one state_dict, under its names."
    alone = "With the key backbone these are converted alone."
    assert str(caught.value).endswith(f"{beside} {parts} {alone}") and "as the model" not in str(caught.value)
    chosen = conversion.plan(tmp_path / "parts.pth", model=MODEL, key="backbone")
    assert chosen.num_classes == 0 and "no classifier" in str(chosen).splitlines()[0]
    save({"backbone": weights, "head": head}, tmp_path / "more.pth")
    assert conversion.plan(tmp_path / "more.pth", model=MODEL).notes == (beside,)


def test_of_several_state_dicts_none_is_guessed(training: Path, weights: Names, tmp_path: Path) -> None:
    message = rf"2 state_dicts: 'state_dict' \({len(weights)} tensors\), 'state_dict_ema' \({len(weights)} tensors\)"
    with pytest.raises(ConversionError, match=message):
        conversion.plan(training, model=MODEL)
    with pytest.raises(ConversionError, match=f"no state_dict under the key 'ema'.* {message}"):
        conversion.convert(training, model=MODEL, output=tmp_path / "new", key="ema")
    assert list(tmp_path.iterdir()) == []


def test_the_way_back_has_no_key(tmp_path: Path) -> None:
    message = "An artifact holds one network, under no key: leave out the key. Received: 'ema'."
    with pytest.raises(InputError, match=message):
        conversion.plan(tmp_path, model=MODEL, to="pytorch", key="ema")
    with pytest.raises(InputError, match=message):
        conversion.convert(tmp_path, model=MODEL, output=tmp_path / "a.pth", to="pytorch", key="ema")


def test_certificates_with_and_without_a_key(converted: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    record = json.loads((converted / CERTIFICATE_FILE).read_text())
    assert record.pop("key") is None
    older = conversion.Certificate.model_validate(record)
    assert older.key is None
    errors = StageErrors(stage="stem", pytorch=1e-6, ours=1e-6, bound=4.2e-5)
    case = Case(weights="as read", shape=(1, 8, 8, 3), stages=[errors], top5_agreement=1)
    parity = Parity(device="cpu", reference="it", cases=[case])
    checked = {"parity": parity, "verdict": "passed"}
    assert "<td>key</td>" not in html_report(older.model_copy(update=checked))
    page = html_report(older.model_copy(update={**checked, "key": "model.<ema>"}))
    assert "<td>key</td><td>model.&lt;ema&gt;</td>" in page


# --- what is refused leaves nothing -----------------------------------------------------------------------------------


def with_(weights: Names, name: str, change: Any) -> Names:
    array = weights[name].copy()
    return {**weights, name: change(array)}


def _put(value: float) -> Any:
    def change(array: np.ndarray) -> np.ndarray:
        array.flat[0] = value
        return array

    return change


UNSOUND = {
    "NaN": ("fc.bias", _put(np.nan), r"fc\.bias holds NaN or infinity; nothing was converted"),
    "infinity": ("conv1.weight", _put(np.inf), "conv1.weight holds NaN or infinity"),
    "negative variance": ("bn1.running_var", _put(-1), "bn1.running_var holds a negative variance"),
    "integers": ("fc.bias", lambda a: a.astype(np.int32), "fc.bias is of int32; allowed are floating-point"),
    "digits lost": ("fc.bias", lambda a: a.astype(np.float64) + 1e-12, "fc.bias is of float64 and would lose digits"),
}


@pytest.mark.parametrize("defect", UNSOUND)
def test_unsound_numbers(weights: Names, tmp_path: Path, defect: str) -> None:
    name, change, message = UNSOUND[defect]
    write_pth(with_(weights, name, change), tmp_path / "net.pth")
    with pytest.raises(ConversionError, match=message):
        conversion.convert(tmp_path / "net.pth", model=MODEL, output=tmp_path / "artifact")
    assert [path.name for path in tmp_path.iterdir()] == ["net.pth"]


def test_numbers_that_lose_nothing_in_float32(weights: Names, tmp_path: Path) -> None:
    exact = {name: array.astype(np.float16) if array.dtype == np.float32 else array for name, array in weights.items()}
    exact["fc.bias"] = weights["fc.bias"].astype(np.float64)
    write_safetensors(exact, tmp_path / "net.safetensors")
    prepared = prepare(tmp_path / "net.safetensors", MODEL)
    prepared.place()
    variables = prepared.model.named_variables()
    np.testing.assert_array_equal(variables["classifier/logits/bias"].numpy(), weights["fc.bias"])
    expected = weights["bn1.bias"].astype(np.float16).astype(np.float32)
    np.testing.assert_array_equal(variables["features/stem_bn/beta"].numpy(), expected)


class Hostile:
    def __reduce__(self) -> Any:
        return (print, ("run",))


def test_hostile_and_unusable_files(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({"a": Hostile()}, protocol=2))
    for name, data in {"hostile.pth": content.getvalue(), "empty.pth": b"", "text.pth": b"weights"}.items():
        (tmp_path / name).write_bytes(data)
        with pytest.raises(ConversionError, match=name) as caught:
            conversion.convert(tmp_path / name, model=MODEL, output=tmp_path / "artifact")
        assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ConversionError, match=r"missing\.pth"):
        conversion.convert(tmp_path / "missing.pth", model=MODEL, output=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists() and "run" not in capfd.readouterr().out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"output": "."}, "exists already"),
        ({"labels": "two.txt"}, r"two\.txt has 2 lines; the file's network has 3 classes"),
        ({"labels": "missing.txt"}, r"missing\.txt cannot be read"),
        ({"tag": "No Tag"}, "tag"),
    ],
)
def test_arguments_that_cannot_be_used(checkpoint: Path, tmp_path: Path, changes: dict[str, str], message: str) -> None:
    (tmp_path / "two.txt").write_text("ant\nbee\n")
    paths = {key: tmp_path / value if key != "tag" else value for key, value in changes.items()}
    with pytest.raises(InputError, match=message):
        conversion.convert(checkpoint, **{"model": MODEL, "output": tmp_path / "artifact", **paths})
    assert [path.name for path in tmp_path.iterdir()] == ["two.txt"]


# --- published files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "digest", "published", "tag"),
    [
        ("net.pth", {"sha256": True}, "sha256 matches", "imagenet"),
        ("any.pth", {"sha256_prefix": True}, "sha256 prefix matches", "imagenet"),
        ("net.pth", {}, "no digest published", "imagenet"),
        ("net.pth", {"sha256": False}, "digest differs", "converted"),
        ("any.pth", {"sha256": False}, "unknown", "converted"),
    ],
)
def test_published_files_are_known_by_their_digest(
    checkpoint: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    name: str,
    digest: dict[str, bool],
    published: str,
    tag: str,
) -> None:
    true = hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    pinned = {
        key: (true if right else "0" * 64)[: 8 if key == "sha256_prefix" else 64] for key, right in digest.items()
    }
    entry = load_manifest().published("mpncov_resnet50").model_dump(mode="json")
    upstream = {"url": "http://127.0.0.1/net.pth", "file_name": "net.pth", "converter": "upstream_pytorch", **pinned}
    entry |= {"model": MODEL, "tag": "imagenet", "num_classes": CLASSES, "dataset": "toys", "upstream": upstream}
    known = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
    monkeypatch.setattr("conversion.converter.load_manifest", lambda: known)
    monkeypatch.setattr("mpncov_zoo.labels.FOLDER", tmp_path)
    (tmp_path / "toys.txt").write_text("a\nb\nc\n")
    written: list[Any] = []
    monkeypatch.setattr(
        "conversion.converter._write", lambda prepared, directory, certificate: written.append(prepared)
    )
    (tmp_path / name).write_bytes(checkpoint.read_bytes())
    certificate = conversion.convert(tmp_path / name, model=MODEL, output=tmp_path / "artifact")
    assert (certificate.source.published, certificate.tag) == (published, tag)
    assert written[0].model.labels == (("a", "b", "c") if tag == "imagenet" else None)


# --- the way back -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", sorted(TRANSFORMS))
def test_every_transform_has_its_inverse(name: str) -> None:
    shapes = {"transposed": (3, 2), "as it is": (2, 3), "first row": (1, 5), "HWIO to IO": (1, 1, 2, 3)}
    shapes |= {"triangle by columns to rows": (1, 1, 10, 3), "6x6 grid to rows": (6, 6, 2, 3)}
    shape = {**shapes, "7x7 grid to rows": (7, 7, 2, 3)}.get(name, (2, 3, 4, 5))
    array = np.arange(np.prod(shape)).reshape(shape)
    np.testing.assert_array_equal(INVERSES[name](TRANSFORMS[name](array)), array)


def test_a_wrong_inverse_is_seen(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {**INVERSES, "OIHW to HWIO": lambda kernel: kernel.transpose(3, 2, 1, 0)}
    monkeypatch.setattr("conversion.export.INVERSES", wrong)
    with pytest.raises(ConversionError, match=r"conv1\.weight is not what features/stem_conv/kernel is"):
        conversion.convert(converted, model=MODEL, output=tmp_path / "back.pth", to="pytorch")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parity
def test_a_failed_parity_leaves_no_file(converted: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    errors = StageErrors(stage="stage2", pytorch=1e-6, ours=0.5, bound=4.2e-5)
    case = Case(weights="as read", shape=(1, 8, 8, 3), stages=[errors], top5_agreement=0)
    failed = Parity(device="cpu", reference="it", cases=[case])
    monkeypatch.setattr("conversion.converter._check_parity", lambda prepared, device: failed)
    with pytest.raises(ParityError, match=r"stage2 differs by 5\.0e-01 .*No file was written\.$"):
        conversion.convert(converted, model=MODEL, output=tmp_path / "back.pth", to="pytorch", parity=True)
    assert list(tmp_path.iterdir()) == []


def test_an_artifact_with_options_of_its_own(tmp_path: Path) -> None:
    model = mpncov_zoo.build(MODEL, num_classes=2, options={"representation": {"dimension_reduction": 16}})
    artifact.write(model, tmp_path / "artifact", tag="own", provenance={"kind": "test"})
    conversion.convert(tmp_path / "artifact", model=MODEL, output=tmp_path / "back.pth", to="pytorch")
    written = read_checkpoint(tmp_path / "back.pth").tensors
    assert written["layer_reduce.weight"].shape == (16, 512, 1, 1)


@pytest.mark.parametrize(
    ("model", "family"),
    [
        ("mpncov_resnet18", "upstream PyTorch"),
        ("resnet18", "upstream PyTorch"),
        ("mpncov_resnet50_v1", "pytorchcv"),  # upstream's names would be loaded with the stride elsewhere
        ("mpncov_efficientnet_lite0", "efficientnet_lite_pytorch"),
    ],
)
def test_what_a_network_is_written_as(model: str, family: str) -> None:
    assert export.plan(networks.bare(model, CLASSES)).family == family


@pytest.mark.parametrize("model", ["resnet50_v1", "bcnn_resnet18", "cbp_resnet18", "mpncov_cifar_resnet20"])
def test_networks_that_nobody_s_code_has(model: str) -> None:
    with pytest.raises(ConversionError, match=f"No published PyTorch code is known for {model}"):
        export.plan(networks.bare(model, CLASSES))


def test_names_out_of_a_file_stay_on_one_line(tmp_path: Path) -> None:
    write_pth({"a\nb\x1b[31m": np.zeros(1, np.float32)}, tmp_path / "net.pth")
    with pytest.raises(ConversionError, match=r"'a\\nb\\x1b\[31m'") as caught:
        conversion.convert(tmp_path / "net.pth", model=MODEL, output=tmp_path / "artifact")
    assert len(str(caught.value).splitlines()) == 1


def test_a_verdict_is_that_of_its_parity(converted: Path) -> None:
    record = json.loads((converted / CERTIFICATE_FILE).read_text())
    with pytest.raises(ValueError, match="the parity says 'unchecked'"):
        conversion.Certificate.model_validate({**record, "verdict": "passed"})


@pytest.mark.parametrize(("size", "published"), [(0.1, "unknown"), (None, "no digest published")])
def test_a_name_alone_does_not_make_a_file_the_published_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: float | None, published: str
) -> None:
    entry = load_manifest().published("mpncov_vgg16_bn").model_dump(mode="json")
    entry["upstream"]["size_mib"] = size
    known = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
    monkeypatch.setattr("conversion.converter.load_manifest", lambda: known)
    (tmp_path / "mpncovvgg16_bn.pth").write_bytes(b"")
    found = converter._published(tmp_path / "mpncovvgg16_bn.pth", "0" * 64, "mpncov_vgg16_bn")
    assert found[1] == published
