"""What the graphs of our own exports are made of; a test derives these tables from exports of every kind of network."""

from collections.abc import Mapping

# fmt: off
OPERATIONS: Mapping[str, tuple[str, ...]] = {
    "graph": (
        "AssignVariableOp", "Const", "NoOp", "Placeholder", "ReadVariableOp", "StatefulPartitionedCall", "VarHandleOp",
        "VarIsInitializedOp",
    ),
    "function": (
        "Abs", "AddV2", "Any", "Assert", "AssignVariableOp", "AvgPool", "BatchMatMulV2", "BiasAdd", "Cast", "Ceil",
        "ConcatV2", "Const", "Conv2D", "DecodeImage", "DecodeJpeg", "DecodeRaw", "DepthwiseConv2dNative", "Einsum",
        "EnsureShape", "Equal", "ExpandDims", "Expm1", "Fill", "Floor", "FloorDiv", "FloorMod", "FusedBatchNormV3",
        "GatherV2", "Greater", "GreaterEqual", "Identity", "IdentityN", "Less", "LessEqual", "Log", "LogicalAnd",
        "LogicalNot", "MatMul", "MatrixDiagPartV3", "MatrixDiagV3", "MatrixSetDiagV3", "Max", "MaxPool", "Maximum",
        "Mean", "Minimum", "Mul", "NoOp", "NotEqual", "OnesLike", "Pack", "Pad", "Pow", "Prod", "Range",
        "ReadVariableOp", "RealDiv", "Relu", "Relu6", "Reshape", "ReverseV2", "RightShift", "Rsqrt", "SelectV2",
        "SelfAdjointEigV2", "Shape", "Sign", "Size", "Softmax", "SparseTensorDenseMatMul", "Sqrt", "Square", "Squeeze",
        "StatefulPartitionedCall", "StatelessIf", "StatelessRandomGetKeyCounter", "StatelessRandomUniformV2",
        "StatelessWhile", "StopGradient", "StridedSlice", "Sub", "Substr", "Sum", "TensorListFromTensor",
        "TensorListGetItem", "TensorListReserve", "TensorListSetItem", "TensorListStack", "TensorScatterAdd",
        "Transpose", "Unpack", "Where", "While", "ZerosLike",
    ),
    "save": (  # the function that writes a checkpoint: whoever loads or serves does not run it
        "Const", "DisableCopyOnRead", "Identity", "MergeV2Checkpoints", "NoOp", "Pack", "ReadVariableOp", "SaveV2",
        "Select", "ShardedFilename", "StaticRegexFullMatch", "StringJoin",
    ),
    "restore": ("AssignVariableOp", "Const", "Identity", "NoOp", "RestoreV2"),  # reads the artifact's own variables/
}
# fmt: on

NAMES: Mapping[str, tuple[str, ...]] = {
    "asset": ("labels.txt",),
    "attribute": (  # of functions, and of nodes beside those of their operation, which TensorFlow itself checks
        "_class",
        "_collective_manager_ids",
        "_construction_context",
        "_gradient_op_type",
        "_has_manual_control_dependencies",
        "_input_shapes",
        "_lower_using_switch_merge",
        "_num_original_outputs",
        "_output_shapes",
        "_read_only_resource_inputs",
        "_user_specified_name",
    ),
    "collection": ("saved_model_main_op",),
    "object": ("_generic_user_object", "signature_map", "trackable_list_wrapper"),
    "signature": ("__saved_model_init_op", "features", "from_bytes", "serving_default"),
}

FIELDS: Mapping[str, str] = {  # every message and the fields of it that are ever set
    "AssetFileDef": "filename tensor_info",
    "AttrValue": "b f func i list s shape tensor type",
    "AttrValue.ListValue": "i s shape type",
    "CapturedTensor": "concrete_function name",
    "CollectionDef": "node_list",
    "CollectionDef.NodeList": "value",
    "DictValue": "fields",
    "FullTypeDef": "args s type_id",
    "FunctionDef": "arg_attr attr control_ret node_def ret signature",
    "FunctionDef.ArgAttrs": "attr",
    "FunctionDefLibrary": "function registered_gradients",
    "FunctionSpec": "fullargspec input_signature",
    "GraphDef": "library node versions",
    "ListValue": "values",
    "MetaGraphDef": "asset_file_def collection_def graph_def meta_info_def object_graph_def saver_def signature_def",
    "MetaGraphDef.MetaInfoDef": "stripped_default_attrs stripped_op_list tags tensorflow_git_version "
    "tensorflow_version",
    "NameAttrList": "name",
    "NamedTupleValue": "name values",
    "NodeDef": "attr device experimental_type input name op",
    "OpDef": "attr control_output input_arg is_aggregate is_commutative is_distributed_communication is_stateful name "
    "output_arg",
    "OpDef.ArgDef": "experimental_full_type handle_data name number_attr type type_attr type_list_attr",
    "OpDef.AttrDef": "allowed_values default_value has_minimum minimum name type",
    "OpList": "op",
    "PairValue": "key value",
    "RegisteredGradient": "gradient_func registered_op_type",
    "ResourceHandleProto.DtypeAndShape": "dtype shape",
    "SavedBareConcreteFunction": "allowed_positional_arguments argument_keywords concrete_function_name function_spec",
    "SavedConcreteFunction": "bound_inputs canonicalized_input_signature output_signature",
    "SavedFunction": "concrete_functions function_spec",
    "SavedModel": "meta_graphs saved_model_schema_version",
    "SavedObject": "asset bare_concrete_function captured_tensor children dependencies function user_object variable",
    "SavedObjectGraph": "concrete_functions nodes",
    "SavedUserObject": "identifier version",
    "SavedVariable": "dtype name shape trainable",
    "SaverDef": "filename_tensor_name restore_op_name save_tensor_name version",
    "SignatureDef": "inputs method_name outputs",
    "StructuredValue": "bool_value dict_value list_value named_tuple_value none_value string_value tensor_spec_value "
    "tuple_value",
    "TensorInfo": "dtype name tensor_shape",
    "TensorProto": "bool_val double_val dtype float_val int64_val int_val string_val tensor_content tensor_shape",
    "TensorShapeProto": "dim unknown_rank",
    "TensorShapeProto.Dim": "size",
    "TensorSpecProto": "dtype name shape",
    "TrackableObjectGraph.TrackableObject.ObjectReference": "local_name node_id",
    "TupleValue": "values",
    "VersionDef": "min_consumer producer",
}
