"""Which records are whose: the persons of a data set, as units of privacy."""

import re
from collections.abc import Hashable, Sequence

import numpy as np

from tfdps import checks
from tfdps.config import run_checks
from tfdps.data import dicom_files, keyed_hash

_MOST_NAMED = 5  # of the files that do not say whose they are
_PATTERN = "'(.+)[-_ ].*'"
_NUMBERED = re.compile(r"(.+)[-_ ]([0-9]+|[A-Za-z])")
_RULES = {
    "folder": "a file must lie in a folder of its person, in that of its class",
    "dicom": "a file must be DICOM with a PatientID",
}
_MEND_SPLITS = (
    "give all rows of a person one split, or take the column split out and hold out a share of the "
    "persons, --held_out=0.1"
)
_FEWEST_PERSONS, _IMAGES_OF_A_PERSON = 5, 1.5  # below which names are not taken for persons'


def of_listing(listing, person, name):
    """Returns whose each file of a folder is, a list of texts.

    Args:
      listing: the folder_files.Listing.
      person: how to tell, as --person takes it.
      name: of the data set, for errors.

    Raises:
      UsageError: the data set or a file does not say, or persons have images in other splits too.
    """
    if person == "column" and listing.persons is None:
        raise checks.UsageError(
            "person=column needs a CSV file with the column person, received none for "
            f"{name}: give --labels_csv, or another --person."
        )
    if person == "passed":
        raise checks.UsageError(
            f"person=passed is for arrays, received it for {name}: take folder, column, dicom or a "
            "pattern."
        )
    whose = _told(listing, person)
    unknown = [f for f, who in zip(listing.files, whose, strict=True) if who is None]
    if unknown:
        rule = _RULES.get(person, f"files' names without their endings must match {person}")
        first = ", ".join(str(file.relative_to(listing.folder)) for file in unknown[:_MOST_NAMED])
        raise checks.UsageError(
            f"person={person}: {rule}; {len(unknown)} of {len(whose)} do not: {first}"
            f"{', ...' if len(unknown) > _MOST_NAMED else ''}."
        )
    shared = _in_other_splits(listing, person, whose)
    if shared:
        raise checks.UsageError(
            f"a person must be in one split alone, received {shared:,} of {len(set(whose)):,} persons "
            f"of {name} with images in this split and in others: {_MEND_SPLITS}."
        )
    return whose


def passed(source, person, name):
    """Returns whose each record is of arrays, a list: what was passed with them.

    Args:
      source: the records, all parts.
      person: "passed", which is the only way for arrays to tell.
      name: of the data set, for errors.

    Raises:
      UsageError: it is another way, none were passed, or these are no arrays.
    """
    if not hasattr(source, "persons"):
        raise checks.UsageError(
            f"person applies to folders and arrays, received {person!r} for {name}: leave --person out."
        )
    if person != "passed" or source.persons is None:
        raise checks.UsageError(
            "persons of arrays are passed with them: tfdps.train(config, (images, labels, "
            f"persons)) and RunConfig(person='passed'); received person={person!r} and "
            f"{'no persons' if source.persons is None else 'persons'}."
        )
    return source.persons.tolist()


def _told(listing, person):
    """Whose each file of a Listing is, None where it does not say."""
    if person == "column":
        return listing.persons
    if person == "folder":
        return [_by_folder(listing, file) for file in listing.files]
    if person == "dicom":
        return [dicom_files.patient(file) for file in listing.files]
    found = [run_checks.person_pattern(person).fullmatch(file.stem) for file in listing.files]
    return [each and each.group(1) for each in found]


def _in_other_splits(listing, person, whose):
    """How many of these persons have images in other splits of the CSV file too."""
    return 0 if listing.others is None else len(set(whose) & set(_told(listing.others, person)))


def hints_of(source):
    """Returns `hints` of what a data set's records come from; none where that is no folder."""
    listing = getattr(source, "listing", None)
    return () if listing is None else hints(listing)


def hints(listing):
    """Returns warnings for a folder whose unit of privacy is one image, a tuple of lines.

    One where images seem to be of fewer persons than images: by a column person, by sub-folders of
    the classes, or by names that end in a number or a letter after a dash, an underscore or a space;
    what begins alike is then taken for one person's. Else one where there are DICOM files, whose
    PatientID nobody asked for. One where persons of a CSV file are in several splits.

    Args:
      listing: the folder_files.Listing.
    """
    found = _several_images(listing)
    if listing.persons is not None:
        shared = _in_other_splits(listing, "column", listing.persons)
        if shared:
            found.append(
                f"{shared:,} of {len(set(listing.persons)):,} persons have images in this split and in "
                f"others, so that what is measured on those is too good: {_MEND_SPLITS}."
            )
    return tuple(found)


def _several_images(listing):
    for person in ("column", "folder", _PATTERN):
        whose = _numbered(listing) if person == _PATTERN else _told(listing, person)
        if whose is None or None in whose:
            continue
        count = len(set(whose))
        if _FEWEST_PERSONS <= count <= len(whose) / _IMAGES_OF_A_PERSON:
            return [
                f"These look like several images a person: {len(whose):,} images of {count:,}. Epsilon "
                f"is that of one image; a person's is larger. --person={person} gives a person's, with "
                "--images_per_person=K for at most K images of each."
            ]
    count = sum(dicom_files.has_ending(file) for file in listing.files)
    if count:
        return [
            f"{count:,} are DICOM files. Epsilon is that of one image; a patient's with several is "
            "larger. --person=dicom gives a patient's, by PatientID, which is not read otherwise."
        ]
    return []


def _numbered(listing):
    found = [_NUMBERED.fullmatch(file.stem) for file in listing.files]
    return [each and each.group(1) for each in found]


def _by_folder(listing, file):
    parts = file.relative_to(listing.folder).parts[:-1]
    parts = parts[1:] if listing.by_sub_folder else parts
    return parts[0] if parts else None


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
            named.sort(key=lambda pair: keyed_hash.digest(pair[0], keyed_hash.CHOICE))
            records = sorted(record for _, record in named[:images_per_person])
        row[: len(records)] = records
    return found


def widened(units: np.ndarray, images_per_person: int) -> np.ndarray:
    """Returns given units with places for more records, int64 [n, images_per_person], -1 where empty.

    Args:
      units: int64 [n, m], the records of each person, -1 where there are fewer.
      images_per_person: the most records of a person, >= m.

    Raises:
      UsageError: m is larger: which records are used is chosen where the units are made.
    """
    most = units.shape[1]
    if most > images_per_person:
        raise checks.UsageError(
            f"images_per_person must be {most} or more, as the records that were passed have persons "
            f"with up to {most} images, received {images_per_person}: give "
            f"RunConfig(images_per_person={most}), or pass (images, labels, persons)."
        )
    return np.pad(units, [(0, 0), (0, images_per_person - most)], constant_values=-1)
