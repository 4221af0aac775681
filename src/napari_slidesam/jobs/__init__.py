"""Fine-tuning jobs: what to train on which data, run here or in a process of their own."""
