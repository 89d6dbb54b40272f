"""MatConvNet's files: the same network out of every format, against SciPy's reading of it; damaged and hostile ones."""

import struct
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conversion.readers import StoredTensors, read_checkpoint
from conversion.readers.matconvnet_tensors import EPSILON
from mpncov_zoo.errors import ConversionError
from tests.conversion import matconvnet_networks
from tests.conversion.test_readers_mat import cells, element, matrix, packed
from tests.conversion.test_readers_mat import write as write5

io = pytest.importorskip("scipy.io", reason="needs scipy")
NARROW = 16  # a ResNet's widths are divided by it
RNG = np.random.default_rng(0)
Variables = dict[str, Any]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A narrow ResNet that Octave wrote: a training checkpoint of format 6, a deployed network of format 7."""
    folder = tmp_path_factory.mktemp("narrow")
    matconvnet_networks.write("resnet", folder, NARROW)
    return folder


def params(path: Path) -> dict[str, np.ndarray]:
    net = io.loadmat(path, struct_as_record=False)
    net = net["net"][0, 0] if "net" in net else type("net", (), net)
    return {str(param.name[0]): param.value for param in net.params[0]}


def test_a_training_checkpoint(folder: Path) -> None:
    stored, theirs = read_checkpoint(folder / "epoch.mat"), params(folder / "epoch.mat")
    tensors = dict(stored.tensors)
    assert stored.format == "MATLAB"
    for name in ("conv2_1a", "conv5_1_adapt_conv"):
        np.testing.assert_array_equal(tensors.pop(f"{name}_conv.filters"), theirs[f"{name}_f"])
        np.testing.assert_array_equal(tensors.pop(f"{name}_bn.biases"), theirs[f"{name}_bn_b"].ravel())
        np.testing.assert_array_equal(tensors.pop(f"{name}_bn.mean"), theirs[f"{name}_bn_m"][:, 0])
    conv1 = theirs["conv1_bn_m"][:, 0].astype(np.float64) - theirs["conv1_b"].ravel()
    np.testing.assert_array_equal(tensors.pop("conv1_bn.mean"), conv1.astype(np.float32))
    assert not {"conv1_conv.biases", "conv_for_cova_conv.biases"} & tensors.keys()
    order = [1, 0, 3, 2, 4]  # of the classes' WordNet identifiers
    np.testing.assert_array_equal(tensors.pop("prediction.filters"), theirs["prediction_f"][..., order])
    np.testing.assert_array_equal(tensors.pop("prediction.biases"), theirs["prediction_b"].ravel()[order])
    assert all(not array.flags.writeable for array in stored.tensors.values())


def test_a_normalisation_divides_by_the_deviation(folder: Path) -> None:
    """Also by one that is less than the root of epsilon: in float64 the two agree to float32's last digit."""
    stored, theirs = read_checkpoint(folder / "epoch.mat").tensors, params(folder / "epoch.mat")
    names = {name.removesuffix(".variance") for name in stored if name.endswith(".variance")}
    assert len(names) == 18
    for name in names:
        own, deviation = theirs[f"{name}_w"].ravel().astype(np.float64), theirs[f"{name}_m"][:, 1].astype(np.float64)
        assert deviation[0] ** 2 < EPSILON and deviation[1:].min() > 0.5
        scale = stored[f"{name}.multipliers"] / np.sqrt(stored[f"{name}.variance"].astype(np.float64) + EPSILON)
        np.testing.assert_allclose(scale, own / deviation, rtol=2e-7)
        assert stored[f"{name}.variance"][0] == 0


def test_a_deployed_network(folder: Path) -> None:
    """Biases alone are left of its normalisations: ours add them, and nothing else."""
    stored, theirs = read_checkpoint(folder / "deployed.mat").tensors, params(folder / "deployed.mat")
    assert len([name for name in theirs if "_bn_" in name]) == 0
    np.testing.assert_array_equal(stored["conv3_1b_bn.biases"], theirs["conv3_1b_conv_b"].ravel())
    np.testing.assert_array_equal(stored["conv1_bn.biases"], theirs["conv1_b"].ravel())
    for name in ("conv1_bn", "conv3_1b_bn", "conv_for_cova_bn"):
        assert set(stored[f"{name}.multipliers"]) == {1} and set(stored[f"{name}.mean"]) == {0}
        assert set(stored[f"{name}.variance"] + np.float32(EPSILON)) == {1}
    assert stored.keys() == read_checkpoint(folder / "epoch.mat").tensors.keys()


@pytest.mark.parametrize("name", ["epoch", "deployed"])
def test_format_7_3(folder: Path, name: str, tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs h5py")
    from tests.conversion import matlab73

    content = io.loadmat(folder / f"{name}.mat", struct_as_record=False)
    matlab73.write(tmp_path / "a.mat", {key: value for key, value in content.items() if key[0] != "_"})
    assert_same(read_checkpoint(tmp_path / "a.mat"), read_checkpoint(folder / f"{name}.mat"))


def assert_same(first: StoredTensors, second: StoredTensors) -> None:
    assert first.network == second.network
    assert list(first.tensors) == list(second.tensors)
    for key, array in second.tensors.items():
        np.testing.assert_array_equal(first.tensors[key], array, key)


def conv(name: str, shape: tuple[int, ...] = (1, 1, 2, 2), **fields: Any) -> Variables:
    weights = cells([RNG.normal(0, 1, shape).astype(np.float32), np.zeros((shape[-1], 1), np.float32)])
    return {"type": "conv", "name": name, "weights": weights, "stride": 1.0, "pad": 0.0, **fields}


def bnorm(name: str, deviation: float = 1.0, channels: int = 2) -> Variables:
    moments = np.stack([np.zeros(channels), np.full(channels, deviation)], 1).astype(np.float32)
    ones = np.ones((channels, 1), np.float32)
    return {"type": "bnorm", "name": name, "weights": cells([ones, ones, moments])}


def chain(*layers: Variables, **others: Any) -> Variables:
    return {"layers": cells(list(layers)), **others}


def dag(*layers: Variables, **values: np.ndarray) -> Variables:
    """Layers with inputs, outputs and params as lists, and parameters by name."""

    def rows(dicts: list[Variables]) -> np.ndarray:
        array = np.empty((1, len(dicts)), [(name, object) for name in dicts[0]])
        for index, row in enumerate(dicts):
            for name, value in row.items():
                array[name][0, index] = cells(value) if isinstance(value, list) else value
        return array

    return {
        "layers": rows(list(layers)),
        "params": rows([{"name": name, "value": value} for name, value in values.items()]),
    }


def step(name: str, kind: str, inputs: list[str], outputs: list[str], own: list[str], **block: Any) -> Variables:
    return {"name": name, "type": kind, "inputs": inputs, "outputs": outputs, "params": own, "block": block or {"a": 1}}


ONE = np.ones((1, 1, 2, 2), np.float32)
A = step("a", "dagnn.Conv", ["input"], ["x"], ["f"], stride=1.0, pad=0.0)
B = step("b", "dagnn.ReLU", ["x"], ["y"], [], leak=0.0)


def scaled(number: int) -> Variables:
    """A layer that takes what the one before it gives twice: each of them would double the words."""
    before = "x" if number == 0 else f"s{number - 1}"
    return step(f"s{number}", "dagnn.OBJ_ConvNet_COV_ScaleTr", [before, before], [f"s{number}"], [])


def test_a_softmax_is_left_out_behind_the_logits_alone(tmp_path: Path) -> None:
    softmax = {"type": "softmax", "name": "s"}
    for layers, words in (((conv("a"), softmax), "a"), ((conv("a"), softmax, conv("b")), "b")):
        io.savemat(tmp_path / "a.mat", chain(*layers))
        network = read_checkpoint(tmp_path / "a.mat").network
        assert network is not None and network.lines["output"] == words
    assert "softmax 's'(a)" in network.lines["b"]


def test_images_without_an_average(tmp_path: Path) -> None:
    """Values stay in 0..255, as MatConvNet leaves them."""
    io.savemat(tmp_path / "a.mat", chain(conv("a"), meta={"normalization": {"averageImage": np.zeros((0, 0))}}))
    network = read_checkpoint(tmp_path / "a.mat").network
    assert network is not None and network.input.mean == (0, 0, 0) and network.input.std == (1 / 255,) * 3
    assert any("no average image" in note for note in network.notes)


def test_the_dictionaries_are_networks(tmp_path: Path) -> None:
    """What the cases below spoil is read as it is."""
    io.savemat(tmp_path / "a.mat", chain(conv("conv1"), bnorm("bn1"), conv("conv2")))
    chained = read_checkpoint(tmp_path / "a.mat")
    assert {name.partition(".")[0] for name in chained.tensors} == {"conv1", "bn1", "conv2"}
    io.savemat(tmp_path / "b.mat", dag(A, B, f=ONE))
    assert list(read_checkpoint(tmp_path / "b.mat").tensors) == ["a.filters"]


def covariance(norm: str, iterations: float) -> list[Variables]:
    return [
        {"type": "cov_pool", "name": "pool"},
        {"type": f"cov_{norm}", "name": "norm"},
        {"type": "cov_sqrtm", "name": "root", "coef": 1.0, "iterNum": iterations},
        {"type": f"cov_{norm}_aux", "name": "scaled"},
    ]


@pytest.mark.parametrize(
    ("layers", "options", "words"),
    [
        (
            covariance("traceNorm", 5.0),
            {"iterations": 5, "normalization": "trace"},
            "times the root of trace(covariance(a)): (root in 5 steps(by its trace(covariance(a))))",
        ),
        (
            covariance("froNorm", 3.0),
            {"iterations": 3, "normalization": "frobenius"},
            "times the root of norm(covariance(a)): (root in 3 steps(by its norm(covariance(a))))",
        ),
        (
            [{"type": "mpn_cov", "name": "p", "alpha": 0.5, "epsilon": 0.0}],
            {"power": 0.5},
            "power 0.5 of the covariance(a)",
        ),
    ],
)
def test_normalisations_of_the_covariance(layers: list[Variables], options: dict, words: str, tmp_path: Path) -> None:
    """As SimpleNN has them, one after another."""
    io.savemat(tmp_path / "a.mat", chain(conv("a"), *layers, conv("b", (1, 1, 3, 4))))
    network = read_checkpoint(tmp_path / "a.mat").network
    assert network is not None
    assert network.options == {"features": {}, "representation": options}
    assert network.lines["b"] == f"convolution of 1x1, stride 1 of {words}"


def test_several_normalisations_of_the_covariance_are_refused(tmp_path: Path) -> None:
    io.savemat(
        tmp_path / "a.mat", chain(*covariance("traceNorm", 5.0), conv("a"), *renamed(covariance("froNorm", 3.0)))
    )
    with pytest.raises(ConversionError, match=r"its layers have several values of iterations: 5, 3"):
        read_checkpoint(tmp_path / "a.mat")


def renamed(layers: list[Variables]) -> list[Variables]:
    return [{**layer, "name": f"{layer['name']} 2"} for layer in layers]


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (chain(), "its network has no layers"),
        (chain({"name": "a"}), "has no field 'type', but 'name'"),
        (chain({"type": 3.0}), "type is an array of numbers; it should be text"),
        (
            chain({"type": "vlad", "name": "pool"}),
            "layer 'pool' is of the type 'vlad', which no network of the zoo has",
        ),
        (chain(conv("a"), conv("a")), "two layers have the name 'a'"),
        (chain({"type": "conv", "name": "a"}), "layer 'a' has no field 'filters', but 'type', 'name'"),
        (chain({**conv("a"), "weights": cells([])}), "layer 'a' has no filters; a conv has filters, biases"),
        (chain({**conv("a"), "weights": cells(["text"])}), "layer 'a': its filters are no array of numbers"),
        (chain({**conv("a"), "weights": cells([np.zeros((1, 1, 2, 2, 2))])}), r"have the shape \(1, 1, 2, 2, 2\)"),
        (chain({**conv("a"), "weights": cells([ONE, ONE])}), "layer 'a': its biases have the shape"),
        (chain({**conv("a"), "weights": cells([ONE, np.ones(2), np.ones(2)])}), "layer 'a' has 3 weights"),
        (chain({**bnorm("a"), "weights": cells([np.ones(2), np.ones(2)])}), "layer 'a' has no moments"),
        (chain(conv("a"), bnorm("b", 0.0)), "layer 'b' has deviations that are not positive: it was not trained"),
        (chain(conv("a"), bnorm("b", np.nan)), "layer 'b' has deviations that are not positive"),
        (chain(conv("a", pad=[-1.0])), "pad is"),
        (chain(conv("a", pad=[1.0, 2.0, 3.0])), "pad is"),
        (chain(conv("a", stride=0.0)), "stride is"),
        (chain(conv("a", stride=1.9)), r"stride is '\[1\.9\]', where whole numbers are wanted"),
        (chain(conv("a", pad=0.5)), "pad is .*, where whole numbers are wanted"),
        (chain({"type": "lrn", "name": "a", "param": [1e9, 1.0, 1.0, 1.0]}), "param is"),
        (chain({"type": "lrn", "name": "a", "param": [5.0, 0.0, 1.0, 1.0]}), "param is"),
        (chain({"type": "cov_sqrtm", "name": "a", "iterNum": 1e6}), "iterNum is 1000000"),
        (
            chain(conv("a"), {"type": "dropout", "name": "b"}, bnorm("c")),
            "layer 'c' does not follow its convolution at once",
        ),
        (
            dag(A, *(scaled(number) for number in range(40)), f=ONE),
            "is behind more layers without weights than any network of the zoo has|all together may unpack to 20 times",
        ),
        (chain(conv("a", stride=np.ones((9, 9)))), "stride has 81 numbers, where a few are wanted"),
        (chain(conv("a", (300, 300, 1, 1))), "layer 'a' has a window of 300 on 224 positions"),
        (
            chain(conv("a"), meta={"normalization": {"averageImage": np.ones((2, 2))}}),
            r"averageImage has the shape \(2, 2\)",
        ),
        (chain(conv("a"), meta={"normalization": {"averageImage": [1.0, 2.0, 300.0]}}), r"not of values in 0\.\.255"),
        (
            chain(conv("a"), meta={"normalization": {"averageImage": [1.0, 2.0, 3.0], "cropSize": 2.0}}),
            "normalization cannot be used: crop_fraction",
        ),
        (
            chain(conv("a"), meta={"normalization": {"averageImage": [1.0, 2.0, 3.0], "cropSize": [0.5, 0.6]}}),
            "cropSize is",
        ),
        (chain(conv("a"), meta={"normalization": {"imageSize": [1e9, 1e9, 3]}}), "imageSize is"),
        (dag({**A, "params": ["g"]}, B, f=ONE), "layer 'a' wants a parameter 'g', which is not in the file"),
        (dag({**A, "params": []}, B, f=ONE), "layer 'a' has no filters"),
        (dag(A, B, f=ONE, g=ONE), "no layer has the parameter 'g', nor 0 others"),
        (dag(A, {**A, "name": "c", "inputs": ["x"], "outputs": ["z"]}, f=ONE), "two layers have the parameter 'f'"),
        (dag(A, {**B, "outputs": ["x"]}, f=ONE), "two layers give the variable 'x'"),
        (dag(A, {**B, "inputs": ["z"]}, f=ONE), "takes 2 variables that no layer gives"),
        (dag({**A, "inputs": ["y"]}, B, f=ONE), "its layers lead in a circle"),
        (dag(A, {**B, "inputs": ["input"]}, f=ONE), "ends in 2 layers"),
        (dag(A, {**B, "inputs": ["x", "x"]}, f=ONE), "layer 'b' takes 2 variables, where 1 are wanted"),
        (dag(A, {**B, "type": "dagnn.Concat"}, f=ONE), "layer 'b' is of the type 'dagnn.Concat'"),
        ({"net": "text"}, "net is text|no struct|where one is wanted|should be a cell array"),
        ({"net": {"a": 1.0}}, "has no field 'layers', but 'a'"),
        ({"weights": np.ones(2)}, "MatConvNet's networks have the variable 'layers' or 'net'"),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_other_networks_are_refused_in_one_line(
    variables: Variables, message: str, compressed: bool, tmp_path: Path
) -> None:
    io.savemat(tmp_path / "a.mat", variables, do_compression=compressed)
    with pytest.raises(ConversionError, match=rf"a\.mat: .*({message})") as raised:
        read_checkpoint(tmp_path / "a.mat")
    assert "\n" not in str(raised.value)


def opaque(name: bytes, kind: bytes) -> bytes:
    """An object, as MATLAB saves it: name, system, class, and the number under which it lies elsewhere in the file."""
    about = element(6, struct.pack("<BBxxxxxx", 17, 0))
    return element(14, about + element(1, name) + element(1, b"MCOS") + element(1, kind) + matrix(13, (6, 1), NUMBERS))


NUMBERS = element(6, struct.pack("<6I", 0xDD000000, 2, 1, 1, 1, 1))


@pytest.mark.parametrize("pack", [bytes, packed])
def test_an_object_is_named_with_the_way_to_save_it(pack: Callable[[bytes], bytes], tmp_path: Path) -> None:
    write5(tmp_path / "a.mat", pack(opaque(b"net", b"dagnn.DagNN")), pack(matrix(9, (1, 8), element(2, bytes(8)))))
    with pytest.raises(ConversionError, match=r"'net' is an object of the class 'dagnn\.DagNN'.*s = net\.saveobj\(\)"):
        read_checkpoint(tmp_path / "a.mat")


def test_an_object_in_format_7_3(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    from tests.conversion import matlab73

    matlab73.write(tmp_path / "a.mat", {"net": np.zeros((6, 1), np.float32)})
    with h5py.File(tmp_path / "a.mat", "r+") as file:
        file["net"].attrs["MATLAB_class"] = np.bytes_("dagnn.DagNN")
        file["net"].attrs["MATLAB_object_decode"] = np.int32(3)
    with pytest.raises(ConversionError, match=r"'net' is an object of the class dagnn\.DagNN.*s = net\.saveobj\(\)"):
        read_checkpoint(tmp_path / "a.mat")


@pytest.mark.parametrize("compressed", [False, True])
def test_every_truncation(compressed: bool, tmp_path: Path) -> None:
    io.savemat(tmp_path / "whole.mat", dag(A, B, f=ONE), do_compression=compressed)
    whole = (tmp_path / "whole.mat").read_bytes()
    for length in range(0, len(whole), 7):
        (tmp_path / "a.mat").write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_checkpoint(tmp_path / "a.mat")


def test_every_truncation_of_format_7_3(tmp_path: Path) -> None:
    pytest.importorskip("h5py", reason="needs h5py")
    from tests.conversion import matlab73

    io.savemat(tmp_path / "five.mat", chain(conv("a")))
    content = io.loadmat(tmp_path / "five.mat", struct_as_record=False)
    matlab73.write(tmp_path / "whole.mat", {"layers": content["layers"]})
    read_checkpoint(tmp_path / "whole.mat")
    whole = (tmp_path / "whole.mat").read_bytes()
    for length in range(0, len(whole) - 8, 61):
        (tmp_path / "a.mat").write_bytes(whole[:length])
        with pytest.raises(ConversionError):
            read_checkpoint(tmp_path / "a.mat")


def hostile73(spoil: Callable[[Any, Any], None], path: Path) -> None:
    """A network of format 7.3 that is changed afterwards."""
    h5py = pytest.importorskip("h5py", reason="needs h5py")
    from tests.conversion import matlab73

    io.savemat(path, chain(conv("a")))
    content = io.loadmat(path, struct_as_record=False)
    matlab73.write(path, {"layers": content["layers"]})
    with h5py.File(path, "r+") as file:
        spoil(h5py, file)


def _endless(h5py: Any, file: Any) -> None:
    file["layers"][0, 0] = file["layers"].ref


def _link(h5py: Any, file: Any) -> None:
    file["net"] = h5py.SoftLink("/layers")


def _elsewhere(h5py: Any, file: Any) -> None:
    file["net"] = h5py.ExternalLink("/etc/hosts", "/layers")


def _nowhere(h5py: Any, file: Any) -> None:
    file["layers"][0, 0] = h5py.Reference()


def _huge(h5py: Any, file: Any) -> None:
    """Zeros that take no place until they are asked for."""
    huge = file.create_dataset("net", (2**40,), np.float32, chunks=(2**10,))
    huge.attrs["MATLAB_class"] = np.bytes_("single")


def _filtered(h5py: Any, file: Any) -> None:
    item = file.create_dataset("net", data=np.zeros(4000), compression="lzf")
    item.attrs["MATLAB_class"] = np.bytes_("double")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_endless, "lies within more than 16 structs and cells"),
        (_link, "'net' is a link"),
        (_elsewhere, "'net' is a link"),
        (_nowhere, "has a reference to nothing"),
        (_huge, "unpacks to too much"),
        (_filtered, "is stored in a way that MATLAB does not use"),
    ],
)
def test_hostile_files_of_format_7_3(spoil: Callable, message: str, tmp_path: Path) -> None:
    hostile73(spoil, tmp_path / "a.mat")
    with pytest.raises(ConversionError, match=rf"a\.mat: .*{message}"):
        read_checkpoint(tmp_path / "a.mat")


def fields(*names: bytes) -> bytes:
    letters = b"".join(name.ljust(8, b"\0") for name in names)
    return element(5, struct.pack("<i", 8)) + element(1, letters)


TWO = element(9, struct.pack("<2d", 1, 2))
PAIR = matrix(6, (1, 2), TWO)


def deep(levels: int) -> bytes:
    inner = PAIR
    for _ in range(levels):
        inner = matrix(1, (1, 1), inner)
    return matrix(1, (1, 1), inner, b"layers")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ([deep(40)], "within more than 16 structs and cells"),
        ([matrix(1, (2**30, 1), PAIR, b"layers")], "layers has 1 values, not 1073741824"),
        ([matrix(2, (2**15, 2**15), fields(b"name") + PAIR, b"layers")], "layers has 1 values, not 1073741824"),
        ([matrix(2, (2**15, 2**15), element(5, struct.pack("<i", 8)) + element(1, b""), b"layers")], "without a field"),
        ([matrix(2, (1, 1), fields(b"a", b"a") + PAIR + PAIR, b"layers")], "has a field twice"),
        ([matrix(2, (1, 1), element(5, struct.pack("<i", 0)) + element(1, b""), b"layers")], "names of 0 letters"),
        (
            [matrix(2, (1, 1), element(5, struct.pack("<i", 2**30)) + element(1, b"a"), b"layers")],
            "names of 10737418",
        ),
        ([matrix(6, (2**15, 2**15), TWO, b"layers")], "is not in the file, or unpacks to too much"),
        ([matrix(4, (1, 2), element(99, b"ab"), b"layers")], "is text of kind 99"),
        ([matrix(1, (1, 1), PAIR, b"layers")] * 2, "has more than one variable 'layers'"),
        ([packed(matrix(1, (1, 1), PAIR, b"layers"))[:-4]], "cut off|damaged|does not unpack"),
        ([matrix(16, (1, 1), TWO, b"layers")], "layers is a function; it should be a cell array"),
        ([matrix(6, (1, 2), TWO + TWO, b"layers", flags=8)], "layers is complex; it should be a cell array"),
    ],
)
def test_hostile_files(variables: list[bytes], message: str, tmp_path: Path) -> None:
    write5(tmp_path / "a.mat", *variables)
    with pytest.raises(ConversionError, match=rf"a\.mat.*({message})") as raised:
        read_checkpoint(tmp_path / "a.mat")
    assert "\n" not in str(raised.value)


def test_empty_values_are_counted(tmp_path: Path) -> None:
    """They take eight bytes each in the file, and more here."""
    many = np.empty((1, 100_001), object)
    for index in range(many.size):
        many[0, index] = np.zeros((0, 0))
    io.savemat(tmp_path / "a.mat", {"layers": many})
    with pytest.raises(ConversionError, match="is of more than 100000 values"):
        read_checkpoint(tmp_path / "a.mat")


def test_what_unpacks_to_much_takes_no_memory(tmp_path: Path) -> None:
    zeros = packed(matrix(9, (2**15, 2**10), element(2, bytes(2**25)), b"more"))
    write5(tmp_path / "a.mat", packed(matrix(1, (1, 1), PAIR, b"layers")), zeros)
    tracemalloc.start()
    with pytest.raises(ConversionError, match="unpacks to"):
        read_checkpoint(tmp_path / "a.mat")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**22
