"""What there is: names, weights and facts about them, without TensorFlow."""

from dataclasses import dataclass
from fnmatch import fnmatchcase
from os import PathLike
from pathlib import Path
from typing import cast

from mpncov_zoo import architectures, registry
from mpncov_zoo.description import DESCRIPTION_FILE, Metric, parse_description
from mpncov_zoo.errors import InputError, ManifestError, UnknownModel
from mpncov_zoo.hub.cache import Cache, cache_root
from mpncov_zoo.hub.local import artifact_at, is_path
from mpncov_zoo.hub.locations import of_source
from mpncov_zoo.hub.resolve import BUNDLED
from mpncov_zoo.hub.upstream import whereabouts
from mpncov_zoo.manifest import BundledSource, WeightsEntry, load_manifest
from mpncov_zoo.specification import InputSpecification
from mpncov_zoo.trunk_stages import TrunkStage, trunk_stages


@dataclass(frozen=True)
class ModelInfo:
    """What is known of a model and of its default or chosen weights.

    Attributes:
        name: the model, or `<model>.<tag>` if its weights were asked for or it has default ones.
        model: canonical name of the architecture.
        aliases: other spellings that are understood.
        backbone, representation: the parts.
        stages: of the backbone, on which the representation stands; none for its end.
        trunk: every stage of the whole backbone, with its positions and channels at the published size of images; empty
            for an artifact that was named by its path.
        weights: names of all its sets of weights; the default one first.
        num_classes: length of the logits.
        input: how images become the network's input.
        parameters: trainable parameters, without batch-norm statistics; None where not recorded.
        metrics: each with where it comes from.
        dataset, code_licence, weights_licence, citation, notes: of the weights; None without.
        source: where the weights come from; None without.
        available: whether they are on this machine, or what brings them; None without.
        size_bytes: of their files, or of the checkpoint that they are converted from; None where it is not known.
        trunk_only: whether only the features have weights, and all else would be fresh.
    """

    name: str
    model: str
    aliases: tuple[str, ...]
    backbone: str
    representation: str
    weights: tuple[str, ...]
    num_classes: int
    input: InputSpecification
    parameters: int | None = None
    metrics: tuple[Metric, ...] = ()
    dataset: str | None = None
    code_licence: str | None = None
    weights_licence: str | None = None
    citation: str | None = None
    notes: str | None = None
    source: str | None = None
    available: str | None = None
    size_bytes: int | None = None
    trunk_only: bool = False
    stages: tuple[str, ...] = ()
    trunk: tuple[TrunkStage, ...] = ()


def list_models(pattern: str = "*", *, pretrained: bool = False) -> list[str]:
    """Names of models, sorted; or of sets of weights, `<model>.<tag>`.

    Args:
        pattern: shell wildcards, for example "mpncov_*".
        pretrained: list the published sets of weights instead, of networks that this version can build.

    Example:
        >>> mpncov_zoo.list_models("mpncov_cifar*", pretrained=True)
        ['mpncov_cifar_resnet20.fashion_mnist']
    """
    published = (entry.name for entry in load_manifest().entries if entry.model in registry.MODELS)
    names = published if pretrained else registry.model_names()
    return sorted(name for name in names if fnmatchcase(name, pattern))


def info(name: str | PathLike[str]) -> ModelInfo:
    """The facts about a model, and about its default weights, those of `<model>.<tag>` or of an artifact's path.

    Raises:
        UnknownModel: no such model; the message lists close matches.
        InputError: a path leads to no artifact.
        ManifestError: the model.json of that artifact is malformed.
        NoPretrainedWeights: the model has no weights of that tag.

    Example:
        >>> mpncov_zoo.info("mpncov_resnet101").parameters
        75921960
    """
    if is_path(name):
        return _info_of_artifact(artifact_at(name))
    model, tag = split_name(cast(str, name), False)
    manifest = load_manifest()
    entries = sorted(manifest.for_model(model), key=lambda entry: (not entry.default, entry.tag))
    entry = manifest.published(model, tag) if tag or entries else None
    row, architecture = registry.backbone_of(model), architectures.of_model(model)
    facts = {} if entry is None else _facts(entry)
    return ModelInfo(
        **{
            "name": model,
            "model": model,
            "aliases": tuple(alias for alias, target in registry.ALIASES.items() if target == model),
            "backbone": architecture.backbone,
            "representation": architecture.representation,
            "weights": tuple(known.name for known in entries),
            "num_classes": row.num_classes,
            "input": row.input,
            "stages": architecture.stages,
            "trunk": trunk_stages(_listed(model)),
            **facts,
        }
    )


def _listed(model: str) -> str:
    """The listed model with the trunk of this one: second order has one of its own on most backbones."""
    backbone, representation = registry.MODELS[model]
    return f"mpncov_{backbone}" if registry.REPRESENTATIONS[representation].second_order else backbone


def _info_of_artifact(directory: Path) -> ModelInfo:
    """The facts that an artifact's model.json states; nothing is verified."""
    described = parse_description(directory / DESCRIPTION_FILE)
    return ModelInfo(
        name=described.name,
        model=described.model,
        aliases=(),
        backbone=str(described.architecture.get("backbone")),
        representation=str(described.architecture.get("representation")),
        weights=(described.name,),
        num_classes=described.num_classes,
        input=described.input,
        parameters=described.parameters,
        metrics=tuple(described.metrics),
        source=str(directory),
        available="here, in this directory",
        size_bytes=sum(file.size for file in described.files),
        stages=architectures.check_stages(described.architecture.get("stages", ())),
    )


def architecture_and_input(name: str | PathLike[str]) -> tuple[architectures.Architecture, InputSpecification]:
    """The architecture and the input specification that a name, or the path of an artifact or a run, stands for.

    Returns:
        Those of the published network, or those that the artifact's model.json states; nothing is verified.

    Raises:
        UnknownModel: no such model.
        InputError: a path leads to no artifact.
        ManifestError: the model.json of that artifact is malformed.
    """
    if not is_path(name):
        model = registry.canonical_name(cast(str, name))
        return architectures.of_model(model), registry.backbone_of(model).input
    file = artifact_at(name) / DESCRIPTION_FILE
    described = parse_description(file)
    values = {key: value for key, value in described.architecture.items() if key != "input_shape"}
    try:
        architecture = architectures.Architecture.from_dict(values)
        architectures.require_consistent(architecture)
        return architecture, described.input
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(f"{file} describes no network: {error}") from error


def split_name(name: str, pretrained: bool | str) -> tuple[str, str | None]:
    """A name as given to `load` as canonical model and tag; the tag is None for the default or for no weights.

    Raises:
        UnknownModel: no such model.
        InputError: two different tags, or `pretrained` is neither a bool nor a tag.
    """
    if not isinstance(name, str) or not isinstance(pretrained, bool | str):
        raise InputError(f"Expected a name, and pretrained=True, False or a tag. Received: {name!r}, {pretrained!r}.")
    if "/" in name or "\\" in name or name.startswith("."):
        raise UnknownModel(
            f"{name!r} is a path, where the name of a model is wanted: mpncov_zoo.list_models() lists all."
        )
    stem, dot, tag = name.partition(".")
    if pretrained == "" or (dot and not tag):
        raise InputError(f"A tag is empty. Received: {name!r}, pretrained={pretrained!r}.")
    model = registry.canonical_name(stem)
    if isinstance(pretrained, str):
        if tag and tag != pretrained:
            raise InputError(f"{name!r} and pretrained={pretrained!r} ask for different weights.")
        tag = pretrained
    return model, tag or None


def _facts(entry: WeightsEntry) -> dict[str, object]:
    upstream, trunk = entry.upstream, [f"the trunk of {entry.trunk}"] if entry.trunk else []
    place = upstream.locations if upstream is not None else trunk + [source.kind for source in entry.sources]
    return {
        "name": entry.name,
        "num_classes": entry.num_classes,
        "input": entry.input,
        "parameters": entry.parameters,
        "metrics": tuple(entry.metrics),
        "dataset": entry.dataset,
        "code_licence": entry.code_licence,
        "weights_licence": entry.weights_licence,
        "citation": entry.citation,
        "notes": entry.notes or None,
        "source": ", ".join(place),
        "available": availability(entry),
        "size_bytes": size_in_bytes(entry),
        "trunk_only": entry.trunk is not None,
    }


def availability(entry: WeightsEntry) -> str:
    """Say whether a set of weights can be had from here, and how; nothing is read, verified or asked.

    Returns:
        Words that begin with "here" where nothing has to be fetched or installed.
    """
    cache = Cache(cache_root())
    if entry.trunk is not None:
        return availability(load_manifest().published(*entry.trunk.split(".")))
    if entry.upstream is not None:
        converted = cache.recall("converted", entry.name)
        if converted is not None and cache.blob(converted).is_file():
            return "here, in the cache"
        return whereabouts(entry.upstream, cache)
    if (BUNDLED / entry.name).is_dir():
        return "here, bundled"
    if cache.tree(entry.name, entry.files).is_dir():
        return "here, in the cache"
    return f"fetched from {', or '.join(str(of_source(s)) for s in entry.sources if not isinstance(s, BundledSource))}"


def size_in_bytes(entry: WeightsEntry) -> int | None:
    """The size of the files of a set of weights, or of the checkpoint that they are converted from, in bytes."""
    if entry.trunk is not None:
        return size_in_bytes(load_manifest().published(*entry.trunk.split(".")))
    if entry.upstream is not None:
        return entry.upstream.size_bytes or (int(entry.upstream.size_mib * 2**20) if entry.upstream.size_mib else None)
    return sum(file.size for file in entry.files)
