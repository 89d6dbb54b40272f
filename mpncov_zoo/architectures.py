"""Describes a network before it is built: one of the tables, with options and stages, or one on a Keras model.

No TensorFlow is needed here.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from mpncov_zoo.errors import InputError
from mpncov_zoo.registry import BACKBONES, MODELS, REPRESENTATIONS, Options, canonical_name, model_name

PARTS = ("features", "representation", "classifier")  # of every network, from the image to the logits
ATTACHED = "keras"  # the backbone, and the family, of networks on a Keras model, which their options describe


@dataclass(frozen=True)
class Architecture:
    """All that is needed to build a network, apart from the image size and the number of classes.

    Attributes:
        name, backbone, representation: keys of the tables.
        features_options, representation_options, classifier_options: arguments of the parts' builders.
        stages: of the backbone, on whose channels the representation stands, one vector each; none for its end.
    """

    name: str
    backbone: str
    representation: str
    features_options: Options
    representation_options: Options
    classifier_options: Options
    stages: tuple[str, ...] = ()

    @property
    def family(self) -> str:
        """Name of the function that builds the features, a key of mpncov_zoo.backbones.FAMILIES."""
        return ATTACHED if self.backbone == ATTACHED else BACKBONES[self.backbone].family

    def to_dict(self) -> dict[str, Any]:
        """As plain data, for configurations and model.json; without stages it is as versions before them wrote it."""
        values = asdict(self)
        return values if self.stages else {name: value for name, value in values.items() if name != "stages"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Architecture":
        """Back from plain data, which may have been through JSON."""
        plain: dict[str, Any] = {
            key: _tuples(key, value) if key.endswith("_options") else value for key, value in values.items()
        }
        return cls(**{**plain, "stages": check_stages(plain.get("stages", ()))})


def check_stages(stages: Any) -> tuple[str, ...]:
    """The names as a tuple; which ones a backbone has is known when it is built.

    Raises:
        InputError: they are no list of different names.
    """
    names = stages if isinstance(stages, list | tuple) else None
    if names is None or not all(isinstance(name, str) for name in names) or len({*names}) < len(names):
        raise InputError(f"stages must be a list of different names, such as ['stage5']. Received: {stages!r}.")
    return tuple(names)


def _tuples(name: str, options: Any) -> Options:
    if not isinstance(options, Mapping):
        raise TypeError(f"{name} must be a mapping. Received: {options!r}")
    return {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}


def of_model(
    name: str,
    representation: str | None = None,
    options: Mapping[str, Options] | None = None,
    stages: Sequence[str] | None = None,
) -> Architecture:
    """The architecture of a model, optionally with another representation, other options or on other stages.

    Args:
        name: a model name or alias.
        representation: replaces the named model's own.
        options: overrides, by part: {"features": {...}, "representation": {...}, "classifier": {...}}.
        stages: of the backbone, on whose own channels the representation stands: without the reduction and the hidden
            layers of the published network, unless the options ask for them. None for those of the table, [] for the
            backbone's end.

    Raises:
        UnknownModel, InputError: names that are not in the tables.
    """
    backbone, published = MODELS[canonical_name(name)]
    chosen = published if representation is None else representation
    _require_representation(chosen)
    row = BACKBONES[backbone]
    second_order = row.second_order if REPRESENTATIONS[chosen].second_order else {}
    stages = row.stages.get(chosen, ()) if stages is None else check_stages(stages)
    standard = Architecture(
        name=model_name(backbone, chosen),
        backbone=backbone,
        representation=chosen,
        features_options={**row.options, **second_order},
        representation_options={} if stages else dict(row.representation.get(chosen, {})),
        classifier_options={} if stages else dict(row.classifier.get(chosen, {})),
        stages=stages,
    )
    return with_options(standard, options or {})


def _require_representation(name: str) -> None:
    if name not in REPRESENTATIONS:
        raise InputError(f"Unknown representation {name!r}; allowed are {', '.join(map(repr, REPRESENTATIONS))}.")


def attached(
    graph: Options, endpoints: Sequence[str], representation: str, stages: Sequence[str], options: Mapping[str, Options]
) -> Architecture:
    """The architecture of a network on a Keras model.

    Args:
        graph: the trunk, as `backbones.keras_trunk.graph_of` describes it.
        endpoints: names of its outputs, in order.
        representation: a key of REPRESENTATIONS.
        stages: those of the endpoints that the representation stands on.
        options: of the representation and the classifier, by part.

    Raises:
        InputError: an unknown representation, or stages that are no list of different names.
    """
    _require_representation(representation)
    name = re.sub("[^a-z0-9_-]", "_", f"{representation}_{ATTACHED}_{graph['name']}".lower())
    features = {"graph": graph, "endpoints": tuple(endpoints)}
    standard = Architecture(
        name=name,
        backbone=ATTACHED,
        representation=representation,
        features_options=features,
        representation_options={},
        classifier_options={},
        stages=check_stages(stages),
    )
    return with_options(standard, options)


def usual_stages(backbone: str, representation: str) -> tuple[str, ...]:
    """The stages of a backbone that a representation stands on by default; none for the backbone's end."""
    return () if backbone == ATTACHED else BACKBONES[backbone].stages.get(representation, ())


def standing_on(known: Architecture, representation: str, stages: Sequence[str]) -> Architecture:
    """An architecture with another representation, or on other stages, of the same backbone.

    The options of the backbone that differ from the table's are kept. Those of the representation and the classifier
    are the table's again.

    Args:
        known: the architecture.
        representation: a key of REPRESENTATIONS.
        stages: of the backbone, none for its end.

    Raises:
        InputError: an unknown representation, or stages that are no list of different names.
    """
    own = known.features_options
    if known.backbone == ATTACHED:
        return attached(own["graph"], own["endpoints"], representation, stages, {})
    table = of_model(known.backbone, known.representation).features_options
    kept = {key: value for key, value in own.items() if table.get(key) != value}
    return of_model(known.backbone, representation, {"features": kept}, stages)


def require_consistent(described: Architecture) -> None:
    """Hold the name of an architecture to its backbone and its representation.

    Args:
        described: read from a file.

    Raises:
        ValueError: the name is that of another network.
    """
    backbone, representation = described.backbone, described.representation
    if backbone == ATTACHED:
        own = described.features_options
        named = attached(own["graph"], own["endpoints"], representation, described.stages, {}).name
    else:
        named = next((name for name, parts in MODELS.items() if parts == (backbone, representation)), None)
    if named != described.name:
        raise ValueError(f"{described.name!r} is not of backbone {backbone!r} and representation {representation!r}")


def is_model(name: str) -> bool:
    """Whether a name is that of a network: of the tables, or on a Keras model."""
    on_keras = (f"{representation}_{ATTACHED}_" for representation in REPRESENTATIONS)
    return name in MODELS or name.startswith(tuple(on_keras))


def with_options(standard: Architecture, options: Mapping[str, Options]) -> Architecture:
    """The architecture with other options of some parts.

    Raises:
        InputError: a part that no architecture has.
    """
    changes = {}
    for part, values in options.items():
        key = f"{part}_options"
        if part not in PARTS:
            raise InputError(f"Unknown part {part!r} in options; allowed are {', '.join(map(repr, PARTS))}.")
        changes[key] = {**getattr(standard, key), **values}
    return replace(standard, **changes)
