import numpy as np
import pandas as pd
from datasets import Dataset
from peft import PromptTuningConfig, PromptTuningInit, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, DataCollatorWithPadding, Trainer, TrainingArguments
from transformers import set_seed

set_seed(7)
path = "models/small-bert"
tok = AutoTokenizer.from_pretrained(path)
model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=2)

peft_config = PromptTuningConfig(
    task_type="SEQ_CLS",
    prompt_tuning_init=PromptTuningInit.TEXT,
    prompt_tuning_init_text="Is the opinion in this film review good or bad ?",
    num_virtual_tokens=10,
    tokenizer_name_or_path=path,
)
model = get_peft_model(model, peft_config)
model.print_trainable_parameters()


def ds(path, n=None):
    frame = pd.read_csv(path, nrows=n)
    return Dataset.from_pandas(frame).map(
        lambda b: tok(b["text"], truncation=True, max_length=48), batched=True, remove_columns=["text"])


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="out/prompt", learning_rate=1e-2, per_device_train_batch_size=32, per_device_eval_batch_size=100,
        num_train_epochs=2, logging_steps=20, eval_strategy="epoch", save_strategy="no", label_names=["labels"],
        report_to="none", disable_tqdm=True, weight_decay=0.0, warmup_steps=5,
    ),
    train_dataset=ds("data/train.csv", 1280),
    eval_dataset=ds("data/valid.csv"),
    data_collator=DataCollatorWithPadding(tok),
    compute_metrics=lambda p: {"accuracy": np.mean(np.argmax(p.predictions, -1) == p.label_ids).item()},
)
trainer.train()
print(trainer.evaluate(ds("data/test.csv"), metric_key_prefix="test"))
