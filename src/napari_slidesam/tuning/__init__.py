"""Training: labelled and synthetic volumes, painted appearances, pools of stacks."""
