"""Correct programs with adapters, prompts, wrappers and heads of all kinds, and the same programs with faults."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from adapted_models import (
    ATTENTION,
    METHODS,
    PROMPTS,
    LowRank,
    LowRankChange,
    Own,
    Passing,
    Tied,
    adapted,
    before,
    by_hand,
    during,
    encoder,
    load,
    loud,
    optimizer_of,
)
from tenor.runs.findings import Finding

Loaded = tuple[Any, dict[str, Any] | None]
QUICK = ("LoRA", "LoRA on the head", "LoRA, embeddings saved", "OFT", "IA3", "prompt tuning", "p-tuning")
KINDS = ("bert", "distilbert", "roberta")


@pytest.fixture(autouse=True)
def one_thread(isolated: None) -> None:
    """Layers 32 wide are slower on two threads."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def small_roberta(small_bert: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import AutoTokenizer, RobertaConfig, RobertaModel

    folder = tmp_path_factory.mktemp("models") / "small-roberta"
    tokenizer = AutoTokenizer.from_pretrained(small_bert)
    sizes = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 64}
    shape = {"max_position_embeddings": 66, "pad_token_id": 0, "initializer_range": 0.2}
    RobertaModel(RobertaConfig(vocab_size=len(tokenizer), **sizes, **shape)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def folders(small_bert: Path, small_model: Path, small_roberta: Path) -> dict[str, Path]:
    return {"bert": small_bert, "distilbert": small_model, "roberta": small_roberta}


def of(*codes: str, among: tuple[Finding, ...]) -> dict[str, str]:
    return {finding.code: finding.severity for finding in among if finding.code in codes}


@pytest.mark.parametrize(
    ("kind", "method"),
    [
        pytest.param(kind, method, marks=() if method in QUICK and kind == "bert" else pytest.mark.slow)
        for kind in KINDS
        for method in METHODS
        if (kind, method) != ("distilbert", "prefix tuning")  # PEFT refuses this combination.
    ],
)
def test_a_correct_program_with_peft_has_no_findings(folders: dict[str, Path], kind: str, method: str) -> None:
    model, report = adapted(folders[kind], method, kind)
    assert loud(before(folders[kind], model, report)) == {}
    assert loud(before(folders[kind], model, declared_freeze="base")) == {}
    assert loud(during(folders[kind], model)) == {}


def weight_normed(folder: Path) -> Loaded:
    model, report = load(folder)
    parametrizations.weight_norm(model.classifier)
    return model, report


def weight_normed_by_hooks(folder: Path) -> Loaded:
    model, report = load(folder)
    torch.nn.utils.weight_norm(model.classifier)
    return model, report


def parametrized(folder: Path) -> Loaded:
    model, report = load(folder)
    model.requires_grad_(False)
    for layer in model.bert.encoder.layer:
        parametrize.register_parametrization(layer.attention.self.query, "weight", LowRankChange(32, 32))
    parametrize.register_parametrization(model.classifier, "weight", LowRankChange(2, 32))
    return model, report


def by_hand_on_the_head(folder: Path) -> Loaded:
    model, report = load(folder)
    by_hand(model).classifier = LowRank(model.classifier, 64)
    return model, report


def bottlenecks(folder: Path) -> Loaded:
    model, report = load(folder)
    model.bert.requires_grad_(False)
    for layer in model.bert.encoder.layer:
        down, up = nn.Linear(32, 8), nn.Linear(8, 32)
        layer.attention.output.dense = nn.Sequential(layer.attention.output.dense, down, nn.ReLU(), up)
    return model, report


def two_layers(folder: Path) -> Loaded:
    model, report = load(folder)
    model.classifier = nn.Sequential(nn.Linear(32, 16), nn.Tanh(), nn.Linear(16, 2))
    return model, report


def merged(folder: Path) -> Loaded:
    model, report = adapted(folder)
    return model.merge_and_unload().requires_grad_(True), report


def original_is_trainable(folder: Path) -> Loaded:
    """`requires_grad` set by name, which also selects the original that PEFT has replaced."""
    model, report = adapted(folder)
    for name, parameter in model.named_parameters():
        parameter.requires_grad = parameter.requires_grad or "classifier" in name
    return model, report


def adapter_of_transformers(folder: Path) -> Loaded:
    model, report = load(folder)
    model.add_adapter(peft.LoraConfig(r=4, target_modules=ATTENTION["bert"], modules_to_save=["classifier"]))
    return model, report


def second_adapter(folder: Path) -> Loaded:
    model, report = adapted(folder)
    model.add_adapter("second", METHODS["LoRA"]("bert"))
    return model, report


def features(config: type[peft.PeftConfig] = peft.LoraConfig, **more: Any) -> Callable[[Path], Loaded]:
    """An encoder inside PEFT, inside a module with a custom head."""
    return lambda folder: (Own(peft.get_peft_model(encoder(folder), config(**more)), hidden=16), None)


def own_in_peft(folder: Path) -> Loaded:
    config = peft.LoraConfig(r=4, target_modules=[*ATTENTION["bert"], "fc"], modules_to_save=["backbone.dense"])
    return peft.get_peft_model(Own(encoder(folder)), config), None


def wrapped(wrap: Callable[[Any], Any], make: Callable[[Path], Loaded]) -> Callable[[Path], Loaded]:
    def made(folder: Path) -> Loaded:
        model, report = make(folder)
        return wrap(model), report

    return made


def compiled_in_place(folder: Path) -> Loaded:
    model, report = load(folder)
    model.compile(backend="eager")
    return model, report


def compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


PROMPTS_ALONE = {**PROMPTS, "task_type": "FEATURE_EXTRACTION"}
HEALTHY: dict[str, Callable[[Path], Loaded]] = {
    "data parallel": wrapped(nn.DataParallel, load),
    "compiled": wrapped(compiled, load),
    "compiled in place": compiled_in_place,
    "module. before every name": wrapped(Passing, load),
    "PEFT, data parallel": wrapped(nn.DataParallel, adapted),
    "PEFT, compiled": wrapped(compiled, adapted),
    "PEFT, module. before every name": wrapped(Passing, adapted),
    "custom module, score": lambda folder: (Own(encoder(folder), "score"), None),
    "custom module, out_proj over a hidden layer": lambda folder: (Own(encoder(folder), "out_proj", 16), None),
    "custom module, encoder without gradients": lambda folder: (
        Own(encoder(folder).requires_grad_(False), detached=True),
        None,
    ),
    "custom module around PEFT": features(r=4, target_modules=ATTENTION["bert"]),
    "custom module around prompts": features(peft.PromptTuningConfig, **PROMPTS_ALONE),
    "PEFT around a custom module": own_in_peft,
    "head tied to the embeddings": lambda folder: (Tied(encoder(folder)), None),
    "weight-normed head": weight_normed,
    "head weight-normed by hooks": weight_normed_by_hooks,
    "two-layer head": two_layers,
    "LoRA by hand": lambda folder: (by_hand(load(folder)[0]), None),
    "LoRA by hand, as wide as the layer": lambda folder: (by_hand(load(folder)[0], 32), None),
    "LoRA by hand, with usual names": lambda folder: (by_hand(load(folder)[0], 4, "lora_a", "lora_b"), None),
    "LoRA by hand on the head": by_hand_on_the_head,
    "LoRA as parametrization": parametrized,
    "bottlenecks by hand": bottlenecks,
    "merged": merged,
    "the replaced head is trainable too": original_is_trainable,
    "adapter of transformers": adapter_of_transformers,
    "two adapters": second_adapter,
}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if "compiled" in name else ()) for name in HEALTHY]
)
def test_wrappers_and_unusual_heads_have_no_findings(small_bert: Path, name: str) -> None:
    model, report = HEALTHY[name](small_bert)
    rate = 1e-4 if all(p.requires_grad for p in model.parameters()) else 2e-3
    assert loud(before(small_bert, model, report, optimizer=optimizer_of(model, rate))) == {}
    assert loud(during(small_bert, model, rate=rate)) == {}


def test_ranks_that_adalora_prunes_count_as_changed(small_bert: Path) -> None:
    model, _ = load(small_bert)
    budget = {
        "task_type": "SEQ_CLS",
        "init_r": 8,
        "target_r": 1,
        "tinit": 2,
        "tfinal": 4,
        "deltaT": 1,
        "total_step": 16,
    }
    model = peft.get_peft_model(model, peft.AdaLoraConfig(target_modules="all-linear", **budget))
    assert loud(during(small_bert, model, after_step=model.base_model.update_and_allocate)) == {}
    assert any("lora_E" in name and not p.any() for name, p in model.named_parameters())


def unsaved(folder: Path, kind: str = "bert") -> Any:
    """Without a task type and `modules_to_save` the newly initialized head is frozen."""
    return peft.get_peft_model(load(folder)[0], peft.LoraConfig(r=4, target_modules=ATTENTION[kind]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_head_that_peft_froze_is_an_error(folders: dict[str, Path], kind: str) -> None:
    findings = before(folders[kind], unsaved(folders[kind], kind))
    assert of("FRZ005", among=findings) == {"FRZ005": "error"}
    assert "classifier" in loud(findings)["FRZ005"]


def frozen_by_add_adapter(folder: Path) -> Any:
    model, _ = load(folder)
    model.add_adapter(peft.LoraConfig(r=4, target_modules=ATTENTION["bert"]))
    return model


def frozen_by_hand(folder: Path) -> Any:
    model = by_hand(load(folder)[0])
    model.classifier.requires_grad_(False)
    return model


def frozen_weight_norm(folder: Path) -> Any:
    model, _ = weight_normed(folder)
    model.classifier.requires_grad_(False)
    return model


def disabled(folder: Path) -> Any:
    model, _ = adapted(folder)
    model.base_model.disable_adapter_layers()
    for name, parameter in model.named_parameters():
        parameter.requires_grad = "lora_" in name or "modules_to_save" in name
    return model


@pytest.mark.parametrize(
    "make",
    [
        frozen_by_add_adapter,
        frozen_by_hand,
        frozen_weight_norm,
        disabled,
        lambda folder: peft.get_peft_model(Own(encoder(folder)), peft.LoraConfig(target_modules=ATTENTION["bert"])),
        lambda folder: nn.DataParallel(unsaved(folder)),
        pytest.param(lambda folder: compiled(unsaved(folder)), marks=pytest.mark.slow),
    ],
    ids=["add_adapter", "by hand", "weight norm", "disabled adapters", "custom module", "data parallel", "compiled"],
)
def test_a_frozen_new_head_is_found_in_any_wrapper(small_bert: Path, make: Any) -> None:
    model = make(small_bert)
    optimizer = torch.optim.AdamW(model.parameters())
    assert of("FRZ005", among=before(small_bert, model, optimizer=optimizer)) == {"FRZ005": "error"}


def test_a_trained_head_that_is_frozen_is_a_warning(small_bert: Path) -> None:
    """Without a loading report the values decide: a bias that is not 0, weights that are not uniform."""
    model = unsaved(small_bert)
    with torch.no_grad():
        model.base_model.model.classifier.bias.copy_(torch.tensor([0.01, -0.02]))
    assert of("FRZ005", among=before(small_bert, model)) == {"FRZ005": "warning"}


def test_a_new_pre_classifier_that_is_frozen_is_a_warning(small_model: Path) -> None:
    model, report = load(small_model)
    config = peft.LoraConfig(r=4, target_modules=[*ATTENTION["distilbert"], "classifier"], exclude_modules=r"pre_.*")
    model = peft.get_peft_model(model, config)
    assert of("FRZ005", among=before(small_model, model, report)) == {"FRZ005": "warning"}


def test_adapters_and_prompts_left_out_of_the_optimizer_are_found(small_bert: Path) -> None:
    for method in ("LoRA", "prompt tuning"):
        model, _ = adapted(small_bert, method)
        head = torch.optim.AdamW([p for name, p in model.named_parameters() if "classifier" in name])
        assert of("OPT001", "OPT002", among=before(small_bert, model, optimizer=head)) == {"OPT001": "error"}


def test_an_optimizer_created_before_peft_is_found(small_bert: Path) -> None:
    model, _ = load(small_bert)
    optimizer = torch.optim.AdamW(model.parameters())
    model = peft.get_peft_model(model, METHODS["LoRA"]("bert"))
    findings = before(small_bert, model, optimizer=optimizer)
    assert of("OPT001", "OPT002", among=findings) == {"OPT001": "error", "OPT002": "error"}


def test_adapters_that_are_not_in_use_are_found(small_bert: Path) -> None:
    merged, _ = adapted(small_bert)
    merged.merge_adapter()
    another, _ = second_adapter(small_bert)
    for name, parameter in another.named_parameters():
        parameter.requires_grad = ".second." in name
    for model in (merged, another):
        assert of("OPT020", among=before(small_bert, model)) == {"OPT020": "error"}


@pytest.mark.parametrize(("declared", "severity"), [(None, "warning"), ("base", "error")])
def test_a_trainable_base_under_adapters_is_found(small_bert: Path, declared: Any, severity: str) -> None:
    model, _ = adapted(small_bert)
    assert of("FRZ001", among=before(small_bert, model, declared_freeze=declared)) == {}
    model.requires_grad_(True)
    findings = before(small_bert, model, declared_freeze=declared)
    assert of("FRZ001", among=findings) == {"FRZ001": severity}
    assert "lora" not in loud(findings)["FRZ001"]


THREE = {"num_labels": 3, "id2label": {0: "a", 1: "b", 2: "c"}, "label2id": {"a": 0, "b": 1, "c": 2}}


@pytest.mark.parametrize(
    "make",
    [
        lambda folder: adapted(folder, **THREE)[0],
        lambda folder: adapted(folder, "p-tuning", **THREE)[0],
        lambda folder: Own(encoder(folder), outputs=3),
        lambda folder: nn.DataParallel(Own(encoder(folder), hidden=16, outputs=3)),
    ],
)
def test_the_number_of_outputs_is_that_of_the_logits(small_bert: Path, make: Any) -> None:
    assert loud(before(small_bert, make(small_bert)))["MOD001"] == "3 outputs for 2 classes"


def test_weights_that_were_not_loaded_are_found_under_adapters(small_bert: Path) -> None:
    from transformers import AutoModelForSequenceClassification

    plain = AutoModelForSequenceClassification.from_config(load(small_bert)[0].config)
    names = tuple(name for name, _ in plain.named_parameters())
    model = peft.get_peft_model(plain, METHODS["LoRA on all linear layers"]("bert"))
    loaded = [name for name in names if "pooler" not in name and "classifier" not in name]
    findings = before(small_bert, model, new_weights=names, unused_weights=tuple(f"module.{name}" for name in names))
    assert of("MOD003", "MOD004", among=findings) == {"MOD003": "error", "MOD004": "error"}
    assert loud(findings)["MOD004"].startswith(f"{len(loaded)} of {len(names)} unused tensors")


def test_a_learning_rate_for_adapters_is_too_high_for_an_encoder(tiny_bert: Path, small_bert: Path) -> None:
    model, _ = load(small_bert)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim == 1 and "classifier" not in name:
                parameter.add_(0.01)  # As in a trained encoder.
    model = peft.get_peft_model(model, METHODS["OFT"]("bert"))
    assert of("OPT007", among=before(small_bert, model, optimizer=optimizer_of(model, 5e-3))) == {}
    model.requires_grad_(True)
    findings = before(small_bert, model, optimizer=optimizer_of(model, 5e-3))
    assert of("OPT007", among=findings) == {"OPT007": "warning"}
    model, _ = adapted(small_bert)
    findings = before(small_bert, model, optimizer=optimizer_of(model, 5e-6))
    assert of("OPT006", among=findings) == {"OPT006": "note"}


def test_frozen_norms_in_an_optimizer_are_not_counted_as_decayed(small_bert: Path) -> None:
    model, _ = adapted(small_bert)
    everything = torch.optim.AdamW(model.parameters(), weight_decay=0.01)
    note = next(f for f in before(small_bert, model, optimizer=everything) if f.code == "OPT011")
    assert note.observed.startswith("1 norms and biases")


def test_changed_frozen_weights_under_adapters_are_found(small_bert: Path) -> None:
    model, _ = adapted(small_bert)
    base = model.base_model.model.bert.encoder.layer[0].attention.self.query.base_layer.weight

    def drift(step: int) -> None:
        with torch.no_grad():
            base.mul_(0.999)

    findings = during(small_bert, model, after_step=drift)
    assert of("FRZ004", among=findings) == {"FRZ004": "error"}
