"""An artefact as `tenor export` writes one, in a moment: its ONNX file counts tokens."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from tenor.data.tokenization import Truncation
from tenor.inference.source import Artefact, write_artefact
from tenor.runs.files import sha256_file

SOUND = Artefact(
    file="model.onnx",
    sha256="",
    quantize="none",
    labels=("negative", "positive"),
    truncation=Truncation(16, "head_tail", 0.5),
    temperature=1.0,
    source="small",
    source_sha256="0" * 64,
)


def save_artefact(model: Path, folder: Path, checked: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An artefact with the tokenizer of `model`, and with fields of its notes changed."""
    from transformers import AutoConfig, AutoTokenizer

    AutoConfig.from_pretrained(model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    write_counter(folder / "model.onnx")
    artefact = replace(SOUND, sha256=sha256_file(folder / "model.onnx"), **changes)
    write_artefact(folder, artefact, checked or {})
    return folder


def write_counter(path: Path) -> None:
    """Two logits of each row: the sum of its token ids, and that sum again."""
    from onnx import TensorProto, helper, save

    nodes = [
        helper.make_node("Cast", ["input_ids"], ["numbers"], to=TensorProto.FLOAT),
        helper.make_node("ReduceSum", ["numbers", "axes"], ["sums"], keepdims=1),
        helper.make_node("Concat", ["sums", "sums"], ["logits"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "counter",
        [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["rows", "length"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["rows", 2])],
        [helper.make_tensor("axes", TensorProto.INT64, [1], [1])],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), str(path))
