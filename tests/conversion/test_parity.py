"""Converted networks against the source networks in PyTorch: they agree, and a wrong weight is found where it acts."""

# pyright: reportMissingImports=false
# (torch is installed only where parity is checked)

from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import conversion
from conversion import devices, parity
from conversion.certificate import Case, Parity, StageErrors
from conversion.maps import TRANSFORMS, Step, families_of, pytorch_steps
from conversion.maps.namings import STATE_DICT
from conversion.maps.resnet import upstream_resnet
from conversion.maps.tables import Row
from conversion.preparation import PreparedConversion, prepare
from conversion.report import html_report
from conversion.writers.safetensors import write_safetensors
from mpncov_zoo import architectures, registry
from mpncov_zoo.backbones import blocks
from mpncov_zoo.errors import InputError, ParityError
from tests import networks
from tests.conversion.checkpoints import CLASSES, MODEL, tensors

torch = pytest.importorskip("torch", reason="needs torch")
pytest.importorskip("pytorchcv", reason="needs pytorchcv")
pytestmark = pytest.mark.parity

Options = dict[str, Any]

SIZE, ODD_SIZES = 64, ((3, (65, 47)), (1, (33, 97)))
RESNET = {"features": {"repeats": (1, 1, 2, 2)}, "representation": {"dimension_reduction": 8}}
VGG = {"features": {"repeats": (1, 1, 2, 1, 1)}, "representation": {"dimension_reduction": 8}}
LITE = {"features": {"width": 0.5, "depth": 0.5}}


@pytest.fixture(autouse=True)
def small_images(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parity, "ODD_SIZES", ODD_SIZES)


def written(
    folder: Path, model: str = MODEL, names: str = "upstream PyTorch", options: Options = RESNET
) -> PreparedConversion:
    """A seeded checkpoint, prepared; the names alone tell the family, so any format will do."""
    write_safetensors(tensors(model, names=names, options=options), folder / "net")
    architecture = architectures.of_model(model, options=options, stages=())
    return for_small_images(prepare(folder / "net", model, architecture=architecture))


def for_small_images(prepared: PreparedConversion) -> PreparedConversion:
    network = networks.of_architecture(prepared.recognition.architecture, prepared.model.num_classes, (SIZE, SIZE, 3))
    return replace(prepared, model=network)


@pytest.mark.parametrize("family", [family.name for family in families_of(architectures.of_model(MODEL))])
def test_every_family_has_its_reference(tmp_path: Path, family: str) -> None:
    checked = parity.measure(written(tmp_path, names=family))
    assert checked.first_drift is None
    assert {case.weights for case in checked.cases} == {"as read", "random statistics"}
    assert [case.shape for case in checked.cases[:3]] == [(1, SIZE, SIZE, 3), (3, 65, 47, 3), (1, 33, 97, 3)]
    assert [errors.stage for errors in checked.cases[0].stages][-1] == "logits"
    assert min(case.top5_agreement for case in checked.cases) == 1


def test_a_network_without_a_classifier(tmp_path: Path) -> None:
    content = {name: array for name, array in tensors(options=RESNET).items() if not name.startswith("fc.")}
    write_safetensors(content, tmp_path / "net")
    architecture = architectures.of_model(MODEL, options=RESNET, stages=())
    checked = parity.measure(for_small_images(prepare(tmp_path / "net", MODEL, architecture=architecture)))
    assert checked.first_drift is None
    assert all(case.stages[-1].stage == "representation" for case in checked.cases)
    assert all(case.top5_agreement is None for case in checked.cases)


def peer(module: str) -> Any:
    """Another project's networks; torchvision's do not import beside a PyTorch of another build."""
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        pytest.skip(f"{module} cannot be imported: {error}")


PYTORCHCV = [f"isqrtcovresnet{kind}" for kind in ("18", "34", "50", "50b")]
TORCHVISION = ["resnet18", "resnet34", "resnet50", "resnet101", "resnet152", "vgg16", "vgg16_bn"]


@pytest.mark.parametrize(
    ("module", "family", "name"),
    [
        *(("pytorchcv.models.isqrtcovresnet", "pytorchcv", name) for name in PYTORCHCV),
        *(("torchvision.models", "upstream PyTorch", name) for name in TORCHVISION),
    ],
)
def test_networks_of_other_projects(tmp_path: Path, module: str, family: str, name: str) -> None:
    """With their own initial weights, and random statistics."""
    torch.manual_seed(0)
    network = getattr(peer(module), name)(num_classes=7)
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.normal_(0, 0.1)
            layer.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(layer.weight, 0.2, 0.6)
            torch.nn.init.normal_(layer.bias, 0, 0.1)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    prepared = for_small_images(prepare(tmp_path / "net.pth", registry.canonical_name(name)))
    checked = parity.measure(prepared)
    assert (prepared.plan.family, checked.first_drift) == (family, None)
    images = np.random.default_rng(1).normal(0, 1, (2, 3, *prepared.model.input_shape[1:3])).astype(np.float32)
    with torch.inference_mode():  # the file itself in their network as it is, apart from our code that runs it
        exact = network.double().eval()(torch.from_numpy(images).double()).numpy()
    ours = prepared.model(images.transpose(0, 2, 3, 1)).numpy()
    assert np.abs(ours - exact).max() <= 3 * parity.PUBLISHED_ERROR * np.abs(exact).max()


def swapped(prepared: PreparedConversion, first: str, second: str) -> PreparedConversion:
    """With two variables taken for one another, as by an error in a map."""
    other = {first: second, second: first}
    steps = tuple(replace(s, target=other.get(s.target, s.target)) for s in prepared.recognition.steps)
    return replace(prepared, recognition=replace(prepared.recognition, steps=steps))


@pytest.mark.parametrize(
    ("first", "second", "stage"),
    [
        ("features/stem_bn/beta", "features/stem_bn/moving_mean", "stem"),
        ("features/stage3_block2_bn1/gamma", "features/stage3_block2_bn2/gamma", "stage3"),
        ("features/stage4_block1_conv2/kernel", "features/stage4_block2_conv1/kernel", "stage4"),
        ("representation/reduction_bn/beta", "representation/reduction_bn/gamma", "reduction"),
    ],
)
def test_the_first_stage_that_drifts_is_named(tmp_path: Path, first: str, second: str, stage: str) -> None:
    checked = parity.measure(swapped(written(tmp_path), first, second))
    assert checked.first_drift is not None
    assert checked.first_drift.startswith(f"{stage} differs by ")
    assert "weights random statistics" in checked.first_drift


def test_the_file_s_weights_are_back_afterwards(tmp_path: Path) -> None:
    prepared = written(tmp_path)
    parity.measure(prepared)
    variance = prepared.model.named_variables()["features/stem_bn/moving_variance"].numpy()
    np.testing.assert_array_equal(variance, prepared.tensors["bn1.running_var"])


def test_a_source_network_that_is_not_finite_proves_nothing(tmp_path: Path) -> None:
    prepared = written(tmp_path)
    constant = {"layer_reduce_bn.weight": 0, "layer_reduce_bn.bias": -1}  # all zeros after the ReLU: no trace
    changed = {name: np.full_like(prepared.tensors[name], value) for name, value in constant.items()}
    with pytest.raises(ParityError, match="the reference itself is not finite from covariance on"):
        parity.measure(replace(prepared, tensors={**prepared.tensors, **changed}))


@pytest.mark.parametrize(
    ("model", "family", "options"),
    [
        ("mpncov_vgg16_bn", "upstream PyTorch, fine-tuned with one linear layer", VGG),
        (
            "mpncov_efficientnet_lite0",
            "efficientnet_lite_pytorch",
            {**LITE, "representation": RESNET["representation"]},
        ),
        ("efficientnet_lite0", "efficientnet_lite_pytorch", LITE),
    ],
)
def test_other_backbones_have_their_reference(tmp_path: Path, model: str, family: str, options: Options) -> None:
    if "efficientnet" in model:
        pytest.importorskip("efficientnet_lite_pytorch", reason="needs efficientnet_lite_pytorch")
    assert parity.measure(written(tmp_path, model, family, options)).first_drift is None


def wrong_rows(architecture: architectures.Architecture) -> list[Row]:
    """Upstream's map with the names of two normalisations taken for one another: the file has both of them."""
    other = {"layer3.1.bn1": "layer3.1.bn2", "layer3.1.bn2": "layer3.1.bn1"}
    return [(other.get(theirs, theirs), ours, kind) for theirs, ours, kind in upstream_resnet(architecture)]


def wrong_leaves(rows: list[Row]) -> list[Step]:
    """Mean and beta taken for one another, in every normalisation."""
    other = {"bias": "running_mean", "running_mean": "bias"}
    steps = [(*step.source.rsplit(".", 1), step) for step in pytorch_steps(rows)]
    kernels = {layer for layer, leaf, step in steps if step.target.endswith("/kernel")}
    return [
        replace(step, source=f"{layer}.{leaf if layer in kernels else other.get(leaf, leaf)}")
        for layer, leaf, step in steps
    ]


@pytest.mark.parametrize(
    ("changes", "stage"),
    [
        ({"rows": wrong_rows}, "stage3"),
        ({"naming": replace(STATE_DICT, steps=wrong_leaves)}, "stem"),
    ],
)
def test_an_error_in_a_map_drifts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], stage: str
) -> None:
    """The source network takes the tensors by their names in the file, not by the map."""
    right, *_ = families_of(architectures.of_model(MODEL))
    monkeypatch.setattr("conversion.recognition.families_of", lambda architecture: [replace(right, **changes)])
    drift = parity.measure(written(tmp_path)).first_drift
    assert drift is not None and drift.startswith(f"{stage} differs by ")


def test_errors_in_the_network_drift(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong epsilon; TensorFlow's padding; the stride on another convolution; a kernel transposed."""
    right = written(tmp_path)
    with monkeypatch.context() as patch:
        patch.setitem(blocks.BATCH_NORM, "epsilon", 1e-3)
        assert_drifts(for_small_images(right), "stem")
    with monkeypatch.context() as patch:
        conv = blocks.conv
        patch.setattr(blocks, "conv", lambda *args, **options: conv(*args, **{**options, "same": True}))
        assert_drifts(for_small_images(right), "stem")
    with monkeypatch.context() as patch:
        patch.setitem(TRANSFORMS, "OIHW to HWIO", lambda kernel: kernel.transpose(3, 2, 1, 0))  # type: ignore
        assert_drifts(right, "stem")
    bottlenecks = written(tmp_path, "mpncov_resnet50", "pytorchcv")
    other = architectures.with_options(bottlenecks.recognition.architecture, {"features": {"conv1_stride": True}})
    model = networks.of_architecture(other, CLASSES, (SIZE, SIZE, 3))
    assert_drifts(replace(bottlenecks, model=model), "stage2")


def assert_drifts(prepared: PreparedConversion, stage: str) -> None:
    drift = parity.measure(prepared).first_drift
    assert drift is not None and drift.startswith(f"{stage} differs by ")


def test_tf32_is_as_it_was_afterwards() -> None:
    def flags() -> tuple[bool, ...]:
        tensorflow = tf.config.experimental.tensor_float_32_execution_enabled()
        return tensorflow, torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32

    before = flags()
    for allowed in (True, False):
        with devices.tf32(allowed):
            assert flags() == (allowed,) * 3
        assert flags() == before


def test_what_is_not_finite_has_drifted() -> None:
    assert parity.relative_error(np.array([np.nan, 1]), np.ones(2)) == parity.LARGEST
    assert parity.relative_error(np.ones(2), np.ones(3)) == parity.LARGEST


@pytest.mark.parametrize(
    ("device", "message"), [("tpu", "device must be 'cpu' or 'gpu'"), ("gpu", "TensorFlow and PyTorch see no GPU here")]
)
def test_devices_that_are_not_there(tmp_path: Path, device: str, message: str) -> None:
    if device == "gpu" and torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match=message):
        conversion.convert(tmp_path / "net.pth", model=MODEL, output=tmp_path / "out", parity=True, device=device)


def test_the_whole_conversion_with_its_report(tmp_path: Path) -> None:
    write_safetensors(tensors(), tmp_path / "net.safetensors")
    certificate = conversion.convert(
        tmp_path / "net.safetensors", model=MODEL, output=tmp_path / "artifact", parity=True
    )
    assert certificate.verdict == "passed" and "torch" in certificate.versions
    assert conversion.read_certificate(tmp_path / "artifact") == certificate
    page = (tmp_path / "artifact" / "report.html").read_text()
    assert page == html_report(certificate)
    assert "<svg" in page and "parity passed" in page and certificate.source.sha256 in page
    assert "src=" not in page and 'href="http' not in page  # it opens without a network


def test_the_report_names_the_drift_and_escapes_names() -> None:
    certificate = conversion.Certificate.model_validate(
        {
            "model": MODEL,
            "tag": "converted",
            "num_classes": 3,
            "parameters": 1,
            "source": {"name": "<b>.pth", "format": "x", "size": 1, "sha256": "0" * 64, "published": "unknown"},
            "family": "upstream PyTorch",
            "map_sha256": "0" * 64,
            "tensors": 1,
            "unused": [],
            "versions": {},
            "parity": Parity(device="gpu", reference="it", cases=[case(1e-6, None), case(0.5, 1e-3)]),
            "verdict": "failed",
        }
    )
    page = html_report(certificate)
    assert "First drift: logits differs by 5.0e-01" in page
    assert "&lt;b&gt;.pth" in page and "<b>.pth" not in page
    assert "ours, TF32" in page and "1.0e-03" in page


def case(ours: float, tf32: float | None) -> Case:
    errors = StageErrors(stage="logits", pytorch=1e-6, ours=ours, ours_tf32=tf32, bound=4.2e-5)
    return Case(weights="as read", shape=(1, 8, 8, 3), stages=[errors], top5_agreement=1)
