"""How good a model is: prompts made from labels, image-blind and classical baselines, reports."""
