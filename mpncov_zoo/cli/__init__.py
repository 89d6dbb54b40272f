"""The command line, `mpncov-zoo COMMAND`. Each command is a module with `add`, which declares its arguments, and `run`.

Results go to standard output, progress and logs to standard error. The exit codes are:

- 0: the work is done;
- 1: the answer is 'no', because nothing matches, or files or results fail their verification;
- 2: the usage is wrong, or the input cannot be used;
- 130: the command was interrupted;
- 141: the program that read the output has ended.

The commands that compute import TensorFlow; this package does not.
"""

import argparse
import codecs
import io
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from mpncov_zoo.cli import (
    cache,
    convert,
    data,
    demo,
    environment,
    evaluate,
    export,
    features,
    info,
    list_models,
    predict,
    probe,
    publish,
    train,
    verify,
)
from mpncov_zoo.cli.options import PROGRAM, print_error
from mpncov_zoo.errors import IntegrityError, ParityError, ZooError
from mpncov_zoo.quiet import spare_imports
from mpncov_zoo.version import __version__

COMMANDS = (
    list_models,
    info,
    predict,
    features,
    probe,
    evaluate,
    train,
    data,
    convert,
    export,
    verify,
    cache,
    publish,
    demo,
)
NO, USAGE, INTERRUPTED, BROKEN_PIPE = 1, 2, 130, 141  # the last two as a shell reports SIGINT and SIGPIPE


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command line and return its exit code.

    Args:
        arguments: without the program's name; by default those of this process, which then runs nothing else: Keras
            is imported without `quiet.SPARED`.

    Raises:
        SystemExit: by argparse: 0 after --help and --version, 2 after wrong arguments.
    """
    alone = arguments is None  # in this process
    if arguments is None:
        arguments = sys.argv[1:]
        spare_imports()
    if sorted(arguments) == ["--json", "--version"]:  # argparse would end at --version
        args = argparse.Namespace(run=environment.run, verbose=False)
    else:
        args = build_parser().parse_args(arguments)
    _pass_any_file_name()
    with _logging_to_stderr(logging.INFO if args.verbose else logging.WARNING):
        try:
            code = args.run(args)
            sys.stdout.flush()
            if alone and "ray" in sys.modules:  # with it Python was once seen to abort at its end, when all was done
                sys.stderr.flush()
                os._exit(code)
            return code
        except (IntegrityError, ParityError) as error:
            return _fail(error, NO)
        except ZooError as error:
            return _fail(error)
        except BrokenPipeError:
            _discard_output()
            return BROKEN_PIPE
        except OSError as error:  # standard output on a full disk, say
            _discard_output()
            return _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
        except KeyboardInterrupt:
            print(f"\n{PROGRAM}: interrupted", file=sys.stderr)
            return INTERRUPTED


def build_parser() -> argparse.ArgumentParser:
    """The parser of all commands."""
    parser = argparse.ArgumentParser(
        PROGRAM,
        description="Second-order pooling networks (iSQRT-COV): pretrained models, features, evaluation, training.",
        epilog=f"example:\n  {PROGRAM} predict mpncov_cifar_resnet20 boot.png\n\n`{PROGRAM} COMMAND --help` has more.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"{PROGRAM} {__version__}",
        help="show the version and exit; `--version --json` shows all that a report of a fault needs",
    )
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    for command in COMMANDS:
        command.add(commands)
    return parser


def _fail(error: object, code: int = USAGE) -> int:
    print_error(error)
    return code


_UNPRINTABLE = "mpncov_zoo.unprintable"  # the name under which Python knows `_escaped`


def _pass_any_file_name() -> None:
    """Read and print the names of files as the bytes that they are, also those that are not UTF-8."""
    codecs.register_error(_UNPRINTABLE, _escaped)
    for stream, errors in ((sys.stdin, "surrogateescape"), (sys.stdout, _UNPRINTABLE)):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=errors)


def _escaped(error: UnicodeError) -> tuple[str | bytes, int]:
    """Encode a byte of a file's name as that byte, and a letter that the output's encoding lacks as its number."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    byte = "\udc80" <= error.object[error.start] <= "\udcff"
    one = UnicodeEncodeError(error.encoding, error.object, error.start, error.start + 1, error.reason)
    return codecs.lookup_error("surrogateescape" if byte else "backslashreplace")(one)


def _discard_output() -> None:
    """Throw away what standard output cannot take; else Python would try again at its exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextmanager
def _logging_to_stderr(level: int) -> Iterator[None]:
    logger, handler = logging.getLogger("mpncov_zoo"), logging.StreamHandler()
    before = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(level)
    logger.propagate = False  # TensorFlow gives the root logger a handler of its own
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before[0])
        logger.propagate = before[1]
