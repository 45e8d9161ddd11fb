"""JUnit XML, as pytest, Maven, CTest, Go and many others write it.

They follow no common schema. `testcase` elements are read at any depth, and in them `failure`,
`error`, `skipped` and `system-out`; GoogleTest and CTest mark disabled and skipped tests by
attributes. The parser is expat, set to refuse document types, so that there are no entities to
expand or fetch.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Final
from xml.parsers import expat

from job_engine.grading.results.base import (
    MAX_DOCUMENT_BYTES,
    HarnessError,
    Reading,
    TestOutput,
)
from job_engine.grading.results.cases import MAX_CASES, Case, reading_of
from job_engine.grading.results.hostile import MAX_TEXT

_MAX_DEPTH: Final = 64
_NOT_RUN: Final = frozenset({"notrun", "disabled", "suppressed", "skipped"})
_TEXTS: Final = frozenset({"failure", "error", "skipped", "system-out", "system-err"})


def read_junit(output: TestOutput) -> Reading:
    """Read the named file, or every `*.xml` in the results directory."""
    if output.path is not None:
        documents = [output.document(output.path)]
    else:
        documents = [data for name, data in sorted(output.files.items()) if name.endswith(".xml")]
    if not documents:
        raise HarnessError("The tests wrote no JUnit XML file into the results directory.")
    cases: list[Case] = []
    seconds = 0.0
    for document in documents:
        parser = _Parser()
        # In a document that was cut short, all closed cases are complete.
        cut = contextlib.suppress(HarnessError) if output.cut_short else contextlib.nullcontext()
        with cut:
            parser.feed(document)
        cases += parser.cases
        seconds += parser.seconds
        if len(cases) > MAX_CASES:
            break
    if not cases:
        raise HarnessError("The JUnit XML holds no testcase.")
    return replace(
        reading_of(cases, output.weights, seconds=seconds), total_known=not output.cut_short
    )


class _Parser:
    """Collects test cases, with bounded memory for any document."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self.seconds = 0.0
        self._depth = 0
        self._case: Case | None = None
        self._text: list[str] | None = None
        self._kept = 0

    def feed(self, document: bytes) -> None:
        """Parse a whole document; raises `HarnessError`."""
        if len(document) > MAX_DOCUMENT_BYTES:
            raise HarnessError("The JUnit XML is too large.")
        parser = expat.ParserCreate()
        parser.buffer_text = True
        parser.StartDoctypeDeclHandler = self._refuse
        parser.EntityDeclHandler = self._refuse
        parser.StartElementHandler = self._start
        parser.EndElementHandler = self._end
        parser.CharacterDataHandler = self._characters
        try:
            parser.Parse(document, True)
        except (expat.ExpatError, ValueError, LookupError) as error:
            raise HarnessError(f"The JUnit XML cannot be parsed: {error}") from None

    def _refuse(self, *_: object) -> None:
        raise HarnessError("The JUnit XML declares a document type, which is not taken.")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise HarnessError("The JUnit XML is nested too deeply.")
        if name == "testcase":
            self._case = _case_of(attributes)
            with contextlib.suppress(ValueError):
                self.seconds += min(max(float(attributes.get("time", "0")), 0.0), 1e6)
        elif self._case is not None and name in _TEXTS:
            if name in ("failure", "error"):
                self._case.passed = self._case.skipped = False
            self._case.skipped |= name == "skipped"
            self._text = [attributes.get("message", "")]
            self._kept = 0

    def _characters(self, data: str) -> None:
        if self._text is not None and self._kept < MAX_TEXT:
            self._text.append(data[:MAX_TEXT])
            self._kept += len(data)

    def _end(self, name: str) -> None:
        self._depth -= 1
        if self._case is None:
            return
        if name in _TEXTS and self._text is not None:
            self._case.lines += [text for text in self._text if text.strip()]
            self._text = None
        elif name == "testcase":
            if len(self.cases) <= MAX_CASES:
                self.cases.append(self._case)
            self._case = None


def _case_of(attributes: dict[str, str]) -> Case:
    name, group = attributes.get("name", ""), attributes.get("classname", "")
    not_run = attributes.get("status", "").lower() in _NOT_RUN or (
        attributes.get("result", "").lower() in _NOT_RUN
    )
    shown = f"{group}.{name}" if group else name or "(no name)"
    return Case(name=shown, passed=True, skipped=not_run)
