"""Artifacts whose digests are all right and whose content is not, from a hub: nothing of them is executed or loaded."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

import mpncov_zoo
from mpncov_zoo.errors import IntegrityError, ManifestError, ZooError
from mpncov_zoo.hub.resolve import TRUST_OWN
from mpncov_zoo.hub.verification import describe_files
from tests.hub.fault_server import FaultServer, serving
from tests.stored import key, read_tensors, write_tensors

MODEL, NAME = "mpncov_cifar_resnet20", "mpncov_cifar_resnet20.test"
KERNEL = "features/stem_conv/kernel"


@pytest.fixture
def server(tmp_path: Path, artifact_hub: Path) -> Iterator[FaultServer]:
    """A hub of a sound artifact, to be edited."""
    shutil.copytree(artifact_hub / NAME, tmp_path / "served" / NAME)
    with serving(tmp_path / "served") as running:
        yield running


def load(server: FaultServer, tmp_path: Path) -> mpncov_zoo.ImageClassifier:
    return mpncov_zoo.load(NAME, pretrained=True, hub=server.url, cache_dir=tmp_path / "cache")


def make_consistent(directory: Path, **changes: object) -> None:
    """Give model.json the digests of the files as they are now."""
    path = directory / "model.json"
    data = json.loads(path.read_text()) | changes
    data["files"] = [file.model_dump() for file in describe_files(directory)]
    path.write_text(json.dumps(data))


def change_weight(directory: Path, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    """Rewrite the checkpoint with one tensor changed; its digests agree."""
    tensors = read_tensors(directory)
    tensors[key(name)] = change(tensors[key(name)])
    write_tensors(directory, tensors)
    make_consistent(directory)


def network(artifact_hub: Path) -> mpncov_zoo.ImageClassifier:
    return mpncov_zoo.load(MODEL, pretrained=True, hub=artifact_hub)


def test_the_sound_one_loads(server: FaultServer, tmp_path: Path, artifact_hub: Path) -> None:
    found, local = load(server, tmp_path), network(artifact_hub)
    assert found.load_report.trust == f"{TRUST_OWN}. It came from {server.url}"
    images = local.preprocess(np.random.default_rng(0).integers(0, 256, (2, 28, 28, 1), np.uint8))
    np.testing.assert_array_equal(found(images), local(images))


@pytest.mark.parametrize(
    ("value", "variable", "message"),
    [
        (np.nan, "classifier/logits/bias", r"classifier/logits/bias holds NaN or infinity; nothing was loaded"),
        (np.inf, "features/stem_conv/kernel", r"features/stem_conv/kernel holds NaN or infinity; nothing was loaded"),
        (-1.0, "features/stem_bn/moving_variance", r"moving_variance holds a negative variance; nothing was loaded"),
    ],
)
def test_values_that_no_network_has(
    server: FaultServer, tmp_path: Path, value: float, variable: str, message: str
) -> None:
    change_weight(server.root / NAME, variable, lambda tensor: np.full_like(tensor, value))
    with pytest.raises(IntegrityError, match=message):
        load(server, tmp_path)


def test_weights_of_another_network(server: FaultServer, tmp_path: Path) -> None:
    change_weight(server.root / NAME, "classifier/logits/bias", lambda tensor: tensor[1:])
    with pytest.raises(IntegrityError, match=r"logits/bias is float32 \(9,\), the network needs float32 \(10,"):
        load(server, tmp_path)
    tensors = read_tensors(server.root / NAME)
    write_tensors(server.root / NAME, {**tensors, key("features/stage4_conv/kernel"): tensors[key(KERNEL)]})
    make_consistent(server.root / NAME)
    with pytest.raises(IntegrityError, match=r"the checkpoint is of another network; unexpected: features/stage4_conv"):
        load(server, tmp_path)


@pytest.mark.parametrize("file", ["variables/variables.index", "variables/variables.data-00000-of-00001"])
def test_a_checkpoint_that_is_none(server: FaultServer, tmp_path: Path, file: str) -> None:
    path = server.root / NAME / file
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    make_consistent(server.root / NAME)
    with pytest.raises(IntegrityError, match=r"its checkpoint cannot be read"):
        load(server, tmp_path)


@pytest.mark.parametrize(
    "architecture",
    [
        {"name": "os.system"},
        {"name": MODEL, "backbone": "../../x", "representation": "mpncov"},
        {"name": MODEL, "backbone": "cifar_resnet20", "representation": "mpncov", "options": {"features": {"x": 1}}},
        {},
    ],
)
def test_an_architecture_that_is_none(server: FaultServer, tmp_path: Path, architecture: dict[str, object]) -> None:
    make_consistent(server.root / NAME, architecture={**architecture, "input_shape": [28, 28, 1]})
    with pytest.raises(ManifestError, match="describes no network that this version"):
        load(server, tmp_path)


def test_a_graph_that_writes_a_file_when_it_is_loaded_is_not(
    server: FaultServer, tmp_path: Path, artifact_hub: Path
) -> None:
    class Writing(tf.saved_model.experimental.TrackableResource):
        """A resource whose initialiser writes a file."""

        def _create_resource(self) -> tf.Tensor:
            return tf.raw_ops.MutableHashTableV2(key_dtype=tf.string, value_dtype=tf.string)

        def _initialize(self) -> None:
            tf.io.write_file(str(tmp_path / "written"), "by the graph")

    module = tf.Module()
    module.resource = Writing()  # pyright: ignore[reportAttributeAccessIssue]
    module.call = tf.function(  # pyright: ignore[reportAttributeAccessIssue]
        lambda: (module.resource.resource_handle, 1)[1],  # pyright: ignore[reportAttributeAccessIssue]
        input_signature=[],
    )
    tf.saved_model.save(module, str(tmp_path / "writing"))
    (tmp_path / "written").unlink(missing_ok=True)
    tf.saved_model.load(str(tmp_path / "writing"))
    assert (tmp_path / "written").exists(), "TensorFlow's own loader executes it"
    (tmp_path / "written").unlink()
    shutil.copy(tmp_path / "writing" / "saved_model.pb", server.root / NAME / "saved_model.pb")
    make_consistent(server.root / NAME)
    images = np.zeros((1, 28, 28, 1), np.float32)
    np.testing.assert_array_equal(load(server, tmp_path)(images), network(artifact_hub)(images))
    assert not (tmp_path / "written").exists()


def test_a_failed_load_leaves_the_cache_as_good_as_it_was(server: FaultServer, tmp_path: Path) -> None:
    load(server, tmp_path)
    sound = {path: path.read_bytes() for path in (tmp_path / "cache").glob("artifacts/*/**/*") if path.is_file()}
    (server.root / NAME / "saved_model.pb").write_bytes(b"another")
    make_consistent(server.root / NAME, architecture={})
    with pytest.raises(ZooError):
        load(server, tmp_path)
    assert {path: path.read_bytes() for path in sound} == sound
