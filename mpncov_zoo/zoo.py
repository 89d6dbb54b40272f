"""What users call: build, load and feature_extractor, which need TensorFlow."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike

from mpncov_zoo import architectures, registry
from mpncov_zoo.assembly import precision
from mpncov_zoo.catalog import split_name
from mpncov_zoo.classifier import DRAWN, FeatureExtractor, ImageClassifier
from mpncov_zoo.errors import InputError
from mpncov_zoo.find import find
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.pretrained import network
from mpncov_zoo.specification import InputShape, check_input_shape

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16", "bfloat16", "float16", "float64")
logger = logging.getLogger(__name__)


def build(
    name: str,
    *,
    num_classes: int | None = None,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    stages: Sequence[str] | None = None,
    options: Mapping[str, registry.Options] | None = None,
    dtype: str | None = None,
) -> ImageClassifier:
    """Build a freshly initialised network.

    Args:
        name: a model of `list_models()`, an alias, or `<representation>_<backbone>`.
        num_classes: length of the logits; with 0 the output is the representation; by default as published.
        input_shape: (height, width, channels); height and width may be None. By default as published.
        representation: "mpncov", "gap", "bcnn" or "cbp" instead of the named model's own.
        stages: those of the backbone that the representation stands on, such as ["stage5", "stage6"]. Each gives one
            vector, of the stage's own channels unless the options ask for a reduction, and the vectors are joined.
            The backbone ends with the last of them. By default as the model has it, most often the end of the
            backbone; [] is always the end.
        options: architecture options by part, for example {"representation": {"dimension_reduction": 128}}; every
            representation takes {"l2_normalize": True}, which makes each vector one of length 1.
        dtype: Keras' dtype policy of the network: "float32", "float64", "mixed_bfloat16" or "mixed_float16", whose
            trunk computes in 16 bits with weights of 32, "bfloat16" or "float16". The representation and the classifier
            are float32 or better under each. By default the program's policy.

    Raises:
        UnknownModel: no such model; the message lists close matches.
        InputError: the arguments do not make a network: an unknown representation or option, a bad value or shape.

    Example:
        >>> mpncov_zoo.build("mpncov_resnet50", num_classes=200).output_shape
        (None, 200)
    """
    row = registry.backbone_of(registry.canonical_name(name))
    shape = (*row.input.size, row.input.channels) if input_shape is None else check_input_shape(input_shape)
    with _policy(dtype):
        return ImageClassifier(
            architectures.of_model(name, representation, options, stages),
            num_classes=row.num_classes if num_classes is None else num_classes,
            input_shape=shape,
            input_specification=row.input.for_shape(shape),
        )


def load(
    name: str,
    pretrained: bool | str = False,
    *,
    num_classes: int | None = None,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    stages: Sequence[str] | None = None,
    dtype: str | None = None,
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
) -> ImageClassifier:
    """Load a model, with its pretrained weights if asked for.

    Args:
        name: a model of `list_models()`, an alias, `<model>.<tag>`, which asks for that set of weights, or the path of
            an artifact or of a run.
        pretrained: True for the default weights, a tag for a named set. False builds a fresh network, unless the name
            is a path or has a tag, which ask for weights themselves.
        num_classes: another number gets a fresh classifier; with 0 the output is the representation.
        input_shape: (height, width, channels); height and width may be None for any size.
        representation: another than the model's own; it and the classifier are then fresh.
        stages: of the backbone, for the representation to stand on, as `build` takes them; it and the classifier are
            then fresh, and the pretrained backbone ends with the last of them.
        dtype: the network's dtype policy, as `build` takes it. For inference `mpncov_zoo.optimize` is faster.
        hub: the only place to look for the weights: an artifact directory, a directory of `<model>.<tag>/` ones, an
            `https://` URL or `hf:owner/name@<40-hex commit>` of such. By default MPNCOV_ZOO_HUB, then the manifest's.
        cache_dir: where downloads and conversions are kept; by default MPNCOV_ZOO_CACHE or the platform's place.
        offline: forbid the network; MPNCOV_ZOO_OFFLINE=1 and HF_HUB_OFFLINE=1 do, too.

    Returns:
        The network; `load_report` says what was loaded and what is fresh.

    Raises:
        UnknownModel, NoPretrainedWeights: no such model or weights. Random weights never stand in for pretrained ones
            but behind a trunk: where an entry of the manifest is a trunk alone, or another representation is asked
            for, a warning says what is fresh.
        FetchError: the weights cannot be had; OfflineError, a kind of it, if only network access is missing.
        IntegrityError: they are not the published ones.
        ConversionError: a published checkpoint, converted on its first use, is not of this network.
        ManifestError: the manifest or the artifact's model.json is malformed, or describes no network of this version.
        InputError: an argument cannot be used.

    Example:
        >>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
        >>> model.decode(model(model.preprocess("examples/images/ankle-boot.png")), top=1)
        [[('Ankle boot', 0.9228610655804985)]]
    """
    if pretrained is False and not is_path(name) and split_name(name, False)[1] is None:
        if hub is not None:
            raise InputError(f"hub={str(hub)!r} was given, but no weights were asked for: pass pretrained=True.")
        loaded = build(
            name,
            num_classes=num_classes,
            input_shape=input_shape,
            representation=representation,
            stages=stages,
            dtype=dtype,
        )
    else:
        found = find(name, pretrained, hub=hub, cache_dir=cache_dir, offline=offline, put_off_variables=True)
        if found.is_trunk and representation is None:
            representation = registry.MODELS[found.model][1]
        with _policy(dtype):
            loaded = network(
                found.artifact,
                num_classes=num_classes,
                input_shape=input_shape,
                representation=representation,
                stages=stages,
            )
        fresh = [name for name in loaded.load_report.fresh if name.rpartition("/")[2] not in DRAWN]
        parts = dict.fromkeys(name.split("/")[0] for name in fresh)
        if num_classes is not None and not found.is_trunk:  # who says a number of classes wants a fresh classifier
            parts.pop("classifier", None)
        if parts:
            named = loaded.load_report.weights
            rest = f"{' and '.join(parts)} {'are' if len(parts) > 1 else 'is'} fresh: random values, others in each run"
            logger.warning("%s: only the trunk is pretrained (%s); %s", found.model, named, rest)
    logger.info("%s: %s", loaded.name, loaded.load_report)
    return loaded


def feature_extractor(
    model: str | ImageClassifier,
    stages: Sequence[str],
    *,
    pretrained: bool | str = True,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    hub: str | PathLike[str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
) -> FeatureExtractor:
    """A model from images to the tensors of some stages.

    Args:
        model: an ImageClassifier, whose layers are shared, or a name to load.
        stages: names of `ImageClassifier.stages`, for example ["stage3", "covariance", "representation"].
        pretrained: which weights to load for a name; they are needed, since features of random weights say nothing.
        input_shape: as `load` takes it; this and the arguments below are for a name only.
        representation: another than the model's own; it is fresh where it has weights.
        hub: the only place to look, as `load` takes it.
        cache_dir: of `load`.
        offline: of `load`.

    Returns:
        A Keras model from (batch, height, width, channels) to {stage: tensor}; it has `preprocess` too.

    Raises:
        InputError: an unknown stage (the message lists those there are), an argument that cannot be used, or one that
            is for loading given together with a network.
        UnknownModel, NoPretrainedWeights, FetchError, IntegrityError, ManifestError: of `load`, for a name.

    Example:
        >>> extract = mpncov_zoo.feature_extractor("mpncov_cifar_resnet20", ["stage3", "covariance"])
        >>> {name: tensor.shape for name, tensor in extract(extract.preprocess("boot.png")).items()}
        {'stage3': TensorShape([1, 14, 14, 64]), 'covariance': TensorShape([1, 64, 64])}
    """
    if isinstance(model, ImageClassifier):
        given = (input_shape, representation, hub, cache_dir, offline)
        if pretrained is not True or any(value is not None for value in given):
            raise InputError(f"{model.name} is a network already: only stages are left to say. Pass a name to load.")
        return FeatureExtractor(model, stages)
    classifier = load(
        model,
        pretrained,
        num_classes=None if representation is None or "logits" in stages else 0,
        input_shape=input_shape,
        representation=representation,
        hub=hub,
        cache_dir=cache_dir,
        offline=offline,
    )
    return FeatureExtractor(classifier, stages)


@contextmanager
def _policy(dtype: str | None) -> Iterator[None]:
    """Within this context networks have a dtype policy, or the program's.

    Raises:
        InputError: it is none of DTYPES.
    """
    if dtype is None:
        yield
        return
    if dtype not in DTYPES:
        raise InputError(f"dtype must be one of {', '.join(DTYPES)}. Received: {dtype!r}.")
    with precision(dtype):
        yield
