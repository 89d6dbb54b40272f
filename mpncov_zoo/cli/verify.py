"""`mpncov-zoo verify`."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mpncov_zoo.cli.options import PROGRAM, add_command, add_json
from mpncov_zoo.description import DESCRIPTION_FILE
from mpncov_zoo.errors import InputError, IntegrityError, ManifestError
from mpncov_zoo.find import find
from mpncov_zoo.hub.local import is_path
from mpncov_zoo.hub.resolve import ResolvedArtifact
from mpncov_zoo.quiet import import_tensorflow

if TYPE_CHECKING:
    from mpncov_zoo.classifier import ImageClassifier


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "verify",
        run,
        help="check an artifact: its files, its weights, and what it computes",
        details="A NAME is found, fetched and converted as a load would. A DIR is checked against the manifest or,\n"
        "where that does not know it, against its own model.json, which finds damage and no forgery. In this order:\n"
        "  files     exactly those listed, their sizes and digests, before TensorFlow sees any\n"
        "  weights   names, shapes and dtypes are those of the network that model.json describes; all finite\n"
        "  selftest  the network gives here what it gave where the artifact was written\n"
        "Exit code 1: one of them is not so, and 2: it could not be checked.",
        example=f"{PROGRAM} verify mpncov_cifar_resnet20.fashion_mnist --selftest\n"
        f"{PROGRAM} verify converted/mpncov_resnet50.imagenet_pytorch --json",
    )
    parser.add_argument("subject", metavar="NAME|DIR", help="a name of `mpncov-zoo list`, NAME.TAG, or an artifact")
    parser.add_argument("--selftest", action="store_true", help="compute the recorded input again and compare")
    add_json(parser, "one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print a line a check, or the object."""
    report: dict[str, Any] = {"subject": args.subject, "verified": False}
    try:
        for line in _checks(args.subject, args.selftest, report):
            if not args.json:
                print(line, flush=True)
        report["verified"] = True
    except IntegrityError as error:
        report["error"] = str(error)
        raise
    finally:
        if args.json and (report["verified"] or "error" in report):
            print(json.dumps(report, indent=2, allow_nan=False))
    return 0


def _checks(subject: str, selftest: bool, report: dict[str, Any]) -> Iterator[str]:
    """A line for everything that was found to be as it should, also in the report."""
    found = _resolved(subject)
    files = [path for path in found.directory.rglob("*") if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    report |= {"name": found.description.name, "directory": str(found.directory), "trust": found.trust}
    report |= {"files": len(files), "bytes": size}
    yield f"{found.description.name} in {found.directory}"
    yield f"files     {len(files)}, {size:,} bytes: {found.trust}"
    model = _loaded(found)
    report |= {"variables": len(model.named_variables()), "parameters": model.num_parameters}
    yield (
        f"weights   {report['variables']} variables, {model.num_parameters:,} parameters: names, shapes and dtypes are "
        "the network's, all values finite"
    )
    if selftest:
        yield from _selftest(model, found.directory, report)


def _resolved(subject: str) -> ResolvedArtifact:
    """The artifact with all its digests checked."""
    here = (Path(subject) / DESCRIPTION_FILE).is_file()  # else it is a name, whatever folder has that name, too
    given = Path(subject).absolute() if here else subject
    try:
        return find(given).artifact
    except ManifestError as error:
        if is_path(given):  # it is the artifact's own model.json that is not sound
            raise IntegrityError(str(error)) from error
        raise


def _loaded(found: ResolvedArtifact) -> ImageClassifier:
    import_tensorflow()
    from mpncov_zoo.pretrained import network

    try:
        model = network(found)
    except ManifestError as error:  # of a description whose digest agrees: it is the artifact that is not sound
        raise IntegrityError(str(error)) from error
    if model.num_parameters != found.description.parameters:
        raise IntegrityError(
            f"{found.directory}: {DESCRIPTION_FILE} says {found.description.parameters:,} parameters, the network that "
            f"it describes has {model.num_parameters:,}"
        )
    return model


def _selftest(model: ImageClassifier, directory: Path, report: dict[str, Any]) -> Iterator[str]:
    """A line a stage; afterwards they are judged."""
    from mpncov_zoo.artifact.selftest import ANY_MACHINE, SELFTEST_FILE, differences, require_same

    if not (directory / SELFTEST_FILE).is_file():
        raise InputError(
            f"{directory} holds no {SELFTEST_FILE}, so there is nothing to compare with: leave out --selftest"
        )
    found = differences(model, directory)
    report |= {"selftest": {stage: value if isfinite(value) else None for stage, value in found.items()}}
    report |= {"bound": ANY_MACHINE}
    for stage, value in found.items():
        yield f"selftest  {stage:16} differs by {value:.1e} of its largest value (bound {ANY_MACHINE:.0e})"
    require_same(directory, found, ANY_MACHINE)
