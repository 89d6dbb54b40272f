"""Which graphs may be executed: those made of nothing but what our own exports are made of.

`mpncov_zoo.load` executes no graph of an artifact. TensorFlow Hub, TensorFlow Serving and `tf.saved_model.load` do,
some of it as soon as they load it, and TensorFlow's operations can do much: write files (WriteFile), read them
(ReadFile), run Python (PyFunc). So what a saved_model.pb may hold is listed in `graph_tables`, operations by the place
where they stand. Nothing is loaded: the protocol buffer is read.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mpncov_zoo.errors import IntegrityError
from mpncov_zoo.hub.graph_tables import FIELDS, NAMES, OPERATIONS

GRAPH_FILE = "saved_model.pb"
OTHER_GRAPHS = (  # what loaders would take instead of, or together with, that file
    "keras_metadata.pb",
    "saved_model.cpb",
    "saved_model.pbtxt",
    "tfhub_module.pb",
)
REMEDY = (
    "Do not execute it; mpncov_zoo.load(..., hub=DIRECTORY) takes an artifact's weights and executes no graph. "
    "Written by a newer mpncov_zoo? Then upgrade: pip install --upgrade mpncov-zoo"
)

Message = Any  # TensorFlow's generated classes are not typed


class _Fault(Exception):
    """What speaks against executing a graph, without the end of the sentence."""


def verify_graph(directory: Path) -> None:
    """Check that an artifact's graph may be executed, by TensorFlow Hub, TensorFlow Serving or TensorFlow itself.

    It may if it is made of the operations of our own exports, bodies of functions included, each where those have it:
    writing and reading files, which a SavedModel's saver does, stands in its two functions alone, and these are called
    by the saver alone. And if the SavedModel has no part that those never have, such as objects with an initialiser.

    Args:
        directory: an artifact whose files have been verified. Nothing of it is executed or loaded.

    Raises:
        IntegrityError: the graph cannot be read, or may not be executed; the message names operation and function.

    Example:
        >>> verify_graph(Path("mpncov_zoo/bundled/mpncov_cifar_resnet20.fashion_mnist"))
    """
    others = [name for name in OTHER_GRAPHS if (directory / name).exists()]
    if others:
        raise IntegrityError(f"{directory}: {others[0]!r}: expected {GRAPH_FILE!r} as the only graph. {REMEDY}")
    try:
        saved_model = _parse(directory / GRAPH_FILE)
        graph = _graph(saved_model)
        _require_known_operations(graph)
        _require_known_calls(graph)
        _require_saver_alone(graph)
        _require_known_names(graph)
        _require_known_fields(saved_model)
    except OSError as error:
        raise IntegrityError(f"{directory}: {GRAPH_FILE!r} cannot be read: {error.strerror}. {REMEDY}") from error
    except _Fault as fault:
        raise IntegrityError(f"{directory}: {GRAPH_FILE!r}: {fault}. {REMEDY}") from None


def _parse(path: Path) -> Message:
    """The protocol buffer, in the one form about which all parsers agree.

    What is unknown here, stands twice or follows the end takes bytes, but none when the message is written again.
    """
    from google.protobuf.message import DecodeError
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    content, saved_model = path.read_bytes(), SavedModel()
    try:
        saved_model.ParseFromString(content)
    except DecodeError:
        raise _Fault("no SavedModel (damaged or truncated?)") from None
    saved_model.DiscardUnknownFields()
    if saved_model.ByteSize() != len(content):
        raise _Fault(f"{len(content)} bytes, but the SavedModel in them takes {saved_model.ByteSize()}")
    return saved_model


@dataclass(frozen=True)
class _Graph:
    """A meta graph, its functions by name, and the two nodes of its saver, each of which calls a function."""

    meta: Message
    functions: Mapping[str, Message]
    save: Message
    restore: Message

    @property
    def saver_functions(self) -> dict[str, str]:
        """Keys of OPERATIONS by the function's name."""
        return {_called(self.save): "save", _called(self.restore): "restore"}

    def bodies(self) -> Iterator[tuple[str, str, Message]]:
        """Key of OPERATIONS, what to call the place, its nodes: of the graph itself, then of each function."""
        yield "graph", "the graph itself", self.meta.graph_def.node
        saver_functions = self.saver_functions
        for name, function in self.functions.items():
            yield saver_functions.get(name, "function"), f"the function {name!r}", function.node_def


def _graph(saved_model: Message) -> _Graph:
    if len(saved_model.meta_graphs) != 1:
        raise _Fault(f"expected one graph, got {len(saved_model.meta_graphs)}")
    (meta,) = saved_model.meta_graphs
    if not meta.HasField("object_graph_def"):
        raise _Fault("expected a graph with objects, got one of TensorFlow 1")
    _require_distinct("node", [node.name for node in meta.graph_def.node])
    _require_distinct("function", [function.signature.name for function in meta.graph_def.library.function])
    nodes = {node.name: node for node in meta.graph_def.node}
    functions = {function.signature.name: function for function in meta.graph_def.library.function}
    save, restore = nodes.get(_node(meta.saver_def.save_tensor_name)), nodes.get(meta.saver_def.restore_op_name)
    if save is None or restore is None or len({_called(save), _called(restore)} & functions.keys()) != 2:
        raise _Fault("expected a saver with one function that saves and another that restores")
    return _Graph(meta, functions, save, restore)


def _require_distinct(kind: str, names: list[str]) -> None:
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated:
        raise _Fault(f"the {kind} {repeated[0]!r} stands more than once")


def _called(node: Message) -> str:
    """The function that a call calls."""
    return node.attr["f"].func.name if "f" in node.attr else ""


def _node(reference: str) -> str:
    """The node of a tensor (`node:0`) or of a control input (`^node`)."""
    return reference.removeprefix("^").partition(":")[0]


def _require_known_operations(graph: _Graph) -> None:
    """Where an operation is looked up, a function of its name would be taken for it: so none may have such a name."""
    for place, where, nodes in graph.bodies():
        allowed = frozenset(OPERATIONS[place])
        for node in nodes:
            if node.op not in allowed:
                raise _Fault(f"the operation {node.op!r} stands in {where}, where no export of mpncov_zoo has it")
    hidden = graph.functions.keys() & {name for names in OPERATIONS.values() for name in names}
    if hidden:
        raise _Fault(f"the function {min(hidden)!r} has the name of an operation")


def _require_known_calls(graph: _Graph) -> None:
    """Of functions that are there, and not of the saver's."""
    for caller, name in _calls(graph):
        if name not in graph.functions:
            raise _Fault(f"{caller} calls the function {name!r}, which is not there")
        if name in graph.saver_functions:
            raise _Fault(f"{caller} calls the function {name!r}, which is the saver's own")


def _calls(graph: _Graph) -> Iterator[tuple[str, str]]:
    """Who names which function, apart from the saver's nodes."""
    own = (graph.save.name, graph.restore.name)
    for place, where, nodes in graph.bodies():
        for node in nodes:
            if place != "graph" or node.name not in own:
                names = (value.func.name for value in node.attr.values() if value.HasField("func"))
                yield from ((f"the operation {node.op!r} in {where}", name) for name in names)
    for gradient in graph.meta.graph_def.library.registered_gradients:
        yield f"the gradient {gradient.registered_op_type!r}", gradient.gradient_func
    objects = graph.meta.object_graph_def
    names = [*objects.concrete_functions]
    for node in objects.nodes:
        names += node.function.concrete_functions
        names += [node.bare_concrete_function.concrete_function_name] * node.HasField("bare_concrete_function")
        names += [node.captured_tensor.concrete_function] * node.HasField("captured_tensor")
    yield from (("an object", name) for name in names)


def _require_saver_alone(graph: _Graph) -> None:
    """Nothing else runs its nodes, and it reads the file that it is told to."""
    own = (graph.save.name, graph.restore.name)
    for user, reference in _references(graph.meta):
        if _node(reference) in own:
            raise _Fault(f"{user} runs {_node(reference)!r}, which is the saver's own")
    function = graph.functions[_called(graph.restore)]
    given = [argument.name for argument in function.signature.input_arg[:1]]
    reads = [node.input[:1] for node in function.node_def if node.op == "RestoreV2"]
    told = [_node(graph.meta.saver_def.filename_tensor_name)]
    if graph.restore.input[:1] != told or any(read != given for read in reads):
        raise _Fault("the operation 'RestoreV2' does not read the file that the saver is told to")


def _references(meta: Message) -> Iterator[tuple[str, str]]:
    """Who runs which nodes of the graph itself."""
    for node in meta.graph_def.node:
        yield from ((f"the node {node.name!r}", name) for name in node.input)
    for key, signature in meta.signature_def.items():
        tensors = (*signature.inputs.values(), *signature.outputs.values())
        yield from ((f"the signature {key!r}", tensor.name) for tensor in tensors)
    for key, collection in meta.collection_def.items():
        yield from ((f"the collection {key!r}", name) for name in collection.node_list.value)


def _require_known_names(graph: _Graph) -> None:
    """Names that mean something to those who load, and gradients that are not this process' own."""
    for kind, name in _names(graph):
        if name not in NAMES[kind]:
            raise _Fault(f"the {kind} {name!r} is none that exports of mpncov_zoo have")
    known = {gradient.registered_op_type.encode() for gradient in graph.meta.graph_def.library.registered_gradients}
    for _, where, nodes in graph.bodies():
        for node in nodes:
            if "_gradient_op_type" in node.attr and node.attr["_gradient_op_type"].s not in known:
                raise _Fault(f"the operation {node.op!r} in {where} has a gradient that is not there")


def _names(graph: _Graph) -> Iterator[tuple[str, str]]:
    """Keys of NAMES, and names."""
    meta = graph.meta
    yield from (("asset", asset.filename) for asset in meta.asset_file_def)
    yield from (("collection", key) for key in meta.collection_def)
    yield from (("signature", key) for key in meta.signature_def)
    objects = (node.user_object for node in meta.object_graph_def.nodes if node.HasField("user_object"))
    yield from (("object", user_object.identifier) for user_object in objects)
    for function in graph.functions.values():
        arguments = (attributes.attr for attributes in function.arg_attr.values())
        yield from (("attribute", key) for attributes in (function.attr, *arguments) for key in attributes)
    for _, _, nodes in graph.bodies():
        yield from (("attribute", key) for node in nodes for key in node.attr if key.startswith("_"))


def _require_known_fields(saved_model: Message) -> None:
    """No part of a SavedModel that our exports never have: resources with initialisers, registered classes, ..."""
    allowed = {kind: frozenset(fields.split()) for kind, fields in FIELDS.items()}
    pending = [saved_model]
    while pending:
        message = pending.pop()
        kind = message.DESCRIPTOR.full_name.removeprefix("tensorflow.")
        for field, value in message.ListFields():
            if field.name not in allowed.get(kind, ()):
                raise _Fault(f"{kind}.{field.name} is set, which no export of mpncov_zoo has")
            pending += _messages(field, value)


def _messages(field: Any, value: Any) -> list[Message]:
    """The messages that a field's value is or holds."""
    if field.message_type is None:
        return []
    values = value.values() if isinstance(value, Mapping) else [value] if hasattr(value, "ListFields") else value
    return [item for item in values if hasattr(item, "ListFields")]
