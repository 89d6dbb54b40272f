"""Graphs that may be executed, and graphs that may not: our own exports of every kind, and SavedModels that do harm."""

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

from mpncov_zoo import artifact, registry
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.errors import IntegrityError
from mpncov_zoo.hub.graph_operations import GRAPH_FILE, REMEDY, verify_graph
from mpncov_zoo.hub.graph_tables import FIELDS, NAMES, OPERATIONS
from mpncov_zoo.hub.sources import BUNDLED
from mpncov_zoo.manifest import InputSpecification
from tests import networks

ONE, EACH = {"repeats": 1}, {"repeats": (1, 1, 1, 1)}
CHANNELS, HIDDEN = {"dimension_reduction": 8}, {"hidden": (4, 4)}
LITE = {"width": 0.1, "depth": 0.5}
BICUBIC, SQUASHED = {"interpolation": "bicubic"}, {"resize": "squash"}
Case = tuple[str, tuple[int | None, int | None, int], dict[str, Any], dict[str, Any]]
CASES: dict[str, Case] = {  # model, image, options by part, what differs in the input specification
    "resnet basic, gap": ("resnet18", (32, 32, 3), {"features": EACH}, {}),
    "resnet bottleneck, gram of any size": (
        "mpncov_resnet50",
        (None, None, 3),
        {"features": EACH, "representation": {**CHANNELS, "form": "gram", "normalization": "frobenius"}},
        {},
    ),
    "resnet bottleneck v1, gap of any size": ("resnet50_v1", (None, None, 1), {"features": EACH}, SQUASHED),
    "vgg, flatten": (
        "vgg16",
        (32, 32, 3),
        {"features": {"repeats": (1,) * 5}, "representation": {"size": 1}, "classifier": HIDDEN},
        {},
    ),
    "vgg_bn, flatten of other sizes": (
        "vgg16_bn",
        (96, 64, 3),
        {"features": {"repeats": (1,) * 5}, "representation": {"size": 2}, "classifier": HIDDEN},
        BICUBIC | SQUASHED,
    ),
    "cifar basic, covariance": (
        "mpncov_cifar_resnet20",
        (12, 12, 3),
        {"features": ONE, "representation": CHANNELS},
        {},
    ),
    "cifar bottleneck, gram": (
        "mpncov_cifar_resnet164",
        (4, 4, 1),
        {"features": ONE, "representation": {"dimension_reduction": 32}},
        {},
    ),
    "cifar basic, covariance of any size": (
        "mpncov_cifar_resnet20",
        (None, None, 1),
        {"features": ONE, "representation": {"normalization": None, "gradient": "autodiff"}},
        BICUBIC,
    ),
    "cifar basic, power": (
        "mpncov_cifar_resnet20",
        (12, 12, 3),
        {"features": ONE, "representation": {**CHANNELS, "power": 0.5}},
        {},
    ),
    "preact bottleneck, cbp": ("cbp_cifar_preact_resnet164", (12, 12, 3), {"features": ONE}, {}),
    "preact basic, bcnn of any size": ("bcnn_cifar_preact_resnet110", (None, None, 3), {"features": ONE}, {}),
    "lite, gap": ("efficientnet_lite0", (32, 32, 3), {"features": LITE}, {}),
    "lite, plain covariance of any size": (
        "mpncov_efficientnet_lite0",
        (None, None, 3),
        {"features": {**LITE, "depth": 0.1}, "representation": {**CHANNELS, "square_root": False}},
        {},
    ),
}
LABELLED = "cifar basic, covariance"  # which has dropout, too
EXPORT = "mpncov_cifar_resnet20.test"  # of artifact_hub


def network(case: str) -> ImageClassifier:
    name, shape, options, changes = CASES[case]
    architecture = registry.architecture(name, options=options)
    specification = dict(registry.BACKBONES[architecture.backbone].input)
    specification |= {"size": (shape[0] or 32, shape[1] or 32)}
    specification |= {"channel_order": "L", "mean": (0.5,), "std": (0.5,)} if shape[2] == 1 else {}
    return ImageClassifier(
        architecture,
        num_classes=2,
        input_shape=shape,
        input_specification=InputSpecification.model_validate({**specification, **changes}),
        labels=("a", "b") if case == LABELLED else None,
        initialize=(),
    )


@pytest.fixture(scope="module")
def exports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """An artifact of every case."""
    hub = tmp_path_factory.mktemp("exports")
    for number, case in enumerate(CASES):
        artifact.write(network(case), hub / str(number), tag="test", provenance={})
    return {case: hub / str(number) for number, case in enumerate(CASES)}


def read(directory: Path) -> Any:
    return SavedModel.FromString((directory / GRAPH_FILE).read_bytes())


@pytest.fixture(scope="module")
def saved_models(exports: dict[str, Path]) -> list[Any]:
    """The graphs of our exports, those of earlier versions that are published in the wheel included."""
    return [read(directory) for directory in (*exports.values(), *BUNDLED.iterdir())]


def functions(saved_model: Any) -> dict[str, Any]:
    (meta,) = saved_model.meta_graphs
    return {function.signature.name: function for function in meta.graph_def.library.function}


def saver_functions(saved_model: Any) -> tuple[str, str]:
    """Names of the functions that save and restore."""
    (meta,) = saved_model.meta_graphs
    calls = {node.name: node.attr["f"].func.name for node in meta.graph_def.node if node.op.endswith("PartitionedCall")}
    return calls[meta.saver_def.save_tensor_name.partition(":")[0]], calls[meta.saver_def.restore_op_name]


# --- the lists --------------------------------------------------------------------------------------------------------


def test_operations_are_those_of_our_exports(saved_models: list[Any]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for saved_model in saved_models:
        found["graph"] |= {node.op for node in saved_model.meta_graphs[0].graph_def.node}
        places = dict(zip(saver_functions(saved_model), ("save", "restore"), strict=True))
        for name, function in functions(saved_model).items():
            found[places.get(name, "function")] |= {node.op for node in function.node_def}
    assert {place: sorted(names) for place, names in found.items()} == {k: list(v) for k, v in OPERATIONS.items()}


def test_names_are_those_of_our_exports(saved_models: list[Any]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for saved_model in saved_models:
        (meta,) = saved_model.meta_graphs
        found["asset"] |= {asset.filename for asset in meta.asset_file_def}
        found["collection"] |= set(meta.collection_def)
        found["signature"] |= set(meta.signature_def)
        found["object"] |= {node.user_object.identifier for node in meta.object_graph_def.nodes} - {""}
        bodies = [meta.graph_def.node, *(function.node_def for function in functions(saved_model).values())]
        found["attribute"] |= {key for nodes in bodies for node in nodes for key in node.attr if key[0] == "_"}
        for function in functions(saved_model).values():
            found["attribute"] |= {*function.attr, *(key for arg in function.arg_attr.values() for key in arg.attr)}
    assert {kind: sorted(names) for kind, names in found.items()} == {k: list(v) for k, v in NAMES.items()}


def test_fields_are_those_of_our_exports(saved_models: list[Any]) -> None:
    found: dict[str, set[str]] = defaultdict(set)
    for saved_model in saved_models:
        for kind, field in fields(saved_model):
            found[kind].add(field)
    assert {kind: " ".join(sorted(names)) for kind, names in sorted(found.items())} == FIELDS


def fields(message: Any) -> Iterator[tuple[str, str]]:
    """Every message's kind with each field of it that is set, all the way down."""
    for field, value in message.ListFields():
        yield message.DESCRIPTOR.full_name.removeprefix("tensorflow."), field.name
        if hasattr(value, "ListFields"):
            yield from fields(value)
        elif field.message_type is not None:
            for item in value:
                child = value[item] if field.message_type.GetOptions().map_entry else item
                yield from fields(child) if hasattr(child, "ListFields") else ()


@pytest.mark.parametrize("case", CASES)
def test_our_exports_may_be_executed(exports: dict[str, Path], case: str) -> None:
    verify_graph(exports[case])


@pytest.mark.parametrize("name", sorted(path.name for path in BUNDLED.iterdir()))
def test_bundled_artifacts_may_be_executed(name: str) -> None:
    verify_graph(BUNDLED / name)


# --- harm -------------------------------------------------------------------------------------------------------------


def refusal(directory: Path) -> str:
    """What the one line of the IntegrityError says between the file and what to do."""
    with pytest.raises(IntegrityError) as caught:
        verify_graph(directory)
    message = re.fullmatch(rf"{re.escape(str(directory))}: (.*)\. {re.escape(REMEDY)}", str(caught.value))
    assert message is not None, caught.value
    return message[1]


class Writing(tf.saved_model.experimental.TrackableResource):
    """A resource whose initialiser writes a file: TensorFlow runs that as soon as it loads the SavedModel."""

    def __init__(self, path: Path):
        super().__init__()
        self.path = path

    def _create_resource(self) -> tf.Tensor:
        return tf.zeros(())

    def _initialize(self) -> None:
        tf.io.write_file(str(self.path), "it ran")


def test_a_file_written_by_an_initialiser_as_soon_as_it_is_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An artifact of this package in all else."""
    servable, mark, hostile = artifact._servable, tmp_path / "mark", tmp_path / "hostile"

    def with_resource(*arguments: Any) -> Any:
        module = servable(*arguments)
        module.resource = Writing(mark)
        return module

    monkeypatch.setattr(artifact, "_servable", with_resource)
    artifact.write(networks.tiny(), hostile, tag="hostile", provenance={})
    assert re.search(
        r"the operation 'WriteFile' stands in the function '__inference__initializer_\d+'", refusal(hostile)
    )
    assert not mark.exists()
    tf.saved_model.load(str(hostile))
    assert mark.read_text() == "it ran"


def test_a_file_written_in_the_body_of_a_loop_when_it_is_called(tmp_path: Path) -> None:
    mark = tmp_path / "mark"

    @tf.function(input_signature=[tf.TensorSpec((), tf.int32)])
    def loop(count: tf.Tensor) -> tf.Tensor:
        def body(index: tf.Tensor) -> tf.Tensor:
            with tf.control_dependencies([tf.raw_ops.WriteFile(filename=str(mark), contents="it ran")]):
                return index + 1

        return tf.while_loop(lambda index: index < count, body, [tf.constant(0)])[0]

    module = tf.Module()
    module.loop, module.variable = loop, tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "hostile"))
    assert "'WriteFile' stands in the function 'while_body_" in refusal(tmp_path / "hostile")
    assert not mark.exists()
    tf.saved_model.load(str(tmp_path / "hostile")).loop(1)
    assert mark.read_text() == "it ran"


@pytest.fixture
def edited(artifact_hub: Path, tmp_path: Path) -> Callable[[Callable[[Any], Any]], Path]:
    """A copy of an artifact whose SavedModel a function has changed."""

    def edit(change: Callable[[Any], Any]) -> Path:
        directory = tmp_path / "edited"
        shutil.copytree(artifact_hub / EXPORT, directory)
        saved_model = read(directory)
        change(saved_model)
        (directory / GRAPH_FILE).write_bytes(saved_model.SerializeToString())
        return directory

    return edit


def library(saved_model: Any) -> Any:
    return saved_model.meta_graphs[0].graph_def.library


def objects(saved_model: Any) -> Any:
    return saved_model.meta_graphs[0].object_graph_def


def function_like(saved_model: Any, pattern: str) -> Any:
    return next(function for name, function in functions(saved_model).items() if re.match(pattern, name))


def add_node(nodes: Any, op: str, called: str | None = None, key: str = "f") -> Any:
    node = nodes.add(name=f"added_{op}", op=op)
    if called is not None:
        node.attr[key].func.name = called
    return node


@pytest.mark.parametrize("op", ["WriteFile", "ReadFile", "PyFunc", "EagerPyFunc", "PrintV2", "SaveV2", "RestoreV2"])
@pytest.mark.parametrize("pattern", ["__inference_serving_default_", "__inference_call_", "map_while_body_"])
def test_operations_in_functions(edited: Any, op: str, pattern: str) -> None:
    fault = refusal(edited(lambda saved: add_node(function_like(saved, pattern).node_def, op)))
    assert re.search(rf"the operation '{op}' stands in the function '{pattern}\w*\d+', where no export", fault)


@pytest.mark.parametrize("op", ["WriteFile", "SaveV2", "RestoreV2", "PartitionedCall", "Relu"])
def test_operations_outside_of_functions(edited: Any, op: str) -> None:
    fault = refusal(edited(lambda saved: add_node(saved.meta_graphs[0].graph_def.node, op)))
    assert f"the operation '{op}' stands in the graph itself" in fault


@pytest.mark.parametrize(
    ("role", "op"), [(1, "SaveV2"), (1, "MergeV2Checkpoints"), (0, "WriteFile"), (0, "StatefulPartitionedCall")]
)
def test_operations_in_the_savers_functions(edited: Any, role: int, op: str) -> None:
    fault = refusal(edited(lambda saved: add_node(functions(saved)[saver_functions(saved)[role]].node_def, op)))
    assert re.search(rf"the operation '{op}' stands in the function '__inference__traced_(save|restore)_\d+'", fault)


# --- calls ------------------------------------------------------------------------------------------------------------


def call_body(saved_model: Any) -> Any:
    return function_like(saved_model, "__inference_serving_default_").node_def


def call_absent(saved_model: Any) -> None:
    add_node(call_body(saved_model), "StatefulPartitionedCall", "absent")


def branch_absent(saved_model: Any) -> None:
    add_node(call_body(saved_model), "StatelessIf", "absent", key="then_branch")


def branch_on_saver(saved_model: Any) -> None:
    add_node(call_body(saved_model), "While", saver_functions(saved_model)[0], key="body")


def second_call_of_saver(saved_model: Any) -> None:
    add_node(saved_model.meta_graphs[0].graph_def.node, "StatefulPartitionedCall", saver_functions(saved_model)[1])


def saver_as_a_method(saved_model: Any) -> None:
    (saving, _), node = saver_functions(saved_model), objects(saved_model).nodes.add()
    objects(saved_model).concrete_functions[saving].SetInParent()
    node.bare_concrete_function.concrete_function_name = saving


def saver_as_a_polymorphic_method(saved_model: Any) -> None:
    objects(saved_model).nodes.add().function.concrete_functions.append(saver_functions(saved_model)[0])


def saver_as_a_captured_tensor(saved_model: Any) -> None:
    objects(saved_model).nodes.add().captured_tensor.concrete_function = saver_functions(saved_model)[0]


def saver_as_a_gradient(saved_model: Any) -> None:
    library(saved_model).registered_gradients[0].gradient_func = saver_functions(saved_model)[0]


def gradient_of_this_process(saved_model: Any) -> None:
    add_node(call_body(saved_model), "IdentityN").attr["_gradient_op_type"].s = b"CustomGradient-1"


def saver_as_an_operation(saved_model: Any) -> None:
    saving, _ = saver_functions(saved_model)
    functions(saved_model)[saving].signature.name = "Softmax"
    node = saved_model.meta_graphs[0].saver_def.save_tensor_name.partition(":")[0]
    (call,) = (found for found in saved_model.meta_graphs[0].graph_def.node if found.name == node)
    call.attr["f"].func.name = "Softmax"


def operation_of_a_functions_name(saved_model: Any) -> None:
    add_node(call_body(saved_model), saver_functions(saved_model)[0])


def function_twice(saved_model: Any) -> None:
    library(saved_model).function.append(library(saved_model).function[0])


def swapped_implementation(saved_model: Any) -> None:
    functions(saved_model)[saver_functions(saved_model)[0]].attr["api_implements"].s = b"network"


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (call_absent, r"the operation 'StatefulPartitionedCall' in .* calls the function 'absent', which is not there"),
        (branch_absent, r"the operation 'StatelessIf' in .* calls the function 'absent', which is not there"),
        (branch_on_saver, r"the operation 'While' in .* calls the function '.*_save_\d+', which is the saver's own"),
        (second_call_of_saver, r"'StatefulPartitionedCall' in the graph itself calls .*restore_\d+', which is the sav"),
        (saver_as_a_method, r"an object calls the function '.*_save_\d+', which is the saver's own"),
        (saver_as_a_polymorphic_method, r"an object calls the function '.*_save_\d+', which is the saver's own"),
        (saver_as_a_captured_tensor, r"an object calls the function '.*_save_\d+', which is the saver's own"),
        (saver_as_a_gradient, r"the gradient 'CustomGradient-\d+' calls .*_save_\d+', which is the saver's own"),
        (gradient_of_this_process, r"the operation 'IdentityN' in .* has a gradient that is not there"),
        (saver_as_an_operation, r"the function 'Softmax' has the name of an operation"),
        (operation_of_a_functions_name, r"the operation '__inference__traced_save_\d+' stands in the function"),
        (function_twice, r"the function '.*' stands more than once"),
        (swapped_implementation, r"the attribute 'api_implements' is none that exports of mpncov_zoo have"),
    ],
)
def test_calls(edited: Any, change: Callable[[Any], None], fault: str) -> None:
    assert re.search(fault, refusal(edited(change)))


# --- the saver --------------------------------------------------------------------------------------------------------


def saver(saved_model: Any) -> Any:
    return saved_model.meta_graphs[0].saver_def


def save_when_serving(saved_model: Any) -> None:
    signature = saved_model.meta_graphs[0].signature_def["serving_default"]
    signature.outputs["logits"].name = saver(saved_model).save_tensor_name


def save_on_start(saved_model: Any) -> None:
    collection = saved_model.meta_graphs[0].collection_def["saved_model_main_op"]
    collection.node_list.value[:] = [saver(saved_model).save_tensor_name.partition(":")[0]]


def save_before_serving(saved_model: Any) -> None:
    node = next(node for node in saved_model.meta_graphs[0].graph_def.node if node.op == "NoOp")
    node.input.append(f"^{saver(saved_model).save_tensor_name.partition(':')[0]}")


def restore_from_elsewhere(saved_model: Any) -> None:
    function = functions(saved_model)[saver_functions(saved_model)[1]]
    add_node(function.node_def, "Const").name = "elsewhere"
    (node,) = (node for node in function.node_def if node.op == "RestoreV2")
    node.input[0] = "elsewhere:output:0"


def restore_with_another_path(saved_model: Any) -> None:
    add_node(saved_model.meta_graphs[0].graph_def.node, "Const").name = "elsewhere"
    name = saver(saved_model).restore_op_name
    (node,) = (node for node in saved_model.meta_graphs[0].graph_def.node if node.name == name)
    node.input[0] = "elsewhere"


def save_on_restoring(saved_model: Any) -> None:
    saver(saved_model).restore_op_name = saver(saved_model).save_tensor_name.partition(":")[0]


def no_saver(saved_model: Any) -> None:
    saver(saved_model).Clear()


def saver_of_no_function(saved_model: Any) -> None:
    saver(saved_model).restore_op_name = "NoOp"


def two_nodes_of_a_name(saved_model: Any) -> None:
    nodes = saved_model.meta_graphs[0].graph_def.node
    nodes.append(nodes[0])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (save_when_serving, r"the signature 'serving_default' runs 'StatefulPartitionedCall_\d', which is the saver's"),
        (
            save_on_start,
            r"the collection 'saved_model_main_op' runs 'StatefulPartitionedCall_\d', which is the saver's",
        ),
        (save_before_serving, r"the node 'NoOp' runs 'StatefulPartitionedCall_\d', which is the saver's own"),
        (restore_from_elsewhere, r"the operation 'RestoreV2' does not read the file that the saver is told to"),
        (restore_with_another_path, r"the operation 'RestoreV2' does not read the file that the saver is told to"),
        (save_on_restoring, r"expected a saver with one function that saves and another that restores"),
        (no_saver, r"expected a saver with one function that saves and another that restores"),
        (saver_of_no_function, r"expected a saver with one function that saves and another that restores"),
        (two_nodes_of_a_name, r"the node '.*' stands more than once"),
    ],
)
def test_uses_of_the_saver(edited: Any, change: Callable[[Any], None], fault: str) -> None:
    assert re.search(fault, refusal(edited(change)))


# --- other parts of a SavedModel --------------------------------------------------------------------------------------


def resource(saved_model: Any) -> None:
    objects(saved_model).nodes.add().resource.device = "cpu"


def registered_class(saved_model: Any) -> None:
    objects(saved_model).nodes[0].registered_name = "Custom.Class"


def registered_saver(saved_model: Any) -> None:
    objects(saved_model).nodes[0].registered_saver = "Custom.Saver"


def saveable_object(saved_model: Any) -> None:
    objects(saved_model).nodes[0].saveable_objects["x"].save_function = 1


def optimizer(saved_model: Any) -> None:
    objects(saved_model).nodes[0].user_object.identifier = "optimizer"


def type_of_a_registered_class(saved_model: Any) -> None:
    concrete = next(iter(objects(saved_model).concrete_functions.values()))
    concrete.output_signature.type_spec_value.type_spec_class_name = "Custom.Class"


def legacy_initialiser(saved_model: Any) -> None:
    saved_model.meta_graphs[0].collection_def["legacy_init_op"].node_list.value.append("NoOp")


def training_operation(saved_model: Any) -> None:
    saved_model.meta_graphs[0].signature_def["__saved_model_train_op"].outputs["x"].name = "NoOp"


def list_of_functions(saved_model: Any) -> None:
    add_node(call_body(saved_model), "StatelessIf").attr["branches"].list.func.add(name=saver_functions(saved_model)[0])


def file_outside(saved_model: Any) -> None:
    saved_model.meta_graphs[0].asset_file_def[0].filename = "../../private.txt"


def compiled(saved_model: Any) -> None:
    add_node(call_body(saved_model), "Relu").attr["_XlaMustCompile"].b = True


def graph_of_tensorflow_1(saved_model: Any) -> None:
    saved_model.meta_graphs[0].ClearField("object_graph_def")


def second_graph(saved_model: Any) -> None:
    saved_model.meta_graphs.add().CopyFrom(saved_model.meta_graphs[0])


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (resource, "SavedObject.resource is set, which no export of mpncov_zoo has"),
        (registered_class, "SavedObject.registered_name is set"),
        (registered_saver, "SavedObject.registered_saver is set"),
        (saveable_object, "SavedObject.saveable_objects is set"),
        (optimizer, "the object 'optimizer' is none that exports of mpncov_zoo have"),
        (type_of_a_registered_class, "StructuredValue.type_spec_value is set"),
        (legacy_initialiser, "the collection 'legacy_init_op' is none"),
        (training_operation, "the signature '__saved_model_train_op' is none"),
        (list_of_functions, "AttrValue.ListValue.func is set"),
        (file_outside, "the asset '../../private.txt' is none"),
        (compiled, "the attribute '_XlaMustCompile' is none"),
        (graph_of_tensorflow_1, "expected a graph with objects, got one of TensorFlow 1"),
        (second_graph, "expected one graph, got 2"),
        (lambda saved_model: saved_model.Clear(), "expected one graph, got 0"),
    ],
)
def test_parts_that_our_exports_never_have(edited: Any, change: Callable[[Any], None], fault: str) -> None:
    assert fault in refusal(edited(change))


# --- files that are no SavedModel -------------------------------------------------------------------------------------

UNKNOWN_FIELD = b"\xfa\x3f\x01x"  # number 127, one byte


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        (lambda content: content[:-1], "no SavedModel (damaged or truncated?)"),
        (lambda content: content[: len(content) // 2], "no SavedModel (damaged or truncated?)"),
        (lambda content: content + b"\0\0", "no SavedModel (damaged or truncated?)"),
        (lambda content: b"no graph", "no SavedModel (damaged or truncated?)"),
        (lambda content: content + UNKNOWN_FIELD, "bytes, but the SavedModel in them takes"),
        (lambda content: b"\x08\x01" + content, "bytes, but the SavedModel in them takes"),  # a field that stands twice
        (lambda content: b"", "expected one graph, got 0"),
        (lambda content: content + content, "bytes, but the SavedModel in them takes"),
    ],
    ids=["a byte short", "half", "zeros", "text", "unknown field", "repeated field", "empty", "twice"],
)
def test_damaged_files(edited: Any, change: Callable[[bytes], bytes], fault: str) -> None:
    directory = edited(lambda saved_model: None)
    path = directory / GRAPH_FILE
    path.write_bytes(change(path.read_bytes()))
    assert fault in refusal(directory)


def test_a_directory_without_a_graph(tmp_path: Path) -> None:
    assert refusal(tmp_path) == f"{GRAPH_FILE!r} cannot be read: No such file or directory"


@pytest.mark.parametrize("name", ["saved_model.pbtxt", "saved_model.cpb", "tfhub_module.pb", "keras_metadata.pb"])
def test_another_graph_beside_it(edited: Any, name: str) -> None:
    directory = edited(lambda saved_model: None)
    verify_graph(directory)
    (directory / name).touch()
    assert refusal(directory) == f"{name!r}: expected {GRAPH_FILE!r} as the only graph"
