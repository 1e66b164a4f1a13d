"""The model card inside an ONNX file, read and left out without the onnx package.

An ONNX file is one protocol buffer message: fields, each with its number, one after another. Those of
number 14 are the metadata. So what a file's hash says about everything but its card is the hash of the
bytes of the other fields.
"""

import hashlib

MODEL_CARD = "tfdps.model_card"
_METADATA = 14  # ModelProto.metadata_props, of StringStringEntryProto: key 1, value 2
_FIXED = {1: 8, 5: 4}  # bytes of the wire types with a fixed size
_VARINT, _BYTES = 0, 2


def read(path):
    """Returns the metadata of the ONNX file at `path`: {key: value}, texts.

    Raises:
      ValueError: it is no protocol buffer message.
    """
    metadata = {}
    for number, _, content in _fields(_bytes(path)):
        if number == _METADATA:
            entry = {number: value for number, _, value in _fields(content)}
            key, value = (bytes(entry.get(number, b"")).decode() for number in (1, 2))
            metadata[key] = value
    return metadata


def sha256_without_metadata(path):
    """Returns the SHA-256, as hex digits, of the file's bytes without its metadata.

    Raises:
      ValueError: it is no protocol buffer message.
    """
    digest = hashlib.sha256()
    for number, field, _ in _fields(_bytes(path)):
        if number != _METADATA:
            digest.update(field)
    return digest.hexdigest()


def _bytes(path):
    with open(path, "rb") as file:
        return memoryview(file.read())


def _fields(message):
    """Yields (number, the field's bytes, its content's bytes) of a message."""
    place = 0
    try:
        while place < len(message):
            start = place
            key, place = _varint(message, place)
            number, kind = key >> 3, key & 7
            if kind == _VARINT:
                size, content = 0, place
                _, place = _varint(message, place)
            elif kind == _BYTES:
                size, content = _varint(message, place)
                place = content + size
            else:
                size, content = _FIXED[kind], place
                place += size
            if not number or place > len(message):
                raise IndexError
            yield number, message[start:place], message[content : content + size]
    except (IndexError, KeyError) as error:
        raise ValueError("it is cut off, or no ONNX file.") from error


def _varint(message, place):
    value = shift = 0
    while True:
        byte = message[place]
        value |= (byte & 0x7F) << shift
        place, shift = place + 1, shift + 7
        if byte < 0x80:
            return value, place
        if shift > 63:
            raise IndexError
