"""The model behind FastAPI as most people write it: `python -m serve.peer_plain FOLDER PORT`.

One `pipeline`, one text per request, and an endpoint without `async`, which FastAPI runs in its threads.
"""

import sys
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from transformers import pipeline


class Review(BaseModel):
    text: str


def main() -> None:
    folder, port = sys.argv[1:]
    app = FastAPI()
    classify = pipeline("text-classification", model=folder, device="cpu")

    @app.post("/predict")
    def predict(review: Review) -> dict[str, Any]:
        return classify(review.text, truncation=True)[0]

    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning")


if __name__ == "__main__":
    main()
