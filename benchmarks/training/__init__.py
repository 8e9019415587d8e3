"""Training beside `transformers.Trainer`: throughput, the frozen path, memory, start-up."""
