"""A model card: what the page of a set of weights says of it, for people and, in its front matter, for the Hub."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mpncov_zoo.description import ArtifactDescription, Metric
from mpncov_zoo.manifest import WeightsEntry
from mpncov_zoo.specification import InputSpecification

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

# What the Hub takes as `license`, less families and stand-ins that say nothing definite; any other is "other" there.
_LICENCES = """
afl-3.0 agpl-3.0 apache-2.0 apple-amlr apple-ascl artistic-2.0 bigcode-openrail-m bigscience-bloom-rail-1.0
bigscience-openrail-m bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 c-uda cc-by-2.0 cc-by-2.5 cc-by-3.0
cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0 cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0
cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0 cc0-1.0 cdla-permissive-1.0 cdla-permissive-2.0
cdla-sharing-1.0 creativeml-openrail-m ecl-2.0 epl-1.0 epl-2.0 etalab-2.0 eupl-1.1 eupl-1.2 gpl-2.0 gpl-3.0 isc
lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl postgresql unlicense wtfpl zlib
"""
LICENCES = frozenset(_LICENCES.split())
HUB_DATASETS: Mapping[str, str] = {
    "fashion_mnist": "zalando-datasets/fashion_mnist",
    "imagenet_1k": "ILSVRC/imagenet-1k",
}
TAGS: Mapping[str, Sequence[str]] = {  # by representation
    "mpncov": ("mpncov", "isqrt-cov", "covariance-pooling"),
    "bcnn": ("bilinear-pooling",),
    "cbp": ("compact-bilinear-pooling",),
}
TASK = "image-classification"


def model_card(entry: WeightsEntry, description: ArtifactDescription, *, hub: str) -> str:
    """The card of an artifact, as Markdown with YAML front matter.

    Args:
        entry: what the manifest says, files included.
        description: the artifact's model.json.
        hub: how `load` names the place that the artifact is published at.

    Example:
        >>> model_card(entry, description, hub="hf:owner/name@<40-hex commit>")
    """
    from huggingface_hub import ModelCard  # late: it takes a while

    return str(ModelCard(f"---\n{_front_matter(entry, description)}\n---\n\n{_text(entry, description, hub)}"))


def _front_matter(entry: WeightsEntry, description: ArtifactDescription) -> str:
    from huggingface_hub import ModelCardData

    representation, backbone = (str(description.architecture.get(part, "")) for part in ("representation", "backbone"))
    licence, licence_name = _licence(entry.weights_licence)
    return ModelCardData(
        library_name="mpncov_zoo",  # with "keras" the Hub would tell people to load it in a way that does not work
        license=licence,
        license_name=licence_name,
        pipeline_tag=TASK,
        tags=[*TAGS.get(representation, ()), *filter(None, [backbone])] or None,
        datasets=[HUB_DATASETS[entry.dataset]] if entry.dataset in HUB_DATASETS else None,
        model_name=entry.name,
        eval_results=[_result(metric) for metric in entry.metrics if metric.origin != "paper"] or None,
    ).to_yaml()


def _licence(text: str) -> tuple[str, str | None]:
    """`license` and `license_name` of the Hub; a remark on what the weights were trained on is no part of the terms."""
    known = text.partition("; trained on ")[0].strip().lower()
    if known in LICENCES:
        return known, None
    return "other", re.sub("[^a-z0-9.]+", "-", text.lower()).strip("-.") or "other"


def _result(metric: Metric) -> EvalResult:
    """A number of these weights; the paper's own is of others, so it stands in the text alone."""
    from huggingface_hub import EvalResult

    return EvalResult(
        task_type=TASK,
        dataset_type=HUB_DATASETS.get(metric.dataset, metric.dataset),
        dataset_name=metric.dataset,
        dataset_split=metric.split,
        metric_type="accuracy" if metric.name == "top-1 accuracy" else metric.name.replace(" ", "-"),
        metric_name=f"{metric.name} in percent, {metric.origin}: {metric.protocol}",
        metric_value=metric.value,
    )


def _text(entry: WeightsEntry, description: ArtifactDescription, hub: str) -> str:
    sections = {
        "Use": _usage(entry, hub),
        "Input": input_sentence(entry.input),
        "Metrics": metrics_table(entry.metrics),
        "Licence": f"- weights: {entry.weights_licence}\n- code that made them: {entry.code_licence}",
        "Citation": entry.citation,
        "Provenance": _provenance(entry, description),
        "Files": _files(entry),
    }
    head = (
        f"# {entry.name}\n\n`{entry.model}` with weights for {entry.dataset}: {entry.num_classes} classes, "
        f"{description.parameters:,} trainable parameters. A set of weights of mpncov_zoo, a model zoo of second-order "
        "(covariance) pooling networks for TensorFlow 2 and Keras 3."
    )
    return "\n\n".join([head, *(f"## {title}\n\n{content}" for title, content in sections.items())]) + "\n"


def _usage(entry: WeightsEntry, hub: str) -> str:
    pin = "Write the commit that you want, of this repository's history, for `<40-hex commit>`. " if "@" in hub else ""
    return (
        "```python\n"
        "import mpncov_zoo\n\n"
        f'model = mpncov_zoo.load("{entry.name}", pretrained=True, hub="{hub}")\n'
        'print(model.decode(model(model.preprocess("image.jpg")), top=3))\n'
        "```\n\n"
        f"{pin}Every file is verified by its sha256 before it is read. The folder `{entry.name}/` is also a SavedModel "
        "for `tf.saved_model.load`, TensorFlow Hub and TensorFlow Serving."
    )


def input_sentence(spec: InputSpecification) -> str:
    """How an image becomes the network's input, for people."""
    height, width = spec.size
    return (
        f"{height}x{width} {spec.channel_order}; {spec.resize} {spec.interpolation} resize with antialias, centre crop "
        f"of {spec.crop_fraction:g}; values scaled to [0, 1], less mean {list(spec.mean)}, over std {list(spec.std)}. "
        "`model.preprocess` does it."
    )


def metrics_table(metrics: Iterable[Metric]) -> str:
    """Every number with where it comes from, as a Markdown table."""
    rows = [
        (m.name, f"{m.value:g} %", m.dataset, m.protocol, m.origin, f"`{m.command}`" if m.command else "")
        for m in metrics
    ]
    titles = ("metric", "value", "data set", "protocol", "where the number comes from", "command")
    return table(titles, rows) if rows else "None are known."


def _provenance(entry: WeightsEntry, description: ArtifactDescription) -> str:
    made = {"provenance": description.provenance, "versions": description.versions}
    block = f"```json\n{json.dumps(made, indent=2)}\n```"
    return f"{entry.notes}\n\n{block}" if entry.notes else block


def _files(entry: WeightsEntry) -> str:
    return table(("file", "bytes", "sha256"), [(f.path, f"{f.size:,}", f"`{f.sha256}`") for f in entry.files])


def table(titles: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [titles, ["---"] * len(titles), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
