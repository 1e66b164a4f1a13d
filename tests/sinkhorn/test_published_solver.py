"""The reference schedule and the costs against stored values of the published solver."""

import numpy as np
import pytest
import tensorflow as tf
from clouds import close

from tfdps.sinkhorn import costs, divergence

REFERENCE_SETTINGS = {
    "l2_p2_eps5": {"cost": "l2", "blur": 5, "exponent": 2},
    "l1l2_m1_p1_eps0.05": {"cost": "l1+l2", "cost_l1_weight": 1, "blur": 0.05, "exponent": 1},
}


@pytest.mark.parametrize("jit", [False, pytest.param(True, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", REFERENCE_SETTINGS)
class TestPublishedSolver:
    """Every field of the stored reference, in graph mode and compiled."""

    def value_and_gradients(self, loss, points, y, name, jit, **extra):
        """(what loss says of the points and y at the stored settings, its gradients in the points)."""
        settings = {"schedule": "reference", **REFERENCE_SETTINGS[name], **extra}

        @tf.function(jit_compile=jit)
        def run(*points):
            with tf.GradientTape() as tape:
                tape.watch(points)
                result = loss(*points, y, **settings)
                value = getattr(result, "value", result)
            return result, tape.gradient(value, points)

        return run(*points)

    def test_transport(self, name, jit, features, sinkhorn_reference):
        x, y, _ = features
        result, (gradient,) = self.value_and_gradients(divergence.transport_cost, [x], y, name, jit)
        stored = sinkhorn_reference
        assert close(result.value, stored[f"{name}/ot_xy"])
        assert close(gradient[:, :784], stored[f"{name}/ot_xy_grad_X"])
        assert close(result.potentials[0], stored[f"{name}/ot_xy_f"])
        assert close(result.potentials[1], stored[f"{name}/ot_xy_g"])
        assert int(result.num_iterations) == len(stored[f"{name}/eps_list_xy"])

    def test_padding_by_zero_weights_equals_the_smaller_cloud(
        self, name, jit, features, sinkhorn_reference
    ):
        x, y, _ = features
        weights = tf.constant([1.0] * 37 + [0.0] * 13)
        # What lies in the padding must not matter, its extent included.
        y = tf.concat([y[:37], tf.fill([13, y.shape[1]], tf.constant(900.0, tf.float64))], axis=0)
        result, (gradient,) = self.value_and_gradients(
            divergence.transport_cost, [x], y, name, jit, y_weights=weights
        )
        assert close(result.value, sinkhorn_reference[f"{name}/ot_xy37"])
        assert close(gradient[:, :784], sinkhorn_reference[f"{name}/ot_xy37_grad_X"])

    @pytest.mark.slow
    def test_plain_divergence(self, name, jit, features, sinkhorn_reference):
        x, y, _ = features
        result, (gradient,) = self.value_and_gradients(
            divergence.sinkhorn_divergence, [x], y, name, jit
        )
        gradient = gradient[:, :784]
        assert close(result.value, sinkhorn_reference[f"{name}/plain/loss"])
        assert close(gradient, sinkhorn_reference[f"{name}/plain/grad_X"])
        assert close(clipped(gradient), sinkhorn_reference[f"{name}/plain/grad_X_clipped"])

    def test_semi_debiased_loss(self, name, jit, features, sinkhorn_reference):
        x, y, fresh = features
        loss, (gradient, fresh_gradient) = self.value_and_gradients(
            divergence.semi_debiased_loss, [x, fresh], y, name, jit
        )
        gradient, fresh_gradient = gradient[:, :784], fresh_gradient[:, :784]
        stored = {
            field: sinkhorn_reference[f"{name}/debias0.2/{field}"]
            for field in ("loss", "grad_X", "grad_Xalt", "grad_X_clipped", "grad_Xalt_clipped")
        }
        assert close(loss, stored["loss"])
        assert close(gradient, stored["grad_X"])
        assert close(fresh_gradient, stored["grad_Xalt"])
        assert close(clipped(gradient), stored["grad_X_clipped"])
        assert close(clipped(fresh_gradient), stored["grad_Xalt_clipped"])


def clipped(gradient, clip_norm=0.5):
    """As the stored values were: the published clip adds 1e-6 to the norm it divides by."""
    return np.asarray(gradient) * min(1, clip_norm / (np.linalg.norm(gradient) + 1e-6))


@pytest.mark.parametrize("name", REFERENCE_SETTINGS)
def test_costs_equal_the_stored_ones(name, features, sinkhorn_reference):
    x, y, _ = features
    settings = {k: v for k, v in REFERENCE_SETTINGS[name].items() if k.startswith("cost")}
    assert close(costs.cost_matrix(x, y, **settings), sinkhorn_reference[f"{name}/cost_xy"])
