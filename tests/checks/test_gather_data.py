"""Labels, texts and tokens are read from datasets and tokenizers of all kinds."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from torch.utils.data import DataLoader, IterableDataset, Subset, TensorDataset
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from adapted_models import Own, Passing, encoder
from tenor.checks.before_training import number_of_classes, preflight, what_to_pass
from tenor.checks.finding import CannotTell
from tenor.checks.gather.batches import batch_evidence, data_evidence, rows_of
from tenor.checks.gather.model import token_evidence

ROWS = [{"text": f"film {k}", "label": k % 2} for k in range(10)]


class Columns:
    """A dataset with columns, like the hub's."""

    column_names = ("sentence", "label")

    def __getitem__(self, name):
        return [row["text" if name == "sentence" else name] for row in ROWS]

    def __len__(self):
        return len(ROWS)


@pytest.mark.parametrize("dataset", [ROWS, Columns()], ids=["list", "columns"])
def test_labels_and_texts_are_read_by_column(dataset):
    rows = rows_of(dataset)
    assert rows.labels.tolist() == [row["label"] for row in ROWS]
    assert list(rows.texts) == [row["text"] for row in ROWS]


def test_a_subset_gives_the_positions_of_its_rows():
    evidence = data_evidence(Subset(ROWS, [4, 2, 0]), None, 2, None)
    assert evidence.train.labels.tolist() == [0, 0, 0]
    assert evidence.train_positions.tolist() == [4, 2, 0]
    assert evidence.source_labels.tolist() == [row["label"] for row in ROWS]


def test_a_dataset_without_columns_is_not_guessed():
    class Stream(IterableDataset):
        def __iter__(self):
            return iter(ROWS)

    for dataset in (Stream(), range(5), None, [(1, 2)]):
        with pytest.raises(CannotTell):
            rows_of(dataset)


def test_texts_are_decoded_from_ids(tiny_distilbert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_distilbert)
    ids = tokenizer(["a fine film", "a dull film"], return_tensors="pt")["input_ids"]
    rows = rows_of(TensorDataset(ids, torch.tensor([1, 0])), tokenizer)
    assert list(rows.texts) == ["a fine film", "a dull film"]
    assert rows.labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("labels", "expected"), [([0, 1, 1], 2), ([0, 1, 2, 1], 3), ([0, 0], 5), ([0, 2], 5), ([-1, 0, 1], 2)]
)
def test_classes_are_counted_in_the_data_if_their_numbers_have_no_gap(labels, expected):
    class Model:
        class config:
            num_labels = 5

    dataset = [{"text": "", "label": label} for label in labels]
    assert number_of_classes(Model(), None, dataset, None) == expected
    assert number_of_classes(Model(), ("a", "b"), dataset, None) == 2


def loader_of(tokenizer, **how):
    def collate(rows):
        return {**tokenizer(rows, padding=True, return_tensors="pt", **how), "labels": torch.zeros(len(rows)).long()}

    return DataLoader(["A fine film", "dull"], batch_size=2, collate_fn=collate)


def test_the_tokenizer_of_the_model_has_the_same_vocabulary_and_case(tiny_distilbert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_distilbert)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_distilbert)
    evidence = token_evidence(model, tokenizer, batch_evidence(loader_of(tokenizer), 2))
    assert evidence.digest == evidence.model_digest
    assert evidence.tokenizer_lowercases
    assert evidence.vocabulary_is_lowercase
    assert [len(row) for row in evidence.input_ids] == [5, 3 if len(tokenizer.tokenize("dull")) == 1 else 4]
    assert all(row[0] == tokenizer.cls_token_id and row[-1] == tokenizer.sep_token_id for row in evidence.input_ids)


def test_added_tokens_do_not_change_the_digest_of_the_vocabulary(tiny_distilbert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_distilbert)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_distilbert)
    tokenizer.add_tokens(["filmcomedy"])
    evidence = token_evidence(model, tokenizer, batch_evidence(loader_of(tokenizer), 2))
    assert evidence.digest == evidence.model_digest
    assert evidence.vocabulary_size == evidence.embedding_rows + 1


def test_padding_with_another_id_is_recognized_by_the_mask(tiny_distilbert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_distilbert)
    model = AutoModelForSequenceClassification.from_pretrained(tiny_distilbert)
    batches = batch_evidence(loader_of(tokenizer), 2)
    ids, mask = batches.input_ids[0].copy(), batches.attention_mask[0]
    ids[mask == 0] = tokenizer.mask_token_id
    evidence = token_evidence(model, tokenizer, replace(batches, input_ids=(ids,)))
    assert all(row[-1] == tokenizer.sep_token_id for row in evidence.input_ids)
    assert not np.concatenate(evidence.input_ids).tolist().count(tokenizer.mask_token_id)


def saved_alone(source, folder):
    """A model saved by `save_pretrained` without a tokenizer."""
    AutoModelForSequenceClassification.from_pretrained(source).save_pretrained(folder)
    return AutoModelForSequenceClassification.from_pretrained(folder)


def test_without_tokenizer_files_no_vocabulary_is_compared(tiny_distilbert, tmp_path):
    tokenizer, model = AutoTokenizer.from_pretrained(tiny_distilbert), saved_alone(tiny_distilbert, tmp_path)
    assert len(AutoTokenizer.from_pretrained(tmp_path)) < 10, "the tokenizer that transformers makes up"
    evidence = token_evidence(model, tokenizer, batch_evidence(loader_of(tokenizer), 2))
    assert (evidence.digest, evidence.model_digest, evidence.tokenizer_lowercases) == (None, None, None)
    for given in (tokenizer, None):
        report = preflight(model=model, train_loader=loader_of(tokenizer), tokenizer=given, seconds=0)
        assert not [finding for finding in report.findings if finding.code.startswith("TOK")]
    assert "TOK001" in {one.code for one in report.not_applicable}, "without a tokenizer it is not applicable"


def test_a_tokenizer_without_words_is_an_error(tiny_distilbert, tmp_path):
    model = saved_alone(tiny_distilbert, tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    report = preflight(model=model, train_loader=loader_of(tokenizer), tokenizer=tokenizer, seconds=0)
    finding = next(finding for finding in report.findings if finding.code == "TOK001")
    assert (finding.severity, finding.caused_by) == ("error", ())
    assert "without tokenizer files" in finding.cause


def test_tokens_are_read_through_wrappers(tiny_bert):
    tokenizer = AutoTokenizer.from_pretrained(tiny_bert)
    plain = AutoModelForSequenceClassification.from_pretrained(tiny_bert)
    batches = batch_evidence(loader_of(tokenizer), 2)
    config = LoraConfig(r=2, target_modules=["query", "word_embeddings"], modules_to_save=["classifier"])
    expected = token_evidence(plain, tokenizer, batches)
    for model in (
        torch.nn.DataParallel(plain),
        get_peft_model(AutoModelForSequenceClassification.from_pretrained(tiny_bert), config),
        Own(encoder(tiny_bert)),
    ):
        evidence = token_evidence(model, tokenizer, batches)
        assert (evidence.embedding_rows, evidence.model_pad_id) == (expected.embedding_rows, expected.model_pad_id)
        assert evidence.model_digest == expected.model_digest is not None


def test_the_number_of_classes_comes_from_a_classifier_and_not_from_an_encoder_without_a_head(tiny_bert):
    inside = AutoModelForSequenceClassification.from_pretrained(tiny_bert, num_labels=3)
    assert number_of_classes(Passing(torch.nn.DataParallel(inside)), None, None, None) == 3
    assert number_of_classes(Own(encoder(tiny_bert)), None, None, None) is None


class Positions(torch.utils.data.Dataset):
    """A dataset of row numbers: the collator looks up the rows."""

    def __len__(self):
        return 64

    def __getitem__(self, row):
        return row


class Bag(torch.nn.Module):
    """A model without a configuration."""

    def __init__(self, k):
        super().__init__()
        self.embedding, self.out = torch.nn.Embedding(9, 8, padding_idx=0), torch.nn.Linear(8, k)

    def forward(self, input_ids):
        return self.out(self.embedding(input_ids).sum(dim=1))


def positions(k):
    def collate(rows):
        return {"input_ids": torch.tensor([[1 + row % k, 7, 8] for row in rows]), "labels": torch.tensor(rows) % k}

    return DataLoader(Positions(), 8, shuffle=True, collate_fn=collate)


@pytest.mark.parametrize("outputs", [3, 2, 5])
def test_classes_are_counted_in_logits_and_labels_where_nothing_else_says_how_many(outputs):
    model = Bag(outputs)
    report = preflight(
        model=model, train_loader=positions(3), optimizer=torch.optim.AdamW(model.parameters()), seconds=0.5
    )
    assert len(report.checked) >= 25
    assert {"MOD001", "MOD005", "OPT001", "DAT004", "LOS003"} <= set(report.checked)
    assert [f.code for f in report.findings if f.severity == "error"] == (["MOD001"] if outputs == 2 else [])
    line = what_to_pass(report)
    assert "tokenizer for" in line
    assert "scheduler, total_steps and steps_per_epoch for" in line
    assert "evidence=[DataEvidence(…)] for" in line
    assert "\n" not in line


def test_what_needs_no_classes_is_checked_even_where_their_number_is_unknown():
    class Unusable(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.out = torch.nn.Linear(4, 4)

        def forward(self, one, other):
            raise AssertionError

    model, batch = Unusable(), {"one": torch.randn(4, 4), "labels": torch.randn(4)}
    optimizer = torch.optim.AdamW(model.parameters(), lr=5.0)
    report = preflight(model=model, train_loader=[batch], optimizer=optimizer, seconds=0)
    assert {"OPT001", "OPT005"} <= set(report.checked)
    assert "pass n_classes for" in what_to_pass(report)


def test_without_a_forward_pass_the_last_layer_is_not_taken_for_the_output():
    """A tied head: the last linear layer belongs to the encoder."""

    class Opaque(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.body = torch.nn.Embedding(9, 8), torch.nn.Linear(8, 8)

        def forward(self, rows):
            hidden = self.body(self.embedding(rows["input_ids"]).sum(dim=1))
            return hidden @ self.embedding.weight[:3].T

    report = preflight(model=Opaque(), train_loader=positions(3), n_classes=3, seconds=0)
    assert not report.errors
    assert "MOD001" in {one.code for one in report.not_applicable}


def test_the_share_of_one_process_is_no_sampler_that_skips_rows() -> None:
    from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

    rows = TensorDataset(torch.arange(64).reshape(64, 1), torch.arange(64) % 2)
    whole = batch_evidence(DataLoader(rows, batch_size=8), 2)
    share = batch_evidence(DataLoader(rows, batch_size=8, sampler=DistributedSampler(rows, 2, 0)), 2)
    assert whole.rows_per_epoch == 64
    assert share.rows_per_epoch is None
