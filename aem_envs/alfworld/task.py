"""What a goal formula asks for, in the terms of ALFWorld's six task types."""

from collections.abc import Iterator
from dataclasses import dataclass

from envs_data.alfworld.problem import Formula

_TYPE_OF_NEED = {
    "clean": "pick_clean_then_place_in_recep",
    "hot": "pick_heat_then_place_in_recep",
    "cool": "pick_cool_then_place_in_recep",
}
_NEEDS = {"isclean": "clean", "ishot": "hot", "iscool": "cool"}


@dataclass(frozen=True)
class Task:
    """The structure of a goal. A goal of another shape has `task_type` "other" and what could be made out."""

    task_type: str
    """One of `TASK_TYPES`, or "other"."""
    object_type: str | None
    """Type of the object wanted, as in its display name ("apple")."""
    receptacle_type: str | None
    """Type of the receptacle it goes into; None for the look task."""
    count: int
    """How many such objects must end up in one receptacle."""
    need: str | None
    """The property wanted: "clean", "hot", "cool" or None."""
    sliced: bool
    """The object must be sliced as well."""
    lamp_type: str | None
    """Type of the lamp to be used, for the look task."""


def plain_type(name: str) -> str:
    """`AppleType` → "apple"."""
    return name.lower().removesuffix("type")


def read_task(goal: Formula) -> Task:
    """Find the structure in the official goals and in others of their shape."""
    atoms, regular = [], True
    for positive, atom in _atoms(goal, True):
        if atom[0] == "=":
            continue
        regular = regular and positive
        atoms.append(atom)
    types = {a[1]: plain_type(a[2]) for a in atoms if a[0] in ("objecttype", "receptacletype") and len(a) == 3}
    predicates = {atom[0] for atom in atoms}
    needs = [need for predicate, need in _NEEDS.items() if predicate in predicates]
    placed = list(dict.fromkeys(a[1:] for a in atoms if a[0] == "inreceptacle" and len(a) == 3))
    lamps = [atom[1] for atom in atoms if atom[0] == "istoggled"]
    held = [atom[2] for atom in atoms if atom[0] == "holds" and len(atom) == 3]
    sliced = "issliced" in predicates
    regular = regular and len(needs) <= 1 and not _has_choice(goal)
    need = needs[0] if needs else None
    if lamps and held:
        task_type = "look_at_obj_in_light" if regular and len(lamps) == len(held) == 1 and not needs else "other"
        return Task(task_type, types.get(held[0]), None, 1, need, sliced, types.get(lamps[0]))
    items = [item for item, _ in placed]
    kinds = {types.get(item) for item in items}
    receptacles = {receptacle for _, receptacle in placed}
    if not (regular and placed and len(kinds) == len(receptacles) == 1) or None in kinds or lamps or held:
        task_type = "other"
    elif len(items) == 2 and not needs:
        task_type = "pick_two_obj_and_place"
    elif len(items) == 1:
        task_type = _TYPE_OF_NEED[need] if need else "pick_and_place_simple"
    else:
        task_type = "other"
    object_type = types.get(items[0]) if items else types.get(held[0]) if held else None
    receptacle_type = types.get(placed[0][1]) if placed else None
    return Task(task_type, object_type, receptacle_type, max(1, len(items)), need, sliced, None)


def _atoms(formula: Formula, positive: bool) -> Iterator[tuple[bool, tuple[str, ...]]]:
    """Every atom in lower case, with whether it stands under an even number of negations."""
    operator = formula[0].lower()
    if operator in ("exists", "forall"):
        yield from _atoms(formula[2], positive)
    elif operator in ("and", "or", "not", "imply"):
        for position, part in enumerate(formula[1:]):
            yield from _atoms(part, positive != (operator == "not" or (operator == "imply" and position == 0)))
    else:
        yield positive, tuple(map(str.lower, formula))


def _has_choice(formula: Formula) -> bool:
    operator = formula[0].lower()
    if operator == "exists":
        return _has_choice(formula[2])
    return operator in ("or", "imply", "forall") or (operator == "and" and any(map(_has_choice, formula[1:])))
