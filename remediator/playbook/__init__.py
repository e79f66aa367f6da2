"""The playbook language: YAML in, checked and compiled Playbooks out.

``Library.load`` reads files and folders and refuses with every problem at once (DocumentError, ``path:line:col: message``): wrong shape,
unknown names with suggestions, templates and expressions that cannot work, playbooks that would act without proof or without end. It knows
no action and no gate by itself; what exists comes as an argument.
"""

from __future__ import annotations

from remediator.playbook.alertrules import alerts_of
from remediator.playbook.check import ActionInfo, FileReader, GateInfo, TemplateCompiler
from remediator.playbook.jsonschema import schema_playbook
from remediator.playbook.library import Library, check_paths, files_of, load_library
from remediator.playbook.load import load_playbook, playbook_of
from remediator.playbook.matcher import Matcher, parse_matcher
from remediator.playbook.model import Playbook, Rung, StepSpec
from remediator.playbook.parameters import Parameter
from remediator.playbook.schema import KINDS, Culprit, KubeLook, TargetSpec, Verify, When
from remediator.settings import shipped

__all__ = [
    "KINDS",
    "ActionInfo",
    "Culprit",
    "FileReader",
    "GateInfo",
    "KubeLook",
    "Library",
    "Matcher",
    "Parameter",
    "Playbook",
    "Rung",
    "StepSpec",
    "TargetSpec",
    "TemplateCompiler",
    "Verify",
    "When",
    "alerts_of",
    "check_paths",
    "files_of",
    "load_library",
    "load_playbook",
    "parse_matcher",
    "playbook_of",
    "schema_playbook",
    "shipped",
]
