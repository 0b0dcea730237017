"""What an agent is shown: the issue, a command's output cut to head and tail, what is left of the steps."""

from aem_envs.sanitize import counted
from aem_envs.swebench.sandbox.api import Result

SHOWN = 10_000
"""Characters of a command's output that are shown."""
RAW = 200_000
"""Characters of it that `info` holds."""


def cut(text: str, limit: int = SHOWN) -> str:
    """`text`, or its head and tail with the number of characters left out between them."""
    if len(text) <= limit:
        return text
    head, tail = limit - limit // 2, limit // 2
    middle = counted(len(text) - head - tail, "character")
    return f"{text[:head]}\n[... {middle} left out ...]\n{text[len(text) - tail :]}"


def first(repository: str, folder: str, issue: str, steps: int) -> str:
    """The observation that begins an episode."""
    return (
        f"Repository {repository}, in {folder}. Solve this issue by changing its source files; tests are not yours to "
        f"change.\n\nIssue:\n{issue.strip()}\n\nAn action is one bash command, an edit, or submit.\n{left(steps)}"
    )


def after(shown: str, status: str, steps: int) -> str:
    """The observation after an action: what it showed, how it ended, how many are left."""
    text = shown.rstrip("\n")
    return f"{text}\n{status}\n{left(steps)}" if text else f"{status}\n{left(steps)}"


def left(steps: int) -> str:
    """The note on remaining turns."""
    return f"[{counted(steps, 'step')} left]"


def status(result: Result, timeout: float, output_bytes: int, memory_mb: int) -> str:
    """How a command ended, in brackets."""
    match result.stopped:
        case "timeout":
            return f"[stopped: it ran for more than {timeout:g} s]"
        case "output":
            return f"[stopped: it printed more than {output_bytes:,} bytes]"
        case "memory":
            return f"[stopped: it took more than {memory_mb:,} MB of memory]"
        case "died":
            return "[the sandbox has ended]"
    return f"[exit code {result.exit_code}]"
