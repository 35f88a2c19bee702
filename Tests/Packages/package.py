"""Tries the Python package where nothing but Python is installed.

usage: package.py CHECKPOINT DIRECTORY
"""

import pathlib
import sys

import normfold

source, place = sys.argv[1], pathlib.Path(sys.argv[2])
place.mkdir()


def check(condition, what):
    if not condition:
        sys.exit(f"FAILED normfold: {what}")


def refusal(function, *arguments, **options):
    try:
        function(*arguments, **options)
    except normfold.Refusal as refusal:
        return refusal
    sys.exit(f"FAILED normfold: {function.__name__}{arguments} was not refused")


check(all(site.is_foldable for site in normfold.inspect(source).sites), "inspect")
plan = normfold.plan(source, "gpt2")
check(plan.target == "gpt2" and len(plan.tensors) > 10, "plan")

steps = []
report = normfold.convert(source, place / "out", targets=["transformers"], progress=steps.append)
check(report.holds and report.published, "convert holds")
check([output.target for output in report.outputs] == ["transformers"], "outputs")
check(report.outputs[0].is_norm_free and report.outputs[0]["isNormFree"], "entries as attributes and as items")
check(report.verification.targets[0].algebra_holds, "verification")
check({step.stage for step in steps} >= {"writing", "verifying"}, f"progress: {steps[:3]}")
check(all(0 <= step.done <= step.total for step in steps), "progress counts")

found = refusal(normfold.convert, source, place / "out")
check(found.category == "output" and found.status == 8, "category")
check(found.problem == "exists already" and found.file.endswith("out") and "--force" in found.advice, str(found))
check(normfold.convert(source, place / "out", targets="gpt2", force=True, type="bf16").outputs[0].type == "BF16", "options")
check(normfold.convert(source, place / "fast", verify=False).verification is None, "no verification")

check(normfold.verify(source, place / "fast").holds, "verify")
other = normfold.verify(source, place / "out")
check(other.holds == other["holds"] and other.single.logits.largest > 0, "what was rounded")
check(refusal(normfold.inspect, place / "absent").category == "malformed", "malformed")
check(refusal(normfold.convert, source, place / "x", targets=["nothing"]).category == "usage", "usage")
check(refusal(normfold.run, "inspect", source, options={"no_such_option": True}).category == "usage", "option")
check(not (place / "x").exists(), "nothing is left")
check(normfold.version().startswith("normfold "), "version")
print("ok  the package normfold")
