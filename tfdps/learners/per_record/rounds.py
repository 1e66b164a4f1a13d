"""The rounds of a per-record run: what each asks of the private records, and what it learns.

A round makes a query of the model so far, public atoms and scales; the mechanism answers with noisy
moments; the round turns the answer into a better model. The query and what is made of the answer
depend on earlier answers and public values alone, so the composition is adaptive and the
model is post-processing.

  centre   the mean of each class, from the grey image
  scatter  one second moment for all classes, around the means, in waves: the subspace, its spectrum
  spread   a second moment for each class, in the subspace
  atoms    K atoms a class, put where draws of the model so far cluster: their mass, mean and energy
           in blocks of the image, each drawn towards what the model expected as far as the noise
           demands; what the means do not explain of the class's covariance is theirs in common

The atoms' softmax is the column of an entropic transport plan between the model and the records
(`mechanisms/per_record.py`), with the model's weights as marginal and potentials of 0.
"""

from tfdps.learners.per_record.atom_round import AtomRound
from tfdps.learners.per_record.class_rounds import CentreRound, ScatterRound, SpreadRound

_OF_CLASSES = {kind.name: kind for kind in (CentreRound, ScatterRound, SpreadRound)}


def make(entry, settings):
    """Returns the round of an entry of `round_shares.of`.

    Args:
      entry: a RoundShare.
      settings: the RoundSettings.
    """
    if entry.name == AtomRound.name:
        return AtomRound(settings, entry.num_atoms)
    return _OF_CLASSES[entry.name](settings)
