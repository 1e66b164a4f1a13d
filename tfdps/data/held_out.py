"""The share of a folder's persons, or of its images, that no run trains on: by a hash of each name."""

from collections.abc import Hashable, Sequence

from tfdps import checks
from tfdps.data import keyed_hash

SPLIT = "held_out"  # what the part is called where splits have names
FEWEST = 100  # images that an evaluation asks for


def is_held_out(name: Hashable, share: float) -> bool:
    """Returns whether who has this name is held out, at a public share.

    Guarantee: the answer follows from the unit's own name, the share and a key that never changes
    (`keyed_hash`), and from nothing else. So a data set D falls into T, which is trained on, and the
    held-out rest H, unit by unit, and of two neighbours under zero-out adjacency, D and D' with nothing
    in the place of unit u, either
      * u is in H. Then T(D) = T(D'), and what a run releases has one law: epsilon is 0 for u;
      * or u is in T. Then T(D') is T(D) with nothing in the place of u, H is the same, and the run's
        epsilon holds for u as it does without a split.
    The place of u is there in both, so the number N of units in T is the same for both, and is public
    as the number of all units is without a split: --dataset_size declares it, and other data are
    refused. Classes are those of the whole folder. Breaks it: a share or a name that follows from other
    units' records, such as the k-th file of all.

    Args:
      name: of the unit: a person's, a text or an integer, or bytes, a file's path in its folder.
      share: in (0, 1), of units that are held out.

    Examples:
      >>> from tfdps.data import held_out
      >>> [name for name in ("ann", "bob", "eve") if held_out.is_held_out(name, 0.5)]
      ['bob']
    """
    data = name if isinstance(name, bytes) else str(name).encode(errors="surrogateescape")
    number = int.from_bytes(keyed_hash.digest(data, keyed_hash.HELD_OUT)[:8], "big")
    return number < share * 2**64


def numbers(names: Sequence[Hashable], share: float, *, held: bool) -> list[int]:
    """Returns the numbers of the records that are held out, or of those that are trained on.

    Args:
      names: of each record's unit: one person's records have one name, and stay together.
      share: in (0, 1).
      held: which of the two.

    Raises:
      UsageError: nobody is held out, or all are.
    """
    checks.fraction("held_out", share)
    found = [number for number, name in enumerate(names) if is_held_out(name, share) == held]
    if not 0 < len(found) < len(names):
        nobody = bool(found) != held
        raise checks.UsageError(
            f"held_out={share:g} of {len(set(names))} persons, or images, holds "
            f"{'nobody' if nobody else 'all of them'} out: give a {'larger' if nobody else 'smaller'} "
            "share, or leave --held_out out."
        )
    return found


def line(names: Sequence[Hashable], share: float, units: str) -> str:
    """Returns what is said before a run of who is held out.

    Args:
      names: as for `numbers`.
      share: in (0, 1).
      units: what they are, a word in the plural: persons, images.
    """
    out = numbers(names, share, held=True)
    whose = len({names[number] for number in out})
    images = "" if units == "images" else f", with {len(out):,} images"
    few = ""
    if len(out) < FEWEST:
        few = f" --mode=evaluate takes {FEWEST} images or more: give it others with --eval_dataset."
    return (
        f"Held out: {whose:,} of {len(set(names)):,} {units}{images}, by a hash of each one's own "
        f"name (--held_out={share:g}); N is the number of the others.{few}"
    )
