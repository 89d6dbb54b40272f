"""`.h5` weights of Keras 2, as the published TensorFlow code writes them, and hostile ones."""

import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.readers import hdf5, read_checkpoint
from conversion.readers.hdf5 import read_h5
from mpncov_zoo.errors import ConversionError

h5py = pytest.importorskip("h5py", reason="needs h5py")


@pytest.fixture(scope="module")
def keras2() -> Any:
    return pytest.importorskip("tf_keras", reason="needs tf_keras")


def published(keras: Any) -> Any:
    """Three parts as the published code has them, one a Sequential, in a model class of its own."""
    layers = keras.layers

    class Network(keras.Model):
        def __init__(self) -> None:
            super().__init__()
            first = [layers.Conv2D(4, 3, use_bias=False, name="conv"), layers.BatchNormalization(name="bn")]
            block = keras.Sequential([layers.Conv2D(5, 1, name="inner")], name="block")
            self.features = keras.Sequential([*first, block], name="features")
            self.pool = layers.GlobalAveragePooling2D(name="pool")
            self.classifier = layers.Dense(3, name="classifier")
            self.scale = self.add_weight(name="scale", shape=(2,))

        def call(self, images: Any) -> Any:
            return self.classifier(self.pool(self.features(images)))

    network = Network()
    network.build((None, 8, 8, 3))
    randomize(network)
    return network


def randomize(network: Any) -> None:
    rng = np.random.default_rng(0)
    network.set_weights([rng.normal(0, 1, array.shape) for array in network.get_weights()])


def test_weights_of_keras(keras2: Any, tmp_path: Path) -> None:
    network = published(keras2)
    network.save_weights(tmp_path / "a.h5")
    stored = read_checkpoint(tmp_path / "a.h5")
    assert stored.format == "HDF5"
    expected = {
        f"features/{name}": network.features.get_weights()[index]
        for index, name in enumerate(weight.name for weight in network.features.weights)
    }
    expected |= {f"classifier/{weight.name}": weight.numpy() for weight in network.classifier.weights}
    expected["top_level_model_weights/scale:0"] = network.scale.numpy()
    kernels = [name for name in stored.tensors if name.endswith("kernel:0")]
    assert kernels == ["features/conv/kernel:0", "features/inner/kernel:0", "classifier/classifier/kernel:0"]
    assert_same(stored.tensors, expected)


def assert_same(actual: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert sorted(actual) == sorted(expected)
    for name, array in expected.items():
        np.testing.assert_array_equal(actual[name], array)
        assert actual[name].dtype == np.float32
        assert not actual[name].flags.writeable


def test_whole_models_of_keras(keras2: Any, tmp_path: Path) -> None:
    """Their optimizer's variables are not the network's."""
    layers = keras2.layers
    network = keras2.Sequential([layers.Input((3,)), layers.Dense(2, name="a"), layers.Dense(1, name="b")])
    network.compile("adam", "mse")
    network.fit(np.ones((2, 3)), np.ones((2, 1)), verbose=0)
    network.save(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert "optimizer_weights" in file
    weights = dict(
        zip(["a/a/kernel:0", "a/a/bias:0", "b/b/kernel:0", "b/b/bias:0"], network.get_weights(), strict=True)
    )
    assert_same(read_h5(tmp_path / "a.h5"), weights)


def test_weights_of_keras_3(tmp_path: Path) -> None:
    import keras

    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save_weights(tmp_path / "a.weights.h5")
    with pytest.raises(ConversionError, match=r"it is a \.weights\.h5 of Keras 3.*model\.load_weights\(FILE\);"):
        read_h5(tmp_path / "a.weights.h5")


def test_lists_in_pieces(keras2: Any, tmp_path: Path) -> None:
    """Keras spreads a list over several attributes where it is longer than 64 kB."""
    layers = keras2.layers
    network = keras2.Sequential(
        [layers.Input((1,))] + [layers.Dense(1, name=f"{n:03}" + 2500 * "x") for n in range(30)]
    )
    randomize(network)
    network.save_weights(tmp_path / "a.h5")
    with h5py.File(tmp_path / "a.h5") as file:
        assert "layer_names1" in file.attrs
    tensors = read_h5(tmp_path / "a.h5")
    assert len(tensors) == 60
    for actual, expected in zip(tensors.values(), network.get_weights(), strict=True):
        np.testing.assert_array_equal(actual, expected)


def write(path: Path, change: Callable[[Any], Any] = lambda file: None, **attributes: Any) -> None:
    """Layer `a` with one kernel, as Keras would write it, and a change to that."""
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = [b"a"]
        file.create_group("a").attrs["weight_names"] = attributes.get("weights", [b"a/kernel:0"])
        file["a/a/kernel:0"] = np.arange(6, dtype=np.float32).reshape(2, 3)
        change(file)


@pytest.mark.parametrize("names", [[b"a/kernel:0"], ["a/kernel:0"]])
def test_texts_and_bytes(names: list[Any], tmp_path: Path) -> None:
    write(tmp_path / "a.h5", weights=names)
    assert read_h5(tmp_path / "a.h5")["a/a/kernel:0"].tolist() == [[0, 1, 2], [3, 4, 5]]


def test_many_references_to_one_long_text(tmp_path: Path) -> None:
    """300 references to a text of 1 MB take 5 kB of the file."""
    size = 10**6
    write(tmp_path / "a.h5", weights=["x" * size] + 299 * ["y"])
    content = (tmp_path / "a.h5").read_bytes()
    found = re.search(re.escape(struct.pack("<I", size)) + b"(?!\0{4}).{12}", content, re.DOTALL)
    assert found, "length, address of the heap, number in it"
    place, reference = found.start(), found.group()
    (tmp_path / "a.h5").write_bytes(content[:place] + 300 * reference + content[place + 300 * 16 :])
    with h5py.File(tmp_path / "a.h5") as file:
        assert {len(name) for name in file["a"].attrs["weight_names"]} == {size}
    with pytest.raises(ConversionError, match="'weight_names' has too many texts, if each is of"):
        read_h5(tmp_path / "a.h5")


def test_the_limit_of_texts_is_that_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def second_layer(file: Any) -> None:
        file.attrs["layer_names"] = [b"a", b"b"]
        file.create_group("b").attrs["weight_names"] = ["kernel:0"]
        file["b/kernel:0"] = np.ones(1, np.float32)

    write(tmp_path / "a.h5", second_layer, weights=["a/kernel:0"])
    heap = 4096  # bytes, HDF5's smallest
    monkeypatch.setattr(hdf5, "MAX_TEXTS", 4 * heap)  # for h5py writes bytes so, too
    assert list(read_h5(tmp_path / "a.h5")) == ["a/a/kernel:0", "b/kernel:0"]
    monkeypatch.setattr(hdf5, "MAX_TEXTS", 4 * heap - 1)
    with pytest.raises(ConversionError, match="has too many texts, if each is of"):
        read_h5(tmp_path / "a.h5")


def test_lists_of_texts_within_texts(tmp_path: Path) -> None:
    """Their number is not known before they are read."""
    write(tmp_path / "a.h5")
    rows = np.empty(1, object)
    rows[0] = np.arange(3)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["a"].attrs.create("weight_names", rows, dtype=h5py.vlen_dtype(np.int64))
    with pytest.raises(ConversionError, match="'weight_names' are not names"):
        read_h5(tmp_path / "a.h5")


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i8", "u1"])
@pytest.mark.parametrize("shape", [(), (0, 3), (3,)])
def test_types_and_shapes_are_kept(dtype: str, shape: tuple[int, ...], tmp_path: Path) -> None:
    write(tmp_path / "a.h5", replaced(lambda group: group.create_dataset("kernel:0", shape, dtype, np.ones(shape))))
    array = read_h5(tmp_path / "a.h5")["a/a/kernel:0"]
    assert (array.dtype, array.shape) == (np.dtype(dtype), shape)
    assert (array == 1).all()
    assert not array.flags.writeable


def replaced(make: Callable[[Any], Any]) -> Callable[[Any], None]:
    """A change that puts something else in the kernel's place."""

    def change(file: Any) -> None:
        del file["a/a/kernel:0"]
        make(file["a/a"])

    return change


def external_link(group: Any) -> None:
    group["kernel:0"] = h5py.ExternalLink("secret.h5", "/secret")


def soft_link(group: Any) -> None:
    group.file["elsewhere"] = np.ones(3, np.float32)
    group["kernel:0"] = h5py.SoftLink("/elsewhere")


def external_storage(group: Any) -> None:
    group.create_dataset("kernel:0", (4,), "f4", external=[("secret.bin", 0, 16)])


def virtual(group: Any) -> None:
    layout = h5py.VirtualLayout((3,), "f4")
    layout[:] = h5py.VirtualSource("secret.h5", "secret", (3,))
    group.create_virtual_dataset("kernel:0", layout)


def bomb(group: Any) -> None:
    group.create_dataset("kernel:0", (2**20,), "f4", np.zeros(2**20), compression="gzip")


def unwritten(group: Any) -> None:
    """HDF5 makes up the numbers that a file does not hold, here a terabyte."""
    group.create_dataset("kernel:0", (2**38,), "f4")


def unwritten_chunks(group: Any) -> None:
    group.create_dataset("kernel:0", (2**38,), "f4", chunks=(2**10,))


def text(group: Any) -> None:
    group["kernel:0"] = ["text"]


def compound(group: Any) -> None:
    group["kernel:0"] = np.zeros(2, [("a", "f4"), ("b", "i4")])


def references(group: Any) -> None:
    group.create_dataset("kernel:0", (1,), h5py.ref_dtype)


def enumeration(group: Any) -> None:
    group.create_dataset("kernel:0", (1,), h5py.enum_dtype({"a": 1}))


def booleans(group: Any) -> None:
    group["kernel:0"] = np.ones(2, bool)


def complexes(group: Any) -> None:
    group["kernel:0"] = np.ones(2, complex)


def big_endian(group: Any) -> None:
    group["kernel:0"] = np.ones(2, ">f4")


def nothing(group: Any) -> None:
    group["kernel:0"] = h5py.Empty("f4")


def datatype(group: Any) -> None:
    group["kernel:0"] = np.dtype("f4")


def absent(group: Any) -> None:
    del group


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (external_link, "'a/a/kernel:0' is a link"),
        (soft_link, "'a/a/kernel:0' is a link"),
        (external_storage, "'a/a/kernel:0' is compressed, in pieces or in another file"),
        (virtual, "'a/a/kernel:0' is compressed, in pieces or in another file"),
        (bomb, "'a/a/kernel:0' is compressed, in pieces or in another file"),
        (unwritten_chunks, "'a/a/kernel:0' is compressed, in pieces or in another file"),
        (unwritten, f"'a/a/kernel:0' has 0 bytes, not {2**40}"),
        (text, "is of type object; only little-endian numbers are weights"),
        (compound, "is of type .*; only"),
        (references, "is of type object; only"),
        (enumeration, "is of type .*; only"),
        (booleans, "is of type bool; only"),
        (complexes, "is of type complex128; only"),
        (big_endian, "is of type >f4; only"),
        (nothing, "in pieces"),
        (datatype, "neither a group nor a tensor"),
        (absent, "'a/a/kernel:0' and 0 more are listed, but not there"),
    ],
)
def test_what_keras_does_not_write(
    make: Callable[[Any], Any], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with h5py.File("secret.h5", "w") as file:
        file["secret"] = np.ones(3, np.float32)
    Path("secret.bin").write_bytes(bytes(16))
    write(tmp_path / "a.h5", replaced(make))
    with pytest.raises(ConversionError, match=rf"a\.h5: .*{message}") as raised:
        read_h5(tmp_path / "a.h5")
    assert "\n" not in str(raised.value)


def attribute(place: str, name: str, value: Any) -> Callable[[Any], None]:
    def change(file: Any) -> None:
        file[place].attrs[name] = value

    return change


def no_list(file: Any) -> None:
    del file.attrs["layer_names"]


def cycle(file: Any) -> None:
    file["a/a/up"] = file["a"]


def second_name(file: Any) -> None:
    file["a/again"] = file["a/a/kernel:0"]


def more(file: Any) -> None:
    file["a/a/bias:0"] = np.ones(3, np.float32)


def link_beside(file: Any) -> None:
    file["beside"] = h5py.ExternalLink("secret.h5", "/")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_list, "it has no layer_names"),
        (attribute("/", "layer_names", [b"a", b"b"]), "layer 'b' is listed, but not there"),
        (attribute("/", "layer_names", [b"a/a/kernel:0"]), "layer 'a/a/kernel:0' is listed, but not there"),
        (attribute("/", "layer_names", [b"/"]), "layer '/' is listed, but not there"),
        (attribute("/", "layer_names", [b"a", b"a"]), "'a/a/kernel:0' and 0 more are listed twice"),
        (attribute("/", "layer_names", [1, 2]), "layer_names of '/' are not names"),
        (attribute("/", "layer_names", [b"\xff"]), "damaged|listed, but not there"),
        (attribute("/", "layer_names", h5py.Empty("S1")), "damaged|are not names"),
        (attribute("a", "weight_names", [b"/a/a/kernel:0"]), "'a//a/a/kernel:0' and 0 more are listed, but not there"),
        (attribute("a", "weight_names", [b"../a/a/kernel:0"]), "listed, but not there"),
        (attribute("a", "weight_names", [b"a"]), "'a/a' and 0 more are listed, but not there"),
        (attribute("a", "weight_names", np.zeros(0, "S1")), "'a/a/kernel:0' and 0 more are there, but not listed"),
        (more, "'a/a/bias:0' and 0 more are there, but not listed"),
        (cycle, "'a/a/up' is in it twice"),
        (second_name, "is in it twice"),
        (link_beside, "'beside' is a link"),
    ],
)
def test_lists_that_lie(change: Callable[[Any], Any], message: str, tmp_path: Path) -> None:
    write(tmp_path / "a.h5", change)
    with pytest.raises(ConversionError, match=rf"a\.h5.*({message})"):
        read_h5(tmp_path / "a.h5")


def test_every_truncation(tmp_path: Path) -> None:
    write(tmp_path / "whole.h5")
    whole = (tmp_path / "whole.h5").read_bytes()
    for length in range(0, len(whole), 97):
        (tmp_path / "a.h5").write_bytes(whole[:length])
        with pytest.raises(ConversionError, match=r"a\.h5"):
            read_h5(tmp_path / "a.h5")


def test_a_deep_file(tmp_path: Path) -> None:
    """The walk over groups within groups is no recursion."""

    def deep(file: Any) -> None:
        group = file["a"]
        for _ in range(3000):
            group = group.create_group("g")
        group["kernel"] = np.ones(1, np.float32)

    write(tmp_path / "a.h5", deep)
    with pytest.raises(ConversionError, match="there, but not listed"):
        read_h5(tmp_path / "a.h5")
