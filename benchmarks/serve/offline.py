"""Prediction offline: `python -m serve.offline MODEL THREADS`; a list of texts as a JSON line in, one JSON line out."""

import json
import sys
import time
import warnings

from tenor.inference.predictor import Predictor, UnlikeTextsWarning
from tenor.model.memory import use_one_heap


def main() -> None:
    use_one_heap()  # As the command line does.
    model, threads = sys.argv[1:]
    warnings.simplefilter("ignore", UnlikeTextsWarning)
    predictor = Predictor.load(model, engine="torch", device="cpu", threads=int(threads))
    for line in sys.stdin:
        texts = json.loads(line)
        started = time.perf_counter()
        predictions = predictor.predict(texts)
        seconds = time.perf_counter() - started
        probabilities = [list(one.probabilities.values()) for one in predictions]
        print(json.dumps({"seconds": seconds, "probabilities": probabilities}), flush=True)


if __name__ == "__main__":
    main()
