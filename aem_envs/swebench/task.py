"""One SWE-bench task as the environment plays it."""

from dataclasses import dataclass
from hashlib import sha256

from aem_envs.swebench.protect import Protection, touched
from envs_data.swebench.instance import Instance


@dataclass(frozen=True)
class Task:
    """An instance, where it belongs, and what of a patch counts."""

    instance: Instance
    split: str
    task_type: str
    data_hash: str
    protection: Protection

    @property
    def id(self) -> str:
        return self.instance.instance_id


def task_of(instance: Instance, split: str) -> Task:
    """The task that an instance makes. Rows say in `extra` where fixes may lie (`source`) and of which kind they are
    (`task_type`); those of the official files say neither: everything but tests counts, and the kind is the repository.
    A field of one of these names that holds no list of paths is another's, and means nothing here.
    """
    extra = instance.extra
    protection = Protection(
        tests=touched(instance.test_patch) | frozenset(_paths(extra.get("tests")) or ()),
        gold=touched(instance.patch),
        hidden=_paths(extra.get("hidden_paths")) or (),
        sources=_paths(extra.get("source")),
    )
    kind = extra.get("task_type")
    kind = kind if isinstance(kind, str) and kind else instance.repo
    return Task(instance, split, kind, instance_hash(instance), protection)


def _paths(found: object) -> tuple[str, ...] | None:
    if isinstance(found, (list, tuple)) and all(isinstance(path, str) and path for path in found):
        return tuple(found)
    return None


def instance_hash(instance: Instance) -> str:
    """Hash over all that decides what an agent sees and how it is graded; 16 hex digits."""
    row = instance.row()
    told = "\0".join(f"{name}={row[name]}" for name in sorted(row) if name not in ("hints_text", "created_at"))
    return sha256(told.encode("utf-8", "surrogatepass")).hexdigest()[:16]
