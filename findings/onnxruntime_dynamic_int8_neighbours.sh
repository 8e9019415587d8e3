#!/usr/bin/env bash
# onnxruntime 1.32.0, onnx 1.23.2: after `quantize_dynamic`, a row's result depends on the other rows of its batch.
#
# `quantize_dynamic` rounds the inputs of each MatMul with one scale for the whole tensor, taken from its smallest and
# largest value when it runs. `per_channel=True` changes the weights' scales alone. So a row next to a row with larger
# numbers is rounded more coarsely than alone: a classifier's probabilities change with the batch, and a row that is
# right alone may be wrong in company. The float32 file gives the same result to the last bits.
#
# Seen: float32 differs by 0.0, int8 by 0.32 (outputs of order 1).
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet onnxruntime==1.32.0 onnx==1.23.2 numpy==2.4.6
cd "$folder"
"$folder/venv/bin/python" - <<'PYTHON'
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

random = np.random.default_rng(0)
weight = (random.normal(size=(64, 8)) / 8).astype(np.float32)
graph = helper.make_graph(
    [helper.make_node("MatMul", ["x", "w"], ["y"])],
    "linear",
    [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", 64])],
    [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 8])],
    [numpy_helper.from_array(weight, "w")],
)
onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), "linear.onnx")
quantize_dynamic("linear.onnx", "int8.onnx", per_channel=True, weight_type=QuantType.QInt8)

row = random.normal(size=(1, 64)).astype(np.float32)
neighbour = 20 * random.normal(size=(1, 64)).astype(np.float32)
difference = {}
for name in ("linear.onnx", "int8.onnx"):
    session = onnxruntime.InferenceSession(name, providers=["CPUExecutionProvider"])
    alone = session.run(None, {"x": row})[0]
    beside = session.run(None, {"x": np.concatenate([row, neighbour])})[0][:1]
    difference[name] = float(np.abs(alone - beside).max())
print("onnxruntime", onnxruntime.__version__, difference)
assert difference["linear.onnx"] < 1e-5, "float32 depends on its neighbours"
assert difference["int8.onnx"] > 0.02, "int8 no longer depends on its neighbours"
PYTHON
