import pandas as pd
from datasets import Dataset
from setfit import SetFitModel, Trainer, TrainingArguments, sample_dataset
from sentence_transformers.losses import CosineSimilarityLoss
from sklearn.metrics import accuracy_score

train = Dataset.from_pandas(pd.read_csv("data/train.csv"))
train_dataset = sample_dataset(train, label_column="label", num_samples=16, seed=42)
eval_dataset = Dataset.from_pandas(pd.read_csv("data/valid.csv").head(150))

model = SetFitModel.from_pretrained("models/minilm", labels=["negative", "positive"])

args = TrainingArguments(
    output_dir="out/setfit",
    batch_size=16,
    num_epochs=1,
    max_steps=20,
    body_learning_rate=2e-5,
    sampling_strategy="oversampling",
    loss=CosineSimilarityLoss,
    save_strategy="no",
    report_to="none",
    logging_steps=5,
    seed=42,
)
trainer = Trainer(
    model=model,
    args=args,
    train_dataset=train_dataset,
    eval_dataset=eval_dataset,
    metric=lambda y_pred, y_test: {"accuracy": accuracy_score(y_test, y_pred)},
    column_mapping={"text": "text", "label": "label"},
)
trainer.train()
print(trainer.evaluate())
print(model.predict(["A warm , funny and wonderful film .", "Dull , lifeless and far too long ."]))
