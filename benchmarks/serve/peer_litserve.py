"""The model served by LitServe with its batching: `python -m serve.peer_litserve FOLDER PORT SIZE WAIT QUEUE`.

Written as LitServe's documentation shows it: the model of `transformers`, padded to the longest text of a batch, no
gradients. SIZE is `max_batch_size`, WAIT `batch_timeout` in seconds, QUEUE `fast` for `fast_queue=True`.
"""

import os
import sys
from typing import Any

import litserve
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer


class Reviews(litserve.LitAPI):
    def __init__(self, folder: str, size: int, wait: float) -> None:
        super().__init__(max_batch_size=size, batch_timeout=wait)
        self.folder = folder

    def setup(self, device: str) -> None:
        torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
        self.tokenizer = AutoTokenizer.from_pretrained(self.folder)
        self.model = AutoModelForSequenceClassification.from_pretrained(self.folder).eval()

    def decode_request(self, request: dict[str, str]) -> str:
        return request["text"]

    def batch(self, inputs: list[str]) -> list[str]:
        return inputs

    def predict(self, texts: list[str]) -> torch.Tensor:
        tokens = self.tokenizer(list(texts), padding=True, truncation=True, return_tensors="pt")
        with torch.no_grad():
            return torch.softmax(self.model(**tokens).logits, -1)

    def unbatch(self, output: torch.Tensor) -> list[list[float]]:
        return output.tolist()

    def encode_response(self, output: list[float]) -> dict[str, Any]:
        best = max(range(len(output)), key=output.__getitem__)
        return {"label": self.model.config.id2label[best], "score": output[best]}


def main() -> None:
    folder, port, size, wait, queue = sys.argv[1:]
    server = litserve.LitServer(
        Reviews(folder, int(size), float(wait)),
        accelerator="cpu",
        devices=1,
        workers_per_device=1,
        timeout=False,
        fast_queue=queue == "fast",
    )
    server.run(host="127.0.0.1", port=int(port), log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
