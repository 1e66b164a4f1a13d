"""Are the held-out images, and persons, really others than those that were trained on?"""

import hashlib
import logging

import numpy as np

from tfdps import checks

_logger = logging.getLogger(__name__)

_COPY = 0.5  # of the held-out images: no public data set has so many images twice


def check(training, heldout):
    """Refuses held-out images that are a copy of the training images; says so where some are.

    A copy may lie elsewhere, be stored in another format and have other file names: the pixels are
    compared, as the generator and the classifiers are given them. Where the unit of privacy is a
    person, other images of a person who was trained on are refused too.

    Args:
      training: the Dataset that was trained on.
      heldout: the Dataset of held-out images, of the same shape.

    Raises:
      UsageError: half of the held-out images or more are among the training images, or a person has
        images in both.
    """
    if training.units is not None:
        _check_persons(training, heldout)
    seen = set(_digests(training.images))
    count = sum(digest in seen for digest in _digests(heldout.images))
    if not count:
        return
    found = f"{count} of {len(heldout)} of {heldout.spec.name} are training images, pixel for pixel"
    if count >= _COPY * len(heldout):
        raise checks.UsageError(
            f"held-out images must be images that were not trained on: {found}. Give others with "
            "--eval_dataset, or another --eval_split."
        )
    _logger.info(f"Note: {found}; what is measured on them is too good by so much.")


def _check_persons(training, heldout):
    if training.persons is None or heldout.persons is None:
        _logger.info(
            f"Note: nobody says whose the images of {heldout.spec.name} are; if persons among them "
            "were trained on, what is measured on these is too good."
        )
        return
    persons = set(heldout.persons.tolist())
    shared = len(persons & set(training.persons.tolist()))
    if shared:
        raise checks.UsageError(
            f"held-out images must be of other persons than those that were trained on: {shared:,} of "
            f"{len(persons):,} persons of {heldout.spec.name} were. Give images of others with "
            "--eval_dataset, or another --eval_split."
        )


def _digests(images):
    for image in images:
        yield hashlib.blake2b(np.ascontiguousarray(image), digest_size=16).digest()
