"""The command tfdps-verify: does an export hold what its model card claims?"""

import argparse
import sys

import tfdps
from tfdps import checks, files

_EXAMPLES = """examples:
  tfdps-verify saved_models/mnist_eps1      an export: the card, SavedModel, ONNX, all of it
  tfdps-verify generator.onnx               an artefact alone, by the card inside it
  tfdps-verify runs/mnist                   a run: also against its ledger

exit status: 0 all holds, 1 something does not, 2 there is nothing to verify
"""


def main(argv=None):
    """Runs the command line; returns the exit status."""
    settings = _parser().parse_args(argv)
    try:
        verdict = _verification().verify(settings.path)
        if settings.card_sha256 and settings.card_sha256.lower() != verdict.card_sha256:
            verdict.problems.append("the card is not the one of --card_sha256.")
    except checks.UsageError as error:
        print(f"tfdps-verify: error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"tfdps-verify: error: {files.reason(error)}: {error.filename}", file=sys.stderr)
        return 2
    for line in verdict.statement:
        print(line)
    for caveat in verdict.card["privacy"].get("caveats", ()):
        print(f"Note: {caveat}")
    for problem in verdict.problems:
        print(f"WRONG: {problem}")
    print(
        "FAILED: do not rely on it." if verdict.problems else "VERIFIED: all is as the card says."
    )
    return 1 if verdict.problems else 0


def _verification():
    """The module, which needs more than drawing images does."""
    try:
        from tfdps import verification
    except ModuleNotFoundError as error:
        raise checks.UsageError(
            f'verifying needs {error.name}: pip install "tfdps[verify]".'
        ) from error
    return verification


def _parser():
    parser = argparse.ArgumentParser(
        prog="tfdps-verify",
        description="Computes epsilon again from what a model card says was done, and compares the "
        "files with the hashes in it.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("path", help="an export, a SavedModel's folder, a generator.onnx, or a model_dir")
    add("--card_sha256", help="the hash of the card as its publisher names it")
    add("--version", action="version", version=f"tfdps {tfdps.__version__}")
    return parser


def run():
    """The console script `tfdps-verify`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
