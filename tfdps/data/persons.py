"""Which records are whose: the persons of a data set, as units of privacy."""

import hashlib
import re
from collections.abc import Hashable, Sequence

import numpy as np

from tfdps import checks
from tfdps.config import run_checks

_MOST_NAMED = 5  # of the files that do not say whose they are
_PATTERN = "'(.+)[-_ ].*'"
_NUMBERED = re.compile(r"(.+)[-_ ]([0-9]+|[A-Za-z])")
_FEWEST_PERSONS, _IMAGES_OF_A_PERSON = 5, 1.5  # below which names are not taken for persons'
_KEY = b"tfdps images of a person"


def of_records(source, person, name):
    """Returns whose each record of a data set is, and what tells a person's records from one another.

    Args:
      source: the records: of a folder or of arrays, all parts.
      person: how to tell, as --person takes it.
      name: of the data set, for errors.

    Returns:
      ([who], [bytes] or None where records have no names).

    Raises:
      UsageError: the data set does not say, or a file's name does not.
    """
    listing, passed = getattr(source, "listing", None), getattr(source, "persons", None)
    if listing is None and not hasattr(source, "persons"):
        raise checks.UsageError(
            f"person applies to folders and arrays, received {person!r} for {name}: leave --person out."
        )
    if listing is None:
        if person != "passed" or passed is None:
            raise checks.UsageError(
                "persons of arrays are passed with them: tfdps.train(config, (images, labels, "
                f"persons)) and RunConfig(person='passed'); received person={person!r} and "
                f"{'no persons' if passed is None else 'persons'}."
            )
        return passed.tolist(), None
    return of_listing(listing, person, name)


def of_listing(listing, person, name):
    """`of_records` of a folder, by the folder_files.Listing of its files."""
    names = [listing.name(number) for number in range(len(listing.files))]
    if person == "column":
        if listing.persons is None:
            raise checks.UsageError(
                "person=column needs a CSV file with the column person, received none for "
                f"{name}: give --labels_csv, or another --person."
            )
        return listing.persons, names
    if person == "passed":
        raise checks.UsageError(
            f"person=passed is for arrays, received it for {name}: take folder, column or a pattern."
        )
    of_file = _by_folder if person == "folder" else _by_pattern(run_checks.person_pattern(person))
    whose = [of_file(listing, file) for file in listing.files]
    unknown = [f for f, who in zip(listing.files, whose, strict=True) if who is None]
    if unknown:
        rule = (
            "a file must lie in a folder of its person, in that of its class"
            if person == "folder"
            else f"files' names without their endings must match {person}"
        )
        first = ", ".join(str(file.relative_to(listing.folder)) for file in unknown[:_MOST_NAMED])
        raise checks.UsageError(
            f"person={person}: {rule}; {len(unknown)} of {len(whose)} do not: {first}"
            f"{', ...' if len(unknown) > _MOST_NAMED else ''}."
        )
    return whose, names


def hint_of(source):
    """Returns `hint` of what a data set's records come from; None where that is no folder."""
    listing = getattr(source, "listing", None)
    return None if listing is None else hint(listing)


def hint(listing):
    """Returns a warning where images of a folder seem to be of fewer persons than images, else None.

    By a column person, by sub-folders of the classes, or by names that end in a number or a letter
    after a dash, an underscore or a space; what begins alike is then taken for one person's.

    Args:
      listing: the folder_files.Listing.
    """
    prefixes = [_NUMBERED.fullmatch(file.stem) for file in listing.files]
    told = {
        "column": listing.persons,
        "folder": [_by_folder(listing, file) for file in listing.files],
        _PATTERN: [found and found.group(1) for found in prefixes],
    }
    for person, whose in told.items():
        if whose is None or None in whose:
            continue
        count = len(set(whose))
        if _FEWEST_PERSONS <= count <= len(whose) / _IMAGES_OF_A_PERSON:
            return (
                f"These look like several images a person: {len(whose):,} images of {count:,}. Epsilon "
                f"is that of one image; a person's is larger. --person={person} gives a person's, with "
                "--images_per_person=K for at most K images of each."
            )
    return None


def _by_folder(listing, file):
    parts = file.relative_to(listing.folder).parts[:-1]
    parts = parts[1:] if listing.by_sub_folder else parts
    return parts[0] if parts else None


def _by_pattern(pattern):
    def who(listing, file):
        found = pattern.fullmatch(file.stem)
        return found and found.group(1)

    return who


def units(
    persons: Sequence[Hashable], names: Sequence[bytes] | None, images_per_person: int
) -> np.ndarray:
    """Returns the records of each person, int64 [n, images_per_person], -1 where there are fewer.

    Of a person who has more records as many are chosen: those whose names have the smallest hashes,
    under a key that never changes.

    Guarantee: which records of a person are chosen follows from that person's records alone, so that
    taking a person out moves no other's. Persons are in the order in which each is met first.

    Args:
      persons: whose each record is, of all records of the data set.
      names: of each record, no two of a person alike; None: its number among that person's.
      images_per_person: the most records of a person, >= 1.

    Examples:
      >>> import tfdps
      >>> tfdps.data.persons.units(["ann", "bob", "ann", "ann"], None, 2)[1]
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
