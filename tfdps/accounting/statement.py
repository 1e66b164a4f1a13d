"""The privacy block of a model card: what was done to the private data, what it cost, for whom."""

import dataclasses

from tfdps.accounting import accountants
from tfdps.config import mechanism_registry

ADJACENCY = "zero-out-one"
ADJACENCY_MEANING = (
    "Two data sets are neighbours if one has nothing in the place of one record of the other: the "
    "number of records N, and all else that is declared, is the same for both."
)
_ADJACENCY_OF_PERSONS = (
    "Two data sets are neighbours if one has nothing in the place of all images of one person of the "
    "other: the number of persons N, and all else that is declared, is the same for both."
)
SAMPLING = "poisson"
_SENSITIVITY_OF_PERSONS = (
    " A record is here a person, with all images that are used; where it is relative, it is the square "
    "root of images_per_person times that."
)
_OF_AN_IMAGE = (
    "The unit of protection is one image: a person with k images has more than this epsilon, and at "
    "most k times it at a delta of k e^((k - 1) epsilon) times this one."
)
_OF_A_PERSON = (
    "The unit of protection is one person with all images that are used; of a single image the same "
    "holds. Who is whose is what --person says: a person under two names is two."
)
CAVEATS = (
    "The number of units N, the class names and the image shape are treated as public.",
    "The guarantee covers this run alone: other runs on the same data, tuning included, add up.",
    "Noise is Gaussian noise rounded to a public grid, drawn exactly from AES-256 under a key that "
    "the operating system draws for each release, and added to sums of integers: the (epsilon, delta) "
    "holds for the released bits, towards all who cannot tell AES from uniform bits.",
    "How long a step takes follows its data a little; timings (also in the ledger) are not covered.",
    "Evaluation and audit files, where there are any, read private data and are not covered.",
)

_OF_REFINER = (
    " In the last steps, the refiner's, a record moves the sum of gradients by at most 1, whatever "
    "clip_norm is."
)


def unit(plan):
    """Returns what is protected, in words: one image, or one person with so many images at most."""
    if plan.images_per_person is None:
        return "one image"
    return f"one person, at most {plan.images_per_person} images"


def privacy_statement(plan, charges, mechanism, spec):
    """Returns the `privacy` block of the model card, from what the ledger says was executed.

    `events` are the ledger's charges in their order, so that anybody can compose them again with an
    accountant of their own. `epsilon_pld` is exact where all have sampling_probability 1.
    `noise_multiplier` is the plan's: with shares no single step's, see PrivacyPlan. `declared` is
    what the proof takes as given: public, and no property that the private records are asked for.

    Args:
      plan: the run's PrivacyPlan.
      charges: the ledger's charges, a list of NoiseEvent.
      mechanism: the mechanism object, for its sensitivity.
      spec: the DatasetSpec.
    """
    steps = sum(charge.steps for charge in charges)
    of_persons = {}
    if plan.images_per_person is not None:
        of_persons = {"images_per_person": plan.images_per_person}

    def spent(accountant):
        if not plan.private:
            return "infinity"  # JSON has no number for it; float("infinity") reads it back
        return accountants.epsilon_of(charges, delta=plan.delta, accountant=accountant)

    by_accountant = {name: spent(name) for name in accountants.ACCOUNTANTS}
    return {
        "private": plan.private,
        "epsilon": by_accountant[plan.accountant],
        "delta": plan.delta if plan.private else None,
        "accountant": plan.accountant,
        "epsilon_rdp": by_accountant["rdp"],
        "epsilon_pld": by_accountant["pld"],
        "unit": unit(plan),
        **of_persons,
        "adjacency": ADJACENCY,
        "adjacency_meaning": (
            ADJACENCY_MEANING if plan.images_per_person is None else _ADJACENCY_OF_PERSONS
        ),
        "declared": {
            "num_records": plan.dataset_size,
            "image_shape": list(spec.image_shape),
            "num_classes": spec.num_classes,
            "class_names": list(spec.class_names),
        },
        "mechanism": plan.mechanism,
        "sensitivity": (
            mechanism.sensitivity_over_clip_norm * plan.clip_norm if plan.private else "infinity"
        ),
        "sensitivity_meaning": mechanism_registry.entry(plan.mechanism).sensitivity_meaning
        + (_OF_REFINER if plan.refiner_steps else "")
        + ("" if plan.images_per_person is None else _SENSITIVITY_OF_PERSONS),
        "clip_norm": plan.clip_norm if plan.private else None,
        "noise": plan.noise,
        "noise_multiplier": plan.noise_multiplier,
        "sampling": SAMPLING,
        "sampling_probability": plan.sampling_probability,
        "steps": steps,
        "events": [dataclasses.asdict(charge) for charge in charges],
        "dataset_size": plan.dataset_size,
        "caveats": _caveats(plan),
    }


def _caveats(plan):
    if not plan.private:
        return ["NOT PRIVATE: no noise was added."]
    of_unit = _OF_AN_IMAGE if plan.images_per_person is None else _OF_A_PERSON
    return [CAVEATS[0], of_unit, *CAVEATS[1:]]
