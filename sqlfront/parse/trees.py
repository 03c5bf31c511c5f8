"""sqlglot's parser behind limits: what it is given, what it may say, and what comes back.

Its parser is compiled and recurses on the C stack: deep nesting must be refused before it starts. What reads the trees
afterwards (binder, rules, compilers) recurses in Python, so that deep trees are refused here as well, with error
1436, wherever the depth comes from. A long chain of ANDs or ORs is no nesting: it becomes a balanced tree.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence

from sqlglot import exp
from sqlglot.tokens import Token, TokenType

from sqlfront.errors import ER_PARSE, DatabaseError, OperationalError, error
from sqlfront.parse.text import near
from sqlfront.parse.tokens import SELECT_OPTIONS, dialect, distinct_first

NESTING_MAX = 200  # of parentheses within each other
TREE_DEPTH_MAX = 700  # of nodes below each other: what DuckDB takes, and database.PYTHON_FRAMES_MIN has room for
JOINS_MAX = 200  # in one FROM
CHAIN_MIN = 16  # operands from which a chain of ANDs or ORs is balanced


class _Quiet(logging.Filter):
    """Drops what sqlglot logs while we parse: it repeats the statement. Other users of sqlglot do not notice."""

    def __init__(self) -> None:
        super().__init__()
        self.here = threading.local()

    def filter(self, record: logging.LogRecord) -> bool:
        return not getattr(self.here, "parsing", False)


_quiet = _Quiet()
logging.getLogger("sqlglot").addFilter(_quiet)


def parse_tree(tokens: Sequence[Token], text: str) -> exp.Expression | None:
    """Parses tokens as one tree; None when they are none or several. Raises sqlglot's ParseError, 1064 and 1436."""
    kinds = [t.token_type for t in tokens]
    if len(kinds) > NESTING_MAX:
        _check_nesting(tokens)
    _check_operands(kinds, tokens, text)
    if not _DISTINCT.isdisjoint(kinds):
        tokens = distinct_first(tokens)
    if not _SET_OPERATIONS.isdisjoint(kinds):
        _check_set_operations(tokens, text)
    if not _JOINS.isdisjoint(kinds):
        tokens = cross_joins(tokens, text)
    hints: dict[str, str] = {}
    if TokenType.HINT in kinds:
        tokens, hints = hide_hints(tokens)
    if TokenType.NULLSAFE_EQ in kinds and not _COMPARISON.isdisjoint(kinds):
        tokens = _with_parentheses_kept(tokens)
    _quiet.here.parsing = True
    try:
        trees = dialect().parser().parse(list(tokens), text)
    except RecursionError as exc:
        raise too_deep(tokens[0].start) from exc
    finally:
        _quiet.here.parsing = False
    if len(trees) != 1 or trees[0] is None:
        return None
    tree = trees[0]
    if not (_EQUALITY.isdisjoint(kinds) or _COMPARISON.isdisjoint(kinds)):
        group_comparisons(tree)
    if hints:
        show_hints(tree, hints)
    if len(kinds) > 2 * CHAIN_MIN and sum(map(kinds.count, _CHAINED)) >= CHAIN_MIN:
        tree = balance(tree)
    if len(kinds) > TREE_DEPTH_MAX:
        _check_depth(tree, tokens[0].start)
    return tree


_EQUALITY = frozenset({TokenType.EQ, TokenType.NEQ, TokenType.NULLSAFE_EQ})
_COMPARISON = frozenset({TokenType.LT, TokenType.LTE, TokenType.GT, TokenType.GTE})
_LISTS = frozenset({TokenType.COMMA, TokenType.SELECT})
_COMPARED = (exp.LT, exp.LTE, exp.GT, exp.GTE)


def _with_parentheses_kept(tokens: Sequence[Token]) -> list[Token]:
    """Doubles the parentheses around a comparison behind <=>: sqlglot puts one pair around any, written or not."""
    twice: set[int] = set()
    open_: list[tuple[int, set[TokenType]]] = []
    for i, token in enumerate(tokens):
        if token.token_type == TokenType.L_PAREN:
            open_.append((i, set()))
        elif token.token_type == TokenType.R_PAREN and open_:
            start, inside = open_.pop()
            behind = start > 0 and tokens[start - 1].token_type == TokenType.NULLSAFE_EQ
            if behind and not _COMPARISON.isdisjoint(inside) and _LISTS.isdisjoint(inside):
                twice |= {start, i}
        elif open_:
            open_[-1][1].add(token.token_type)
    return [token for i, token in enumerate(tokens) for _ in range(1 + (i in twice))]


def group_comparisons(tree: exp.Expression) -> None:
    """Makes (a = b) < c of a = b < c, which is a = (b < c) to sqlglot: all comparisons bind alike, from the left."""
    for node in list(tree.find_all(exp.EQ, exp.NEQ, exp.NullSafeEQ)):
        behind = node.expression
        if isinstance(node, exp.NullSafeEQ) and isinstance(behind, exp.Paren):
            behind = behind.this  # parentheses of sqlglot's own, around those that were written
        if not isinstance(behind, _COMPARED):
            continue
        if isinstance(node.parent, (exp.Update, exp.OnConflict)) and node.arg_key == "expressions":
            continue  # an assignment
        first = behind
        while isinstance(first.this, _COMPARED):
            first = first.this
        node.replace(behind)
        node.set("expression", first.this)
        first.set("this", node)


def has_option(tree: exp.Expression, word: str) -> bool:
    """Whether the first SELECT of a query has an option such as SQL_CALC_FOUND_ROWS."""
    while isinstance(tree, (exp.SetOperation, exp.Subquery)):
        tree = tree.this
    return any(option.name.upper() == word for option in tree.args.get("operation_modifiers") or ())


def too_deep(position: int) -> DatabaseError:
    return OperationalError(
        f"the statement is nested too deeply: {NESTING_MAX} parentheses or {TREE_DEPTH_MAX} operators, calls or set"
        " operations within each other are the limit",
        1436,
        "HY000",
        position,
    )


def hide_hints(tokens: Sequence[Token]) -> tuple[list[Token], dict[str, str]]:
    """Puts a word in the place of every hint's text, and returns the texts by word.

    sqlglot parses what stands in a hint as an expression, and fails the statement where it cannot.
    """
    out: list[Token] = []
    texts: dict[str, str] = {}
    for token in tokens:
        if token.token_type is TokenType.HINT:
            word = f"HINT_{len(texts)}"
            texts[word] = token.comments[0]
            token = Token(TokenType.HINT, token.text, token.line, token.col, token.start, token.end, [word])
        out.append(token)
    return out, texts


def show_hints(tree: exp.Expression, texts: Mapping[str, str]) -> None:
    """Gives every hint in the tree its text, as the one item of its `expressions`."""
    for hint in tree.find_all(exp.Hint):
        hint.set("expressions", [texts[hint.expressions[0].name]])


_OPEN = (TokenType.L_PAREN, TokenType.L_BRACKET, TokenType.L_BRACE)
_CLOSE = (TokenType.R_PAREN, TokenType.R_BRACKET, TokenType.R_BRACE)


def _check_nesting(tokens: Sequence[Token]) -> None:
    depth = 0
    for token in tokens:
        kind = token.token_type
        if kind in _OPEN:
            depth += 1
            if depth > NESTING_MAX:
                raise too_deep(token.start)
        elif kind in _CLOSE:
            depth -= 1


def _check_operands(kinds: Sequence[TokenType], tokens: Sequence[Token], text: str) -> None:
    """Refuses what sqlglot lets pass: a comma, IN or a clause with nothing after it."""
    last = len(kinds) - 1
    for i, kind in enumerate(kinds):
        if kind in _BEFORE_OPERAND:
            wrong = i == last or kinds[i + 1] in _NO_OPERAND
        elif kind is TokenType.L_PAREN:
            wrong = i < last and kinds[i + 1] is TokenType.COMMA
        else:
            continue
        if wrong:
            position = tokens[i + 1].start if i < last else len(text)
            raise error(ER_PARSE, "You have an error in your SQL syntax" + near(text, position), position=position)


_BEFORE_OPERAND = frozenset(
    {
        TokenType.COMMA, TokenType.IN, TokenType.SELECT, TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING,
        TokenType.ORDER_BY, TokenType.SET,
    }
)  # fmt: skip
_NO_OPERAND = frozenset(
    {
        TokenType.COMMA, TokenType.R_PAREN, TokenType.FROM, TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING,
        TokenType.ORDER_BY, TokenType.LIMIT, TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT,
    }
)  # fmt: skip


_DISTINCT = frozenset({TokenType.DISTINCT, TokenType.ALL})
_SET_OPERATIONS = frozenset({TokenType.UNION, TokenType.EXCEPT, TokenType.INTERSECT})


def _check_set_operations(tokens: Sequence[Token], text: str) -> None:
    """Refuses ORDER BY and LIMIT before a set operation: in front of one they need parentheses of their own."""
    ended = [False]
    for token in tokens:
        kind = token.token_type
        if kind is TokenType.L_PAREN:
            ended.append(False)
        elif kind is TokenType.R_PAREN:
            if len(ended) > 1:
                ended.pop()
        elif kind is TokenType.LIMIT or kind is TokenType.ORDER_BY:
            ended[-1] = True
        elif kind in _SET_OPERATIONS and ended[-1]:
            position = token.start
            raise error(ER_PARSE, "You have an error in your SQL syntax" + near(text, position), position=position)


def _check_depth(tree: exp.Expression, position: int) -> None:
    stack: list[tuple[exp.Expression, int]] = [(tree, 1)]
    while stack:
        node, depth = stack.pop()
        if depth > TREE_DEPTH_MAX:
            raise too_deep(position)
        if len(node.args.get("joins") or ()) > JOINS_MAX:
            raise OperationalError(f"Too many tables; one FROM can join {JOINS_MAX}", 1116, "HY000", position)
        stack.extend((child, depth + 1) for child in node.iter_expressions())


def balance(tree: exp.Expression) -> exp.Expression:
    """Turns long chains of ANDs and ORs, which sqlglot leans to the left, into balanced trees: both are associative."""
    chains = [
        node
        for node in tree.find_all(exp.And, exp.Or)
        if node.parent is None or type(node.parent) is not type(node) or node.arg_key != "this"
    ]
    for chain in chains:
        kind = type(chain)
        operands: list[exp.Expression] = []
        node: exp.Expression = chain
        while type(node) is kind:
            operands.append(node.expression)
            node = node.this
        operands.append(node)
        if len(operands) < CHAIN_MIN:
            continue
        parent, key, index = chain.parent, chain.arg_key, chain.index
        balanced = _balanced(kind, operands[::-1])
        if parent is None:
            tree = balanced
        else:
            parent.set(key, balanced, index)
    return tree


def _balanced(kind: type[exp.Expression], operands: list[exp.Expression]) -> exp.Expression:
    while len(operands) > 1:
        pairs = zip(operands[::2], operands[1::2], strict=False)
        odd = operands[-1:] if len(operands) % 2 else []
        operands = [*(kind(this=a, expression=b) for a, b in pairs), *odd]
    return operands[0]


_JOINS = frozenset({TokenType.JOIN, TokenType.STRAIGHT_JOIN})
_CHAINED = (TokenType.AND, TokenType.OR, TokenType.DAMP, TokenType.DPIPE)
_OUTER = (TokenType.LEFT, TokenType.RIGHT, TokenType.FULL)
_ENDS = frozenset(
    {
        TokenType.WHERE, TokenType.GROUP_BY, TokenType.HAVING, TokenType.ORDER_BY, TokenType.LIMIT, TokenType.UNION,
        TokenType.EXCEPT, TokenType.INTERSECT, TokenType.SET, TokenType.COMMA, TokenType.WINDOW, TokenType.FOR,
    }
)  # fmt: skip


def cross_joins(tokens: Sequence[Token], text: str) -> list[Token]:
    """Writes CROSS JOIN for every inner join that has no ON or USING; 1064 for an outer one.

    sqlglot tries each such join as the beginning of a nested one, which takes time that doubles with every join.
    """
    bare: set[int] = set()
    levels: list[list[int]] = [[]]
    for i, token in enumerate(tokens):
        kind = token.token_type
        if kind == TokenType.L_PAREN:
            levels.append([])
        elif kind == TokenType.R_PAREN:
            bare |= _without_condition(levels.pop() if len(levels) > 1 else levels[0], tokens, i, text)
        elif kind in _JOINS and _takes_condition(tokens, i):
            levels[-1].append(i)
        elif kind in (TokenType.ON, TokenType.USING):
            if levels[-1]:
                levels[-1].pop()
        elif kind in _ENDS:
            bare |= _without_condition(levels[-1], tokens, i, text)
    for level in levels:
        bare |= _without_condition(level, tokens, len(tokens), text)
    out: list[Token] = []
    for i, token in enumerate(tokens):
        if i in bare:
            place = (token.line, token.col, token.start, token.end)
            if out and out[-1].token_type == TokenType.INNER:
                out.pop()
            out += [Token(TokenType.CROSS, "CROSS", *place), Token(TokenType.JOIN, "JOIN", *place)]
        else:
            out.append(token)
    return out


def _takes_condition(tokens: Sequence[Token], at: int) -> bool:
    """Whether the JOIN is one with ON or USING: not CROSS, not NATURAL, not the option STRAIGHT_JOIN of SELECT, and not
    the one of USE INDEX FOR JOIN.
    """
    before = [t.token_type for t in tokens[max(0, at - 3) : at]]
    if not before or before[-1] in (TokenType.FOR, TokenType.CROSS, TokenType.SELECT):
        return False
    if tokens[at - 1].text.upper() in SELECT_OPTIONS:
        return False
    return TokenType.NATURAL not in before


def _without_condition(level: list[int], tokens: Sequence[Token], at: int, text: str) -> set[int]:
    """Empties `level`, the joins that got no condition until token `at`."""
    for i in level:
        if i and (tokens[i - 1].token_type in _OUTER or tokens[i - 1].text.upper() == "OUTER"):
            position = tokens[at].start if at < len(tokens) else len(text)
            raise error(ER_PARSE, "an outer join needs ON or USING" + near(text, position), position=position)
    found = set(level)
    level.clear()
    return found
