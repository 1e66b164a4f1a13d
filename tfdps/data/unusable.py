"""The error of one image file; a folder says those of all its files at once."""


class UnusableError(Exception):
    """What is wrong with a file; the text goes on after its name, and has no full stop."""
