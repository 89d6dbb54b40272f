"""What may be published: weights of proven origin that compute what they should, measured, under a stated licence."""

import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

from conversion.certificate import CERTIFICATE_FILE, read_certificate
from mpncov_zoo.description import ArtifactDescription, Metric
from mpncov_zoo.errors import InputError
from mpncov_zoo.manifest import Upstream, WeightsEntry

NOT_STATED = "not stated"
SPLIT = "test"


def require_publishable(
    directory: Path, description: ArtifactDescription, entry: WeightsEntry, *, measured: bool = False
) -> None:
    """Check what can be checked without TensorFlow.

    Args:
        directory: the artifact, its files already verified.
        description: its model.json.
        entry: what the manifest would say of it.
        measured: whether its accuracy is going to be measured.

    Raises:
        InputError: the weights have no stated licence, or another origin than training or a conversion that passed; or
            they were trained, and nobody measured how well they do.
        ConversionError: the certificate of a conversion is malformed.
    """
    if entry.weights_licence.strip().casefold() == NOT_STATED:
        raise InputError(
            f"{entry.name}: the licence of the weights is {NOT_STATED!r}, so they must not be published. Obtain the "
            "permission of their authors, then say it: --weights-licence"
        )
    kind = description.provenance.get("kind")
    require_proven = ORIGINS.get(kind) if isinstance(kind, str) else None
    if require_proven is None:
        raise InputError(
            f"{directory}: received provenance of kind {kind!r}; allowed: {', '.join(map(repr, ORIGINS))}. "
            "Make the artifact by `mpncov-zoo train` or `mpncov-zoo convert`"
        )
    require_proven(directory, description, measured or any(m.origin == "measured here" for m in entry.metrics))


def require_same_source(description: ArtifactDescription, upstream: Upstream) -> None:
    """Refuse weights that have the name, and so would get the facts, of a published checkpoint they do not come from.

    Raises:
        InputError: they do not.
    """
    source = description.provenance.get("source")
    digest = str(source.get("sha256", "")) if isinstance(source, Mapping) else ""
    if not digest or not digest.startswith(upstream.digest):
        raise InputError(
            f"{description.name} is the name of {upstream.file_name} with sha256 {upstream.digest or '(any)'}; these "
            f"weights come from {digest or 'something else'}. Give them another tag"
        )


def self_test(directory: Path, model: str) -> None:
    """Load the artifact as a user would, and let it compute its recorded input again.

    Raises:
        IntegrityError: it does not load, or a stage differs.
    """
    from conversion.converter import self_check  # late: they need TensorFlow, as below
    from mpncov_zoo.artifact.selftest import ANY_MACHINE

    self_check(directory, model=model, bound=ANY_MACHINE)


def measure(directory: Path, entry: WeightsEntry, data: Path) -> list[Metric]:
    """Measure the accuracy on the test images of the entry's data set.

    Args:
        directory: the artifact.
        entry: what it is.
        data: directory of the data set.

    Raises:
        InputError: the data set is unknown, or not of the model's classes.
    """
    from mpncov_zoo.training.evaluate import evaluate
    from mpncov_zoo.training.held_out import read_evaluated
    from mpncov_zoo.zoo import load

    model = load(entry.model, True, hub=directory)
    images = read_evaluated(model, entry.dataset, data, SPLIT)
    result = evaluate(model, images, progress=True)
    height, width = entry.input.size
    common = {
        "dataset": entry.dataset,
        "split": SPLIT,
        "views": "single",
        "remark": f"{result.images:,} images, {height}x{width}",
        "origin": "measured here",
        "command": f"mpncov-zoo evaluate {entry.name} --data {shlex.quote(str(data))}",
    }
    values = {"top-1 accuracy": result.top1, "top-5 accuracy": result.top5}
    return [Metric.model_validate({"name": name, "value": round(v, 2), **common}) for name, v in values.items()]


def _require_certificate(directory: Path, description: ArtifactDescription, measured: bool) -> None:
    """A conversion is as good as its source: that both compute the same has to be on paper."""
    again = "Convert again with --parity"
    if not (directory / CERTIFICATE_FILE).is_file():
        raise InputError(f"{directory}: a conversion without {CERTIFICATE_FILE} is not published. {again}")
    certificate = read_certificate(directory)
    if certificate.verdict != "passed":
        raise InputError(f"{directory}: the verdict of {CERTIFICATE_FILE} is {certificate.verdict!r}. {again}")
    certified = {"source": certificate.source.model_dump(mode="json"), "key": certificate.key}
    certified |= {"map_sha256": certificate.map_sha256}
    stated = {fact: description.provenance.get(fact) for fact in certified}
    same_name = (certificate.model, certificate.tag) == (description.model, description.tag)
    if not same_name or stated != certified:
        raise InputError(f"{directory}: {CERTIFICATE_FILE} is of another conversion than {description.name}. {again}")


def _require_measurement(directory: Path, description: ArtifactDescription, measured: bool) -> None:
    if not measured:
        raise InputError(
            f"{description.name} was trained, and nothing says how well it does. Measure it: --data DIRECTORY, which "
            f"holds the {SPLIT} images of its data set"
        )


ORIGINS: Mapping[str, Callable[[Path, ArtifactDescription, bool], None]] = {
    "conversion": _require_certificate,
    "trained": _require_measurement,
}
