"""The best checkpoint as `transformers` saves a model, with what Tenor must know to use it again."""

import shutil
from datetime import UTC, datetime
from pathlib import Path

from tenor.config.schema import Config
from tenor.model.classifier import Classifier, load_saved_classifier, quiet_transformers
from tenor.model.folding import fold_temperature
from tenor.model.notes import NOTES, WEIGHTS, read_model_notes, update_model_notes
from tenor.runs.files import atomic_path, read_json, sha256_file, write_json
from tenor.training.checkpoint import MODEL, Checkpoint


def save_model(
    folder: Path, classifier: Classifier, config: Config, checkpoint: Checkpoint, temperature: float = 1.0
) -> str:
    """Save model and tokenizer below `folder`; returns the SHA-256 of the weights.

    The weights are a copy of the checkpoint's file, so that its digest is theirs. `transformers` would write tensors
    under the names that the encoder's own file had, such as `LayerNorm.gamma`, and split or join some of them again.

    The tokenizer is saved without truncation or padding of its own, at the length of training and with its side of
    padding.
    """
    tokenizer = classifier.tokenizer
    # Its class or its file may say left, which would move the first token, all that most heads read. The side is saved
    # only where it stands among what the tokenizer was made from.
    tokenizer.padding_side = tokenizer.init_kwargs["padding_side"] = "right"
    tokenizer.model_max_length = config.data.max_length
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is not None:
        backend.no_truncation()
        backend.no_padding()
    with atomic_path(folder) as temporary:
        with quiet_transformers():
            classifier.model.save_pretrained(temporary, save_original_format=False)
            tokenizer.save_pretrained(temporary)
        shutil.copyfile(checkpoint.path / MODEL, temporary / WEIGHTS)
        digest = sha256_file(temporary / WEIGHTS)
        write_json(
            temporary / NOTES,
            {
                "max_length": config.data.max_length,
                "truncation": config.data.truncation,
                "head_share": config.data.head_share,
                "temperature": temperature,
                "weights_sha256": digest,
                "checkpoint_step": checkpoint.step,
            },
        )
    return digest


def fold_into_model(folder: Path) -> None:
    """Divide the saved classifier by its temperature, which is 1 from then on; nothing happens where it is already.

    `tenor.json` keeps what was done: the temperature, the parameters, the time, and the digest of the weights before.

    Raises:
        UserError: a head that does not end in one linear layer.
    """
    notes = read_model_notes(folder)
    if notes.temperature == 1.0:
        return
    model, _ = load_saved_classifier(folder)
    parameters = fold_temperature(model, notes.temperature)
    stored = read_json(folder / NOTES)
    with atomic_path(folder) as temporary:
        shutil.copytree(folder, temporary)
        with quiet_transformers():
            model.save_pretrained(temporary, save_original_format=False)
        folded = {
            "temperature": notes.total_temperature,
            "into": list(parameters),
            "at": datetime.now(UTC).isoformat(timespec="seconds"),
            # Of the checkpoint itself, whose digest the evaluation names, however often something was folded since.
            "checkpoint_sha256": stored.get("folded", {}).get("checkpoint_sha256", notes.weights_sha256),
        }
        update_model_notes(temporary, temperature=1.0, weights_sha256=sha256_file(temporary / WEIGHTS), folded=folded)
