"""The command `mpncov-zoo export`, which writes a network for another runtime."""

import argparse
from typing import Any

from mpncov_zoo.cli.images import find_images
from mpncov_zoo.cli.options import PROGRAM, add_command, add_json, add_model, load_pretrained
from mpncov_zoo.exporting.formats import FORMATS, check_format

DTYPES = tuple(dict.fromkeys(dtype for row in FORMATS.values() for dtype in row.dtypes))


def add(commands: Any) -> None:
    """Declare the command."""
    formats = "\n".join(f"  {name:<12} {row.title}, {' or '.join(row.dtypes)}" for name, row in FORMATS.items())
    parser = add_command(
        commands,
        "export",
        run,
        help="write a network for ONNX Runtime, OpenVINO, LiteRT or TensorFlow Serving",
        details=f"formats and what they are written in:\n{formats}\n"
        "The file is run in its runtime and compared with the network before it appears. DIR gets a model.json, too:\n"
        "input, labels, weights, digests, and what was compared. int8 needs --calibration: 8 images or more, such as\n"
        "those to come.",
        example=f"{PROGRAM} export mpncov_cifar_resnet20 --format onnx --output exported\n"
        f"{PROGRAM} export runs/birds --format openvino --dtype int8 --calibration photos --output birds-int8",
    )
    add_model(parser)
    parser.add_argument("--format", required=True, choices=[*FORMATS], help="see above")
    parser.add_argument("--output", required=True, metavar="DIR", help="where to write; it must not exist")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="default: float32")
    parser.add_argument("--calibration", nargs="+", metavar="IMAGE", help="for int8: files, folders or - for a list")
    add_json(parser, "what model.json says")


def run(args: argparse.Namespace) -> int:
    """Print what was written and compared."""
    check_format(args.format, args.dtype, args.calibration is not None)
    images = None if args.calibration is None else [*find_images(args.calibration)]
    model = load_pretrained(args)
    from mpncov_zoo.exporting import export

    report = export(model, args.output, args.format, args.dtype, calibration=images)
    if args.json:
        print(report.model_dump_json(indent=2))
        return 0
    print(f"{args.output}: {FORMATS[args.format].title} of {report.weights or report.model}, {report.dtype}")
    for entry in report.files:
        print(f"file        {entry.path}, {entry.size:,} bytes")
    for comparison in report.check:
        batch, height, width, _ = comparison.images
        images = f"{batch} image{'s' if batch > 1 else ''} of {height}x{width}"
        same = "" if comparison.same_class is None else f", same class in {comparison.same_class:.1%}"
        print(f"compared    {images}: within {comparison.difference:.1e}{same}")
    return 0
