"""The two-sample score: how well a classifier tells generated images from real ones.

The classifier is a CNN on pixels: it sees what a feature space throws away, so that it is the
stricter ruler. It is the classic protocol's without dropout, in smaller batches: dropout hides the
grain by which images of a shipped MNIST generator are known, and the CNN named 77 % of them
correctly where it can name 99 %.
"""

import dataclasses

import numpy as np
import scipy.stats
import sklearn.metrics

from tfdps import checks
from tfdps.evaluation import classifiers

CONFIDENCE = 0.95
PROTOCOL = (
    "two-sample (Lopez-Paz and Oquab 2017): the classic protocol's CNN without dropout, batch 128, "
    "Adam, 2e-3 falling to 0 by a cosine over 10 epochs, trained to tell generated images from real "
    "test images, as many of each in every class; half of at most 10,000 pairs to train, the other "
    "half to test"
)

_MOST_PAIRS = 10_000
_FEWEST_PAIRS = 20  # half of them are trained on, a tenth of those images is for early stopping


@dataclasses.dataclass(frozen=True)
class TwoSampleScore:
    """How well generated images are told from real ones, with its evidence.

    Attributes:
      accuracy: the balanced accuracy in [0, 1] on pairs that were not trained on: 0.5 where the
        classifier guesses, 1 where it is always right.
      low, high: the 95 % confidence interval of `accuracy`, for the choice of the tested images.
      auc: how often a generated image is taken for more generated than a real one, in [0, 1]; ties
        count half. Like the accuracy, but without a threshold.
      num_tested: images that were tested, half of them real.
    """

    accuracy: float
    low: float
    high: float
    auc: float
    num_tested: int


def score(real, generated, *, seed=0, title=None):
    """Returns the TwoSampleScore of generated images against real ones.

    Images are paired within a class, so that it cannot be told from how frequent classes are. The
    score is of this classifier: where it guesses, a stronger one may still see a difference.

    Args:
      real: (images uint8 [n, H, W, C], integer labels [n]), none that the generator was trained on.
      generated: (images uint8 [m, H, W, C], integer labels [m]).
      seed: of the pairs and of the classifier; sums in another order change its weights a little.
      title: of the progress bar.

    Raises:
      UsageError: there are fewer than 20 pairs of a class.

    Source: Lopez-Paz and Oquab, ICLR 2017, arXiv 1610.06545, section 3; the interval: Clopper and
    Pearson, Biometrika 26 (1934).
    """
    random = np.random.default_rng(seed)
    pairs = _pairs(real[1], generated[1], random)
    train, test = np.split(pairs, [pairs.shape[1] // 2], axis=1)
    images, is_generated = _images_of(train, real[0], generated[0])
    logits = classifiers.trained(
        "cnn_without_dropout", images, is_generated, num_classes=2, seed=seed, title=title
    )
    images, is_generated = _images_of(test, real[0], generated[0])
    evidence = np.diff(logits(images), axis=1)[:, 0]
    correct = int(np.sum((evidence > 0) == is_generated))
    # Real and generated images are as many: this is the balanced accuracy, and one binomial's
    # interval is, if anything, too wide for the sum of two.
    interval = scipy.stats.binomtest(correct, len(images)).proportion_ci(CONFIDENCE, "exact")
    return TwoSampleScore(
        accuracy=correct / len(images),
        low=float(interval.low),
        high=float(interval.high),
        auc=float(sklearn.metrics.roc_auc_score(is_generated, evidence)),
        num_tested=len(images),
    )


def _pairs(real_labels, generated_labels, random):
    """Indices int [2, p] of real images and of generated ones of the same classes, in random order."""
    found = [np.empty((2, 0), np.int64)]
    for label in np.intersect1d(real_labels, generated_labels):
        of_class = [
            random.permutation(np.flatnonzero(labels == label))
            for labels in (real_labels, generated_labels)
        ]
        count = min(len(indices) for indices in of_class)
        found.append(np.stack([indices[:count] for indices in of_class]))
    pairs = np.concatenate(found, axis=1)
    if pairs.shape[1] < _FEWEST_PAIRS:
        raise checks.UsageError(
            f"the two-sample score needs at least {_FEWEST_PAIRS} pairs of a real and a generated "
            f"image of one class, received {pairs.shape[1]}: raise --eval_samples, or name a larger "
            "set of real images with --eval_dataset."
        )
    return random.permutation(pairs, axis=1)[:, :_MOST_PAIRS]


def _images_of(pairs, real, generated):
    """(images uint8 [2 p, H, W, C] of the pairs, 1 for each that is generated and 0 otherwise)."""
    images = np.concatenate([real[pairs[0]], generated[pairs[1]]])
    return images, np.repeat([0, 1], pairs.shape[1])
