"""--mode=audit as a whole, and the canaries, on real runs."""

import json

import numpy as np
import pytest

from conftest import small_config
from tfdps import checks, console
from tfdps.accounting.plan import make_plan
from tfdps.auditing import attacks, canaries
from tfdps.config import evaluation_options
from tfdps.data import loading
from tfdps.mechanisms import joint
from tfdps.training import builders, job, nonprivate


def options_of(tmp_path, **changes):
    return evaluation_options.EvaluationOptions(
        feature_cache=str(tmp_path), audit_trials=150, **changes
    )


@pytest.mark.slow
def test_an_audit_of_a_real_run_finds_no_violation_and_says_what_it_is(
    digits_run, tmp_path, short_networks
):
    model_dir, said = digits_run[0], []
    with short_networks(), console.lines_to(said.append):
        attacks.audit(small_config(model_dir), options_of(tmp_path))
    found = json.loads((model_dir / "report" / "audit.json").read_text())
    assert found["nonprivate"] == nonprivate.MARK
    assert found["verdict"] == "no violation found"
    assert all(check["passed"] for check in found["mechanism"]["checks"])
    assert "cannot prove" in found["meaning"]
    for part in evaluation_options.AUDIT_PARTS:
        assert "no proof of safety" in found[part]["meaning"]
    for part in ("mechanism", "canaries"):
        assert 0 <= found[part]["lower_bound"]["epsilon"] <= found[part]["claim"]["epsilon"]
        assert 1 - found[part]["confidence"] <= 1e-4 * 1.01  # that an honest run is accused
    # What guesses show is at most what all of them being right would: the fit of a law may show more.
    assert found["canaries"]["lower_bound"]["epsilon"] <= found["canaries"]["largest"]["epsilon"]
    for pair in found["mechanism"]["pairs"]:
        for name, attack in pair["attacks"].items():
            if name.startswith("Clopper-Pearson"):
                assert attack["epsilon"] <= pair["largest"]["epsilon"]
    for part in ("membership", "memorisation"):
        assert "tests no epsilon" in found[part]["meaning"]
    for space in ("pixels", "features"):
        auc = found["membership"][space]["auc"]
        assert auc["low"] < 0.55  # sixty steps of a private run have memorised nobody
        assert found["memorisation"][space]["copies"]["low"] < 0.05
    assert (model_dir / "report" / "nonprivate" / "closest.png").stat().st_size > 0
    assert said[-1].startswith("Audit  no violation found")


def test_parts_that_need_a_run_refuse_an_export_alone(digits_run, tmp_path):
    settings = options_of(tmp_path, report_dir=str(tmp_path / "report"))
    with pytest.raises(checks.UsageError, match="export without its run"):
        attacks.audit(small_config(digits_run[0] / "export"), settings)


@pytest.mark.slow
def test_a_run_without_a_mechanism_has_no_claim_to_audit(tmp_path):
    run = tmp_path / "run"
    job.train(small_config(run, mechanism="none", num_steps=1))
    with pytest.raises(checks.UsageError, match="epsilon is infinity"):
        attacks.audit(small_config(run), options_of(tmp_path))


class TestCanaries:
    @pytest.fixture(scope="class")
    def mnist(self, tfds_dir):
        return loading.load("mnist", data_dir=tfds_dir)

    @pytest.mark.slow
    def test_a_run_without_noise_is_caught(self, mnist, monkeypatch):
        monkeypatch.setattr(joint.StepNoise, "draw", lambda noise: np.zeros(noise.shape, np.int64))
        found = self._audit(mnist)
        assert found["violation"]
        assert found["num_correct"] > 0.75 * found["num_guesses"]

    def _audit(self, mnist):
        """Of 200 guesses 186 +- 5 are right; noise that is claimed to be large lets 150 say enough."""
        config = small_config(
            "unused", batch_size=50, noise_multiplier=20.0, target_epsilon=None, num_steps=100
        )
        plan = make_plan(config, len(mnist))
        return canaries.audit_canaries(
            lambda plan: builders.build_model(config, mnist.spec, plan), plan, mnist
        )

    def test_half_the_canaries_are_in_and_the_real_records_are_the_set_s_own(self):
        digits = loading.load("digits")
        planted, included = canaries._plant(digits, np.random.default_rng(0))
        # 1000 coins: standard deviation 16.
        assert 420 < included.sum() < 580
        assert len(planted.dataset) == 500 + included.sum()
        own = {image.tobytes() for image in digits.images}
        assert all(image.tobytes() in own for image in planted.dataset.images[:500])
        inside = {image.tobytes() for image in planted.dataset.images[500:]}
        for canary, is_in in zip(planted.canaries, included, strict=True):
            assert (canary.tobytes() in inside) == is_in
