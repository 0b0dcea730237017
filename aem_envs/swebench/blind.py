"""What an agent without an idea does in a repository: look around, change a line blindly, give in."""

from random import Random

_LOOKS = (
    "ls",
    "git status --short",
    "git log --oneline",
    "git diff",
    "head -n 40 {file}",
    "grep -n def {file}",
    "wc -l {file}",
)
_CHANGES = (
    "sed -i '{line}s/==/!=/' {file}",
    "sed -i '{line}s/ < / <= /' {file}",
    "sed -i '{line}s/ + / - /' {file}",
    "sed -i '{line}s/True/False/' {file}",
    "sed -i '{line}s/not //' {file}",
)


def blind_command(rng: Random) -> str:
    """Seven in ten look at something, two change a line, one submits. A file is the n-th Python file there is."""
    chance = rng.random()
    if chance < 0.1:
        return "submit"
    command = rng.choice(_LOOKS if chance < 0.8 else _CHANGES)
    number, line = rng.randrange(1, 16), rng.randrange(1, 300)
    if "{file}" not in command:
        return command
    return f"file=$(git ls-files '*.py' | sed -n {number}p); " + command.format(file='"$file"', line=line)
