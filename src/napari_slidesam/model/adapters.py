"""LoRA adapters on the attention of both networks, as folders that peft itself reads.

Paper 2.3: the image encoder is frozen but for low-rank changes of its attention. Both networks
call the fused projection ``attn.qkv``. Importing this module imports peft, which takes seconds.
"""

from __future__ import annotations

import hashlib
import logging
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, cast

from peft import (
    LoraConfig,
    PeftConfig,
    get_peft_model_state_dict,
    inject_adapter_in_model,
    set_peft_model_state_dict,
)
from peft.tuners.lora import LoraLayer
from peft.utils import ModulesToSaveWrapper
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from napari_slidesam.errors import CheckpointError
from napari_slidesam.io.atomic import replacing_folder
from napari_slidesam.model.adapter_folder import CARD_FILE, CONFIG_FILE, WEIGHTS_FILE
from napari_slidesam.model.tensor_file import write_tensors

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from pathlib import Path

    import torch
    from torch import nn

logger = logging.getLogger(__name__)

TARGET_MODULES = r".*\battn\.qkv"
"""The attention's fused projection in `SlideSam` and in `SlideSamLite`; matches whole names."""

BASE_KEY = "base_fingerprint"
"""In the metadata of the weights: the `base_fingerprint` of the network trained on."""

_SAMPLED_VALUES = 256
"""Of each tensor at most, for a fingerprint: other weights differ in all of them."""

_PEFT_PREFIX = "base_model.model."
"""What peft's own saving puts before a module's name."""


@dataclass(frozen=True, slots=True)
class LoraSettings:
    """What an adapter changes.

    Parameters
    ----------
    rank : int
        Rank of each projection's change.
    alpha : float, optional
        The change is scaled by ``alpha / rank``; None: not scaled, as in the published code.
    dropout : float
        Share of the inputs left out in training.
    modules_to_save : tuple of str
        Names of modules that are trained and kept whole beside it (paper 2.3: ``patch_embed``).
    targets : str
        Regular expression of the names of the layers to change.
    """

    rank: int = 8
    alpha: float | None = None
    dropout: float = 0.0
    modules_to_save: tuple[str, ...] = ()
    targets: str = TARGET_MODULES

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise CheckpointError(f"A LoRA rank is positive; got {self.rank}.")
        if not 0.0 <= self.dropout < 1.0:
            raise CheckpointError(f"A dropout is a share below 1; got {self.dropout}.")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as JSON-ready values."""
        return {**asdict(self), "modules_to_save": list(self.modules_to_save)}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> LoraSettings:
        """Return the settings that `to_dict` wrote.

        Raises
        ------
        CheckpointError
            A name is unknown or missing.
        """
        try:
            return cls(**{**values, "modules_to_save": tuple(values["modules_to_save"])})
        except (KeyError, TypeError) as error:
            raise CheckpointError(
                f"The adapter's settings are not understood ({error}). They were written by "
                "another version of napari-slidesam."
            ) from error

    def config(self) -> LoraConfig:
        """Return them as peft's own."""
        return LoraConfig(
            r=self.rank,
            # peft takes floats too; its annotation says int.
            lora_alpha=cast("int", self.rank if self.alpha is None else self.alpha),
            lora_dropout=self.dropout,
            target_modules=self.targets,
            modules_to_save=list(self.modules_to_save) or None,
        )


def has_adapter(model: nn.Module) -> bool:
    """Whether the network holds an adapter that is not merged."""
    return any(isinstance(m, LoraLayer | ModulesToSaveWrapper) for m in model.modules())


def adapter_rank(model: nn.Module) -> int | None:
    """Return the rank of the network's adapter, or None where there is none."""
    for module in model.modules():
        if isinstance(module, LoraLayer):
            return int(module.r["default"])
    return None


def adapter_settings(model: nn.Module) -> LoraSettings:
    """Return the settings of the network's adapter.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    """
    config = _peft_config(model)
    alpha = float(config.lora_alpha)
    return LoraSettings(
        rank=config.r,
        alpha=None if alpha == config.r else alpha,
        dropout=config.lora_dropout,
        modules_to_save=tuple(config.modules_to_save or ()),
        targets=_pattern(config.target_modules),
    )


def add_lora(model: nn.Module, settings: LoraSettings | None = None) -> None:
    """Add an adapter that changes nothing yet; it alone requires gradients from now on.

    Parameters
    ----------
    model : SlideSam or SlideSamLite
    settings : LoraSettings, optional

    Raises
    ------
    CheckpointError
        The network has an adapter already, or none of the modules that are named.
    """
    _inject(model, (settings or LoraSettings()).config())


def train_adapter(model: nn.Module) -> None:
    """Make the network's adapter trainable again, and nothing else.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    """
    _peft_config(model)
    model.requires_grad_(False)
    for name, parameter in model.named_parameters():
        if ".lora_" in name or ".modules_to_save." in name:
            parameter.requires_grad_(True)


def base_fingerprint(model: nn.Module) -> str:
    """Identify a network's weights, whatever adapter is on them, merged ones excepted.

    Of some values of each tensor: a hash of all of ViT-H takes seconds.
    """
    digest = hashlib.sha256()
    for name, tensor in sorted(base_state(model).items()):
        values = tensor.detach().flatten()
        some = values[:: max(1, values.numel() // _SAMPLED_VALUES)].float().cpu()
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        digest.update(some.contiguous().numpy().tobytes())
    return digest.hexdigest()[:32]


def base_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the weights without the adapter, by the names they have without one."""
    return {
        name.replace(".base_layer.", ".").replace(".original_module.", "."): t
        for name, t in model.state_dict().items()
        if ".lora_" not in name and ".modules_to_save." not in name
    }


def adapter_state(model: nn.Module) -> dict[str, torch.Tensor]:
    """Return the adapter's tensors by peft's names, without a prefix.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    """
    _peft_config(model)
    # Else peft looks for a language model's vocabulary, online where it is not found.
    state: dict[str, torch.Tensor] = get_peft_model_state_dict(model, save_embedding_layers=False)
    return state


def set_adapter_state(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    """Fill the network's adapter with tensors as `adapter_state` names them.

    Raises
    ------
    CheckpointError
        Tensors are missing, superfluous, or of another shape.
    """
    expected = {name: tuple(t.shape) for name, t in adapter_state(model).items()}
    given = {name: tuple(t.shape) for name, t in state.items()}
    if expected != given:
        wrong = sorted(set(expected.items()) ^ set(given.items()))
        shown = ", ".join(f"{name} {shape}" for name, shape in wrong[:4])
        raise CheckpointError(
            f"The adapter does not fit {_name(model)}: {len(wrong)} tensors differ by name or "
            f"shape, such as {shown}. Use it with the network that it was trained on."
        )
    set_peft_model_state_dict(model, dict(state))


def save_adapter(
    model: nn.Module, folder: Path, card: str | None = None, *, overwrite: bool = False
) -> None:
    """Write the adapter as a folder that peft reads, atomically.

    Parameters
    ----------
    model : SlideSam or SlideSamLite
    folder : Path
    card : str, optional
        Markdown that says what it was trained on; written as ``README.md``.
    overwrite : bool
        Replace the folder where it exists.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    FileFormatError
        The folder exists and ``overwrite`` is false, or it cannot be written.
    """
    tensors = {
        _PEFT_PREFIX + name: t.detach().cpu().contiguous()
        for name, t in adapter_state(model).items()
    }
    config = _peft_config(model)
    metadata = {"format": "pt", "base": _name(model), BASE_KEY: base_fingerprint(model)}
    with replacing_folder(folder, overwrite=overwrite) as partial:
        partial.mkdir()
        was_training, config.inference_mode = config.inference_mode, True
        config.save_pretrained(str(partial))
        config.inference_mode = was_training
        write_tensors(tensors, partial / WEIGHTS_FILE, metadata)
        if card is not None:
            (partial / CARD_FILE).write_text(card, encoding="utf-8")


def load_adapter(model: nn.Module, folder: Path) -> None:
    """Add the adapter of a folder, unmerged and not to be trained.

    Raises
    ------
    CheckpointError
        The folder holds no LoRA adapter, a damaged one, or one of another network; or the
        network has an adapter already.
    """
    if not (folder / CONFIG_FILE).is_file() or not (folder / WEIGHTS_FILE).is_file():
        raise CheckpointError(
            f"There is no adapter in {folder}: a folder with {CONFIG_FILE} and {WEIGHTS_FILE} is "
            "expected. Check the path."
        )
    try:
        config = PeftConfig.from_pretrained(str(folder))
        tensors = load_file(folder / WEIGHTS_FILE)
        with safe_open(folder / WEIGHTS_FILE, framework="pt") as opened:
            metadata = opened.metadata() or {}
        base, base_name = metadata.get(BASE_KEY, ""), metadata.get("base", "another network")
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"The adapter in {folder} is damaged ({error}). Copy or download it again."
        ) from error
    if not isinstance(config, LoraConfig):
        raise CheckpointError(
            f"The adapter in {folder} is of the kind {config.peft_type}; LoRA is expected."
        )
    if base not in ("", base_fingerprint(model)):
        raise CheckpointError(
            f"The adapter in {folder} does not fit {_name(model)}: it was trained on other "
            f"weights, those of {base_name} (fingerprint {base[:8]}); these have the fingerprint "
            f"{base_fingerprint(model)[:8]}. Load it with the network that it was trained on."
        )
    _inject(model, config)
    state = {name.removeprefix(_PEFT_PREFIX): t for name, t in tensors.items()}
    try:
        set_adapter_state(model, state)
    except CheckpointError:
        _take_out(model, merge=False)
        raise
    model.requires_grad_(False)
    logger.info("adapter %s of rank %s on %s", folder.name, adapter_rank(model), _name(model))


def merge_adapter(model: nn.Module) -> None:
    """Make the adapter a part of the weights: the same masks, without its cost.

    Raises
    ------
    CheckpointError
        The network has no adapter.
    """
    if not has_adapter(model):
        raise CheckpointError(f"{_name(model)} has no adapter to merge: load one first.")
    _take_out(model, merge=True)


def remove_adapter(model: nn.Module) -> None:
    """Take the adapter out again; the network is as it was before."""
    _take_out(model, merge=False)


def _pattern(targets: str | Collection[str] | None) -> str:
    """Return peft's target modules, a pattern or names, as a pattern."""
    if isinstance(targets, str):
        return targets
    names = "|".join(re.escape(name) for name in sorted(targets or ()))
    return rf"(.*\.)?({names})"


def _peft_config(model: nn.Module) -> LoraConfig:
    if not has_adapter(model):
        raise CheckpointError(
            f"{_name(model)} has no adapter: add or load one first. A merged adapter is a part "
            "of the weights."
        )
    return cast("dict[str, LoraConfig]", model.peft_config)["default"]


def _inject(model: nn.Module, config: LoraConfig) -> None:
    if has_adapter(model):
        raise CheckpointError(
            f"{_name(model)} has an adapter already. Merge it (merge_adapter) or take it out "
            "(remove_adapter) first."
        )
    try:
        inject_adapter_in_model(config, model)
    except ValueError as error:
        raise CheckpointError(
            f"The adapter does not fit {_name(model)}: {error} Use it with the network that it "
            "was trained on."
        ) from error


def _take_out(model: nn.Module, *, merge: bool) -> None:
    for parent, name, module in list(_adapted(model)):
        if isinstance(module, LoraLayer):
            if merge:
                # Mixed in and only then taken over, so that numbers beyond range are found.
                module.merge(safe_merge=True)
            setattr(parent, name, module.get_base_layer())
        else:
            kept = "modules_to_save.default" if merge else "original_module"
            setattr(parent, name, module.get_submodule(kept))
    if hasattr(model, "peft_config"):
        del model.peft_config


def _adapted(model: nn.Module) -> Iterator[tuple[nn.Module, str, nn.Module]]:
    """Yield (parent, name within it, module) of what peft put in."""
    for path, module in model.named_modules():
        if isinstance(module, LoraLayer | ModulesToSaveWrapper):
            above, _, name = str(path).rpartition(".")
            yield model.get_submodule(above), name, cast("nn.Module", module)


def _name(model: nn.Module) -> str:
    return str(getattr(model, "name", type(model).__name__))
