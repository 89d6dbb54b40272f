"""The recipes that come with the package, on generated images in their data sets' layouts: all build, some train."""

import csv
import gc
import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

import mpncov_zoo
from mpncov_zoo import architectures, artifact, registry
from mpncov_zoo.training.datasets import read_dataset
from mpncov_zoo.training.datasets.pipelines import evaluation_batches
from mpncov_zoo.training.fit import train
from mpncov_zoo.training.networks import build
from mpncov_zoo.training.recipes import Recipe, list_recipes, load_recipe
from tests import networks
from tests.fashion import write_fashion
from tests.image_folders import write_folders
from tests.photos import encode, photo

IMAGES = 8  # to train on, of two classes


def images(folder: Path, count: int = IMAGES) -> list[str]:
    """Photos of 40x52 pixels, by name."""
    folder.mkdir(parents=True)
    base, names = photo(40, 52), [f"{index:04d}.jpg" for index in range(count)]
    for index, name in enumerate(names):
        (folder / name).write_bytes(encode(Image.fromarray(np.roll(base, 5 * index, axis=1)), "JPEG"))
    return names


def write_cub(root: Path) -> None:
    names = images(root / "images")
    columns = {
        "images": names,
        "image_class_labels": [1 + index % 2 for index in range(IMAGES)],
        "train_test_split": [1] * IMAGES,
        "classes": ["001.Albatross", "002.Auk"],
    }
    for name, column in columns.items():
        (root / f"{name}.txt").write_text("".join(f"{i} {value}\n" for i, value in enumerate(column, 1)))


def write_aircraft(root: Path) -> None:
    variants = ["707-320", "A300B4"]
    lines = [f"{name[:-4]} {variants[index % 2]}\n" for index, name in enumerate(images(root / "images"))]
    (root / "variants.txt").write_text("".join(f"{name}\n" for name in variants))
    (root / "images_variant_trainval.txt").write_text("".join(lines))


def write_cars(root: Path) -> None:
    names = images(root / "cars_train")
    (root / "devkit").mkdir()
    rows = [(1 + index % 2, name) for index, name in enumerate(names)]
    annotations = np.array(rows, [("class", "O"), ("fname", "O")])[None]
    savemat(root / "devkit" / "cars_train_annos.mat", {"annotations": annotations})
    savemat(root / "devkit" / "cars_meta.mat", {"class_names": np.array([["AM General", "Acura"]], object)})


def write_cifar(root: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (IMAGES, 3072), np.uint8)
    (root / "train.bin").write_bytes(
        b"".join(bytes([0, index % 2]) + row.tobytes() for index, row in enumerate(pixels))
    )
    (root / "fine_label_names.txt").write_text("apple\nbaby\n")


def write_elpv(root: Path) -> None:
    """All 2,624 cells, which are few photos under many names."""
    names = images(root / "photos")
    (root / "images").mkdir()
    lines = []
    for cell in range(2624):
        os.link(root / "photos" / names[cell % IMAGES], root / "images" / f"cell{cell + 1:04d}.png")
        lines.append(f"images/cell{cell + 1:04d}.png  {(cell % 4) / 3}  mono\n")
    (root / "labels.csv").write_text("".join(lines))


def write_aid(root: Path) -> None:
    write_folders(root, {"AID": {"Airport": 2, **{f"Scene{number}": 2 for number in range(29)}}})


def write_imagenet(root: Path) -> None:
    classes = {"n01440764": IMAGES // 2, "n01443537": IMAGES // 2}
    write_folders(root, {"train": classes, "val": classes})


WRITERS: Mapping[str, Callable[[Path], object]] = {
    "aid": write_aid,
    "aircraft": write_aircraft,
    "cars": write_cars,
    "cifar100": write_cifar,
    "cub": write_cub,
    "elpv": write_elpv,
    "elpv_levels": write_elpv,
    "fashion_mnist": lambda root: write_fashion(root, train=IMAGES * 5, test=10),
    "imagenet": write_imagenet,
}


def smaller(name: str) -> list[str]:
    """Settings under which a recipe's network, its images and its training are as small as they can be."""
    recipe = load_recipe(name)
    row = registry.backbone_of(registry.canonical_name(recipe.model))
    repeats = row.options.get("repeats", ())
    settings = ["epochs=1", "optimizer.warmup_epochs=0", f"batch_size={IMAGES // 2}"]
    if recipe.input.size[0] > 32:
        side = 48 if recipe.dataset.startswith("elpv") else 32 if "vgg" in recipe.model else 64
        settings += [f"input.size=[{side}, {side}]"]
    if repeats:
        settings += [f"options.features.repeats={1 if isinstance(repeats, int) else [1] * len(repeats)}"]
    if recipe.model.startswith("mpncov"):
        settings += ["options.representation.dimension_reduction=8"]
    if "vgg" in recipe.model and recipe.model.startswith("mpncov"):
        settings += ["options.classifier.hidden=[8]"]
    if recipe.first_stage:
        settings += ["first_stage.epochs=1"]
    return settings


@pytest.fixture
def _forget() -> Iterator[None]:
    """Keras' own memory of the networks: together they have gigabytes."""
    yield
    keras.backend.clear_session()
    gc.collect()


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Name of a data set -> its directory."""
    written: dict[str, Path] = {}

    def directory(dataset: str) -> Path:
        if dataset not in written:
            written[dataset] = tmp_path_factory.mktemp(dataset)
            WRITERS[dataset](written[dataset])
        return written[dataset]

    return directory


def generated_weights(recipe: Recipe, directory: Path) -> tuple[Path, dict[str, np.ndarray]]:
    """An artifact of the recipe's trunk, as small as the recipe's network, and the values of its features."""
    model, _, tag = (
        str(recipe.pretrained).partition(".") if isinstance(recipe.pretrained, str) else (recipe.model, "", "own")
    )
    hidden = {"classifier": {"hidden": [8]}} if "vgg" in model else {}
    of_trunk = recipe.model_copy(update={"model": model, "options": {"features": recipe.options["features"], **hidden}})
    source = build(of_trunk, ("one", "two", "three"))
    networks.randomize(source)
    written = directory / f"{model}.{tag}"
    artifact.write(source, written, tag=tag, provenance={"kind": "test"})
    values = {n: v.numpy() for n, v in source.named_variables().items() if n.startswith("features/")}
    return written, values


# Of one stage and of two, with and without pretrained weights and validation images, in files and in memory. The other
# recipes change the data or the trunk of one of these; fashion_mnist is trained by many tests of this folder.
TRAINED = ("cars_mpncov_resnet50", "cifar100_mpncov", "cub_bcnn_vgg16_bn", "imagenet_mpncov_resnet50")


@pytest.mark.usefixtures("_forget")
@pytest.mark.parametrize("name", TRAINED)
def test_a_recipe_trains(name: str, data: Callable[[str], Path], tmp_path: Path) -> None:
    recipe = load_recipe(name, smaller(name))
    hub, begun_with = None, {}
    if recipe.pretrained and recipe.options.get("features"):
        hub, begun_with = generated_weights(recipe, tmp_path / "hub")
    written = train(recipe, data(recipe.dataset), tmp_path / "run", hub=hub, verbose=0)
    with (tmp_path / "run" / "log.csv").open(newline="") as log:
        rows = list(csv.DictReader(log))
    assert len(rows) == (2 if recipe.first_stage else 1)
    assert all(np.isfinite(float(row["loss"])) and float(row["loss"]) > 0 for row in rows)
    assert ("val_loss" in rows[0]) == bool(recipe.validation)
    model = mpncov_zoo.load(recipe.model, pretrained=True, hub=written)
    assert model.num_classes == len(model.labels or ()) >= 2
    assert json.loads((written / "model.json").read_text())["provenance"]["recipe"] == recipe.model_dump(mode="json")
    variables = model.named_variables()
    kernels = [kernel for kernel in begun_with if kernel.endswith("/kernel")]
    for kernel in kernels:  # fine-tuned: not far from where they began, and not there any more
        distance = np.linalg.norm(variables[kernel].numpy() - begun_with[kernel]) / np.linalg.norm(begun_with[kernel])
        assert 0 < distance < 0.3, (kernel, distance)
    assert bool(kernels) == (hub is not None)


@pytest.mark.parametrize("name", sorted({*list_recipes()} - {*TRAINED}))
def test_a_recipe_builds_what_it_says(name: str, data: Callable[[str], Path]) -> None:
    """Its data are read, it begins with the weights of its own trunk, its stages exist, and images go through it."""
    recipe = load_recipe(name, smaller(name))
    training = read_dataset(recipe.dataset, data(recipe.dataset), "train")
    model = build(recipe, training.class_names)
    for phase in recipe.phases():
        model.freeze(phase.freeze)
        assert bool(model.trainable_variables) and len(training) >= recipe.batch_size
    if isinstance(recipe.pretrained, str):
        begins_with, own = (architectures.of_model(n) for n in (recipe.pretrained.partition(".")[0], recipe.model))
        assert (begins_with.backbone, begins_with.features_options) == (own.backbone, own.features_options)
    batch, _ = next(iter(evaluation_batches(training, recipe.input, 2)))
    logits = np.asarray(model(batch), np.float32)
    assert logits.shape == (2, len(training.class_names)) and np.isfinite(logits).all()
