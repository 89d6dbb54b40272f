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
from mpncov_zoo.quiet import import_tensorflow
from mpncov_zoo.registry import canonical_name

if TYPE_CHECKING:
    from conversion.certificate import Certificate
    from conversion.planning import Plan


def add(commands: Any) -> None:
    """Declare the command."""
    parser = add_command(
        commands,
        "convert",
        run,
        help="convert a published checkpoint, or your own of such a network, into an artifact; or back to PyTorch",
        details="SOURCE is a .pth (legacy or zip), .pth.tar or .safetensors, or the published TensorFlow code's .mat\n"
        "or .h5; it needs no PyTorch. DIR is then what --hub of the other commands takes; certificate.json in it says\n"
        "what was converted and how. Where a training checkpoint holds several state_dicts, such as state_dict and\n"
        "state_dict_ema, --key says which is meant; with dots where it lies deeper, such as --key model.ema.\n"
        "--parity runs the source network in PyTorch beside ours and leaves a report.html; it needs\n"
        'pip install "mpncov-zoo[conversion]". Exit code 1: ours computes something else.\n'
        "With --to pytorch, SOURCE is an artifact directory, and DIR the .pth or .safetensors file to write.",
        example=f"{PROGRAM} convert mpncovresnet50-15991845.pth --model mpncov_resnet50 --output converted/resnet50 "
        f"--parity\n{PROGRAM} convert mpncovresnet50-15991845.pth --model mpncov_resnet50 --dry-run\n"
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
    parser.add_argument("--device", choices=("cpu", "gpu"), default="cpu", help="for --parity (default: cpu)")
    parser.add_argument("--dry-run", action="store_true", help="print the plan, a line a tensor, and write nothing")
    add_json(parser, "the certificate, or the plan, as JSON")
    parser.set_defaults(verbose=True)


def run(args: argparse.Namespace) -> int:
    """Print the certificate or the plan."""
    canonical_name(args.model)  # a misspelt name is refused before TensorFlow's seconds
    if args.output is None and not args.dry_run:
        raise InputError("convert needs --output (or --dry-run).")
    if args.dry_run and (args.parity or args.tag or args.labels):
        raise InputError("--dry-run writes and computes nothing: leave out --parity, --tag and --labels.")
    if args.device != "cpu" and not args.parity:
        raise InputError("--device is where parity is checked: add --parity.")
    require_conversion()
    import_tensorflow()
    import conversion

    if args.dry_run or args.output is None:
        plan = conversion.plan(args.source, model=args.model, to=args.to, key=args.key)
        print(json.dumps(_plain(plan), indent=2) if args.json else plan)
        return 0
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
        print(f"{PROGRAM} predict {as_argument(args.output)} photo.jpg", file=sys.stderr)
    return 0


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
    from conversion.recognition import shown

    source = certificate.source
    yield f"{output}: {certificate.model}.{certificate.tag}, {certificate.num_classes} classes"
    yield f"source      {source.name}, {source.format}, {certificate.family}"
    if certificate.key is not None:
        yield f"key         {shown(certificate.key)}"
    yield f"sha256      {source.sha256} ({PUBLISHED[source.published]})"
    yield f"tensors     {certificate.tensors} placed, each once; {len(certificate.unused)} that are no weights"
    yield from (f"note        {note}" for note in certificate.notes)
    if certificate.parity is None:
        yield "parity      not checked (--parity)"
        return
    logits = [case.stages[-1] for case in certificate.parity.cases]
    worst = max(logits, key=lambda errors: errors.tensorflow / errors.bound)
    torch = f"PyTorch {certificate.versions['torch']}"
    yield f"reference   {certificate.parity.reference}; {torch}, {certificate.parity.device}"
    yield (
        f"parity      {certificate.verdict}: logits within {worst.tensorflow:.1e} of float64 (PyTorch's float32: "
        f"{worst.pytorch:.1e}; bound {worst.bound:.1e}) in {len(logits)} cases"
    )
    agreement = min(case.top5_agreement for case in certificate.parity.cases)
    yield f"top-5       {agreement:.0%} of the reference's classes, at least"
