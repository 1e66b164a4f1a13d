"""Keeps the byte tables of a generator as bytes in its ONNX file."""

import numpy as np
import onnx
from onnx import numpy_helper

from tfdps.generators.byte_table import ByteTable

_FEWEST = 4096  # numbers of a table that is worth four more nodes


def keep_bytes(model, generator):
    """Gives `model`, an ONNX ModelProto, the bytes of the generator's tables back; returns None.

    tf2onnx computes what follows from constants alone, so that a table that is used whole is in the
    file as float32, four times as large. Its bytes take that constant's place, with the cast, product
    and sum that decode them, which runtimes do once, when they load the file.

    Args:
      model: what tf2onnx made of the generator.
      generator: the Keras model.
    """
    tables = [
        (table, table.values().numpy().ravel())
        for table in generator._flatten_layers()
        if isinstance(table, ByteTable) and np.prod(table.shape) >= _FEWEST
    ]
    graph, nodes = model.graph, []
    for constant in list(graph.initializer):
        values = _float_values(constant)
        table = values is not None and next((t for t, v in tables if _same(v, values)), None)
        if table:
            graph.initializer.remove(constant)
            nodes += _decoding(graph, constant, table)
    for place, node in enumerate(nodes):
        graph.node.insert(place, node)


def _float_values(constant):
    if constant.data_type != onnx.TensorProto.FLOAT or np.prod(constant.dims) < _FEWEST:
        return None
    return numpy_helper.to_array(constant).ravel()


def _same(one, other):
    """Whether they are equal up to the rounding of a product and a sum."""
    return one.size == other.size and np.abs(one - other).max() <= 1e-6 * np.abs(one).max()


def _decoding(graph, constant, table):
    """Adds a table's weights to the graph; returns the nodes that make the constant of them."""
    name = constant.name

    def added(suffix, value):
        graph.initializer.append(numpy_helper.from_array(value, f"{name}/{suffix}"))
        return f"{name}/{suffix}"

    codes = added("codes", table.codes.numpy())
    low, step = (
        added(suffix, np.expand_dims(weight.numpy(), table.axis))
        for suffix, weight in (("low", table.low), ("step", table.step))
    )
    shape = added("shape", np.array(constant.dims, np.int64))
    make = onnx.helper.make_node
    return [
        make("Cast", [codes], [f"{name}/cast"], to=onnx.TensorProto.FLOAT),
        make("Mul", [f"{name}/cast", step], [f"{name}/scaled"]),
        make("Add", [f"{name}/scaled", low], [f"{name}/shifted"]),
        make("Reshape", [f"{name}/shifted", shape], [name]),
    ]
