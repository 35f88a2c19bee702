"""Runs the program and makes objects of what it prints."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import threading
from typing import Any, Callable, Iterator, Mapping, NamedTuple, Type, TypeVar


class Refusal(Exception):
    """What the program refuses: one sentence, and its parts."""

    def __init__(self, message: str, parts: Mapping[str, Any]):
        super().__init__(message)
        #: ``usage``, ``malformed``, ``unsupported``, ``notFoldable``, ``nonFinite``, ``mismatch``, ``output``, ``interrupted``
        #: or, for a defect of the program, ``internal``.
        self.category: str = parts["category"]
        self.status: int = parts["status"]
        self.problem: str = parts["problem"]
        self.advice: str = parts.get("advice") or ""
        self.file: str | None = parts.get("file")
        self.subject: str | None = parts.get("subject")
        self.byte_offset: int | None = parts.get("byteOffset")


class Progress(NamedTuple):
    """How far a long run is."""

    stage: str
    subject: str
    done: int
    total: int
    unit: str


ProgressCallback = Callable[[Progress], Any]


class Document(Mapping[str, Any]):
    """A JSON document of the program. Its entries are attributes, ``document.is_norm_free``, and items,
    ``document["isNormFree"]``."""

    def __init__(self, entries: Mapping[str, Any]):
        self._entries = dict(entries)

    def __getitem__(self, name: str) -> Any:
        return _wrapped(self._entries[name])

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_"):
            camel = re.sub(r"_([a-z0-9])", lambda match: match[1].upper(), name)
            for spelling in (name, camel):
                if spelling in self._entries:
                    return self[spelling]
        raise AttributeError(f"{type(self).__name__} has no '{name}'; it has {', '.join(self._entries)}")

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *(_snake(name) for name in self._entries)]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(_snake(name) for name in self._entries)})"

    def json(self) -> dict[str, Any]:
        """The document as it was printed."""
        return json.loads(json.dumps(self._entries))


class Report(Document):
    """What a conversion did, and what was proved of it."""

    #: Whether every claim holds that was looked at.
    holds: bool
    #: Whether the output stands at its destination.
    published: bool
    source: str
    dialect: str
    outputs: list[Document]
    warnings: list[str]

    @property
    def verification(self) -> Document | None:
        """The numbers behind the claims; None with ``verify=False``."""
        return self.get("verification")


class Verification(Document):
    """How two checkpoints compare."""

    holds: bool
    single: Document
    double: Document
    limits: Document
    probes: list[str]
    warnings: list[str]


class Inspection(Document):
    """What a checkpoint is."""

    layout: str
    dialect: str
    sites: list[Document]
    warnings: list[str]


class Plan(Document):
    """What a conversion would write."""

    target: str
    steps: list[Document]
    tensors: list[Document]


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])([A-Z])", r"_\1", name).lower()


def _wrapped(value: Any) -> Any:
    if isinstance(value, dict):
        return Document(value)
    return [_wrapped(item) for item in value] if isinstance(value, list) else value


def program() -> str:
    """The path of the program that was installed with this package; ``NORMFOLD`` names another."""
    if named := os.environ.get("NORMFOLD"):
        return named
    schemes = [sysconfig.get_default_scheme() if sys.version_info >= (3, 10) else None, f"{os.name}_user"]
    for scheme in schemes:
        folder = sysconfig.get_path("scripts", scheme) if scheme else sysconfig.get_path("scripts")
        if folder and os.access(path := os.path.join(folder, "normfold"), os.X_OK):
            return path
    # pip install --target
    beside = os.path.join(os.path.dirname(os.path.dirname(__file__)), "bin", "normfold")
    found = beside if os.access(beside, os.X_OK) else shutil.which("normfold")
    if not found:
        raise FileNotFoundError("the program 'normfold' is not where pip puts programs; name it in NORMFOLD")
    return found


def version() -> str:
    """``normfold 0.1.0``"""
    return subprocess.run([program(), "--version"], check=True, capture_output=True, text=True).stdout.strip()


def _arguments(options: Mapping[str, Any]) -> list[str]:
    arguments = []
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        if value is None or (value is False and name != "verify"):
            continue
        if value is False:
            arguments.append("--no-verify")
        elif value is True:
            arguments.append(flag)
        else:
            values = value if isinstance(value, (list, tuple)) else [value]
            arguments += [f"{flag}={os.fspath(item) if isinstance(item, os.PathLike) else item}" for item in values]
    return arguments


def _positional(value: Any) -> str:
    path = os.fspath(value)
    return f"./{path}" if path.startswith("-") else path


_Result = TypeVar("_Result")


def run(
    command: str, *paths: Any, options: Mapping[str, Any] | None = None, result: Type[_Result] = Document,  # type: ignore[assignment]
    progress: ProgressCallback | None = None, input: str | None = None,
) -> _Result:
    """Runs one command and returns its document.

    :param options: by their names, with ``_`` for ``-``.
    :param result: the class of the document; ``str`` for what is printed as it is.
    :param input: what the command reads from standard input.
    :raises Refusal: where the command refuses.
    """
    arguments = [program(), command, *map(_positional, paths), *_arguments(options or {})]
    if result is not str:
        arguments.append("--json")
    if progress:
        arguments.append("--progress-lines")
    process = subprocess.Popen(
        arguments, stdin=subprocess.PIPE if input is not None else subprocess.DEVNULL, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, encoding="utf-8")
    printed: list[str] = []
    assert process.stdin or input is None
    assert process.stdout and process.stderr

    def exchange() -> None:
        if process.stdin and input is not None:
            try:
                process.stdin.write(input)
                process.stdin.close()
            except BrokenPipeError:
                pass
        printed.append(process.stdout.read())  # type: ignore[union-attr]

    reader = threading.Thread(target=exchange)
    reader.start()
    messages = []
    try:
        for line in process.stderr:
            if progress and line.startswith('{"progress":'):
                progress(Progress(**json.loads(line)["progress"]))
            else:
                messages.append(line)
    except BaseException:
        process.terminate()
        raise
    finally:
        reader.join()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    return _answer(process.returncode, "".join(printed), "".join(messages).strip(), result)


def _answer(status: int, printed: str, messages: str, result: Type[_Result]) -> _Result:
    # 6 and 7 are verdicts where there is a document; a refusal has one of its own.
    document = None
    if result is not str or status != 0:
        try:
            document = json.loads(printed)
        except ValueError:
            pass
    if isinstance(document, dict) and "error" in document:
        raise Refusal(document["error"]["message"], document["error"])
    if status not in (0, 6, 7) or (document is None and result is not str):
        problem = re.sub(r"^[Ee]rror: ", "", messages.split("\nUsage:")[0])
        category = {2: "usage", 9: "interrupted"}.get(status, "internal")
        raise Refusal(problem, {"category": category, "status": status, "problem": problem})
    if result is str:
        return printed  # type: ignore[return-value]
    return result({"holds": status == 0, **document})  # type: ignore[call-arg, dict-item]
