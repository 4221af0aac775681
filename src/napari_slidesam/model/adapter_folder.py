"""The files of an adapter's folder, as peft names them; peft itself takes seconds to import."""

from __future__ import annotations

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
