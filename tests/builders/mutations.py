"""Files as a slip of the hand, a full disk or a bad sector leaves them."""

import re

from hypothesis import strategies as st

LITERALS = (
    *("0", "-1", "99999999999999999999", "1.5", "nan", "-inf", "true", '""', '"x"', '"\\u0000"', "[]", "{}", "[[]]"),
    *("1979-05-27", '["a", 1]', "{ a = 1 }", "[{}]", '"../../etc/passwd"', '"é\u2028"'),
)
_VALUE = re.compile(r"^(\s*[\w\".-]+\s*=\s*)(.*)$")


@st.composite
def texts(draw: st.DrawFn, valid: str) -> bytes:
    """A text file with one to three changes: a value, a line that is lost, doubled or moved, a byte, or its end."""
    content = valid.encode()
    for _ in range(draw(st.integers(1, 3))):
        kind = draw(st.sampled_from(["value", "lose", "double", "header", "byte", "cut"]))
        if kind in ("byte", "cut"):
            content = draw(damaged(content))
            continue
        lines = content.decode("utf-8", "replace").splitlines() or [""]
        at = draw(st.integers(0, len(lines) - 1))
        if kind == "value" and (found := _VALUE.match(lines[at])):
            lines[at] = found[1] + draw(st.sampled_from(LITERALS))
        elif kind == "lose":
            del lines[at]
        elif kind == "double":
            lines.insert(draw(st.integers(0, len(lines))), lines[at])
        else:
            lines.insert(at, draw(st.sampled_from(["[x]", "[[policy]]", "[label.classes]", "y = 1", "= 2", "[", "#"])))
        content = "\n".join([*lines, ""]).encode()
    return content


@st.composite
def damaged(draw: st.DrawFn, valid: bytes) -> bytes:
    """A file whose end is lost, or some of whose bytes are others; it may be empty, and may be what it was."""
    if not valid or draw(st.booleans()):
        return valid[: draw(st.integers(0, len(valid)))]
    changed = bytearray(valid)
    for _ in range(draw(st.integers(1, 4))):
        changed[draw(st.integers(0, len(changed) - 1))] ^= 1 << draw(st.integers(0, 7))
    return bytes(changed)
