"""SinkhornDivergence as Keras knows losses."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from clouds import cloud

from tfdps import checks
from tfdps.sinkhorn import divergence
from tfdps.sinkhorn.keras_loss import SinkhornDivergence


class TestKerasLoss:
    def test_is_the_divergence_of_the_batches(self):
        x, y = cloud(0, 6, 12, np.float32), cloud(1, 9, 12, np.float32)
        loss = SinkhornDivergence(0.7, cost="l1+l2", cost_l1_weight=2.0)
        images = tf.reshape(y, [9, 2, 2, 3]), tf.reshape(x, [6, 2, 2, 3])
        expected = divergence.sinkhorn_divergence(
            x, y, regularization=0.7, cost="l1+l2", cost_l1_weight=2.0
        )
        assert float(loss(*images)) == pytest.approx(float(expected.value), rel=1e-6)

    @pytest.mark.slow
    def test_trains_a_model_to_make_the_targets_in_any_order(self):
        targets = cloud(1, 64, 2, np.float32) + 3
        noise = np.random.default_rng(0).normal(size=(64, 4)).astype(np.float32)
        model = keras.Sequential([keras.layers.Dense(16, "relu"), keras.layers.Dense(2)])
        model.compile(keras.optimizers.Adam(0.03), loss=SinkhornDivergence(0.5))
        history = model.fit(noise, targets, batch_size=64, epochs=60, verbose=0).history["loss"]
        assert history[-1] < 0.02 * history[0]

    def test_is_saved_with_its_settings(self):
        loss = SinkhornDivergence(0.7, tolerance=1e-4, max_iterations=99)
        again = keras.losses.deserialize(keras.losses.serialize(loss))
        assert again.get_config() == loss.get_config()

    def test_refuses_bad_settings_at_once(self):
        with pytest.raises(checks.UsageError, match="regularization must be > 0, received -1"):
            SinkhornDivergence(-1.0)
