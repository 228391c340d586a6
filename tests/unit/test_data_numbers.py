"""The numbers of the course that Iris comes with: every equation between plain numbers in a formula is computed."""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest

from iris import courses

OURS = Path(__file__).parents[2] / "data" / "courses" / "id2223"

_FORMULA = re.compile(r"\$\$?([^$]+)\$\$?")
_EQUAL = re.compile(r"=|\\approx")
_OPERATORS: dict[type[ast.AST], Callable[..., float]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.Pow: operator.pow, ast.USub: operator.neg, ast.UAdd: operator.pos,
}  # fmt: skip
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "sqrt": math.sqrt, "log": math.log, "log2": math.log2, "exp": math.exp, "comb": math.comb,
}  # fmt: skip


def plain(formula: str) -> str:
    """LaTeX as an expression of Python, if it is one of plain numbers; else something that is none."""
    text = formula
    for old, new in (
        ("{,}", ""), (r"\,", ""), (r"\;", ""), (r"\!", ""), (r"\left", ""), (r"\right", ""),
        (r"\cdot", "*"), (r"\times", "*"), (r"\%", ""), ("%", ""), ("−", "-"),
        (r"\tfrac", r"\frac"), (r"\dfrac", r"\frac"),
    ):  # fmt: skip
        text = text.replace(old, new)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)", r"((\1)/(\2))", text)
    for _ in range(4):  # from the inside out
        text = re.sub(r"\\frac\{([^{}]*)\}\{([^{}]*)\}", r"((\1)/(\2))", text)
        text = re.sub(r"\\binom\{(\d+)\}\{(\d+)\}", r"comb(\1,\2)", text)
        text = re.sub(r"\\sqrt\{([^{}]*)\}", r"sqrt(\1)", text)
        text = re.sub(r"\be\^\{([^{}]*)\}", r"exp(\1)", text)
        text = re.sub(r"\^\{([^{}]*)\}", r"**(\1)", text)
    text = re.sub(r"\\sqrt\s*(\d)", r"sqrt(\1)", text)
    text = re.sub(r"\be\^(\d)", r"exp(\1)", text)
    text = re.sub(r"\^(\d)", r"**\1", text)
    for name, function in (("ln", "log"), ("log_2", "log2")):
        text = re.sub(rf"\\{name}\s*(\d+(?:\.\d+)?)", rf"{function}(\1)", text)
        text = re.sub(rf"\\{name}\s*\(", f"{function}(", text)
    text = re.sub(r"(?<=[\d)])\s*(?=\()", "*", text).replace("log2*(", "log2(")  # 2(3+4)
    return text.strip(" .,;:")


def value(expression: str) -> float | None:
    """The number that an expression of plain numbers is, or None."""
    try:
        return _value(ast.parse(expression, mode="eval").body)
    except (SyntaxError, ValueError, KeyError, TypeError, ZeroDivisionError, OverflowError):
        return None


def _value(node: ast.AST) -> float:
    if isinstance(node, ast.Constant) and isinstance(node.value, int | float):
        return float(node.value)
    if isinstance(node, ast.BinOp):
        return float(_OPERATORS[type(node.op)](_value(node.left), _value(node.right)))
    if isinstance(node, ast.UnaryOp):
        return float(_OPERATORS[type(node.op)](_value(node.operand)))
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        arguments = [_value(argument) for argument in node.args]
        whole = node.func.id == "comb"
        return float(_FUNCTIONS[node.func.id](*(map(int, arguments) if whole else arguments)))
    raise ValueError(node)


def equations(text: str) -> Iterator[tuple[str, str]]:
    """The two sides of each equation between plain numbers in the formulas of a text, as expressions."""
    for formula in _FORMULA.findall(text):
        for left, right in pairwise(map(plain, _EQUAL.split(formula))):
            if value(left) is not None and value(right) is not None:
                yield left, right


def holds(left: str, right: str) -> bool:
    """Equal within the digits that the right side has; in per cent, thousands or millions of the left as well."""
    one, other = value(left), value(right)
    assert one is not None
    assert other is not None
    if not one or not other:
        return abs(one - other) < 0.006
    rounded = 0.006  # for what is rounded on the way
    if number := re.match(r"-?(\d+)(?:\.(\d+))?(?:\*10\*\*.*)?\Z", right.replace(" ", "")):
        digits = f"{number[1]}.{number[2]}" if number[2] else number[1]
        rounded = max(rounded, 0.52 * 10.0 ** -len(number[2] or "") / max(float(digits), 1e-9))
    if re.fullmatch(r"10\*\*\(-?\d+\)", right):  # an order of magnitude
        rounded = 0.3
    powers = (0, 2, -2, 3, -3, 6, -6, 9, -9)
    return any(abs(one / other / 10.0**power - 1) <= rounded for power in powers)


@pytest.mark.parametrize(
    ("text", "sides"),
    [
        (r"$2\cdot 3=6$", [(6, 6)]),
        (r"$\frac{1}{1+e^{-2}} \approx 0.88 = 88\%$", [(0.8807970779778823, 0.88), (0.88, 88)]),
        (r"$1-\binom{7}{5}/\binom{10}{5} = 1-21/252$", [(1 - 21 / 252, 1 - 21 / 252)]),
        (r"$-\ln0.5+\log_2 8=3.69$ and $\sqrt{16}=\frac82$", [(3 - math.log(0.5), 3.69), (4, 4)]),
        (r"$4{,}096\times2 = 8\,192$ and $2^{10}=1024$", [(8192, 8192), (1024, 1024)]),
        (r"$x=3$, $f(3)=\sigma(2)$, $y=\max(0,1)$", []),
    ],
)
def test_formulas_are_read(text: str, sides: list[tuple[float, float]]) -> None:
    assert [(value(one), value(other)) for one, other in equations(text)] == [pytest.approx(pair) for pair in sides]


def test_a_wrong_number_is_found() -> None:
    for left, right in (("2*3", "7"), ("1/2", "-0.5"), ("0.88", "8.8"), ("40/900", "0.046"), ("3.14", "3.2")):
        assert not holds(left, right)
    for left, right in (
        ("2/3", "0.667"),
        ("1/40", "2.5"),
        ("40/900", "0.04"),
        ("0.6**50", "8*10**(-12)"),
        ("0", "0.0"),
    ):
        assert holds(left, right)


def test_every_equation_holds() -> None:
    course = courses.load(OURS)
    texts = {note.path.name: note.text for note in course.notes}
    texts |= {question.id: f"{question.question}\n{question.answer}" for question in course.questions}
    texts |= {item.id: f"{item.question}\n{item.explanation}" for item in course.bank}
    found = [(name, *equation) for name, text in texts.items() for equation in equations(text)]
    assert [(name, left, right) for name, left, right in found if not holds(left, right)] == []
    assert len(found) > 500


def test_dollar_signs_come_in_pairs() -> None:
    """Else a formula would swallow the text after it."""
    course = courses.load(OURS)
    texts = {note.path.name: note.text for note in course.notes}
    texts |= {question.id: question.question for question in course.questions}
    texts |= {f"{question.id} answer": question.answer for question in course.questions}
    for item in course.bank:
        parts = {"question": item.question, "explanation": item.explanation, "answer": item.answer}
        parts |= {f"option {n}": option for n, option in enumerate(item.distractors)}
        texts |= {f"{item.id} {name}": part for name, part in parts.items()}
    for name, text in texts.items():
        assert len(re.findall(r"(?<!\\)\$", text)) % 2 == 0, name
        rest = re.sub(r"(?<!\\)\$\$?[^$]+\$\$?", "", re.sub(r"```.*?```|`[^`]*`", "", text, flags=re.DOTALL))
        assert not re.search(r"\\(?:frac|cdot|times|alpha|beta|sum|sqrt|mathbf|hat|sigma|le|approx)\b", rest), name
        for formula in _FORMULA.findall(text):
            assert formula.count("{") - formula.count(r"\{") == formula.count("}") - formula.count(r"\}"), name
