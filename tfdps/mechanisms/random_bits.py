"""Bits for what privacy rests on: noise and draws. Fresh from the operating system at each use.

A `RandomBits` takes a 256-bit key and a 128-bit counter from the operating system when it is made and
reads AES-256 in counter mode (`cryptography`) under them. Make one for each release and each draw, and
keep none: a fork or a seed can repeat nothing then, nor can a snapshot between two of them.
"""

import os

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


class RandomBits:
    """A stream of uniform bits, as far as nobody can tell AES's output from them."""

    def __init__(self):
        cipher = Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16)))
        self._stream = cipher.encryptor()

    def words(self, count, dtype=np.uint64):
        """Returns the next `count` words of random bits, of an unsigned integer type."""
        zeros = bytes(count * np.dtype(dtype).itemsize)
        return np.frombuffer(self._stream.update(zeros), dtype)
