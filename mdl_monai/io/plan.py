"""What weights are made for, in ``plan.json`` beside them: a training notes it, inference and evaluation read it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mdl_monai.errors import InputError

PLAN_NAME = "plan.json"

Plan = dict[str, Any]


def read_plan(ckpt_path: str | Path, default: Mapping[str, Any], **options: Any) -> Plan:
    """Options that are set, else ``plan.json`` beside the weights, else `default`.

    Args:
        ckpt_path: file of the weights.
        default: the plan of the bundle's own weights.
        options: entries of the plan that the user set; None or "null" for those not set.

    Raises:
        InputError: an unreadable ``plan.json``.
    """
    path = Path(ckpt_path).with_name(PLAN_NAME)
    plan = dict(default)
    if path.is_file():
        try:
            plan.update(json.loads(path.read_text(encoding="utf-8")))
        except (ValueError, TypeError) as error:
            raise InputError("plan.json is not valid JSON of one object", where=path, found=error) from error
    return plan | given_options(options)


def agreeing_plan(ckpt_path: str | Path, plan: Mapping[str, Any], keys: Sequence[str]) -> Plan:
    """``plan.json`` beside further weights that work on the results of the first.

    Args:
        ckpt_path: file of the further weights.
        plan: of the first; stands in for entries that ``plan.json`` lacks.
        keys: entries in which both must agree.

    Raises:
        InputError: they do not; as `read_plan`.
    """
    further = read_plan(ckpt_path, plan)
    for key in keys:
        if further[key] != plan[key]:
            raise InputError(
                f"weights that shall work together are made for another {key}",
                where=Path(ckpt_path).with_name(PLAN_NAME),
                expected=plan[key],
                found=further[key],
            )
    return further


def given_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those that the user set."""
    return {k: v for k, v in options.items() if v is not None and str(v).strip().lower() != "null"}
