"""The fine-tune dock: pairs of images and labels, a queue of jobs, and what they give."""
