"""What TensorFlow Serving says of an error, in words for its user."""

import json
import re


def of_json(body):
    """Returns the message in the body of an error's answer, bytes."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:500]


def plain(message):
    """Returns a server's message without the nodes of its graph."""
    message = message.removeprefix("Graph execution error:").strip()
    message = re.split(r"\s*\[\[\{\{node|\n", message, maxsplit=1)[0]
    found = re.search(r"assertion failed: \[(.*?)\] \[(.*?)\](?=$|\s)", message)
    message = f"{found[1]} {found[2]}" if found else message
    return message.strip().rstrip(".") + "."
