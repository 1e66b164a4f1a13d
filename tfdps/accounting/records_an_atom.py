"""What to say of a plan that has more atoms than its records can carry; of public numbers alone."""

_FEWEST = 10.0  # a third of what the best results on MNIST at epsilon 10 have


def word(num_atoms, num_records, num_classes=None):
    """Returns a line about too few records an atom; "" where there are ten or more.

    Args:
      num_atoms: atoms a class; None where the generator has none.
      num_records: N.
      num_classes: the number of classes; None where it is not known: two at least.

    Examples:
      >>> from tfdps.accounting import records_an_atom
      >>> records_an_atom.word(5000, 60, 2)[:60]
      'Note: 5000 atoms in each class are 0.006 records an atom: so'
    """
    if num_atoms is None:
        return ""
    each = num_records / (num_atoms * (num_classes or 2))
    if each >= _FEWEST:
        return ""
    most = "" if num_classes else "at most "
    return (
        f"Note: {num_atoms} atoms in each class are {most}{each:.2g} records an atom: so few are lost "
        "in the noise. At epsilon 10 an atom takes 30 to 60 records, at 1 about 200: give a smaller "
        "--num_atoms."
    )
