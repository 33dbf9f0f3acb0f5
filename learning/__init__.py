"""Floor 2: BERT tasks: models, tokenising, batches, the training step, metrics."""
