"""Loads what was written in the library that it was written for."""

from __future__ import annotations

import json
import os
from typing import Any, Union

_OTHERS = {
    "model.gguf": "llama.cpp reads it: llama_cpp.Llama(model_path=…)",
    "model.onnx": "onnxruntime reads it: onnxruntime.InferenceSession(…)",
}


def load(path: Union[str, "os.PathLike[str]"], as_: str | None = None, **options: Any) -> Any:
    """Loads a network that NormFold wrote, in float32 and ready for inference.

    :param as_: ``transformers`` for a model of transformers, ``transformer_lens`` for a HookedTransformer (TransformerLens 2 and 3) or a
        TransformerBridge (4); None for what the directory was written for.
    :param options: are handed to ``from_pretrained``, for transformers only.
    """
    folder = os.fspath(path)
    if os.path.exists(os.path.join(folder, "model.onnx")) or not os.path.exists(os.path.join(folder, "config.json")):
        for name, advice in _OTHERS.items():
            if os.path.exists(os.path.join(folder, name)):
                raise ValueError(f"{folder} holds {name}; {advice}")
        raise FileNotFoundError(f"{folder} holds no config.json of a network that was written")
    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        config = json.load(file)
    written_for = "transformer_lens" if "d_vocab" in config else "transformers"
    as_ = (as_ or written_for).replace("-", "_")
    if as_ == "transformers" and written_for == as_:
        return _transformers(folder, options)
    if as_ == "transformer_lens":
        return _transformer_lens(folder, config, options) if written_for == as_ else _bridge(folder, options)
    if as_ == "transformers":
        raise ValueError(f"{folder} was written for TransformerLens; convert it with targets=['transformers']")
    raise ValueError(f"as_: expected 'transformers' or 'transformer_lens', found '{as_}'")


def _transformers(folder: str, options: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    settings = {"trust_remote_code": True, "dtype": torch.float32, **options}
    return AutoModelForCausalLM.from_pretrained(folder, **settings).eval()


def _tokenizer(folder: str) -> Any:
    """The tokenizer beside the weights, if there is one."""
    if not any(os.path.exists(os.path.join(folder, name)) for name in ("tokenizer.json", "vocab.json")):
        return None
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)


def _transformer_lens(folder: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
    if options:
        raise TypeError(f"load(as_='transformer_lens') takes no {', '.join(options)}")
    import transformer_lens
    from safetensors.torch import load_file

    weights = load_file(os.path.join(folder, "model.safetensors"))
    tokenizer = _tokenizer(folder)
    if hasattr(transformer_lens, "HookedTransformer"):
        model = transformer_lens.HookedTransformer(
            transformer_lens.HookedTransformerConfig(**config), tokenizer=tokenizer)
        # The class's own constants of the causal mask are the only tensors that the file leaves out.
        model.load_state_dict(model.state_dict() | weights)
        return model.eval()
    from transformer_lens.config import TransformerBridgeConfig
    from transformer_lens.conversion_utils import convert_tl_checkpoint
    from transformer_lens.model_bridge import TransformerBridge

    settings = TransformerBridgeConfig(**config)
    model = TransformerBridge.boot_native(settings, tokenizer=tokenizer)
    model.load_state_dict(convert_tl_checkpoint(weights, settings))
    return model.eval()


def _bridge(folder: str, options: dict[str, Any]) -> Any:
    """What was written for stock GPT-2, which TransformerBridge reads as it is."""
    try:
        from transformer_lens.model_bridge import TransformerBridge
    except ImportError:
        raise ValueError(
            f"{folder} was written for transformers, which this version of TransformerLens does not read; convert it with "
            "targets=['transformer-lens']") from None
    return TransformerBridge.boot_transformers(folder, **options)
