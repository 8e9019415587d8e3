"""`adaptation.json`: what a run of `tenor adapt` was given, and what it reached."""

from dataclasses import asdict, dataclass

from pydantic import ConfigDict

from tenor.runs.directory import RunDirectory
from tenor.runs.files import parse_record, read_json, write_json


@dataclass(frozen=True)
class MaskedLoss:
    """The prediction of masked tokens on the held-out blocks."""

    loss: float
    """Nats per masked token."""
    perplexity: float
    masked_accuracy: float
    """Share of the masked tokens that are predicted right, 0 … 1."""


@dataclass(frozen=True)
class AdaptationSummary:
    """One run of `tenor adapt`."""

    __pydantic_config__ = ConfigDict(extra="forbid")

    encoder: str
    head: str
    """Whether the MLM head is from the checkpoint or newly initialized."""
    corpus: str
    texts: int
    tokens: int
    """Without special tokens."""
    blocks: int
    max_length: int
    mask_share: float
    unigram_entropy: float
    """Of the corpus' tokens, nats."""
    held_out_blocks: int
    held_out_tokens: int
    """Masked tokens of the validation rows, on which `before` and `after` are measured."""
    before: MaskedLoss
    after: MaskedLoss
    best_step: int
    steps: int
    tokens_seen: int
    seconds: float
    """Of training, with its validations and checkpoints, before and after a resume."""
    tokens_per_second: float
    """Median of the records, of real tokens, without padding."""
    precision: str
    checkpoint_sha256: str
    """Of the best checkpoint's weights."""
    weights_sha256: str
    """Of the weights below `model/`."""


def write_adaptation(run: RunDirectory, summary: AdaptationSummary) -> None:
    write_json(run.adaptation, asdict(summary))


def read_adaptation(run: RunDirectory) -> AdaptationSummary:
    """Raises UserError for a file that is missing or damaged."""
    next_step = "restore the file, or adapt again"
    return parse_record(AdaptationSummary, read_json(run.adaptation), run.adaptation, next_step)
