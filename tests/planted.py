"""Faults planted in the package, and the audit of a run that must find them."""

import contextlib

import pytest

from tfdps import console
from tfdps.auditing import attacks, joint, mechanism, noise_checks, per_record, shadow
from tfdps.config import evaluation_options
from tfdps.config.run_config import RunConfig
from tfdps.mechanisms import batches

TRIALS = 150


def audited(model_dir, tmp_path, *, parts="mechanism"):
    """What `--mode=audit` finds in the run at `model_dir`: (audit.json as a dict, lines said)."""
    settings = evaluation_options.EvaluationOptions(
        feature_cache=str(tmp_path), audit_trials=TRIALS, audit_parts=parts
    )
    said = []
    with console.lines_to(said.append):
        return attacks.audit(RunConfig(model_dir=str(model_dir)), settings), said


@contextlib.contextmanager
def one_pair_attacked():
    """The audit attacks its first pair of neighbours alone, and does not ask whether a seed repeats.

    For faults that no release of a crafted draw shows, so that no attack can see them: most of an
    audit's time goes to attacks, and to compiling two more models for seeds.
    """
    with pytest.MonkeyPatch.context() as patch:
        leave_out_seeds(patch)
        for module in (joint, per_record):
            patch.setattr(module, "worst_neighbours", _first_of(module.worst_neighbours))
        yield


def leave_out_seeds(patch):
    """Has an audit not ask whether noise repeats under a seed, of which there is a test by itself."""
    passed = {"name": "noise does not repeat under a seed", "passed": True, "detail": "not asked"}
    patch.setattr(noise_checks, "check_freshness", lambda build, pair: passed)


def leave_out_short_runs(patch):
    """Has an audit run no training: short runs see nothing of faults in `release`, and take longest."""
    patch.setattr(mechanism, "_shadow_checks", lambda build, plan, dataset: [])


@contextlib.contextmanager
def of_refiner():
    """Of a refined run's rounds the audit attacks the first kind alone, and it has one short run."""
    with pytest.MonkeyPatch.context() as patch:
        states = per_record.states
        patch.setattr(per_record, "states", lambda *arguments: states(*arguments)[:1])
        patch.setattr(per_record, "_MOST_RUNS", 1)  # a refiner is compiled anew for each
        patch.setattr(shadow, "_NUM_RECORDS", 30)  # of each the auditor takes a gradient of its own
        yield


@contextlib.contextmanager
def draws_alone():
    """The audit looks at the draws, and at one pair of neighbours: not at short runs of training."""
    with pytest.MonkeyPatch.context() as patch, one_pair_attacked():
        leave_out_short_runs(patch)
        yield


def _first_of(worst_neighbours):
    return lambda *arguments: worst_neighbours(*arguments)[:1]


def found_by(model_dir, tmp_path, *, by=contextlib.nullcontext):
    """Names of the checks and pairs of neighbours that contradict the run's claim, a list.

    Each of them is on the screen, and the verdict says that there is a violation, or else none.

    by: a context in which the audit is less than all it is.
    """
    with by():
        result, said = audited(model_dir, tmp_path)
    found = result["mechanism"]
    names = [check["name"] for check in found["checks"] if not check["passed"]]
    names += [pair["name"] for pair in found["pairs"] if pair["violation"]]
    assert result["verdict"] == ("violation found" if names else "no violation found")
    for name in names:
        assert any(f"FAILED: {name}:" in line for line in said)
    return names


def double_sampling_probability(monkeypatch):
    """Has every record drawn with twice the probability that is accounted."""
    honest = batches.PoissonBatches.__init__

    def doubled(self, dataset, sampling_probability, **options):
        honest(self, dataset, min(1, 2 * sampling_probability), **options)

    monkeypatch.setattr(batches.PoissonBatches, "__init__", doubled)


def check_doubling_is_found(found):
    """Asserts that an audit names the probability, and at most what follows from it."""
    assert "sampling probability" in found
    # A probability of twice q has another variance, too.
    assert set(found) <= {
        "sampling probability",
        "draws vary as coins do",
        "records' draws are independent",
    }
