"""A probe from images to a classifier: what it measures, writes, finds in the cache, and refuses."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import mpncov_zoo
from mpncov_zoo.description import parse_description
from mpncov_zoo.errors import InputError, ZooError
from mpncov_zoo.features import ProbeReport, linear, probe, probing
from mpncov_zoo.training.datasets import Shares, divide, read_dataset
from tests import networks
from tests.command_line import Capture, assert_refused, run

NAME = "mpncov_cifar_resnet20"
CLASSES = ("columns", "dots", "rows")


def texture(kind: str, rng: np.random.Generator) -> np.ndarray:
    """uint8 (28, 28): noise with stripes or dots, of any phase."""
    y, x = np.mgrid[:28, :28] + rng.integers(0, 8, (2, 1, 1))
    pattern = {"columns": x // 2 % 2, "rows": y // 2 % 2, "dots": (x // 3 % 2) * (y // 3 % 2)}[kind]
    return (170 * pattern + rng.integers(0, 80, (28, 28))).astype(np.uint8)


def write_textures(root: Path, count: int) -> Path:
    rng = np.random.default_rng(0)
    for kind in CLASSES:
        (root / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(texture(kind, rng)).save(root / kind / f"{number:02d}.png")
    return root


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_textures(tmp_path_factory.mktemp("textures"), 12)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def made(photos: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> ProbeReport:
    output = tmp_path_factory.mktemp("classifiers")
    options = {"stages": ["stage2", "stage3"], "pool": "mpncov", "train": 0.5, "splits": 3}
    return probe(NAME, photos, cache_dir=cache, output=output, **options)


def test_textures_are_told_apart(made: ProbeReport) -> None:
    assert (made.images, made.classes, made.dimension, made.train) == (36, 3, 32 * 33 // 2 + 64 * 65 // 2, 0.5)
    assert made.model == NAME and made.stages == ("stage2", "stage3") and len(made.top1.splits) == 3
    assert made.top1.mean == pytest.approx(np.mean(made.top1.splits)) and made.top1.mean > 0.9
    assert made.top1.std == pytest.approx(np.std(made.top1.splits, ddof=1))
    assert {*made.constants} <= {*linear.CONSTANTS}
    confusion = np.asarray(made.confusion)
    assert made.class_names == CLASSES and (confusion.sum(axis=1) == 3 * 6).all()
    assert np.trace(confusion) / confusion.sum() == pytest.approx(made.top1.mean)


def test_accuracies_of_a_confusion_are_scikit_learns() -> None:
    from sklearn.metrics import accuracy_score, balanced_accuracy_score

    confusion = np.array([[3, 0, 1], [0, 0, 0], [2, 0, 4]])  # of one class there was no test image
    true, answer = np.repeat(np.argwhere(confusion >= 0), confusion.ravel(), axis=0).T
    assert probing._top1(confusion) == pytest.approx(accuracy_score(true, answer))
    assert probing._balanced_accuracy(confusion) == pytest.approx(balanced_accuracy_score(true, answer))


def test_the_artifact_predicts_as_the_classifier_did(made: ProbeReport, photos: Path) -> None:
    """The network's own logits, from files, are those of the classifier on the features that the network extracts."""
    assert made.artifact is not None
    model = mpncov_zoo.load(made.artifact)
    assert model.labels == CLASSES and model.architecture.representation_options == {"l2_normalize": True}
    images = read_dataset("folders", photos, "train")
    x = model.preprocess([photos / images.name(index) for index in range(len(images))])
    features = np.asarray(mpncov_zoo.feature_extractor(model, ["representation"])(x)["representation"])
    for vector in np.split(features, [528], axis=1):
        np.testing.assert_allclose(np.linalg.norm(vector, axis=1), 1, atol=1e-5)
    logits = np.asarray(model(x))
    machine = linear.fit(features.astype(np.float16).astype(np.float64), images.labels, 3)
    reference = machine.logits(features.astype(np.float64))
    np.testing.assert_allclose(logits, reference, atol=0.02 * np.abs(reference).max())
    assert (logits.argmax(1) == reference.argmax(1)).all() and (logits.argmax(1) == images.labels).mean() > 0.95
    description = parse_description(Path(made.artifact) / "model.json")
    assert description.metrics[0].value == pytest.approx(100 * made.top1.mean)
    assert description.provenance["report"]["seed"] == 0 and "--stage stage2 stage3" in description.metrics[0].command


def seen(patch: pytest.MonkeyPatch, name: str) -> list[tuple[tuple[Any, ...], Any]]:
    """Arguments and results of a function of the probe, as it is called from now on."""
    calls, function = [], getattr(probing, name)

    def noting(*arguments: Any, **named: Any) -> Any:
        result = function(*arguments, **named)
        calls.append((arguments, result))
        return result

    patch.setattr(probing, name, noting)
    return calls


def test_the_splits_are_those_of_division(
    made: ProbeReport, photos: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`train` with `split.test=0.5 split.seed=1` keeps the same images apart as the second split of a probe."""
    measured, kept = seen(monkeypatch, "_measure"), seen(monkeypatch, "stored_features")
    probe(NAME, photos, cache_dir=cache, stages=["stage2", "stage3"], pool="mpncov", train=0.5, splits=2)
    images = read_dataset("folders", photos, "train")
    parts = divide(images, Shares(test=0.5, seed=1))
    (*_, of_rows, division, _, _), _ = measured[1]
    image_of = np.argsort(kept[0][1][1])  # a row -> the image whose features are there
    assert (image_of != np.arange(36)).any() and (of_rows.labels == images.labels[image_of]).all()
    training, test = (image_of[part] for part in division)
    assert [images.name(index) for index in test] == [parts["test"].name(index) for index in range(len(parts["test"]))]
    assert not {*training} & {*test} and len(training) + len(test) == 36


def test_a_second_probe_computes_no_features(
    photos: Path, cache: Path, made: ProbeReport, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def refuse(*_: Any) -> None:
        raise AssertionError("features are computed again")

    monkeypatch.setattr(probing._Normalised, "network", property(refuse))
    options = {"stages": ["stage2", "stage3"], "pool": "mpncov", "train": 0.5, "splits": 3, "cache_dir": cache}
    again = probe(NAME, photos, **options)
    assert again.top1 == made.top1 and again.artifact is None
    for change in ({"stages": ["stage3"]}, {"pool": "gap"}):  # other features; test_stored.py has the rest of the key
        with pytest.raises(AssertionError, match="computed again"):
            probe(NAME, photos, **{**options, **change})
    elsewhere = tmp_path / "elsewhere"  # the same images in another order, under other names
    for number, path in enumerate(sorted(photos.glob("*/*.png"), reverse=True)):
        copy = elsewhere / ("train" if number % 3 else "test") / path.parent.name / f"{number:02}.png"
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    found = probe(NAME, elsewhere, **{**options, "train": None})
    assert found.images == made.images and found.top1.mean > 0.8
    other = write_textures(tmp_path / "other", 12)
    (other / "dots" / "00.png").write_bytes((other / "rows" / "00.png").read_bytes())
    with pytest.raises(AssertionError, match="computed again"):
        probe(NAME, other, **options)


def test_a_split_of_its_own_is_measured_on(
    photos: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The classifier that is kept has learned from the others."""
    data = tmp_path / "data"
    data.mkdir()
    (data / "train").symlink_to(photos)
    write_textures(data / "test", 4)
    learned, kept = seen(monkeypatch, "_learn"), seen(monkeypatch, "stored_features")
    found = probe(NAME, data, cache_dir=cache, stages=["stage3"], pool="gap", output=tmp_path / "classifiers")
    assert found.train is None and found.images == 36 + 12 and len(found.top1.splits) == 1 and found.top1.std == 0
    (_, features, _, of_rows, *_), _ = learned[0]
    first = read_dataset("folders", data, "train")
    model = mpncov_zoo.feature_extractor(mpncov_zoo.load(found.artifact), ["representation"])
    x = model.preprocess([first.root / first.name(index) for index in range(36)])
    np.testing.assert_allclose(features[of_rows.learned], model(x)["representation"], atol=1e-3)
    assert (of_rows.labels[of_rows.learned] == first.labels).all() and len(kept[0][1][1]) == 48
    assert probe(NAME, data, cache_dir=cache, stages=["stage3"], pool="gap", train=0.5).images == 36 + 12


def test_a_network_and_its_own_representation(photos: Path, cache: Path) -> None:
    network = mpncov_zoo.load(NAME, pretrained=True)
    found = probe(network, photos, cache_dir=cache, splits=1, train=0.5)
    assert (found.model, found.stages, found.dimension) == (NAME, (), 2080)
    with pytest.raises(InputError, match="is a network already: leave out stages"):
        probe(network, photos, pool="gap")


def test_command(
    capsys: Capture, photos: Path, made: ProbeReport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path
) -> None:
    monkeypatch.setenv("MPNCOV_ZOO_CACHE", str(cache))
    arguments = ["probe", NAME, "--data", photos, "--stage", "stage2", "stage3", "--pool", "mpncov", "--train", 0.5]
    code, out, _ = run(capsys, *arguments, "--splits", 3, "--json")
    found = json.loads(out)
    assert code == 0 and found["top1"] == {"mean": made.top1.mean, "std": made.top1.std, "splits": [*made.top1.splits]}
    code, out, _ = run(capsys, *arguments, "--splits", 1, "--output", tmp_path, "--tag", "textures")
    lines = out.splitlines()
    assert code == 0 and lines[0] == f"features           {NAME} of stage2, stage3, 2,608 values"
    assert lines[1].endswith("36 of 3 classes, 50% of each class to learn from")
    path = tmp_path / f"{NAME}.textures"
    assert str(path) in lines[-1] and "mpncov-zoo predict" in lines[-1]
    code, out, _ = run(capsys, "predict", path, photos / "dots" / "00.png", "--top", 1)
    assert code == 0 and "dots" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--stage", "stage9"], "The trunk has the stages stem, stage1, stage2, stage3. Received: stage9."),
        (["--train", "0.05"], "the class 'columns' would have 1 of its images to learn from"),
        (["--train", "1.5"], "train is a share"),
        (["--dataset", "nothing"], "No reader for the data set 'nothing'"),
        (["--size", "1"], "needs 2 positions or more"),
        (["--pool", "gap"], "pool='gap' needs stages to stand on"),
        (["--seed", "-1"], "seed 0 or more"),
        (["--output", "classifiers", "--tag", "no name!"], "A tag is lower-case letters"),
        (["--stage", "stage2", "stage2"], "stages must be a list of different names"),
    ],
)
def test_what_cannot_be_probed(
    capsys: Capture, photos: Path, arguments: list[str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probing, "stored_features", None)  # it is refused before the images are read
    assert_refused(run(capsys, "probe", NAME, "--data", photos, *arguments), message)


def test_an_older_classifier_is_not_overwritten(made: ProbeReport, photos: Path, cache: Path) -> None:
    before = (Path(made.artifact or "") / "model.json").read_bytes()
    with pytest.raises(InputError, match="exists already: give another output or tag"):
        probe(NAME, photos, cache_dir=cache, output=Path(made.artifact or "").parent)
    assert (Path(made.artifact or "") / "model.json").read_bytes() == before


def test_an_unreadable_image_stops_it_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    textures = write_textures(tmp_path / "textures", 4)
    (textures / "dots" / "01.png").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"dots/01\.png"):
        probe(NAME, textures, train=0.5, cache_dir=tmp_path / "cache")
    assert not [*(tmp_path / "cache").rglob("*.npy")]


def test_random_weights_are_refused_but_not_those_of_a_network(photos: Path, cache: Path, shared_cache: Path) -> None:
    with pytest.raises(InputError, match=r"would be computed by random weights.*only efficientnet_lite0\.imagenet"):
        probe("mpncov_efficientnet_lite0", photos, stages=[], cache_dir=shared_cache)
    given = mpncov_zoo.build("cifar_resnet20", input_shape=(28, 28, 1), options={"features": {"repeats": 1}})
    assert probe(given, photos, cache_dir=cache, splits=1, train=0.5).dimension == 64  # it may have been trained


def test_an_optimized_network_is_refused(photos: Path) -> None:
    with pytest.raises(InputError, match="is optimized, for inference alone: probe the network that it was made of"):
        probe(mpncov_zoo.optimize(networks.tiny()), photos)


def test_output_among_the_images_is_refused(photos: Path) -> None:
    with pytest.raises(InputError, match="is among the class folders"):
        probe(NAME, photos, output=photos)


def test_without_scikit_learn(photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sklearn", None)
    with pytest.raises(ZooError, match=r"pip install 'mpncov-zoo\[features\]'"):
        probe(NAME, photos)
