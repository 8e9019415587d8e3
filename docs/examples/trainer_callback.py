"""Tenor's checks inside `transformers.Trainer`: one callback."""

import tempfile

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer, Trainer, TrainingArguments

from tenor.checks.callback import TenorCallback
from tenor.data.sources.embedded import embedded_encoder_folder, embedded_reviews

folder = embedded_encoder_folder()  # any folder or hub id of a `transformers` encoder
tokenizer = AutoTokenizer.from_pretrained(folder)
model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=2, attention_probs_dropout_prob=0.0)

reviews = embedded_reviews().train
chosen = torch.randperm(len(reviews), generator=torch.Generator().manual_seed(0))[:160].tolist()
encoded = tokenizer([reviews.texts[i] for i in chosen], truncation=True, max_length=32)
rows = [
    {"input_ids": ids, "attention_mask": mask, "labels": int(reviews.labels[i])}
    for ids, mask, i in zip(encoded["input_ids"], encoded["attention_mask"], chosen, strict=True)
]

with tempfile.TemporaryDirectory() as output:
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=output,
            num_train_epochs=1,
            per_device_train_batch_size=16,
            learning_rate=1e-4,
            logging_steps=5,
            save_strategy="no",
            report_to="none",
            use_cpu=True,
        ),
        train_dataset=rows,
        processing_class=tokenizer,
        callbacks=[TenorCallback(seconds=5.0)],
    )
    trainer.train()  # an error that a check finds ends it here, with tenor.errors.RefusedError
    with open(f"{output}/findings.json") as file:
        print(file.read()[:200])
