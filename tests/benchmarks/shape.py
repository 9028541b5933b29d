"""The shape of the code in figures, a column for each folder.

`python -m tests.benchmarks.shape [FOLDER...]`

The figures are for reading, not for meeting: a number that is met by packing lines or by padding
them says nothing.
"""

from __future__ import annotations

import ast
import io
import sys
import tokenize
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

#: Rooms are folders at most so deep below the package.
_DEPTH = 2


@dataclass
class Shape:
    """Sums over the Python files of one package."""

    files: int = 0
    #: Lines that hold code, and their AST nodes without docstrings.
    code_lines: int = 0
    nodes: int = 0
    #: Lines that hold a comment or are part of a docstring, and all lines that are not empty.
    prose_lines: int = 0
    lines: int = 0
    widths: list[int] = field(default_factory=list)
    #: Nodes of each function.
    functions: list[int] = field(default_factory=list)
    #: Private functions and methods by name, and how often each name occurs in the package.
    private: list[str] = field(default_factory=list)
    names: Counter[str] = field(default_factory=Counter)
    loose_dicts: int = 0
    #: Class -> attributes that its methods set on self.
    attributes: dict[str, int] = field(default_factory=dict)
    rooms: Counter[str] = field(default_factory=Counter)


def main() -> int:
    folders = [Path(name) for name in sys.argv[1:]] or [Path(__file__).parents[2] / "dct_celery"]
    columns = [_rows(_shape(folder)) for folder in folders]
    print(
        f"{'':44}" + "".join(f"{folder.parent.name + '/' + folder.name:>24}" for folder in folders)
    )
    for name in columns[0]:
        print(f"{name:44}" + "".join(f"{column.get(name, ''):>24}" for column in columns))
    for folder in folders:
        shape = _shape(folder)
        print(f"\n{folder}")
        print(
            "  files per room: "
            + ", ".join(f"{room} {many}" for room, many in shape.rooms.most_common())
        )
        largest = sorted(shape.attributes.items(), key=lambda item: -item[1])[:8]
        print(
            "  attributes of the largest classes: "
            + ", ".join(f"{name} {many}" for name, many in largest)
        )
    return 0


def _rows(shape: Shape) -> dict[str, str]:
    once = [name for name in shape.private if shape.names[name] <= 2]  # its definition and one use
    ordered = sorted(shape.widths)
    return {
        "files": f"{shape.files}",
        "lines of code": f"{shape.code_lines:,}",
        "AST nodes per line of code": f"{shape.nodes / shape.code_lines:.1f}",
        "prose (comments, docstrings) of all lines": (
            f"{100 * shape.prose_lines / shape.lines:.1f} %"
        ),
        "width of a line of code, median / p90": (
            f"{median(ordered):.0f} / {ordered[len(ordered) * 9 // 10]}"
        ),
        "nodes per function, median": f"{median(shape.functions):.0f}",
        "private helpers used once, of all functions": (
            f"{100 * len(once) / len(shape.functions):.1f} %"
        ),
        "dict[str, Any] per 1,000 lines of code": (
            f"{1000 * shape.loose_dicts / shape.code_lines:.1f}"
        ),
    }


def _shape(folder: Path) -> Shape:
    shape = Shape()
    for path in sorted(folder.rglob("*.py")):
        inside = path.relative_to(folder).parts
        shape.rooms["/".join(inside[:-1][:_DEPTH]) or "(top)"] += 1
        _add(shape, path.read_text(encoding="utf-8"))
    return shape


def _add(shape: Shape, text: str) -> None:
    tree = ast.parse(text)
    prose, code = _lines(text, tree)
    split = text.splitlines()
    shape.files += 1
    shape.code_lines += len(code)
    shape.prose_lines += len(prose)
    shape.lines += sum(1 for line in split if line.strip())
    shape.widths += [len(split[number - 1]) for number in code]
    shape.nodes += _count(tree) - 2 * len(list(_docstrings(tree)))
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                shape.functions.append(_count(node))
                shape.names[name] += 1
                if name.startswith("_") and not name.startswith("__"):
                    shape.private.append(name)
            case ast.Name(id=name) | ast.Attribute(attr=name):
                shape.names[name] += 1
            case ast.ClassDef():
                shape.attributes[node.name] = len(set(_attributes(node)))
            case ast.Subscript():
                shape.loose_dicts += ast.unparse(node) == "dict[str, Any]"


def _count(tree: ast.AST) -> int:
    """Nodes, without those that every name carries to say whether it is read or written."""
    return sum(1 for node in ast.walk(tree) if not isinstance(node, ast.expr_context))


def _attributes(cls: ast.ClassDef) -> Iterator[str]:
    """Names that are assigned on self, and fields of a dataclass."""
    for node in ast.walk(cls):
        targets: Iterable[ast.expr] = ()
        if isinstance(node, ast.Assign):
            targets = node.targets
        elif isinstance(node, ast.AnnAssign):
            targets = (node.target,)
        for target in targets:
            for one in target.elts if isinstance(target, ast.Tuple) else (target,):
                match one:
                    case ast.Attribute(value=ast.Name(id="self"), attr=name):
                        yield name
                    case ast.Name(id=name) if node in cls.body:
                        yield name


def _docstrings(tree: ast.AST) -> Iterator[ast.Expr]:
    for node in ast.walk(tree):
        if (
            isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef))
            and node.body
        ):
            first = node.body[0]
            if (
                isinstance(first, ast.Expr)
                and isinstance(first.value, ast.Constant)
                and isinstance(first.value.value, str)
            ):
                yield first


def _lines(text: str, tree: ast.AST) -> tuple[set[int], set[int]]:
    """Numbers of the lines that hold prose, and of those that hold code."""
    prose = {
        n
        for doc in _docstrings(tree)
        for n in range(doc.lineno, (doc.end_lineno or doc.lineno) + 1)
    }
    code: set[int] = set()
    blank = {
        tokenize.NL,
        tokenize.NEWLINE,
        tokenize.INDENT,
        tokenize.DEDENT,
        tokenize.ENDMARKER,
        tokenize.ENCODING,
    }
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        span = range(token.start[0], token.end[0] + 1)
        if token.type == tokenize.COMMENT:
            prose.update(span)
        elif token.type not in blank:
            code.update(n for n in span if n not in prose)
    return prose - code, code


if __name__ == "__main__":
    sys.exit(main())
