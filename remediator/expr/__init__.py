"""The only door to CEL: expressions, templates with ``${...}`` and RE2 patterns, all checked when they are compiled.

In: source text and the variables that it may name, with their types. Out: something that evaluates to the wanted type or raises Unreadable;
a missing key, a division by zero and a value of another type never pass for an answer. Refused at load, with the column: syntax errors,
names that nobody declared, types that do not fit.
"""

from __future__ import annotations

from remediator.expr.expression import TYPES, Expression, Undeclared, Variables
from remediator.expr.pattern import Pattern
from remediator.expr.template import Template

__all__ = ["TYPES", "Expression", "Pattern", "Template", "Undeclared", "Variables"]
