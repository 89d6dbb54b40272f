"""`mpncov://` in TensorFlow Hub: what it loads, that nothing unverified gets there, and every refusal."""

import json
import shutil
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo import handles
from mpncov_zoo.artifact import writer
from mpncov_zoo.errors import InputError, IntegrityError, NoPretrainedWeights, UnknownModel
from mpncov_zoo.hub.cache import CACHE_VARIABLE
from mpncov_zoo.hub.locations import HUB_VARIABLE
from mpncov_zoo.hub.resolve import BUNDLED
from mpncov_zoo.manifest import load_manifest
from tests import networks

pytestmark = pytest.mark.filterwarnings("ignore:pkg_resources is deprecated:UserWarning")

MODEL = "mpncov_cifar_resnet20"
NAME = f"{MODEL}.fashion_mnist"
HOSTILE = "cifar_resnet20.hostile"
INSTALL = 'pip install "mpncov-zoo[hub]"'


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """TensorFlow Hub as it was before anybody registered, and will be afterwards."""
    import tensorflow_hub
    from tensorflow_hub import registry

    others = [found for found in registry.resolver._impls if type(found).__module__ != handles.__name__]
    monkeypatch.setattr(registry.resolver, "_impls", others)
    monkeypatch.setattr(handles, "_registered", False)
    yield tensorflow_hub


@pytest.fixture
def registered(hub: Any) -> Any:
    mpncov_zoo.hub.register()
    return hub


def resolvers() -> list[Any]:
    from tensorflow_hub import registry

    return [found for found in registry.resolver._impls if type(found).__module__ == handles.__name__]


def pixels(channels: int = 1) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, (3, 28, 28, channels)).astype(np.float32)


# --- what it loads ----------------------------------------------------------------------------------------------------


def test_load_computes_what_our_own_load_does(registered: Any) -> None:
    expected = mpncov_zoo.load(MODEL, pretrained=True)(pixels())
    np.testing.assert_allclose(registered.load(f"mpncov://{MODEL}")(pixels()), expected, rtol=1e-4, atol=1e-4)


def test_layer_trains(registered: Any) -> None:
    layer = registered.KerasLayer(f"mpncov://{NAME}", trainable=True)
    expected = mpncov_zoo.load(NAME, pretrained=True)
    np.testing.assert_allclose(layer(pixels()), expected(pixels()), rtol=1e-4, atol=1e-4)
    assert len(layer.trainable_weights) == len(expected.trainable_variables)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(pixels(), training=True) ** 2)
    gradients = tape.gradient(loss, layer.trainable_weights)
    assert all(np.isfinite(gradient).all() and np.abs(gradient).max() > 0 for gradient in gradients)


@pytest.mark.parametrize("name", [NAME, MODEL, "cifar_mpncovresnet20", "cifar_mpncovresnet20.fashion_mnist"])
def test_handles(registered: Any, name: str) -> None:
    """With a tag and without, by the model's name and by an alias."""
    assert registered.resolve(f"mpncov://{name}") == str(BUNDLED / NAME)


def test_other_handles_are_resolved_as_before(registered: Any, tmp_path: Path) -> None:
    assert registered.resolve(str(tmp_path)) == str(tmp_path)


# --- nothing unverified -----------------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of artifacts that MPNCOV_ZOO_HUB names."""
    monkeypatch.setenv(HUB_VARIABLE, str(tmp_path / "site"))
    return tmp_path / "site"


def test_a_graph_that_nobody_vouches_for_is_exported_anew(
    registered: Any, site: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """TensorFlow would write a file when it loads this one; its weights are sound, and are what is loaded."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    mark, servable = tmp_path / "mark", writer._servable

    class Writing(tf.saved_model.experimental.TrackableResource):
        def _create_resource(self) -> tf.Tensor:
            return tf.zeros(())

        def _initialize(self) -> None:
            tf.io.write_file(str(mark), "it ran")

    def hostile(*arguments: Any) -> Any:
        module = servable(*arguments)
        module.resource = Writing()
        return module

    model = networks.tiny(representation="gap", options={"features": {"repeats": 1}})
    images = networks.images(model, 3)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_servable", hostile)
        writer.write(model, site / HOSTILE, tag="hostile", provenance={})
    mark.unlink(missing_ok=True)
    handle = f"mpncov://{HOSTILE}"
    (exported,) = {registered.resolve(handle) for _ in "ab"}
    assert Path(exported).parent == tmp_path / "cache" / "artifacts"
    for take in (registered.load, registered.KerasLayer):
        np.testing.assert_allclose(take(handle)(images), model(images), rtol=1e-4, atol=1e-5)
    assert not mark.exists()
    registered.load(str(site / HOSTILE))
    assert mark.read_text() == "it ran"
    assert_export_is_verified_and_follows(registered, handle, site / HOSTILE, Path(exported), monkeypatch)


def assert_export_is_verified_and_follows(
    hub: Any, handle: str, source: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = (source / "model.json").read_text()
    (source / "model.json").write_text(json.dumps({**json.loads(content), "provenance": {"kind": "another"}}))
    with monkeypatch.context() as patch:
        patch.setattr(handles, "_export", lambda *_: source / "made anew")
        assert hub.resolve(handle) == str(source / "made anew")
    (source / "model.json").write_text(content)
    (exported / "saved_model.pb").chmod(0o644)
    flip(exported / "saved_model.pb")
    with pytest.raises(IntegrityError, match=r"saved_model\.pb': expected sha256 .*cache repair"):
        hub.load(handle)


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("file", ["saved_model.pb", "variables/variables.data-00000-of-00001", "assets/labels.txt"])
def test_a_flipped_bit(registered: Any, site: Path, artifact_hub: Path, file: str) -> None:
    copy = site / f"{MODEL}.test"
    shutil.copytree(artifact_hub / copy.name, copy)
    flip(copy / file)
    with pytest.raises(IntegrityError, match=f"{file}': expected sha256"):
        registered.load(f"mpncov://{MODEL}.test")


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "handle",
    [
        "mpncov://",
        "mpncov:",
        "mpncov:mpncov_cifar_resnet20",
        f"mpncov://{MODEL}/",
        f"mpncov:///{MODEL}",
        f"mpncov://{MODEL}/fashion_mnist",
        "mpncov://../../etc",
        f"mpncov://{MODEL}?tf-hub-format=compressed",
        f"mpncov://{MODEL}#1",
        f"mpncov://{MODEL}.",
        f"mpncov://{MODEL}.a.b",
        f"mpncov://{MODEL} ",
        f"mpncov://{MODEL}\n",
        "mpncov://näme",
    ],
)
def test_malformed_handles(registered: Any, handle: str) -> None:
    with pytest.raises(InputError) as caught:
        registered.load(handle)
    assert repr(handle) in str(caught.value) and "allowed: mpncov://<model> or mpncov://<model>.<tag>" in str(
        caught.value
    )


def test_unknown_names(registered: Any) -> None:
    with pytest.raises(UnknownModel, match="Did you mean 'mpncov_resnet50'"):
        registered.load("mpncov://mpncov_resnet5O")
    with pytest.raises(NoPretrainedWeights, match=r"tag 'imagenet'; allowed: fashion_mnist"):
        registered.load(f"mpncov://{MODEL}.imagenet")


def test_weights_of_a_trunk_alone_are_no_saved_model(registered: Any) -> None:
    entry = next(entry for entry in load_manifest().entries if entry.trunk is not None)
    for name in (entry.name, entry.model):
        message = rf"^only the trunk of '{entry.model}' has pretrained weights \({entry.trunk}\)"
        with pytest.raises(NoPretrainedWeights, match=message):
            registered.load(f"mpncov://{name}")


# --- registration -----------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("hub")
def test_registered_once_by_however_many_calls_and_threads() -> None:
    assert resolvers() == []
    with ThreadPoolExecutor(16) as threads:
        for call in [threads.submit(mpncov_zoo.hub.register) for _ in range(200)]:
            call.result()
    assert len(resolvers()) == 1


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize("missing", ["tensorflow_hub", "pkg_resources"])
def test_without_the_extra(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """TensorFlow Hub itself, or what setuptools no longer has and it imports."""
    for name in [name for name in sys.modules if name.partition(".")[0] in ("tensorflow_hub", "pkg_resources")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, missing, None)
    for _ in range(2):
        with pytest.raises(InputError) as caught:
            mpncov_zoo.hub.register()
        assert str(caught.value).endswith(INSTALL) and missing in str(caught.value)
        assert "\n" not in str(caught.value)
