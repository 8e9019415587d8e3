"""An export as `tenor export` writes it, without its cost: the ONNX file only sums token ids."""

from pathlib import Path
from typing import Any

from tenor.runs.export_notes import VERSION, ExportCheck, ExportedTruncation, ExportNotes, write_export_notes
from tenor.runs.files import sha256_file

SOUND = ExportNotes(
    version=VERSION,
    file="model.onnx",
    sha256="",
    quantize="none",
    labels=("negative", "positive"),
    truncation=ExportedTruncation(max_length=16, strategy="head_tail", head_share=0.5),
    temperature=1.0,
    source="small",
    source_sha256="0" * 64,
)


def save_export(model: Path, folder: Path, checked: dict[str, Any] | None = None, **changes: Any) -> Path:
    """An export with the tokenizer of `model`, and with fields of its notes changed."""
    from transformers import AutoConfig, AutoTokenizer

    AutoConfig.from_pretrained(model).save_pretrained(folder)
    AutoTokenizer.from_pretrained(model).save_pretrained(folder)
    write_counter(folder / "model.onnx")
    changes |= {"sha256": sha256_file(folder / "model.onnx"), "checked": ExportCheck.model_validate(checked or {})}
    write_export_notes(folder, SOUND.model_copy(update=changes))
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
