#!/usr/bin/env python
"""Fine-tuning a library model for sequence classification on csv files."""

import logging
import os
import sys
from dataclasses import dataclass, field

import numpy as np
from datasets import load_dataset
from sklearn.metrics import accuracy_score, f1_score

from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    HfArgumentParser,
    Trainer,
    TrainingArguments,
    set_seed,
)

logger = logging.getLogger(__name__)


@dataclass
class DataTrainingArguments:
    train_file: str = field(default="data/train.csv")
    validation_file: str = field(default="data/valid.csv")
    test_file: str = field(default="data/test.csv")
    max_seq_length: int = field(default=48, metadata={"help": "Longer sequences are truncated."})
    max_train_samples: int | None = field(default=None)


@dataclass
class ModelArguments:
    model_name_or_path: str = field(default="models/small-bert")
    cache_dir: str | None = field(default=None)


def main():
    parser = HfArgumentParser((ModelArguments, DataTrainingArguments, TrainingArguments))
    argv = sys.argv[1:] or [
        "--output_dir", "out/run_glue",
        "--learning_rate", "2e-4",
        "--per_device_train_batch_size", "16",
        "--per_device_eval_batch_size", "64",
        "--num_train_epochs", "1",
        "--warmup_steps", "12",
        "--weight_decay", "0.01",
        "--eval_strategy", "epoch",
        "--save_strategy", "no",
        "--logging_steps", "25",
        "--report_to", "none",
        "--disable_tqdm", "true",
        "--do_train", "--do_eval", "--do_predict",
    ]
    model_args, data_args, training_args = parser.parse_args_into_dataclasses(argv)
    logging.basicConfig(format="%(asctime)s - %(levelname)s - %(message)s", level=logging.INFO)
    set_seed(training_args.seed)

    raw_datasets = load_dataset(
        "csv",
        data_files={
            "train": data_args.train_file,
            "validation": data_args.validation_file,
            "test": data_args.test_file,
        },
        cache_dir=model_args.cache_dir or "out/cache",
    )
    label_list = sorted(raw_datasets["train"].unique("label"))
    num_labels = len(label_list)
    label_to_id = {v: i for i, v in enumerate(label_list)}

    config = AutoConfig.from_pretrained(model_args.model_name_or_path, num_labels=num_labels)
    tokenizer = AutoTokenizer.from_pretrained(model_args.model_name_or_path)
    model = AutoModelForSequenceClassification.from_pretrained(model_args.model_name_or_path, config=config)
    model.config.label2id = {str(k): v for k, v in label_to_id.items()}
    model.config.id2label = {i: str(k) for k, i in label_to_id.items()}

    def preprocess_function(examples):
        result = tokenizer(examples["text"], max_length=data_args.max_seq_length, truncation=True)
        result["label"] = [label_to_id[l] for l in examples["label"]]
        return result

    with training_args.main_process_first(desc="dataset map pre-processing"):
        raw_datasets = raw_datasets.map(preprocess_function, batched=True, remove_columns=["text"])

    train_dataset = raw_datasets["train"]
    if data_args.max_train_samples is not None:
        train_dataset = train_dataset.select(range(min(len(train_dataset), data_args.max_train_samples)))

    def compute_metrics(p: EvalPrediction):
        preds = np.argmax(p.predictions, axis=1)
        return {"accuracy": accuracy_score(p.label_ids, preds), "f1": f1_score(p.label_ids, preds)}

    trainer = Trainer(
        model=model,
        args=training_args,
        train_dataset=train_dataset,
        eval_dataset=raw_datasets["validation"],
        compute_metrics=compute_metrics,
        processing_class=tokenizer,
        data_collator=DataCollatorWithPadding(tokenizer),
    )

    if training_args.do_train:
        metrics = trainer.train().metrics
        metrics["train_samples"] = len(train_dataset)
        trainer.log_metrics("train", metrics)
    if training_args.do_eval:
        trainer.log_metrics("eval", trainer.evaluate())
    if training_args.do_predict:
        output = trainer.predict(raw_datasets["test"])
        trainer.log_metrics("predict", output.metrics)
        os.makedirs(training_args.output_dir, exist_ok=True)
        with open(os.path.join(training_args.output_dir, "predict_results.txt"), "w") as writer:
            writer.write("index\tprediction\n")
            for index, item in enumerate(np.argmax(output.predictions, axis=1)):
                writer.write(f"{index}\t{label_list[item]}\n")


if __name__ == "__main__":
    main()
