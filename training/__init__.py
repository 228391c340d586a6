"""Fine-tuning: recipes, one training loop, and the folder a run leaves behind."""
