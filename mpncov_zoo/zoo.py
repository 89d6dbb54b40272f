"""What users call: build, load and feature_extractor, which need TensorFlow."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from os import PathLike
from typing import Any

from mpncov_zoo import artifact, registry
from mpncov_zoo.catalog import split_name
from mpncov_zoo.classifier import (
    PARTS,
    FeatureExtractor,
    ImageClassifier,
    InputShape,
    LoadReport,
    check_input_shape,
    check_num_classes,
)
from mpncov_zoo.errors import InputError, ManifestError
from mpncov_zoo.first_use import convert_into
from mpncov_zoo.hub import sources
from mpncov_zoo.manifest import DESCRIPTION_FILE, ArtifactDescription, InputSpecification, load_manifest

logger = logging.getLogger(__name__)


def build(
    name: str,
    *,
    num_classes: int | None = None,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    options: Mapping[str, registry.Options] | None = None,
) -> ImageClassifier:
    """Build a freshly initialised network.

    Args:
        name: a model of `list_models()`, an alias, or `<representation>_<backbone>`.
        num_classes: length of the logits, 0 for the representation; by default as published.
        input_shape: (height, width, channels); height and width may be None. By default as published.
        representation: "mpncov", "gap", "bcnn" or "cbp" instead of the named model's own.
        options: architecture options by part, for example {"representation": {"dimension_reduction": 128}}.

    Raises:
        UnknownModel: no such model; the message lists close matches.
        InputError: the arguments do not make a network: an unknown representation or option, a bad value or shape.

    Example:
        >>> mpncov_zoo.build("mpncov_resnet50", num_classes=200).output_shape
        (None, 200)
    """
    row = registry.backbone_of(registry.canonical_name(name))
    specification = InputSpecification.model_validate(row.input)
    default = (*specification.size, specification.channels)
    shape = default if input_shape is None else check_input_shape(input_shape)
    return ImageClassifier(
        registry.architecture(name, representation, options),
        num_classes=row.num_classes if num_classes is None else num_classes,
        input_shape=shape,
        input_specification=_adapted(specification, shape),
    )


def load(
    name: str,
    pretrained: bool | str = False,
    *,
    num_classes: int | None = None,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    hub: str | PathLike[str] | None = None,
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
) -> ImageClassifier:
    """Load a model, with its pretrained weights if asked for.

    Args:
        name: a model of `list_models()`, an alias, or `<model>.<tag>`, which asks for that set of weights.
        pretrained: True for the default weights, a tag for a named set, False for fresh ones.
        num_classes: another number gets a fresh classifier, 0 none: the output is the representation.
        input_shape: (height, width, channels); height and width may be None for any size.
        representation: another than the model's own; it and the classifier are then fresh.
        hub: the only place to look for the weights: an artifact directory, a directory of `<model>.<tag>/` ones, an
            `https://` URL or `hf:owner/name@<40-hex commit>` of such. By default MPNCOV_ZOO_HUB, then the manifest's.
        revision: the commit, if `hub` is `hf:owner/name` without it.
        cache_dir: where downloads and conversions are kept; by default MPNCOV_ZOO_CACHE or the platform's place.
        offline: forbid the network; MPNCOV_ZOO_OFFLINE=1 and HF_HUB_OFFLINE=1 do, too.

    Returns:
        The network; `load_report` says what was loaded and what is fresh.

    Raises:
        UnknownModel, NoPretrainedWeights: no such model or weights. Random weights never stand in for pretrained ones,
            but for an entry of the manifest that is a trunk alone: all else is fresh then, which one warning says.
        FetchError: the weights cannot be had; OfflineError, a kind of it, where only the network is missing.
        IntegrityError: they are not the published ones.
        ConversionError: a published checkpoint, converted on its first use, is not of this network.
        ManifestError: the manifest or the artifact's model.json is malformed, or describes no network of this version.
        InputError: an argument cannot be used.

    Example:
        >>> model = mpncov_zoo.load("mpncov_cifar_resnet20", pretrained=True)
        >>> model.decode(model(model.preprocess("examples/images/ankle-boot.png")), top=1)
        [[('Ankle boot', 0.9228610655804985)]]
    """
    model, tag = split_name(name, pretrained)
    if pretrained is False and tag is None:
        if hub is not None:
            raise InputError(f"hub={str(hub)!r} was given, but no weights were asked for: pass pretrained=True.")
        loaded = build(model, num_classes=num_classes, input_shape=input_shape, representation=representation)
    else:
        asked = model
        model, tag, representation = _with_trunk(model, tag, hub, representation)
        trunk_only = model != asked
        found = sources.resolve(
            model,
            tag,
            hub=hub,
            revision=revision,
            manifest=load_manifest(),
            cache_dir=cache_dir,
            offline=offline,
            put_off_variables=True,
            convert=convert_into,
        )
        loaded = _pretrained(found, num_classes, input_shape, representation)
        if trunk_only and loaded.load_report.fresh:
            weights = loaded.load_report.weights
            logger.warning("%s: only the trunk is pretrained (%s); the rest is fresh, to be trained", asked, weights)
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
    revision: str | None = None,
    cache_dir: str | PathLike[str] | None = None,
    offline: bool | None = None,
) -> FeatureExtractor:
    """A model from images to the tensors of some stages.

    Args:
        model: an ImageClassifier, whose layers are shared, or a name to load.
        stages: names of `ImageClassifier.stages`, for example ["stage3", "covariance", "representation"].
        pretrained: which weights to load for a name; they are needed, for features of random weights say nothing.
        input_shape: of `load`, for a name; as the following are.
        representation: another than the model's own; it is fresh where it has weights.
        hub: the only place to look, as `load` takes it.
        revision: of `load`.
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
        given = (input_shape, representation, hub, revision, cache_dir, offline)
        if pretrained is not True or any(value is not None for value in given):
            raise InputError(f"{model.name} is a network already: only stages are left to say. Pass a name to load.")
        return FeatureExtractor(model, stages)
    classifier = load(
        model,
        pretrained,
        input_shape=input_shape,
        representation=representation,
        hub=hub,
        revision=revision,
        cache_dir=cache_dir,
        offline=offline,
    )
    return FeatureExtractor(classifier, stages)


def _with_trunk(
    model: str, tag: str | None, hub: object, representation: str | None
) -> tuple[str, str | None, str | None]:
    """The weights that hold a model's trunk, where the manifest has no more of it, and the representation on them."""
    trunk, trunk_tag = (model, tag) if hub is not None else load_manifest().held_by(model, tag)
    if trunk == model:
        return model, tag, representation
    return trunk, trunk_tag, representation or registry.MODELS[model][1]


def _pretrained(
    found: sources.ResolvedArtifact,
    num_classes: int | None,
    input_shape: InputShape | None,
    representation: str | None,
) -> ImageClassifier:
    """A verified artifact as a network, adapted to what was asked for."""
    description = found.description
    with _describes_a_network(found):
        architecture, published_shape = _architecture(description)
    labels = artifact.read_labels(found.directory, description)
    changed = representation not in (None, architecture.representation)
    if changed:
        architecture = _with_representation(architecture, representation)
    classes = description.num_classes if num_classes is None else check_num_classes(num_classes)
    kept = [part for part in PARTS if not _is_fresh(part, changed, classes != description.num_classes)]
    shape = published_shape if input_shape is None else check_input_shape(input_shape)
    if shape[2] != published_shape[2]:
        raise InputError(f"{description.name} takes images of {published_shape[2]} channels. Received: {shape[2]}.")
    with ThreadPoolExecutor(1) as worker:  # hashing and reading leave the interpreter to the building of the network
        reading = worker.submit(_verified_checkpoint, found, kept)
        try:
            model = ImageClassifier(
                architecture,
                num_classes=classes,
                input_shape=shape,
                input_specification=_adapted(description.input, shape),
                labels=labels if "classifier" in kept else None,
                initialize=[part for part in PARTS if part not in kept],
            )
        except InputError:
            _require_buildable(found)
            raise
        checkpoint = reading.result()
    artifact.assign_weights(model, checkpoint)
    names = tuple(model.named_variables())
    model.load_report = LoadReport(
        weights=description.name,
        source=str(found.directory),
        trust=found.trust,
        loaded=tuple(name for name in names if name.split("/")[0] in kept),
        fresh=tuple(name for name in names if name.split("/")[0] not in kept),
        unused=checkpoint.unused,
    )
    return model


def _verified_checkpoint(found: sources.ResolvedArtifact, parts: Sequence[str]) -> artifact.Checkpoint:
    found.verify_pending()
    return artifact.read_checkpoint(found.directory, parts)


def _is_fresh(part: str, representation_changed: bool, classes_changed: bool) -> bool:
    if part == "classifier":
        return representation_changed or classes_changed
    return part == "representation" and representation_changed


def _architecture(description: ArtifactDescription) -> tuple[registry.Architecture, InputShape]:
    """The two things that an artifact's `architecture` holds, if the rest of its description agrees with them."""
    values = dict(description.architecture)
    shape = check_input_shape(values.pop("input_shape"))
    if shape[2] != description.input.channels:
        raise ValueError(f"input_shape is {shape}, input has {description.input.channels} channels")
    architecture = registry.Architecture.from_dict(values)
    if architecture.name != description.model:
        raise ValueError(f"model is {description.model!r}, the architecture's name {architecture.name!r}")
    if registry.MODELS.get(architecture.name) != (architecture.backbone, architecture.representation):
        parts = f"backbone {architecture.backbone!r} and representation {architecture.representation!r}"
        raise ValueError(f"{architecture.name!r} is not of {parts}")
    return architecture, shape


def _require_buildable(found: sources.ResolvedArtifact) -> None:
    """Tell a description of no network from changes by the caller that its network does not allow."""
    with _describes_a_network(found):
        architecture, shape = _architecture(found.description)
        ImageClassifier(
            architecture,
            num_classes=found.description.num_classes,
            input_shape=shape,
            input_specification=found.description.input,
            initialize=(),
        )


def _with_representation(architecture: registry.Architecture, representation: str | None) -> registry.Architecture:
    """Another representation on the same backbone, whose options that differ from the table's stay as they are."""
    table = registry.architecture(architecture.backbone, architecture.representation).features_options
    own = {key: value for key, value in architecture.features_options.items() if table.get(key) != value}
    return registry.architecture(architecture.backbone, representation, {"features": own})


@contextmanager
def _describes_a_network(found: sources.ResolvedArtifact) -> Iterator[None]:
    """An architecture out of the tables or with foreign options is a fault of the artifact's description."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{found.directory / DESCRIPTION_FILE} describes no network that this version of mpncov_zoo can build: "
            f"{str(error).rstrip('.')}. Written by a newer one? Then upgrade: pip install --upgrade mpncov-zoo"
        ) from error


def _adapted(specification: InputSpecification, shape: InputShape) -> InputSpecification:
    """The specification for another image size, and for grey images the mean over the channels."""
    changes: dict[str, Any] = {}
    if shape[0] is not None and shape[1] is not None:
        changes["size"] = (shape[0], shape[1])
    if shape[2] == 1 and specification.channels == 3:
        changes |= {"channel_order": "L"}
        changes |= {key: (sum(getattr(specification, key)) / 3,) for key in ("mean", "std")}
    elif shape[2] != specification.channels:
        raise InputError(f"Images have 3 channels (RGB) or 1 (grey). Received: input_shape={shape}.")
    return specification.model_copy(update=changes)
