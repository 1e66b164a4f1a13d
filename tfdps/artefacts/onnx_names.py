"""Short names for what is inside an ONNX file."""

import collections


def shorten(model):
    """Gives nodes no names, and values inside `model`, an ONNX ModelProto, short ones; returns None.

    tf2onnx names each value by the whole path of its layer: a denoiser that runs five times has more
    names than weights. Inputs and outputs of the model keep theirs. A value is named by its operation
    and a number, as in Conv.12.
    """
    graph, names, counts = model.graph, {"": ""}, collections.Counter()
    if any(attribute.HasField("g") for node in graph.node for attribute in node.attribute):
        return  # a graph in a graph sees the names of the outer one
    for value in (*graph.input, *graph.output):
        names[value.name] = value.name

    def short(name, kind):
        if name not in names:
            names[name] = f"{kind}.{counts[kind]}"
            counts[kind] += 1
        return names[name]

    for constant in graph.initializer:
        constant.name = short(constant.name, "constant")
    for node in graph.node:
        node.name = ""
        node.input[:] = [names[name] for name in node.input]
        node.output[:] = [short(name, node.op_type) for name in node.output]
    del graph.value_info[:]  # optional, and under the former names
