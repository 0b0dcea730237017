"""What an agent without an idea does in a repository: look around, change a line blindly, give in."""

from random import Random

_LOOKS = (
    "ls",
    "git status --short",
    "git log --oneline",
    "git diff",
    'head -n 40 "$file"',
    'grep -n def "$file"',
    'wc -l "$file"',
)
_CHANGES = (
    'sed -i "${line}d" "$file"',
    'sed -i "${line}s/^/#/" "$file"',
    'sed -i "${line}{s/==/!=/;s/ < / <= /;s/ + / - /;s/True/False/;s/not //}" "$file"',
)
_FILE = 'files=$(git ls-files \'*.py\'); file=$(sed -n $(({number} % $(wc -l <<<"$files") + 1))p <<<"$files"); '
_LINE = 'line=$(({number} % $(wc -l <"$file") + 1)); '


def blind_command(rng: Random) -> str:
    """Seven in ten look at something, two change a line, one submits. Files and lines are counted round and round."""
    chance = rng.random()
    if chance < 0.1:
        return "submit"
    command = rng.choice(_LOOKS if chance < 0.8 else _CHANGES)
    number, line = rng.randrange(1000), rng.randrange(10_000)
    if "$file" not in command:
        return command
    line_of = _LINE.replace("{number}", str(line)) if "${line}" in command else ""
    return _FILE.replace("{number}", str(number)) + line_of + command
