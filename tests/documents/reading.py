"""A page as somebody reads it: its files are written, and its commands are typed, from top to bottom."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.conftest import Command, Outcome
from tests.cli.instances import Command as Process
from tests.cli.terminal import answering
from tests.documents.blocks import Block, Said
from tests.documents.statements import SHELLS, Statement, fits, statements, whole

DOCUMENT = "apiVersion: ringfence/v1"
PATIENCE_SECONDS = 120


class Reader:
    """Who follows one page, in the directory that is current."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._instead: dict[str, str] = {}
        self._to_find: dict[str, str] = {}
        self._beside: list[Process] = []

    def follow(self, page: list[Block]) -> None:
        """Do all that a page says. Its files are there from the beginning."""
        for block in page:
            if block.file is not None:
                _write(block.file, block.text)
        for block in page:
            self._follow(block)

    def _follow(self, block: Block) -> None:
        """Do what a block is there for. Fails where something else comes of it than the page says."""
        for mark in block.marks:
            if mark.said is Said.FIRST:
                for line in whole(self._in_place(mark.text)):
                    one = Statement(line)
                    self._compare(block, one, 0, self._run(one))
            elif mark.said is Said.HERE:
                text, _, line = mark.text.partition(" = ")
                self._to_find[text] = line
        if block.file is not None:
            _write(block.file, self._in_place(block.text))
        elif block.language in SHELLS:
            for statement in statements(block):
                if not block.said(Said.NOT_RUN, statement.text):
                    self._do(block, statement)
        elif block.language == "yaml" and DOCUMENT in block.text and not block.said(Said.NOT_RUN):
            done = self._shell("ringfence apply --dry-run -f -", self._in_place(block.text))
            assert done.status == 0, f"{block.place}: {done.stdout}{done.stderr}"

    def end(self) -> None:
        """End what goes on beside the page."""
        for process in self._beside:
            process.process.terminate()
            process.ended()

    def _do(self, block: Block, statement: Statement) -> None:
        """Type one statement, as the block's marks say."""
        said = {what: mark for what in Said if (mark := block.said(what, statement.text))}
        statement = Statement(self._in_place(statement.text), statement.shown)
        if Said.BACKGROUND in said:
            assert statement.words is not None, f"{block.place}: a shell's own syntax"
            process = Process(*statement.words[1:])
            self._beside.append(process)
            process.until_it_says(said[Said.BACKGROUND].text)
            return
        status = int(said[Said.STATUS].text) if Said.STATUS in said else 0
        deadline = time.monotonic() + (PATIENCE_SECONDS if Said.AGAIN in said else 0)
        while True:
            if Said.ASKED in said:
                outcome = _at_a_terminal(statement, said[Said.ASKED].text)
            elif Said.GIVEN in said:
                outcome = self._shell(statement.text, self._in_place(said[Said.GIVEN].text) + "\n")
            else:
                outcome = self._run(statement)
            try:
                self._compare(block, statement, status, outcome)
            except AssertionError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def _compare(self, block: Block, statement: Statement, status: int, outcome: Outcome) -> None:
        """Fails unless it ended so, and printed what the page shows."""
        told = f"{block.place}: {statement.text}\n{outcome.stdout}{outcome.stderr}"
        assert outcome.status == status, f"status {outcome.status}: {told}"
        assert "Traceback" not in outcome.stderr, told
        if statement.shown:
            shown = self._in_place(statement.shown)
            assert fits(shown, outcome.stdout, outcome.stderr), f"the page shows:\n{shown}\n{told}"

    def _run(self, statement: Statement) -> Outcome:
        words = statement.words
        return self._shell(statement.text) if words is None else self._command(*words[1:])

    def _shell(self, text: str, given: str = "") -> Outcome:
        path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", text],
            input=given,
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            env={**os.environ, "PATH": path},
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def _in_place(self, text: str) -> str:
        for one in [one for one in self._to_find if one in text]:
            self._instead[one] = self._shell(self._to_find.pop(one)).stdout.strip()
            assert self._instead[one], f"there is nothing to put in the place of {one}"
        for old, new in self._instead.items():
            text = text.replace(old, new)
        return text


def _at_a_terminal(statement: Statement, typed: str) -> Outcome:
    words = statement.words
    assert words is not None, statement.text
    status, shown = answering(f"{typed}\n".encode(), *words[1:])
    return Outcome(status, shown, "")


def _write(name: str, text: str) -> None:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
