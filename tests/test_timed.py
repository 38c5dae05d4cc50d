"""No test asserts how long something took: machines differ, and are busy. Speed is shown by benchmarks/."""

import ast
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
CLOCKS = {"time", "monotonic", "perf_counter", "process_time", "thread_time"}
CLOCKS |= {f"{name}_ns" for name in CLOCKS}


def is_clock(node: ast.AST) -> bool:
    """Whether it calls a clock of the module time, by whichever name."""
    if not isinstance(node, ast.Call) or node.args:
        return False
    name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    return name in CLOCKS


def timed(code: str) -> list[int]:
    """Lines that assert a comparison of a number with a difference of times, or with what was made of one."""
    if not any(f"{clock}()" in code for clock in CLOCKS):
        return []  # parsing all files takes seconds
    tree = ast.parse(code)
    spans = [node for node in ast.walk(tree) if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub)]
    spans = [node for node in spans if is_clock(node.left) or is_clock(node.right)]
    names: set[str] = set()
    for node in ast.walk(tree):
        if any(span in ast.walk(node) for span in spans):
            if isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                names |= {one.id for target in targets for one in ast.walk(target) if isinstance(one, ast.Name)}
            elif isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "append":
                names |= {one.id for one in ast.walk(node.func) if isinstance(one, ast.Name)}
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Assert)
        and isinstance(node.test, ast.Compare)
        and any(isinstance(side, ast.Constant) for side in node.test.comparators)
        and any(one in spans or (isinstance(one, ast.Name) and one.id in names) for one in ast.walk(node.test))
    ]


@pytest.mark.parametrize(
    ("code", "lines"),
    [
        ("assert time.monotonic() - began < 5", [1]),
        ("took = perf_counter() - began\nassert took <= 0.1", [2]),
        ("for r in rounds:\n    delays.append(time.time() - ended[r])\nassert max(delays) < 2", [3]),
        ("assert time.monotonic() < deadline", []),  # a limit of waiting
        ("took = time.monotonic() - began\nprint(took)\nassert found == 5", []),
    ],
)
def test_what_a_timed_test_looks_like(code, lines):
    assert timed(code) == lines


def test_no_test_is_timed():
    found = {str(path.relative_to(TESTS)): timed(path.read_text("utf-8")) for path in TESTS.rglob("*.py")}
    assert {path: lines for path, lines in found.items() if lines} == {}
