"""Views of the fine-tune dock: signals up, `set_*` down; they know no layers and no jobs."""
