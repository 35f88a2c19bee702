"""NormFold: folds the frozen LayerNorms of transformers into their weights, and proves that nothing changed.

    import normfold

    report = normfold.convert("gpt2-lnfree", "out", targets=["transformers"])
    print(report.holds, report.outputs[0].is_norm_free)
    model = normfold.load("out")

Every function runs the program ``normfold`` once and returns the document that it prints with ``--json``, as a `Document`. Options
are the program's, with ``_`` for ``-``: ``type="bf16"``, ``force=True``, ``text=["a.txt", "b.txt"]``; ``normfold --help`` describes
them. What the program refuses is raised as a `Refusal`. Nothing but Python's own library is needed; `load` imports the
package that it loads a model with.
"""

from __future__ import annotations

import os
from typing import Any, Sequence, Union

from ._loading import load
from ._program import (
    Document, Inspection, Plan, Progress, ProgressCallback, Refusal, Report, Verification, program, run, version,
)

__all__ = [
    "Document", "Inspection", "Plan", "Progress", "ProgressCallback", "Refusal", "Report", "Verification", "calibrate", "convert",
    "decode", "diagnose", "evaluate", "generate", "inspect", "load", "plan", "program", "run", "tokenize", "verify", "version",
]

# What users see of the classes is where they import them from.
for _class in (Document, Inspection, Plan, Progress, Refusal, Report, Verification):
    _class.__module__ = __name__

Path = Union[str, "os.PathLike[str]"]


def inspect(model: Path, **options: Any) -> Inspection:
    """Describes a checkpoint, and says of each norm in ``sites`` whether it can be folded (``is_foldable``)."""
    return run("inspect", model, options=options, result=Inspection)


def plan(model: Path, target: str = "transformers", **options: Any) -> Plan:
    """Says what a conversion would write, tensor by tensor, without computing any."""
    return run("plan", model, options={"for": target, **options}, result=Plan)


def convert(
    source: Path, destination: Path, targets: Sequence[str] = ("transformers",), *,
    progress: ProgressCallback | None = None, **options: Any,
) -> Report:
    """Folds the norms of a checkpoint, verifies the logits, and writes the result for one runtime or several.

    A claim that does not hold is an answer: ``holds`` is false, and nothing was written.

    :param targets: one writes into ``destination``, several into a directory of each target's name.
    :param progress: is called with a `Progress` now and then, from the thread that called.
    :raises Refusal: where no verdict is reached, or the destination exists already (``force=True`` replaces it).
    """
    names = [targets] if isinstance(targets, str) else list(targets)
    return run("convert", source, destination, options={"for": names, **options}, result=Report, progress=progress)


def verify(reference: Path, candidate: Path, *, progress: ProgressCallback | None = None, **options: Any) -> Verification:
    """Holds one checkpoint against another; ``holds`` says whether they are the same network."""
    return run("verify", reference, candidate, options=options, result=Verification, progress=progress)


def evaluate(model: Path, *, progress: ProgressCallback | None = None, **options: Any) -> Document:
    """Measures the loss of a text (``text=FILE``) or of ids (``tokens=FILE``), with ``compare=MODEL`` beside another model."""
    return run("eval", model, options=options, progress=progress)


def calibrate(model: Path, *, progress: ProgressCallback | None = None, **options: Any) -> Document:
    """Measures what each norm divides by on a text."""
    return run("calibrate", model, options=options, progress=progress)


def diagnose(model: Path, *, progress: ProgressCallback | None = None, **options: Any) -> Document:
    """Measures what attention and the residual stream do on a text."""
    return run("diagnose", model, options=options, progress=progress)


def generate(model: Path, prompt: str | None = None, **options: Any) -> Document:
    """Continues a text, or ids (``prompt_tokens="1,2,3"``)."""
    return run("generate", model, options={"prompt": prompt, **options})


def tokenize(model: Path, text: str) -> list[int]:
    """Turns a text into the ids of its tokens."""
    return list(run("tokenize", model, options={"text": "-"}, input=text).ids)


def decode(model: Path, ids: Sequence[int]) -> str:
    """Turns ids back into text."""
    return run("tokenize", model, options={"text": "-", "decode": True}, input=" ".join(map(str, ids)), result=str)
