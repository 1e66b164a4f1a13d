"""Transport and its divergence against other algorithms, closed forms and derivatives."""

import dataclasses
import inspect

import numpy as np
import pytest
import tensorflow as tf
from clouds import cloud, numpy_cost
from scipy import optimize

from tfdps import checks
from tfdps.sinkhorn import costs, divergence, envelope, problem
from tfdps.sinkhorn.keras_loss import SinkhornDivergence


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize("cost", costs.COSTS)
def test_converged_value_is_the_optimum_of_the_semi_dual(cost, dtype):
    """A second algorithm: L-BFGS on <a,f> - lambda sum_j b_j log sum_i a_i e^((f_i-C_ij)/lambda)."""
    x, y, lam = cloud(0, 6, dtype=dtype), cloud(1, 7, dtype=dtype), 1.5
    matrix = numpy_cost(x, y, cost).astype(np.float64)

    def negative_semi_dual(f):
        scores = (f[:, None] - matrix) / lam - np.log(6)
        top = scores.max(0)
        smooth = top + np.log(np.exp(scores - top).sum(0))
        columns = np.exp(scores - smooth)
        return -(f.mean() - lam * smooth.mean()), -(1 / 6 - columns.mean(1))

    best = optimize.minimize(negative_semi_dual, np.zeros(6), jac=True, tol=1e-14)
    result = divergence.transport_cost(x, y, cost=cost, regularization=lam, tolerance=1e-5)
    assert bool(result.converged)
    assert float(result.marginal_error) <= 1e-5
    # The dual is flat at its maximum: a marginal error of 1e-5 is far less in value.
    assert float(result.value) == pytest.approx(-best.fun, rel=1e-5)


@pytest.mark.slow
def test_one_point_against_one_is_the_cost_itself():
    x, y = tf.constant([[1.0, 2.0]]), tf.constant([[4.0, -2.0]])
    assert float(divergence.transport_cost(x, y, regularization=0.7).value) == pytest.approx(25.0)
    value = divergence.transport_cost(
        x, y, cost="l1+l2", cost_l1_weight=3, regularization=0.7
    ).value
    assert float(value) == pytest.approx(25 + 3 * 7)


def test_little_regularisation_gives_the_optimal_assignment():
    """The entropic value is the assignment's cost plus lambda KL(plan, a b) = lambda log n."""
    x, y, lam = cloud(0, 12), cloud(1, 12), 0.02
    matrix = numpy_cost(x, y)
    best = matrix[optimize.linear_sum_assignment(matrix)].mean()
    solve = tf.function(
        lambda: divergence.transport_cost(x, y, regularization=lam, max_iterations=20_000).value
    )
    assert float(solve()) == pytest.approx(best + lam * np.log(12), rel=1e-4)


@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("cost", "lam"), [("l2", 25.0), ("l2", 1.0), ("l1+l2", 0.05)])
def test_real_clouds_are_solved_to_the_tolerance_at_the_published_regularisations(
    cost, lam, dtype, features
):
    """Lambda down to 3e-4 of the mean cost, in few updates and in float32 too."""
    x, y, _ = (tf.cast(points, dtype) for points in features)
    result = divergence.transport_cost(x, y, cost=cost, regularization=lam)
    assert bool(result.converged)
    assert int(result.num_iterations) < 300
    plan = np.exp((sum_of(result.potentials) - numpy_cost(x, y, cost)) / lam) / 2500
    # Rounding of float32 costs divided by lambda: 6e-8 max(C) / lambda.
    slack = 1e-3 + (3e-6 * 2000 / lam if dtype == np.float32 else 0)
    assert np.abs(plan.sum(1) - 1 / 50).sum() < slack


def sum_of(potentials):
    f, g = (np.asarray(p, np.float64) for p in potentials)
    return f[:, None] + g[None]


@pytest.mark.parametrize("schedule", problem.SCHEDULES)
@pytest.mark.slow
def test_divergence_of_equal_clouds_is_zero(schedule):
    x = cloud(0, 6)
    tape_x = tf.Variable(x)
    with tf.GradientTape() as tape:
        value = divergence.sinkhorn_divergence(
            tape_x, x, regularization=1.0, schedule=schedule
        ).value
    assert abs(float(value)) < (1e-3 if schedule == "converged" else 0.05)
    if schedule == "converged":
        assert np.abs(tape.gradient(value, tape_x)).max() < 1e-3  # both to the solver's tolerance


@pytest.mark.slow
def test_divergence_is_positive_and_falls_along_its_gradient():
    x, y = cloud(0, 6) + 2, cloud(1, 7)

    @tf.function
    def value_and_gradient(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = divergence.sinkhorn_divergence(x, y, regularization=0.5).value
        return value, tape.gradient(value, x)

    values = []
    for _ in range(20):
        value, gradient = value_and_gradient(x)
        values.append(float(value))
        x -= 1.0 * gradient
    assert min(values) > 0
    assert values[-1] < 0.1 * values[0]


@pytest.mark.parametrize("cost", costs.COSTS)
@pytest.mark.slow
def test_converged_gradient_is_the_derivative_of_the_value(cost):
    x, y, step = cloud(0, 6), cloud(1, 7), 1e-4
    weights = tf.constant([1.0, 2.0, 0.5, 1.0, 3.0, 1.0, 0.0])

    def value(x, y):
        return divergence.transport_cost(
            x, y, y_weights=weights, cost=cost, regularization=1.0, tolerance=1e-9
        ).value

    with tf.GradientTape() as tape:
        tape.watch([x, y])
        total = value(x, y)
    gradient_x, gradient_y = tape.gradient(total, [x, y])
    for points, gradient, of in (
        (x, gradient_x, lambda p: value(p, y)),
        (y, gradient_y, lambda p: value(x, p)),
    ):
        direction = np.random.default_rng(5).normal(size=points.shape)
        difference = (of(points + step * direction) - of(points - step * direction)) / (2 * step)
        assert float(difference) == pytest.approx(float((gradient * direction).numpy().sum()), 1e-5)


@pytest.mark.slow
def test_the_points_of_weight_zero_get_no_gradient_and_their_place_does_not_matter():
    x, y = cloud(0, 6), cloud(1, 5)
    far = tf.concat([y[:4], 100 * y[4:]], axis=0)
    weights = tf.constant([1.0, 1.0, 1.0, 1.0, 0.0])
    settings = {"y_weights": weights, "regularization": 1.0, "tolerance": 1e-9}
    with tf.GradientTape() as tape:
        tape.watch(far)
        padded = divergence.transport_cost(x, far, **settings).value
    alone = divergence.transport_cost(x, y[:4], regularization=1.0, tolerance=1e-9).value
    assert float(padded) == pytest.approx(float(alone), rel=1e-8)
    assert not tape.gradient(padded, far)[4].numpy().any()


@pytest.mark.parametrize("schedule", problem.SCHEDULES)
def test_where_the_padding_lies_changes_nothing_at_all(schedule):
    """Not even the temperatures: to the last bit, or a padded record would be in every batch."""
    x, y, weights = cloud(0, 6), cloud(1, 5), tf.constant([1.0, 1.0, 1.0, 0.0, 0.0])

    def solved(padding):
        points = tf.concat([y[:3], tf.fill([2, 6], tf.constant(padding, tf.float64))], axis=0)
        settings = {"y_weights": weights, "regularization": 0.3, "schedule": schedule}
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = divergence.transport_cost(x, points, **settings).value
        return tape.gradient(value, x).numpy()

    np.testing.assert_array_equal(solved(0.0), solved(500.0))


@pytest.mark.slow
@pytest.mark.parametrize("schedule", problem.SCHEDULES)
@pytest.mark.parametrize("jit", [False, True])
def test_of_an_empty_batch_there_is_nothing_and_of_fresh_points_the_gradient_is_always_the_same(
    schedule, jit
):
    """It leaves a step without noise: it must not tell whether anything was drawn."""
    x, fresh, y = cloud(0, 6), cloud(2, 2), cloud(1, 5)

    @tf.function(jit_compile=jit)
    def run(weights):
        settings = {"y_weights": weights, "regularization": 1.0, "schedule": schedule}
        with tf.GradientTape(persistent=True) as tape:
            tape.watch([x, fresh])
            semi = divergence.semi_debiased_loss(x, fresh, y, **settings)
            plain = divergence.sinkhorn_divergence(x, y, **settings).value
        own = semi, plain, tape.gradient(semi, x), tape.gradient(plain, x)
        return own, tape.gradient(semi, fresh)

    draws = [tf.constant(w) for w in ([0.0] * 5, [1.0] * 5, [0.0, 1.0, 0.0, 1.0, 0.0])]
    (of_empty, first), (of_all, second), (_, third) = [run(weights) for weights in draws]
    for nothing, something in zip(of_empty, of_all, strict=True):
        assert not nothing.numpy().any()
        assert something.numpy().any()
    assert np.abs(first).max() > 0
    for other in (second, third):
        np.testing.assert_array_equal(first, other)


@pytest.mark.slow
def test_identical_points_are_solved_without_nan():
    x = tf.ones([4, 3])
    for schedule in problem.SCHEDULES:
        result = divergence.transport_cost(x, x, regularization=0.5, schedule=schedule)
        assert float(result.value) == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_without_fresh_points_the_debiasing_term_is_the_self_transport():
    x, y = cloud(0, 6), cloud(1, 5)
    loss = divergence.semi_debiased_loss(x, x[:0], y, regularization=10.0, tolerance=1e-9)
    cross = divergence.transport_cost(x, y, regularization=10.0, tolerance=1e-9).value
    own = divergence.transport_cost(x, x, regularization=10.0, tolerance=1e-9).value
    assert float(loss) == pytest.approx(float(2 * cross - own), rel=1e-9)


def test_an_unsolved_problem_says_so():
    result = divergence.transport_cost(
        cloud(0, 12), cloud(1, 12), regularization=0.01, max_iterations=3
    )
    assert not bool(result.converged)
    assert float(result.marginal_error) > 1e-3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"regularization": 1.0, "cost": "l7"}, "cost must be one of l2, l1+l2"),
        ({"regularization": 1.0, "schedule": "fast"}, "schedule must be one of"),
        ({}, "takes regularization"),
        ({"regularization": -1.0}, "regularization must be > 0, received -1.0."),
        ({"schedule": "reference"}, "needs blur"),
        ({"schedule": "reference", "blur": 2.0, "regularization": 5.0}, "must equal blur^exponent"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(checks.UsageError) as error:
        divergence.transport_cost(cloud(0, 3), cloud(1, 3), **settings)
    assert message in str(error.value)


@pytest.mark.parametrize("cost", costs.COSTS)
@pytest.mark.parametrize("dtype", [np.float32, pytest.param(np.float64, marks=pytest.mark.slow)])
@pytest.mark.slow
def test_the_divergence_of_a_cloud_from_itself_is_zero_with_duplicates_too(cost, dtype, features):
    """Within 1e-5 of the cost's scale; a self term's diagonal is exact, the cross term's is not."""
    x = tf.cast(tf.concat([features[0], features[0][:7]], axis=0), dtype)
    mean = float(tf.reduce_mean(costs.cost_matrix(x, x, cost=cost)))
    for relative in (0.5, 0.05, 0.01):
        settings = {"cost": cost, "regularization": relative * mean, "tolerance": 1e-5}
        result = divergence.sinkhorn_divergence(x, x, **settings)
        assert abs(float(result.value)) < 1e-5 * mean


@pytest.mark.parametrize("schedule", problem.SCHEDULES)
@pytest.mark.slow
def test_points_of_weight_zero_change_nothing_in_the_divergence(schedule):
    x, y = cloud(0, 7), cloud(1, 9)
    settings = {"regularization": 0.5, "schedule": schedule, "tolerance": 1e-10}
    x_weights, y_weights = np.array([1.0] * 5 + [0.0] * 2), np.array([1.0, 2.0] * 3 + [0.0] * 3)

    def solved(x, y, **weights):
        x = tf.Variable(x)
        with tf.GradientTape() as tape:
            result = divergence.sinkhorn_divergence(x, y, **weights, **settings)
        return float(result.value), tape.gradient(result.value, x).numpy()

    value, gradient = solved(x, y, x_weights=x_weights, y_weights=y_weights)
    alone, expected = solved(x[:5], y[:6], y_weights=y_weights[:6])
    assert value == pytest.approx(alone, rel=1e-8)
    np.testing.assert_allclose(gradient[:5], expected, atol=1e-8)
    np.testing.assert_array_equal(gradient[5:], 0.0)


@pytest.mark.parametrize("cost", costs.COSTS)
@pytest.mark.slow
def test_the_divergences_gradient_is_the_derivative_of_its_value(cost):
    x, y, step = cloud(0, 6), cloud(1, 7), 1e-5
    direction = np.random.default_rng(5).normal(size=x.shape)

    def value(x):
        settings = {"cost": cost, "regularization": 0.8, "tolerance": 1e-11}
        return divergence.sinkhorn_divergence(x, y, **settings).value

    with tf.GradientTape() as tape:
        tape.watch(x)
        total = value(x)
    slope = float(tf.reduce_sum(tape.gradient(total, x) * direction))
    difference = (value(x + step * direction) - value(x - step * direction)) / (2 * step)
    assert float(difference) == pytest.approx(slope, rel=1e-5)


@pytest.mark.slow
def test_far_clouds_and_outliers_are_solved():
    """Scaling factors that no float holds: what is absorbed on the way."""
    x, y = cloud(0, 20, dtype=np.float32), cloud(1, 25, dtype=np.float32) + 30
    x = tf.concat([x, x[:1] - 100], axis=0)
    for lam in (0.1, 10.0, 1e6):
        result = divergence.transport_cost(x, y, regularization=lam, tolerance=0.01)
        assert bool(result.converged)
        plan = np.exp((sum_of(result.potentials) - numpy_cost(x, y)) / lam) / (21 * 25)
        # Rounding of float32 costs divided by lambda.
        rounding = 6e-8 * float(np.max(numpy_cost(x, y))) / lam
        assert np.abs(plan.sum(0) - 1 / 25).sum() < 0.01 + 5 * rounding


@pytest.mark.slow
def test_another_lambda_or_tolerance_compiles_nothing_anew():
    x, y = cloud(0, 6), cloud(1, 7)
    divergence.sinkhorn_divergence(x, y, regularization=1.0)
    before = envelope._compiled_solve.experimental_get_tracing_count()
    for lam, tolerance in ((2.0, 1e-3), (0.3, 1e-4), (np.float32(0.7), 1e-2)):
        divergence.sinkhorn_divergence(x, y, regularization=lam, tolerance=tolerance)
    assert envelope._compiled_solve.experimental_get_tracing_count() == before


@pytest.mark.parametrize(
    "function",
    [
        divergence.transport_cost,
        divergence.sinkhorn_divergence,
        divergence.semi_debiased_loss,
        SinkhornDivergence,
    ],
)
def test_signatures_have_the_settings_of_a_solver_with_its_defaults(function):
    given = inspect.signature(function).parameters
    for field in dataclasses.fields(problem.SolverSettings):
        # A Keras loss is of the converged schedule.
        if function is SinkhornDivergence and field.name in ("schedule", "blur", "exponent"):
            assert field.name not in given
        elif not (function is SinkhornDivergence and field.name == "regularization"):
            assert given[field.name].default == field.default
