"""The command `mpncov-zoo convert`, which converts a published checkpoint."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mpncov_zoo.cli.options import PROGRAM, add_command, add_json, as_argument
from mpncov_zoo.conversion_package import require_conversion
from mpncov_zoo.errors import InputError
from mpncov_zoo.quiet import import_keras, import_tensorflow
from mpncov_zoo.registry import canonical_name

if TYPE_CHECKING:
    from conversion.certificate import Certificate, Parity
    from conversion.planning import Plan


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "convert",
        run,
        help="convert a published checkpoint, or your own of such a network, into an artifact; or back to PyTorch",
        details="SOURCE is a .pth (legacy or zip), .pth.tar or .safetensors, the published TensorFlow code's .mat\n"
        "or .h5, or a .mat of MatConvNet; it needs no PyTorch. DIR is then what --hub of the other commands takes;\n"
        "certificate.json in it says what was converted and how. Where a training checkpoint holds several\n"
        "state_dicts, such as state_dict and state_dict_ema, --key says which is meant; with dots where it lies\n"
        "deeper, such as --key model.ema.\n"
        "--parity runs the source network in PyTorch beside ours and leaves a report.html; it needs\n"
        'pip install "mpncov-zoo[conversion]". Exit code 1: ours computes something else. Without --output nothing is\n'
        "written, and ours computes on the backend that KERAS_BACKEND names, which need not be TensorFlow;\n"
        "--reference itself then holds it to itself in float64 on the CPU, which needs no PyTorch.\n"
        "With --to pytorch, SOURCE is an artifact directory, and DIR the .pth or .safetensors file to write.",
        example=f"{PROGRAM} convert mpncovresnet50-15991845.pth --model mpncov_resnet50 --output converted/resnet50 "
        f"--parity\n{PROGRAM} convert mpncovresnet50-15991845.pth --model mpncov_resnet50 --dry-run\n"
        f"{PROGRAM} convert mpncovresnet50-15991845.pth --model mpncov_resnet50 --parity --reference itself\n"
        f"{PROGRAM} convert converted/resnet50 --model mpncov_resnet50 --output resnet50.pth --to pytorch",
    )
    parser.add_argument("source", metavar="SOURCE", help="the checkpoint's file; with --to pytorch an artifact")
    parser.add_argument("--model", required=True, metavar="NAME", help="the network, of `mpncov-zoo list`, or an alias")
    parser.add_argument("--output", metavar="DIR", help="where to write; it must not exist")
    parser.add_argument("--to", choices=("tensorflow", "pytorch"), default="tensorflow", help="default: tensorflow")
    parser.add_argument("--tag", metavar="NAME", help="name of this set of weights (default: the published one's)")
    parser.add_argument("--labels", metavar="FILE", help="names of the classes, one a line")
    parser.add_argument("--key", metavar="KEY", help="which state_dict of the file, where it holds several")
    parser.add_argument("--parity", action="store_true", help="compare with the source network in PyTorch")
    parser.add_argument(
        "--reference", choices=("pytorch", "itself"), default="pytorch", help="of --parity (default: pytorch)"
    )
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="for --parity (default: cpu)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, a line a tensor, and write nothing")
    add_json(parser, "the certificate, or the plan, as JSON")
    parser.set_defaults(verbose=True)


def run(args: argparse.Namespace) -> int:
    """Print the certificate or the plan."""
    canonical_name(args.model)  # a misspelt name is refused before TensorFlow's seconds
    _require_sense(args)
    require_conversion()
    writes = args.output is not None and not args.dry_run
    (import_tensorflow if writes or args.to == "pytorch" else import_keras)()
    import conversion

    if args.dry_run:
        plan = conversion.plan(args.source, model=args.model, to=args.to, key=args.key)
        print(json.dumps(_plain(plan), indent=2) if args.json else plan)
        return 0
    if args.output is None:
        parity = conversion.check(
            args.source, model=args.model, device=args.device, reference=args.reference, key=args.key
        )
        print(parity.model_dump_json(indent=2) if args.json else "\n".join(_parity_lines(parity)))
        return 1 if parity.first_drift else 0
    certificate = conversion.convert(
        args.source,
        model=args.model,
        output=args.output,
        to=args.to,
        tag=args.tag,
        labels=args.labels,
        parity=args.parity,
        device=args.device,
        key=args.key,
    )
    print(certificate.json_text().rstrip() if args.json else "\n".join(_lines(certificate, args.output)), flush=True)
    if args.to == "tensorflow":
        use = "predict {} photo.jpg" if certificate.num_classes else "features {} photos --output features.npz"
        print(f"{PROGRAM} {use.format(as_argument(args.output))}", file=sys.stderr)
    return 0


def _require_sense(args: argparse.Namespace) -> None:
    """Refuse options that do not go together."""
    if args.output is None and not args.dry_run and (not args.parity or args.to == "pytorch"):
        raise InputError("convert needs --output (or --dry-run, or --parity, to write nothing).")
    if args.output is None and (args.tag or args.labels) and not args.dry_run:
        raise InputError("--tag and --labels are of the artifact: add --output.")
    if args.dry_run and (args.parity or args.tag or args.labels):
        raise InputError("--dry-run writes and computes nothing: leave out --parity, --tag and --labels.")
    if args.device != "cpu" and not args.parity:
        raise InputError("--device is where parity is checked: add --parity.")
    if args.reference != "pytorch" and (args.output is not None or not args.parity):
        raise InputError("--reference is of a --parity that writes nothing: an artifact is held to its source network.")


def _plain(plan: Plan) -> dict[str, Any]:
    return {
        "model": plan.model,
        "num_classes": plan.num_classes,
        "key": plan.key,
        "family": plan.family,
        "map_sha256": plan.digest,
        "placements": [
            {**dataclasses.asdict(p.step), "source_shape": p.source_shape, "target_shape": p.target_shape}
            for p in plan.placements
        ],
        "unused": plan.unused,
        "notes": plan.notes,
    }


def _lines(certificate: Certificate, output: Any) -> Iterable[str]:
    """What was done, one fact in each line."""
    from conversion.certificate import PUBLISHED
    from conversion.planning import classes_text
    from conversion.recognition import shown

    source = certificate.source
    yield f"{output}: {certificate.model}.{certificate.tag}, {classes_text(certificate.num_classes)}"
    yield f"source      {source.name}, {source.format}, {certificate.family}"
    if certificate.key is not None:
        yield f"key         {shown(certificate.key)}"
    yield f"sha256      {source.sha256} ({PUBLISHED[source.published]})"
    yield f"tensors     {certificate.tensors} placed, each once; {len(certificate.unused)} left out"
    yield from (f"note        {note}" for note in certificate.notes)
    if certificate.parity is None:
        yield "parity      not checked (--parity)"
        return
    yield from _parity_lines(certificate.parity, f"; PyTorch {certificate.versions['torch']}")


def _parity_lines(parity: Parity, version: str = "") -> Iterable[str]:
    """How far ours is from the reference, one fact in each line."""
    ends = [case.stages[-1] for case in parity.cases]
    worst = max(ends, key=lambda errors: errors.ours / errors.bound)
    theirs = "" if worst.pytorch is None else f"PyTorch's float32: {worst.pytorch:.1e}; "
    yield f"reference   {parity.reference}{version}"
    yield f"computed    by {parity.backend} on the {parity.device}, float32"
    yield (
        f"parity      {'failed' if parity.first_drift else 'passed'}: {worst.stage} within {worst.ours:.1e} of float64 "
        f"({theirs}bound {worst.bound:.1e}) in {len(ends)} cases"
    )
    if parity.first_drift:
        yield f"drift       {parity.first_drift}"
    agreements = [case.top5_agreement for case in parity.cases if case.top5_agreement is not None]
    if agreements:
        yield f"top-5       {min(agreements):.0%} of the reference's classes, at least"
