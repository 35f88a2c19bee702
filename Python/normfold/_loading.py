"""Loads what was written in the library that it was written for, or in another."""

from __future__ import annotations

import json
import os
import tempfile
from typing import Any, Union

from ._program import Report, run

_OTHERS = {
    "model.gguf": "llama.cpp reads it: llama_cpp.Llama(model_path=…)",
    "model.onnx": "onnxruntime reads it: onnxruntime.InferenceSession(…)",
}
#: What `load` gives, and the target that is written for it.
_TARGETS = {"transformers": "transformers", "transformer_lens": "transformer-lens"}


def load(path: Union[str, "os.PathLike[str]"], as_: str | None = None, **options: Any) -> Any:
    """Loads a network that NormFold wrote, in float32 and ready for inference.

    What was written for the other library is converted first, into a temporary directory, and verified as every conversion is.

    :param as_: ``transformers`` for a model of transformers, ``transformer_lens`` for a HookedTransformer (TransformerLens 2 and 3) or a
        TransformerBridge (4), whichever version is installed; None for what the directory was written for.
    :param options: are handed to ``from_pretrained``, for transformers only.
    :raises Refusal: where what was written cannot be converted for the other library.
    """
    folder = os.fspath(path)
    config = _config(folder)
    written_for = "transformer_lens" if "d_vocab" in config else "transformers"
    library = (as_ or written_for).replace("-", "_")
    if library not in _TARGETS:
        raise ValueError(f"as_: expected {' or '.join(map(repr, _TARGETS))}, found '{as_}'")
    if library == "transformer_lens" and options:
        raise TypeError(f"load(as_='transformer_lens') takes no {', '.join(options)}")
    if library == written_for:
        return _LOADERS[library](folder, config, options)
    if library == "transformer_lens" and config.get("architectures") == ["GPT2LMHeadModel"] and not _has_hooked_transformer():
        return _bridge_of_stock_class(folder)
    with tempfile.TemporaryDirectory() as place:
        converted = os.path.join(place, "converted")
        report = run("convert", folder, converted, options={"for": _TARGETS[library]}, result=Report)
        if not report.holds:
            raise ValueError(f"{folder} could not be converted for {library}: not every claim holds")
        return _LOADERS[library](converted, _config(converted), options)


def _config(folder: str) -> dict[str, Any]:
    file_name = os.path.join(folder, "config.json")
    if os.path.exists(os.path.join(folder, "model.onnx")) or not os.path.exists(file_name):
        for name, advice in _OTHERS.items():
            if os.path.exists(os.path.join(folder, name)):
                raise ValueError(f"{folder} holds {name}; {advice}")
        raise FileNotFoundError(f"{folder} holds no config.json of a network that was written")
    with open(file_name, encoding="utf-8") as file:
        return dict(json.load(file))


def _transformers(folder: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
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


def _has_hooked_transformer() -> bool:
    """Whether the installed TransformerLens is older than version 4, which answers with an ImportError."""
    try:
        from transformer_lens import HookedTransformer  # noqa: F401
    except ImportError:
        import transformer_lens  # noqa: F401

        return False
    return True


def _transformer_lens(folder: str, config: dict[str, Any], options: dict[str, Any]) -> Any:
    from safetensors.torch import load_file

    weights = load_file(os.path.join(folder, "model.safetensors"))
    tokenizer = _tokenizer(folder)
    if _has_hooked_transformer():
        import transformer_lens

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


def _bridge_of_stock_class(folder: str) -> Any:
    """What was written for stock GPT-2, which TransformerBridge reads as it is."""
    from transformer_lens.model_bridge import TransformerBridge

    return TransformerBridge.boot_transformers(folder)


_LOADERS = {"transformers": _transformers, "transformer_lens": _transformer_lens}
