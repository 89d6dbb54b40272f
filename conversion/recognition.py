"""Recognises the family and the network that the names in a file belong to, or says what comes closest."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from conversion.maps import UNUSED_LEAVES, Family, Step, families_of
from mpncov_zoo import architectures, registry
from mpncov_zoo.errors import ConversionError

MOST = 10  # names in a message
LONGEST = 200  # letters of a name in a message
DEEPEST = 8  # parts of a prefix
BARE = ""  # no prefix
LOGITS = "classifier/logits/"  # how the names of their variables begin


@dataclass(frozen=True)
class Recognition:
    """What the names in a file say about it.

    Attributes:
        family: the family that the names belong to.
        architecture: the network asked for, as the files of that family hold it.
        names: the file's name of every tensor that becomes a variable -> the family's name, in the file's order.
        steps: what becomes of these tensors, under the file's own names.
        unused: the names of tensors that this network has no variables for: counters, auxiliary classifiers, and
            hidden layers before logits that the file lacks.
        prefix: what all of the file's names begin with and the family's do not, such as "model."; "" for nothing.
    """

    family: Family
    architecture: architectures.Architecture
    names: Mapping[str, str]
    steps: tuple[Step, ...]
    unused: tuple[str, ...]
    prefix: str = ""


def recognise(
    names: Iterable[str], architecture: architectures.Architecture, *, may_lack_classifier: bool = True
) -> Recognition:
    """Find the family whose names for this network are exactly those of the file, a prefix common to all apart.

    Args:
        names: the names of the file's tensors, in its order.
        architecture: the network asked for.
        may_lack_classifier: whether a file without the layer of the logits is read as the network without its
            classifier.

    Raises:
        ConversionError: nobody published such networks, two names mean one tensor, or the names differ. The message
            then says which model comes closest, and what is too many and what is missing for the family that does.
    """
    found = list(names)
    if not families_of(architecture):
        raise ConversionError(f"No published checkpoints of networks like {architecture.name!r} are known.")
    read = _with_or_without_classifier if may_lack_classifier else _closest
    closest = read(found, architecture)
    if not closest.fits:
        raise ConversionError(_refusal(found, closest, read))
    return closest.recognition()


class _Reading:
    """The names in a file, read as names of one family behind a prefix."""

    def __init__(
        self,
        family: Family,
        architecture: architectures.Architecture,
        found: list[str],
        prefix: str,
        *,
        classifier: bool = True,
    ):
        self.family, self.prefix, self.model = family, prefix, architecture.name
        self.architecture = architectures.with_options(architecture, family.options)
        steps = {step.source: step for step in family.steps(self.architecture)}
        kept = family.steps(self.architecture, classifier=classifier)
        self.steps = {step.source: step for step in kept}
        # MatConvNet's hidden layers are known by what they compute; in other files logits may have such a name
        comparable = family.naming.found_by == "layer"
        dropped = steps.keys() - self.steps if comparable else set()
        hidden = {name for name in dropped if not steps[name].target.startswith(LOGITS)}
        usual = family.naming.names([name.removeprefix(prefix) for name in found])
        named = {name: usual[name.removeprefix(prefix)] for name in found}
        self.names = {name: called for name, called in named.items() if called is not None and called not in hidden}
        self.unused = tuple(name for name in found if name not in self.names)
        times = Counter(self.names.values())
        self.common = len(self.steps.keys() & times.keys())
        self.extra = sorted(name for name, called in self.names.items() if called not in self.steps)
        self.missing = sorted(step.target for source, step in self.steps.items() if source not in times)
        self.repeated = sorted(name for name, called in self.names.items() if times[called] > 1)

    @property
    def distance(self) -> int:
        """How many names would have to be others."""
        return len(self.extra) + len(self.missing) + len(self.repeated)

    @property
    def fits(self) -> bool:
        return self.distance == 0

    def recognition(self) -> Recognition:
        steps = (
            Step(name, self.steps[usual].target, self.steps[usual].transform) for name, usual in self.names.items()
        )
        return Recognition(self.family, self.architecture, self.names, tuple(steps), self.unused, self.prefix)


Read = Callable[[list[str], architectures.Architecture], _Reading]


def _with_or_without_classifier(found: list[str], architecture: architectures.Architecture) -> _Reading:
    """The closest reading; or the same without a classifier, if that fits and the whole does not.

    Where tensors have no names, and are known by their order, those of another network would fit.
    """
    whole = _closest(found, architecture)
    if whole.fits or whole.family.naming.found_by not in ("name", "layer"):
        return whole
    rest = _Reading(whole.family, architecture, found, whole.prefix, classifier=False)
    return rest if rest.fits else whole


def _closest(found: list[str], architecture: architectures.Architecture) -> _Reading:
    """The reading with the most names in common. One that fits says all of the prefix, others as little as possible."""
    readings = (
        _Reading(family, architecture, found, prefix)
        for family in families_of(architecture)
        for prefix in (_prefixes(found) if family.naming.found_by == "name" else ("",))
    )
    return max(readings, key=lambda reading: (reading.fits, reading.common, len(reading.prefix) * (reading.fits or -1)))


def _prefixes(found: list[str]) -> tuple[str, ...]:
    """What all names begin with: `model.net.fc.weight` and `model.net.fc.bias` give "", "model.", "model.net." ..."""
    layers = [name.split(".")[:-1] for name in found if name.rpartition(".")[2] not in UNUSED_LEAVES]
    shared: list[str] = []
    for parts in zip(*layers, strict=False):
        if len(set(parts)) > 1 or len(shared) == DEEPEST:
            break
        shared.append(parts[0])
    return tuple("".join(f"{part}." for part in shared[:count]) for count in range(len(shared) + 1))


def _refusal(found: list[str], closest: _Reading, read: Read) -> str:
    sides = (
        ("tensors without a variable", closest.extra),
        ("variables without a tensor", closest.missing),
        ("tensors of one meaning", closest.repeated),
    )
    lists = "; ".join(f"{len(names)} {what}: {listed(names)}" for what, names in sides if names)
    return (
        f"The file's {len(found)} tensors are not those of {closest.model} ({closest.family.name}). "
        f"{_hint(found, closest, read)} {lists}."
    )


def _hint(found: list[str], asked: _Reading, read: Read) -> str:
    """What to do, or which model of the zoo comes closest; and whose lists follow."""
    foreign = _foreign_head(found, asked) if read is _with_or_without_classifier else None
    if foreign is not None:
        return (
            f"Without those that begin with {' or '.join(map(repr, foreign))} they are those of {asked.model} without "
            "its classifier: save the others alone, torch.save({k: v for k, v in state_dict.items() if not "
            f"k.startswith({foreign!r})}}, 'weights.pth'). As they are, there are"
        )
    parts = _parts_that_fit(found, asked, read)
    if parts:
        one, *more = map(repr, parts)
        others = [prefix for prefix in more if prefix != repr(BARE)]
        several = f" So are those that begin with {' or '.join(others)}." if others else ""
        several += " So are all others." if len(others) < len(more) else ""
        return (
            f"Those that begin with {one} are: save them alone, torch.save({{k: v for k, v in state_dict.items() if "
            f"k.startswith({one})}}, 'weights.pth').{several} Of the whole file, there are"
        )
    shorter = _shorter_names_that_fit(found, asked)
    if shorter is not None:
        return (
            f"Under shorter names they are: save them so, torch.save({{{shorter}: v for k, v in state_dict.items()}}, "
            "'weights.pth'). As they are called, there are"
        )
    models = (architectures.of_model(name, stages=()) for name in registry.model_names())
    others = (read(found, architecture) for architecture in models if families_of(architecture))
    best = min((asked, *others), key=lambda reading: reading.distance)  # the first of equals
    if best.fits:
        return f"They are those of {best.model}: pass that as the model. Here"
    if not best.common:
        return "No model of the zoo has a tensor of any of these names: there are"
    count = f"{best.common} of its {len(best.steps)} tensors are in the file, and {len(best.extra)} others"
    if best is asked:
        return f"It comes closest of the zoo's models: {count}. There are"
    return f"Of the zoo's models, {best.model} comes closest: {count}. For {asked.model}, there are"


def _foreign_head(found: list[str], asked: _Reading) -> tuple[str, ...] | None:
    """How the names begin that are too many for the network without its classifier, of which nothing is missing."""
    rest = _Reading(asked.family, asked.architecture, found, asked.prefix, classifier=False)
    sources = {name.removeprefix(asked.prefix) for name in rest.extra}
    logits = {source for source, step in asked.steps.items() if step.target.startswith(LOGITS)}
    if asked.family.naming.found_by != "name" or rest.missing or rest.repeated or sources & logits:
        return None
    first = tuple(sorted({f"{asked.prefix}{source.partition('.')[0]}." for source in sources}))
    extra = set(rest.extra)
    ambiguous = any(name.startswith(first) for name in found if name not in extra)
    return None if ambiguous or sum(map(len, first)) > LONGEST else first


def _parts_that_fit(found: list[str], asked: _Reading, read: Read) -> list[str]:
    """The prefixes under which the network asked for lies, beside other tensors; the shortest for the same tensors.

    The last one is BARE where the tensors without these prefixes are the network, too.
    """
    parts = (name.split(".")[:-1] for name in found)
    prefixes = Counter(
        "".join(f"{part}." for part in names[:n]) for names in parts for n in range(1, min(len(names), DEEPEST) + 1)
    )
    architecture = architectures.of_model(asked.model, stages=())
    logits = tuple(source for source, step in asked.steps.items() if step.target.startswith(LOGITS))
    if any(name.endswith(logits) for name in found):
        read = _closest  # a part that lacks them is half of something
    least = len(asked.family.steps(asked.architecture, classifier=read is _closest))
    fitting: dict[tuple[str, ...], str] = {}
    for prefix, count in prefixes.items():
        inner = tuple(name for name in found if name.startswith(prefix)) if count >= least else ()
        if inner and inner not in fitting and read(list(inner), architecture).fits:
            fitting[inner] = prefix
    rest = [name for name in found if not any(name.startswith(prefix) for prefix in fitting.values())]
    return [*fitting.values(), *([BARE] if fitting and read(rest, architecture).fits else [])]


def _shorter_names_that_fit(found: list[str], asked: _Reading) -> str | None:
    """How to shorten names of which some begin with a part's, such as backbone. and head., in Python, from k."""
    first = Counter(name.partition(".")[0] for name in found).most_common(1)[0][0]
    ways = {
        f"k.removeprefix('{first}.')": [name.removeprefix(f"{first}.") for name in found],
        "k.partition('.')[2]": [name.partition(".")[2] for name in found],
    }
    architecture = architectures.of_model(asked.model, stages=())
    return next((way for way, names in ways.items() if _closest(names, architecture).fits), None)


def shown(name: str) -> str:
    """A name from a file as one line of printable text, whatever the name holds."""
    text = name if name.isprintable() else ascii(name)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}..."


def listed(names: Sequence[str]) -> str:
    """Names for a message: the first of them, and how many more there are."""
    more = f", ... and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(map(shown, names[:MOST])) + more
