"""Converts a published checkpoint to an artifact with a certificate, and an artifact back to a file for PyTorch."""

import logging
from collections.abc import Mapping
from dataclasses import replace
from os import PathLike
from pathlib import Path

import keras
from pydantic import TypeAdapter, ValidationError

from conversion import export
from conversion.certificate import (
    CERTIFICATE_FILE,
    REPORT_FILE,
    Certificate,
    Parity,
    Published,
    Source,
    verdict_of,
)
from conversion.planning import Plan
from conversion.preparation import PreparedConversion, prepare
from conversion.readers import known_format
from conversion.recognition import shown
from mpncov_zoo import artifact, registry
from mpncov_zoo.artifact import selftest
from mpncov_zoo.classifier import ImageClassifier
from mpncov_zoo.complete import complete
from mpncov_zoo.description import DESCRIPTION_FILE, parse_description
from mpncov_zoo.documents import Name
from mpncov_zoo.errors import ConversionError, InputError, ParityError
from mpncov_zoo.hub.resolve import resolve
from mpncov_zoo.hub.verification import sha256
from mpncov_zoo.manifest import Upstream, WeightsEntry, load_manifest
from mpncov_zoo.pretrained import network
from mpncov_zoo.quiet import require_tensorflow_backend
from mpncov_zoo.version import __version__

logger = logging.getLogger("mpncov_zoo.conversion")

UNNAMED_TAG = "converted"  # of weights that the manifest does not know


def plan(source: str | PathLike[str], *, model: str, to: str = "tensorflow", key: str | None = None) -> Plan:
    """Plan what `convert` would do, and write nothing.

    Args:
        source: the file or artifact, as for `convert`.
        model: name or alias of the network.
        to: "tensorflow" or "pytorch", as for `convert`.
        key: where in the file the state_dict is, as for `convert`.

    Raises:
        UnknownModel, ConversionError: as `convert` raises them.

    Example:
        >>> print(conversion.plan("mpncovresnet50-15991845.pth", model="mpncov_resnet50"))
    """
    if _is_back(to):
        _require_no_key(key)
        return export.plan(_network(source, model))
    return prepare(Path(source), registry.canonical_name(model), key=key).plan


def convert(
    source: str | PathLike[str],
    *,
    model: str,
    output: str | PathLike[str],
    to: str = "tensorflow",
    tag: str | None = None,
    labels: str | PathLike[str] | None = None,
    parity: bool = False,
    device: str = "cpu",
    key: str | None = None,
) -> Certificate:
    """Convert a published checkpoint, or one's own of such a network, into an artifact; or an artifact back.

    Args:
        source: a `.pth` (legacy or zip), `.pth.tar`, `.safetensors`, upstream's `.mat` or `.h5`, MatConvNet's `.mat`.
        model: name or alias of the network; the file must hold exactly its tensors, for any number of classes.
        output: the artifact's directory, which must not exist; it appears complete or not at all.
        to: "pytorch" for the way back: `source` is an artifact directory then, `output` a `.pth` or `.safetensors`.
        tag: name of this set of weights; by default the manifest's for a published file, else "converted".
        labels: a file of class names, one a line; by default the data set's for a published file, else none.
        parity: run the source network in PyTorch on the same inputs and hold ours to it; needs the extra [conversion].
        device: "cpu" or "gpu", for parity.
        key: where in a PyTorch file the state_dict is, with dots, such as "state_dict_ema" or "model.weights"; needed
            where the file holds several, which the message then lists.

    Returns:
        The certificate, which also lies in the artifact as `certificate.json`; a file for PyTorch has none beside it.

    Raises:
        UnknownModel: no such model.
        ConversionError: the file is no checkpoint, damaged or hostile, or its tensors are not the network's.
        ParityError: ours does not compute the same; `output` then holds the certificate and the report, no weights.
        InputError: an argument cannot be used.

    Example:
        >>> conversion.convert("mpncovresnet50-15991845.pth", model="mpncov_resnet50", output="converted/resnet50")
        >>> mpncov_zoo.load("mpncov_resnet50", pretrained=True, hub="converted/resnet50")
    """
    path, directory, name = Path(source), Path(output), registry.canonical_name(model)
    if parity:
        from conversion.parity import require_parity

        require_parity(device, report=True)
    if _is_back(to):
        _require_no_key(key)
        return _convert_back(path, name, directory, device if parity else None, tag, labels)
    require_tensorflow_backend("Writing an artifact, which is a SavedModel,")
    if directory.exists():
        raise InputError(f"{directory} exists already; give a new directory.")
    if tag is not None:
        _require_name(tag)
    digest = _digest(path)
    entry, published = _published(path, digest, name)
    conversion = prepare(path, name, entry=entry, labels=None if labels is None else Path(labels), key=key)
    if entry is not None and entry.num_classes != conversion.model.num_classes:  # a name alone says little
        entry, published = None, "unknown"
    under = "" if conversion.plan.key is None else f" under the key {shown(conversion.plan.key)}"
    logger.info("%s: %s%s, %s, sha256 %s", path, conversion.format, under, conversion.plan.family, digest)
    conversion.place()
    logger.info("%d tensors placed, each once", len(conversion.plan.placements))
    certificate = _certify(
        conversion,
        tag=tag or (entry.tag if entry else UNNAMED_TAG),
        source=_source(path, conversion.format, digest, published),
        parity=_check_parity(conversion, device) if parity else None,
    )
    _write(conversion, directory, certificate)
    return certificate


def self_check(directory: Path, *, model: str, bound: float = selftest.SAME_MACHINE) -> None:
    """Load an artifact as a user would, and let it compute its recorded input again.

    Raises:
        IntegrityError: it does not load, or a stage differs.
    """
    selftest.require_same(directory, selftest.differences(_network(directory, model), directory), bound)


def _network(directory: str | PathLike[str], model: str) -> ImageClassifier:
    """The network of an artifact on this machine."""
    return network(resolve(registry.canonical_name(model), None, hub=directory, manifest=load_manifest()))


def _require_name(tag: str) -> None:
    try:
        TypeAdapter(Name).validate_python(tag)
    except ValidationError as error:
        raise InputError(f"tag: {error.errors()[0]['msg']}. Received: {tag!r}.") from None


def _require_no_key(key: str | None) -> None:
    if key is not None:
        raise InputError(f"An artifact holds one network, under no key: leave out the key. Received: {key!r}.")


def _is_back(to: str) -> bool:
    if to not in ("tensorflow", "pytorch"):
        raise InputError(f"to must be 'tensorflow' or 'pytorch'. Received: {to!r}.")
    return to == "pytorch"


def _convert_back(
    source: Path, name: str, output: Path, device: str | None, tag: str | None, labels: str | PathLike[str] | None
) -> Certificate:
    """Write an artifact as a file for PyTorch, read the file again, and check parity where a device is given."""
    if tag is not None or labels is not None:
        raise InputError("A file for PyTorch has no place for a tag or labels.")
    path = export.require_output(output)
    model = _network(source, name)
    directory = Path(model.load_report.source or source)  # the artifact, where a directory of them was given
    description = parse_description(directory / DESCRIPTION_FILE)
    with complete(path) as partial:
        export.write_pytorch(model, partial)
        written = replace(prepare(partial, name, architecture=model.architecture), model=model)
        certificate = _certify(
            written,
            tag=description.tag,
            source=Source(
                name=directory.name,
                format="artifact",
                size=sum(file.size for file in description.files),
                sha256=sha256(directory / DESCRIPTION_FILE),
                published="unknown",
            ),
            parity=_check_parity(written, device) if device else None,
        )
        _require_passed(certificate, "no file was written")
    return certificate


def _digest(path: Path) -> str:
    known_format(path)  # a device or a pipe would never end
    try:
        return sha256(path)
    except OSError as error:
        raise ConversionError(f"{path} cannot be read: {error.strerror}.") from None


def _published(path: Path, digest: str, model: str) -> tuple[WeightsEntry | None, Published]:
    """The manifest's entry of this file, and how it is known to be this file's."""
    entries = [(entry, entry.upstream) for entry in load_manifest().for_model(model) if entry.upstream is not None]
    for entry, upstream in entries:
        if upstream.sha256 == digest:
            return entry, "sha256 matches"
        if upstream.sha256_prefix is not None and digest.startswith(upstream.sha256_prefix):
            return entry, "sha256 prefix matches"
    for entry, upstream in entries:
        if upstream.file_name == path.name and upstream.digest:
            return None, "digest differs"
        if upstream.file_name == path.name and _has_published_size(path, upstream):
            return entry, "no digest published"
    return None, "unknown"


def _has_published_size(path: Path, upstream: Upstream) -> bool:
    """Whether the size is the published one, rounded to 0.1 MiB, where one is published; else the file is another."""
    return upstream.size_mib is None or abs(path.stat().st_size / 2**20 - upstream.size_mib) < 0.1


def _source(path: Path, format: str, digest: str, published: Published) -> Source:
    if published == "digest differs":
        logger.warning("%s has a published file's name, but not its digest", path)
    return Source(name=path.name, format=format, size=path.stat().st_size, sha256=digest, published=published)


def _check_parity(conversion: PreparedConversion, device: str) -> Parity:
    from conversion.parity import measure

    return measure(conversion, device)


def _certify(conversion: PreparedConversion, *, tag: str, source: Source, parity: Parity | None) -> Certificate:
    import tensorflow as tf  # late: planning does without it

    versions = {"mpncov-zoo": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    if parity is not None:
        from conversion.parity import torch_version

        versions["torch"] = torch_version()
    return Certificate(
        model=conversion.model.architecture.name,
        tag=tag,
        num_classes=conversion.model.num_classes,
        parameters=conversion.model.num_parameters,
        source=source,
        key=conversion.plan.key,
        family=conversion.plan.family,
        map_sha256=conversion.plan.digest,
        tensors=len(conversion.plan.placements),
        unused=list(conversion.plan.unused),
        notes=list(conversion.plan.notes),
        versions=versions,
        parity=parity,
        verdict=verdict_of(parity),
    )


def _write(conversion: PreparedConversion, directory: Path, certificate: Certificate) -> None:
    """Write the artifact with its certificate; of a network that does not compute the same, the documents alone."""
    documents = {CERTIFICATE_FILE: certificate.json_text()}
    if certificate.parity is not None:
        from conversion.report import html_report

        documents[REPORT_FILE] = html_report(certificate)
    if certificate.verdict == "failed":
        _write_evidence(directory, documents)
    _require_passed(certificate, f"See {directory / REPORT_FILE}; no weights were written")
    provenance = {
        "kind": "conversion",
        "source": certificate.source.model_dump(mode="json"),
        "key": certificate.key,
        "family": certificate.family,
        "map_sha256": certificate.map_sha256,
        "certificate": CERTIFICATE_FILE,
    }
    artifact.write(conversion.model, directory, tag=certificate.tag, provenance=provenance, documents=documents)
    logger.info("%s written", directory)


def _require_passed(certificate: Certificate, outcome: str) -> None:
    if certificate.parity is not None and certificate.parity.first_drift:
        raise ParityError(f"{certificate.parity.first_drift}. {outcome[0].upper()}{outcome[1:]}.")


def _write_evidence(directory: Path, documents: Mapping[str, str]) -> None:
    """Write the documents without the artifact."""
    with complete(directory) as partial:
        partial.mkdir()
        for name, text in documents.items():
            (partial / name).write_text(text, encoding="utf-8")
