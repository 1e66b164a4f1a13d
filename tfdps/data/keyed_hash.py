"""Hashes of names under public keys that never change: what is decided by them is decided for good.

A key keeps the purposes apart. All of them are public, so such a hash hides no name from somebody who
can guess it: it goes where the name itself may go, and no further.
"""

import hashlib

CHOICE = b"tfdps images of a person"  # which images of a person are used
HELD_OUT = b"tfdps held out"  # who is held out
PERSON = b"tfdps a person by a tag"  # what stands for the name in a file's tag


def digest(name: bytes, key: bytes) -> bytes:
    """Returns the hash of a name, 64 bytes.

    Args:
      name: what is hashed.
      key: CHOICE, HELD_OUT or PERSON.

    Examples:
      >>> from tfdps.data import keyed_hash
      >>> keyed_hash.digest(b"ann", keyed_hash.CHOICE)[:4].hex()
      'e1744170'
    """
    return hashlib.blake2b(name, key=key).digest()
