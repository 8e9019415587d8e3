"""The best checkpoint as `transformers` saves a model, with what Tenor must know to use it again."""

from pathlib import Path

from tenor.config.schema import Config
from tenor.model.classifier import Classifier, quiet_transformers
from tenor.model.notes import NOTES, WEIGHTS
from tenor.runs.files import atomic_path, sha256_file, write_json
from tenor.training.checkpoint import Checkpoint


def save_model(folder: Path, classifier: Classifier, config: Config, checkpoint: Checkpoint) -> str:
    """Save model and tokenizer below `folder`; returns the SHA-256 of the weights.

    The tokenizer is saved without truncation or padding of its own, at the length of training.
    """
    tokenizer = classifier.tokenizer
    tokenizer.model_max_length = config.data.max_length
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    with atomic_path(folder) as temporary:
        with quiet_transformers():
            classifier.model.save_pretrained(temporary)
            tokenizer.save_pretrained(temporary)
        digest = sha256_file(temporary / WEIGHTS)
        write_json(
            temporary / NOTES,
            {
                "max_length": config.data.max_length,
                "truncation": config.data.truncation,
                "head_share": config.data.head_share,
                "temperature": 1.0,
                "weights_sha256": digest,
                "checkpoint_step": checkpoint.step,
            },
        )
    return digest
