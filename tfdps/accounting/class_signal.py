"""How clear the mean image of a class can come out of a plan's noise; of public numbers alone."""

import math

_WAVES = 16  # the slowest, which hold most of a mean image
# Measured on MNIST, LogReg on generated images: at .4 and above 18 to 34 %, from .12 to .19 about 70 %,
# at .08 about 80 %, at .01 88 %; benchmarks/recipe.md.
_LOST, _FAINT = 0.3, 0.1


def noise_to_signal(plan, num_classes):
    """Returns the noise of a mean image's slowest waves over an image's root mean square.

    The sum of a class of n images has noise of standard deviation s, in units of an image's root mean
    square, on each wave: 4 s / n. Of persons, whose m images are clipped as one, n is N sqrt(m) / L.
    The classes are taken as equally large: how large each is, is private.

    Args:
      plan: a PrivacyPlan of rounds.
      num_classes: L.
    """
    of_class = plan.dataset_size * math.sqrt(plan.images_per_unit) / num_classes
    return math.sqrt(_WAVES) * plan.noise_multipliers[0] / of_class


def word(plan, num_classes):
    """Returns a line about classes that the noise leaves little of; "" where it leaves enough.

    Args:
      plan: a PrivacyPlan.
      num_classes: L.

    Examples:
      >>> import tfdps
      >>> from tfdps.accounting import class_signal
      >>> plan = tfdps.make_plan(tfdps.RunConfig(target_epsilon=1.0), 500, num_classes=10)
      >>> class_signal.word(plan, 10)[:63]
      'Expect little: with 50 records a class at this epsilon the nois'
    """
    if plan.shares is None or not plan.private:
        return ""
    ratio = noise_to_signal(plan, num_classes)
    if ratio < _FAINT:
        return ""
    units = "records" if plan.images_per_person is None else "persons"
    each = f"{plan.dataset_size / num_classes:.3g} {units} a class"
    times = ratio / _FAINT
    mend = (
        f"About {times:.2g} times as many {units}, or as much larger an epsilon, or fewer classes, "
        "would do."
    )
    if ratio >= _LOST:
        return (
            f"Expect nothing: with {each} at this epsilon the noise hides what a class looks like, and "
            f"images of different classes will look alike. {mend}"
        )
    return (
        f"Expect little: with {each} at this epsilon the noise leaves the average image of a class, "
        f"and hardly more. A class with fewer images than that comes out worse. {mend}"
    )
