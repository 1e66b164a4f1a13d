"""Which records are whose: the persons of a data set, as units of privacy."""

import hashlib
from collections.abc import Hashable, Sequence

import numpy as np

from tfdps import checks

_KEY = b"tfdps images of a person"


def units(
    persons: Sequence[Hashable], images_per_person: int, names: Sequence[bytes] | None = None
) -> np.ndarray:
    """Returns the records of each person, int64 [n, images_per_person], -1 where there are fewer.

    Of a person who has more records as many are chosen: those whose names have the smallest hashes,
    under a key that never changes.

    Guarantee: which records of a person are chosen follows from that person's records alone, so that
    taking a person out moves no other's. Persons are in the order in which each is met first.

    Args:
      persons: whose each record is, of all records of the data set.
      images_per_person: the most records of a person, >= 1.
      names: of each record, no two of a person alike; default: its number among that person's.

    Examples:
      >>> import tfdps
      >>> tfdps.data.persons.units(["ann", "bob", "ann", "ann"], 2)[1]
      array([ 1, -1])
    """
    checks.at_least("images_per_person", images_per_person, 1)
    of_person: dict[Hashable, list[int]] = {}
    for record, person in enumerate(persons):
        of_person.setdefault(person, []).append(record)
    found = np.full([len(of_person), images_per_person], -1, np.int64)
    for row, records in zip(found, of_person.values(), strict=True):
        if len(records) > images_per_person:
            named = [
                (str(i).encode() if names is None else names[record], record)
                for i, record in enumerate(records)
            ]
            named.sort(key=lambda pair: hashlib.blake2b(pair[0], key=_KEY).digest())
            records = sorted(record for _, record in named[:images_per_person])
        row[: len(records)] = records
    return found
