"""LoRA adapters inside the LLM (peft, injected in place) and the state dict of what is trained and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from perank.errors import BadInput
from perank.model.sharding import shared_out

if TYPE_CHECKING:
    from perank.model.llm import Lora


def add_adapters(llm: nn.Module, lora: Lora) -> None:
    """Freeze the LLM and put trainable adapters on its target layers. Raises `BadInput` where none matches."""
    from peft import LoraConfig, inject_adapter_in_model

    llm.requires_grad_(False)
    config = LoraConfig(
        r=lora.r, lora_alpha=lora.alpha, lora_dropout=lora.dropout, target_modules=list(lora.targets), bias="none"
    )
    try:
        inject_adapter_in_model(config, llm)
    except ValueError as error:
        raise BadInput(
            f"no layer of {type(llm).__name__} is called {', '.join(lora.targets)}",
            remedy="name its linear layers in backbone.lora.targets",
        ) from error
    for parameter in llm.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()  # the optimizer's small steps would vanish in bf16


def merge_adapters(llm: nn.Module) -> None:
    """Fold every adapter into its base weight, in place, so that inference runs plain linear layers."""
    from peft.tuners.lora import LoraLayer

    found = [(name, module) for name, module in llm.named_modules() if isinstance(module, LoraLayer)]
    for name, module in found:
        layer: Any = module
        layer.merge(safe_merge=True)
        llm.set_submodule(name, layer.get_base_layer())


def trained_state(module: nn.Module) -> dict[str, Tensor]:
    """Parameters that require gradients, and the score scale, by name: what a checkpoint has to hold."""
    trained = {name for name, parameter in module.named_parameters() if parameter.requires_grad}
    trained |= {name for name, _ in module.named_buffers() if name.endswith("score_scale")}
    return {name: value for name, value in module.state_dict().items() if name in trained}


def load_trained_state(module: nn.Module, state: dict[str, Tensor]) -> None:
    """Load what `trained_state` returned.

    Raises `BadInput` unless the keys are exactly the trained ones, of the same shapes, and all values finite.
    """
    expected = trained_state(module)
    for name in sorted(expected.keys() & state.keys()):
        if state[name].shape != expected[name].shape:
            problem = f"{list(state[name].shape)} in the checkpoint, {list(expected[name].shape)} in this model"
            remedy = "use the encoder, backbone and LoRA settings the checkpoint was trained with"
            raise BadInput(problem, remedy=remedy, id=name)
        if not state[name].isfinite().all():
            raise BadInput("weights that aren't finite", remedy="use an earlier checkpoint", id=name)
    missing, unknown = sorted(expected.keys() - state.keys()), sorted(state.keys() - expected.keys())
    if missing or unknown:
        raise BadInput(
            f"the checkpoint's weights are not this model's (missing: {missing[:3]}, unknown: {unknown[:3]})",
            remedy="use the backbone and LoRA settings the checkpoint was trained with",
        )
    module.load_state_dict(shared_out(state, module.state_dict()), strict=False)
