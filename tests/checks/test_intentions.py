"""Intentions that were not carried out, each with the same program done right."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from transformers import AlbertConfig, AutoConfig, AutoModelForSequenceClassification

from adapted_models import NAMES, Own, encoder, load
from tenor.checks.catalogue import run_rules
from tenor.checks.evidence.model_evidence import RepeatedModule
from tenor.checks.gather.intentions import class_names_evidence, class_names_of, repeated_modules
from tenor.checks.gather.model import model_evidence
from tenor.checks.probes.trace import trace
from tenor.checks.rules.mod_intentions import names_are_no_inverse
from tenor.runs.findings import Finding

Program = Callable[[Path], Any]
CODES = {"FRZ006", "MOD010", "MOD011", "MOD013", "CKP007", "PRC005"}


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """Layers 32 wide are slower on two threads."""
    torch.set_num_threads(1)


def findings(model: Any) -> list[Finding]:
    ids = torch.arange(4, 20).reshape(2, 8)
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.tensor([0, 1])}
    evidence: list[Any] = [model_evidence(model, 2, trace=trace(model, batch))]
    if getattr(model, "config", None) is not None:
        evidence.append(class_names_evidence(model))
    return [one for one in run_rules(evidence, "preflight").findings if one.code in CODES]


def found(model: Any) -> dict[str, str]:
    return {one.code: one.severity for one in findings(model)}


def program(change: Callable[[Any], Any]) -> Program:
    """The model after `change`, or what it returns if that is another model with the same encoder inside."""

    def made(folder: Path) -> Any:
        model, _ = load(folder)
        changed = change(model)
        return changed if isinstance(changed, peft.PeftModel) else model

    return made


def initialize(module: nn.Module) -> None:
    """As in many tutorials, for the layers of a new head."""
    for layer in module.modules():
        if isinstance(layer, nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            nn.init.zeros_(layer.bias)


def set_attribute(name: str, value: bool) -> Callable[[Any], None]:
    return lambda model: setattr(model.bert, name, value)


def misspelled(model: Any) -> None:
    for parameter in model.bert.parameters():
        parameter.require_grad = False


def all_but_the_head(model: Any) -> None:
    model.requires_grad = False
    model.classifier.requires_grad = True


def frozen_then_attribute(model: Any) -> None:
    model.bert.requires_grad_(False)
    model.bert.requires_grad = True


def frozen_and_attribute(model: Any) -> None:
    model.bert.requires_grad_(False)
    model.bert.requires_grad = False


def lora(**settings: Any) -> Callable[[Any], Any]:
    return lambda model: peft.get_peft_model(model, peft.LoraConfig(r=4, target_modules=["query", "value"], **settings))


def unfrozen_by_hand(model: Any) -> Any:
    adapted = lora()(model)
    adapted.base_model.model.classifier.requires_grad_(True)
    return adapted


def attribute_and_lora(model: Any) -> Any:
    model.bert.requires_grad = False
    return lora(task_type="SEQ_CLS")(model)


def trained_further(model: Any) -> None:
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)


def from_config(folder: Path) -> Any:
    names = {"id2label": NAMES, "label2id": {name: index for index, name in NAMES.items()}}
    return AutoModelForSequenceClassification.from_config(AutoConfig.from_pretrained(folder, **names))


def named(label2id: dict[str, int]) -> Callable[[Any], None]:
    return lambda model: setattr(model.config, "label2id", label2id)


class Deep(Own):
    """More layers on top of an encoder."""

    def __init__(self, inside: Any, layers: list[nn.Module]) -> None:
        super().__init__(inside)
        self.extra = nn.ModuleDict({"stack": nn.ModuleList(layers)})

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        hidden = self.backbone(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state[:, 0]
        for layer in self.extra["stack"]:
            hidden = hidden + layer(hidden)
        return self.fc(hidden)


def deep(layers: Callable[[], list[nn.Module]]) -> Program:
    return lambda folder: Deep(encoder(folder), layers())


def block() -> nn.Module:
    return nn.Sequential(nn.Linear(32, 32), nn.GELU())


FAULTS: dict[str, tuple[Program, dict[str, str]]] = {
    "requires_grad as an attribute": (program(set_attribute("requires_grad", False)), {"FRZ006": "error"}),
    "an attribute on all but the head": (program(all_but_the_head), {"FRZ006": "error"}),
    "unfrozen by an attribute": (program(frozen_then_attribute), {"FRZ006": "error"}),
    "misspelled on parameters": (program(misspelled), {"FRZ006": "error"}),
    "misspelled on a module": (program(set_attribute("requires_grads", False)), {"FRZ006": "error"}),
    "as in Keras": (program(set_attribute("trainable", False)), {"FRZ006": "warning"}),
    "an init loop over everything": (program(initialize), {"MOD010": "error"}),
    "built from the configuration": (from_config, {"MOD010": "warning"}),
    "PEFT, head unfrozen by hand": (program(unfrozen_by_hand), {"CKP007": "error"}),
    "names in another order": (program(named({"negative": 1, "positive": 0})), {"MOD011": "error"}),
    "names in one mapping only": (program(named({"bad": 0, "good": 1})), {"MOD011": "warning"}),
    "placeholders in one mapping": (program(named({"LABEL_0": 0, "LABEL_1": 1})), {"MOD011": "note"}),
    "one layer in a list": (deep(lambda: [block()] * 3), {"MOD013": "warning"}),
    "one layer twice among others": (deep(lambda: [*([nn.Linear(32, 32)] * 2), block()]), {"MOD013": "warning"}),
    "a head that is NaN": (program(lambda model: model.classifier.weight.data.fill_(torch.nan)), {"PRC005": "error"}),
}
SOUND: dict[str, Program] = {
    "frozen by the method": program(lambda model: model.bert.requires_grad_(False)),
    "frozen by both": program(frozen_and_attribute),
    "an attribute and LoRA": program(attribute_and_lora),
    "an init loop over the head": program(lambda model: initialize(model.classifier)),
    "init_weights, which keeps loaded parameters": program(lambda model: model.init_weights()),
    "trained further": program(trained_further),
    "in 16 bits": program(lambda model: model.to(torch.bfloat16).to(torch.float32)),
    "PEFT with a task": program(lora(task_type="SEQ_CLS")),
    "PEFT with modules to save": program(lora(modules_to_save=["classifier"])),
    "layers of their own": (deep(lambda: [block() for _ in range(3)])),
    "copies of a layer": (deep(lambda: [copy.deepcopy(layer) for layer in [block()] * 3])),
    "repeated activations": (deep(lambda: [*([nn.GELU()] * 3), *([nn.Dropout(0.1)] * 2), block()])),
    "a custom module around an encoder": lambda folder: Own(encoder(folder)),
}


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_not_carried_out_is_found(name: str, small_bert: Path) -> None:
    faulty, expected = FAULTS[name]
    assert found(faulty(small_bert)) == expected


@pytest.mark.parametrize("name", SOUND)
def test_the_same_program_done_right_has_no_findings(name: str, small_bert: Path) -> None:
    assert found(SOUND[name](small_bert)) == {}


def test_a_custom_module_that_initializes_its_encoder_is_found(small_bert: Path) -> None:
    model = Own(encoder(small_bert))
    model.apply(lambda module: initialize(module) if isinstance(module, nn.Linear) else None)
    assert found(model) == {"MOD010": "error"}


def test_a_repeated_layer_is_described(small_bert: Path) -> None:
    repeated = repeated_modules(Deep(encoder(small_bert), [block()] * 3))
    assert repeated == (RepeatedModule("extra.stack", "Sequential", (0, 1, 2), 32 * 32 + 32),)
    layer = nn.Linear(2, 2)
    assert repeated_modules(nn.Sequential(layer, nn.ReLU(), layer)) == (RepeatedModule("", "Linear", (0, 2), 6),)


LIBRARY = """
from torch import nn

class Shared(nn.Module):
    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList([nn.Linear(2, 2)] * 3)
"""


def test_a_library_shares_layers_on_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """DETR's heads: also below a class of the program, and in one that inherits from the library's."""
    folder = tmp_path / "site-packages"
    folder.mkdir()
    (folder / "library_of_heads.py").write_text(LIBRARY)
    monkeypatch.syspath_prepend(folder)
    import library_of_heads  # type: ignore[import-not-found]

    class Mine(library_of_heads.Shared):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.extra = nn.ModuleList([nn.Linear(2, 2)] * 2)

    assert repeated_modules(library_of_heads.Shared()) == ()
    assert repeated_modules(nn.Sequential(library_of_heads.Shared(), nn.Linear(2, 2))) == ()
    assert [one.path for one in repeated_modules(Mine())] == ["extra"]


def test_albert_shares_its_layers_by_a_loop() -> None:
    sizes = {"embedding_size": 8, "hidden_size": 16, "intermediate_size": 16, "num_attention_heads": 2}
    config = AlbertConfig(vocab_size=40, num_hidden_layers=3, num_labels=2, **sizes)
    assert repeated_modules(AutoModelForSequenceClassification.from_config(config)) == ()


def test_the_fix_names_the_module_and_the_method(small_bert: Path) -> None:
    model, _ = load(small_bert)
    model.bert.encoder.requires_grad = False
    (finding,) = [one for one in findings(model) if one.code == "FRZ006"]
    assert "bert.encoder.requires_grad_(False)" in finding.fix
    assert "bert.encoder.requires_grad = False" in finding.observed


def test_what_is_reported_as_not_saved_is_lost_when_the_model_is_loaded_again(small_bert: Path, tmp_path: Path) -> None:
    """The property that the rule states, on PEFT itself."""
    ids = torch.arange(4, 12)[None]
    for change, lost in ((unfrozen_by_hand, True), (lora(modules_to_save=["classifier"]), False)):
        model = change(load(small_bert)[0])
        for name, parameter in model.named_parameters():
            parameter.data += 0.5 * ("classifier" in name and parameter.requires_grad)
            parameter.data[0] += 1.0 * ("classifier" in name and parameter.requires_grad)
        model.save_pretrained(tmp_path / str(lost))
        loaded = peft.PeftModel.from_pretrained(load(small_bert)[0], tmp_path / str(lost))
        same = torch.allclose(model.eval()(ids).logits, loaded.eval()(ids).logits, atol=1e-5)
        assert same != lost
        assert ("CKP007" in found(model)) == lost


@pytest.mark.parametrize(
    ("id2label", "label2id", "severity"),
    [
        ({"0": "a", "1": "b"}, {"a": 0, "b": 1}, None),
        ({"0": "a", "1": "a"}, {"a": 1}, None),
        ({"0": "a", "1": "b"}, {"a": 1, "b": 0}, "error"),
        ({"0": "a", "1": "b", "2": "c"}, {"a": 0, "b": 1}, "warning"),
        ({"0": "a", "1": "b"}, {"a": 1, "b": 2}, "error"),
    ],
)
def test_the_two_mappings_are_compared_name_by_name(id2label: Any, label2id: Any, severity: str | None) -> None:
    finding = names_are_no_inverse(class_names_of(id2label, label2id))
    assert (finding.severity if finding else None) == severity
