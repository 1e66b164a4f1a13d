"""The command tfdps-verify: does an export hold what its model card claims?"""

import sys

from tfdps.commands import entry

_PROGRAM = "tfdps-verify"
_EXAMPLES = """examples:
  tfdps-verify saved_models/mnist_eps1      an export: the card, SavedModel, ONNX, all of it
  tfdps-verify generator.onnx               an artefact alone, by the card inside it
  tfdps-verify runs/mnist                   a run: also against its ledger

exit status: 0 all holds, 1 something does not, 2 there is nothing to verify
"""


def main(argv=None):
    """Runs the command line; returns the exit status: 1 if something is not as the card says."""
    settings = _parser().parse_args(argv)
    return entry.run(
        _PROGRAM,
        lambda: _verify(settings),
        interrupted=".",
        missing=lambda error: f'verifying needs {error.name}: pip install "tfdps[verify]".',
    )


def _verify(settings):
    from tfdps.artefacts import verification  # after --help

    verdict = verification.verify(settings.path)
    problems = list(verdict.problems)
    if settings.card_sha256 and settings.card_sha256.lower() != verdict.card_sha256:
        problems.append("the card is not the one of --card_sha256.")
    for line in verdict.statement:
        print(line)
    for caveat in verdict.card.caveats:
        print(f"Note: {caveat}")
    for problem in problems:
        print(f"WRONG: {problem}")
    print("FAILED: do not rely on it." if problems else "VERIFIED: all is as the card says.")
    return 1 if problems else 0


def _parser():
    parser = entry.parser(
        _PROGRAM,
        "Computes epsilon again from what a model card says was done, and compares the files with the "
        "hashes in it.",
        _EXAMPLES,
    )
    add = parser.add_argument
    add("path", help="an export, a SavedModel's folder, a generator.onnx, or a model_dir")
    add("--card_sha256", help="the hash of the card as its publisher names it")
    return parser


def run():
    """The console script `tfdps-verify`."""
    sys.exit(main())


if __name__ == "__main__":
    run()
