"""Whether rows may be padded: a row's logits must not depend on what shares its batch.

Padded on the right and masked, a row gets the logits that it has alone from nearly every model: an encoder's first
token and its positions stay where they are, and a decoder never reads what follows its last token. On the left neither
holds, whatever the tokenizer says. A few models mix in padding on either side (convolutions, Fourier transforms,
pooling), so each is tried.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tenor.data.tokenization import whole_ids
from tenor.errors import TenorError
from tenor.inference.engines import Engine, padded
from tenor.inference.logits import same_logits
from tenor.inference.texts import Framing

CONTENT, LONGEST = 4, 60
"""Tokens of the text that is tried, and of its longest neighbour."""
ONE_BY_ONE = "rows are computed one by one, because this model can't be padded, or gives other results then"


def framing_for(engine: Engine, framing: Framing, tokenizer: Any, max_length: int) -> Framing:
    """`framing` with or without padding: a row is tried alone, then next to one that is longer by one and by many.

    A model that refuses padding (a decoder without a padding id refuses two rows) gets none.
    """
    if framing.pad_id is None or engine.rows_alone:
        return framing
    (ids,) = whole_ids(["a good film and a bad plot"], tokenizer)
    before, after = framing.around
    content = np.resize(ids[before : len(ids) - after], max(1, min(LONGEST, max_length - before - after)))
    rows = [
        np.concatenate([ids[:before], content[:length], ids[len(ids) - after :]])
        for length in sorted({CONTENT, CONTENT + 1, LONGEST})
        if length <= len(content)
    ]
    if all(_is_same(engine.run, rows[0], longer, framing) for longer in rows[1:]):
        return framing
    return replace(framing, pad_id=None)


def _is_same(
    run: Callable[[dict[str, np.ndarray]], np.ndarray], row: np.ndarray, longer: np.ndarray, framing: Framing
) -> bool:
    alone = run(padded([row], framing))[0]
    try:
        together = run(padded([row, longer], framing))[0]
    # As each architecture refuses: by its own checks, by an index beyond a table, or by ONNX Runtime's error.
    except (ValueError, IndexError, RuntimeError, TenorError):
        return False
    return same_logits(alone, together)
