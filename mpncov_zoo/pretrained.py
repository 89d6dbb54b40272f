"""From a verified artifact to a network that holds its weights; the artifact's graph is never executed."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from mpncov_zoo import architectures
from mpncov_zoo.architectures import PARTS, Architecture
from mpncov_zoo.artifact.reader import StoredWeights, assign_weights, read_labels, stored_weights
from mpncov_zoo.assembly import check_num_classes, require_keras_settings
from mpncov_zoo.classifier import DRAWN, ImageClassifier
from mpncov_zoo.description import DESCRIPTION_FILE, ArtifactDescription
from mpncov_zoo.errors import InputError, ManifestError
from mpncov_zoo.hub.resolve import ResolvedArtifact
from mpncov_zoo.load_report import LoadReport
from mpncov_zoo.specification import InputShape, check_input_shape


def network(
    artifact: ResolvedArtifact,
    *,
    num_classes: int | None = None,
    input_shape: InputShape | None = None,
    representation: str | None = None,
    stages: Sequence[str] | None = None,
) -> ImageClassifier:
    """The network of an artifact with its weights, adapted to what is asked for.

    Args:
        artifact: the weights; digests that were put off are checked while the network is built.
        num_classes: another number gets a fresh classifier, 0 none.
        input_shape: (height, width, channels); height and width may be None for any size.
        representation: another than the artifact's own; it and the classifier are then fresh.
        stages: others of the trunk than the artifact's, for the representation to stand on; the same holds then. By
            default another representation stands on those of the artifact, if it has any, or of the registry's table.

    Raises:
        IntegrityError: the weights are not those that were published, or not of this network.
        ManifestError: the artifact's model.json describes no network that this version can build.
        InputError: the arguments do not make a network.
    """
    require_keras_settings()
    description = artifact.description
    architecture, published_shape = described(artifact)
    labels = read_labels(artifact.directory, description)
    own_stages = architecture.stages
    pool = representation or architecture.representation
    if stages is None and pool != architecture.representation and not own_stages:
        stages = architectures.usual_stages(architecture.backbone, pool)
    asked = pool, own_stages if stages is None else architectures.check_stages(stages)
    changed = asked != (architecture.representation, own_stages)
    if changed:
        architecture = architectures.standing_on(architecture, *asked)
    classes = description.num_classes if num_classes is None else check_num_classes(num_classes)
    shape = published_shape if input_shape is None else check_input_shape(input_shape)
    if shape[2] != published_shape[2]:
        raise InputError(f"{description.name} takes images of {published_shape[2]} channels. Received: {shape[2]}.")
    kept = PARTS if classes == description.num_classes else PARTS[:2]
    kept = PARTS[:1] if changed else kept
    with ThreadPoolExecutor(1) as worker:  # hashing and reading leave the interpreter to the building of the network
        reading = worker.submit(_verified_weights, artifact, kept)
        try:
            model = ImageClassifier(
                architecture,
                num_classes=classes,
                input_shape=shape,
                input_specification=description.input.for_shape(shape),
                labels=labels if "classifier" in kept else None,
                initialize=[part for part in PARTS if part not in kept],
            )
        except InputError:
            _require_buildable(artifact)
            raise
        stored = reading.result()
    if changed and own_stages and not _of_features(model) <= stored.values.keys():
        held = f"{description.name} holds the trunk up to {', '.join(own_stages)}"
        raise InputError(f"{held}. Received: stages={list(architecture.stages)!r}, which go on behind them.")
    _place(model, stored, artifact)
    return model


def _of_features(model: ImageClassifier) -> set[str]:
    return {name for name in model.named_variables() if name.split("/")[0] == "features"}


def fill(model: ImageClassifier, artifact: ResolvedArtifact, parts: Sequence[str]) -> None:
    """Give parts of a network the weights of an artifact, each variable once, or none; `load_report` says which.

    Args:
        model: the network.
        artifact: the weights.
        parts: which of features, representation and classifier to fill; the others stay as they are.

    Raises:
        IntegrityError: the weights are not those that were published, or not of this network.
    """
    _place(model, _verified_weights(artifact, parts), artifact)


def require_pretrained(model: ImageClassifier, stage: str) -> None:
    """Refuse to compute with random weights.

    Args:
        model: as it was loaded.
        stage: what is to be computed, one of `model.stages`.

    Raises:
        InputError: weights of what computes the stage are fresh, so its values would be others in each run.
    """
    needed = PARTS[: PARTS.index(model.part_of(stage)) + 1]
    fresh = [name for name in model.load_report.fresh if name.partition("/")[0] in needed]
    if any(name.rpartition("/")[2] not in DRAWN for name in fresh):
        trunk = ", ".join(name for name in model.stages if model.part_of(name) == "features")
        known = model.load_report.weights
        features = not any(name.partition("/")[0] == "representation" for name in fresh)
        ready = "mpncov-zoo probe, " if features else ""
        only = f"only {known} is pretrained" if known else "nothing is pretrained"
        raise InputError(
            f"{model.name}: {stage!r} would be computed by random weights, which are others in each run: {only}. "
            f"What works without training is {ready}mpncov-zoo features with "
            f"--stage {trunk}, also with --pool; or train the network, and give the path of its artifact"
        )


def described(artifact: ResolvedArtifact) -> tuple[Architecture, InputShape]:
    """The architecture and the shape of the images that an artifact's model.json states.

    Raises:
        ManifestError: it describes no network that this version can build.
    """
    with _describes_a_network(artifact):
        return _architecture(artifact.description)


def _verified_weights(artifact: ResolvedArtifact, parts: Sequence[str]) -> StoredWeights:
    artifact.verify_pending()
    return stored_weights(artifact.directory, parts)


def _place(model: ImageClassifier, stored: StoredWeights, artifact: ResolvedArtifact) -> None:
    left = assign_weights(model, stored)
    names = tuple(model.named_variables())
    model.load_report = LoadReport(
        weights=artifact.description.name,
        source=str(artifact.directory),
        trust=artifact.trust,
        loaded=tuple(name for name in names if name.split("/")[0] in stored.parts),
        fresh=tuple(name for name in names if name.split("/")[0] not in stored.parts),
        unused=tuple(sorted({*stored.unused, *left})),
    )


def _architecture(description: ArtifactDescription) -> tuple[Architecture, InputShape]:
    """The two things that an artifact's `architecture` holds, if the rest of its description agrees with them."""
    values = dict(description.architecture)
    shape = check_input_shape(values.pop("input_shape"))
    if shape[2] != description.input.channels:
        raise ValueError(f"input_shape is {shape}, input has {description.input.channels} channels")
    architecture = Architecture.from_dict(values)
    if architecture.name != description.model:
        raise ValueError(f"model is {description.model!r}, the architecture's name {architecture.name!r}")
    architectures.require_consistent(architecture)
    return architecture, shape


def _require_buildable(artifact: ResolvedArtifact) -> None:
    """Tell a description of no network from changes by the caller that its network does not allow."""
    with _describes_a_network(artifact):
        architecture, shape = _architecture(artifact.description)
        ImageClassifier(
            architecture,
            num_classes=artifact.description.num_classes,
            input_shape=shape,
            input_specification=artifact.description.input,
            initialize=(),
        )


@contextmanager
def _describes_a_network(artifact: ResolvedArtifact) -> Iterator[None]:
    """An architecture out of the tables or with foreign options is a fault of the artifact's description."""
    try:
        yield
    except (KeyError, TypeError, ValueError) as error:
        raise ManifestError(
            f"{artifact.directory / DESCRIPTION_FILE} describes no network that this version of mpncov_zoo can build: "
            f"{str(error).rstrip('.')}. Written by a newer one? Then upgrade: pip install --upgrade mpncov-zoo"
        ) from error
