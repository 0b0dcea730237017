"""What the docker sandbox runs inside, as text for `bash -c`. Bash, coreutils, find, tar and git suffice.

All of it runs as the user whom the agent's commands run as: a file that the agent hid from itself, or a process that it
left, is then within reach, and nothing has to be allowed to root. A command can thus stop or take over the script that
watches it, and so outlive itself until the next script starts, which kills it. It gains nothing by that but the ruin of
its own room: limits of time and output are kept outside, and grading takes a fresh room.
"""

GIT_DIR = "/opt/aem/git"
"""Bare repository with the prepared state, root's. Diffs are taken against it; the agent's own .git has no say."""

OUT_OF_MEMORY = "aem-out-of-memory"

_OOMS = """
ooms() {
  n=0
  for f in /sys/fs/cgroup/memory.events /sys/fs/cgroup/memory/memory.oom_control; do
    [ -r $f ] && while read -r k v; do [ "$k" = oom_kill ] && n=$v; done <$f
  done
}
"""
_KILL_USER = "kill -9 -1 2>/dev/null\n"
"""All processes of this user but this one, at once, so that no fork escapes."""
_KILL_ROOT = """
self=$BASHPID
for i in 1 2 3; do
  for p in /proc/[0-9]*; do
    p=${p#/proc/}
    [ $p != 1 ] && [ $p != $self ] && { read -r -d '' c </proc/$p/cmdline; [ "$c" != cat ] && kill -9 $p; }
  done
done 2>/dev/null
"""
"""For root, the container's first process and the `cat` that keeps it alive are spared."""


def kill_user(root: bool) -> str:
    """Kill all processes of this user but this one."""
    return _KILL_ROOT if root else _KILL_USER


def kill_all(root: bool) -> str:
    """Kill what is left of the agent's; says `swept` and how many processes have run out of memory so far."""
    return f'{_OOMS}{kill_user(root)}ooms\necho "swept $n"'


def run(root: bool) -> str:
    """Run $2 for at most $1 seconds; afterwards nothing of it is left. Writes `OUT_OF_MEMORY` to its own standard error
    if the kernel killed something for its memory."""
    kill = kill_user(root)
    return f"""{_OOMS}{kill}ooms; before=$n
(echo 1000 >/proc/self/oom_score_adj; exec timeout -k 1 "$1" bash -c "$2" </dev/null 2>&1)
code=$?
{kill}ooms; [ $n = $before ] || echo {OUT_OF_MEMORY} >&2
exit $code"""


PUT = """
path=$1; size=$2; folder=$(dirname -- "$path")
mkdir -p -- "$folder" && fresh=$(mktemp -- "$folder/.aem.XXXXXXXX") || exit 1
fail() { rm -f -- "$fresh"; echo "$1" >&2; exit 1; }
case $path in /testbed/*) [ "$(realpath -- "$folder")" = "$folder" ] || fail "a link is in its way";; esac
[ ! -d "$path" ] || [ -L "$path" ] || fail "it is a folder"
head -c "$size" >"$fresh" && chmod "$3" "$fresh" && mv -fT -- "$fresh" "$path" || fail "no room for it"
"""
"""Write $2 bytes of standard input to the file $1, with mode $3; a link in its place is replaced, not followed."""

GET = """
[ -f "$1" ] && [ ! -L "$1" ] || { echo "no regular file" >&2; exit 1; }
head -c "$2" -- "$1"
"""
"""The first $2 bytes of the regular file $1."""

_ENTER = "cd /testbed 2>/dev/null || { chmod u+rwx /testbed && cd /testbed; } || exit 1"
"""The agent may have shut its repository."""

DIFF = f"""
work=$(mktemp -d -p /var/tmp) || exit 1
trap 'rm -rf "$work"' EXIT
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=/dev/null GIT_DIR={GIT_DIR} GIT_WORK_TREE=/testbed LC_ALL=C
export GIT_INDEX_FILE=$work/index GIT_OBJECT_DIRECTORY=$work/objects GIT_ALTERNATE_OBJECT_DIRECTORIES={GIT_DIR}/objects
export GIT_OPTIONAL_LOCKS=0
mkdir "$work/objects"
{_ENTER}
# A repository within the repository would hide its files behind one entry: look at them as at any others.
find . -mindepth 2 -name .git -print0 >"$work/nested" 2>/dev/null
hide() {{
  while read -r -d '' path; do
    [ ! -e "$path" ] || mv -T -- "$path" "$path-aem-nested" || return 1
  done <"$work/nested" 2>/dev/null
}}
hide || {{ chmod -R u+rwX . 2>/dev/null; hide; }}
git read-tree HEAD || exit 1
git update-index -q --really-refresh >/dev/null  # by contents; `add` would store a copy of every file
add() {{ git add -A -- . ':(exclude,glob)**/.git-aem-nested' ':(exclude,glob)**/.git-aem-nested/**'; }}
add 2>/dev/null || {{ chmod -R u+rwX . 2>/dev/null; add || git add -A --ignore-errors -- .; }}
while read -r -d '' path; do
  [ ! -e "$path-aem-nested" ] || mv -T -- "$path-aem-nested" "$path"
done <"$work/nested" 2>/dev/null
git diff --cached --binary --full-index --no-color --no-ext-diff --no-textconv --no-renames \\
  --src-prefix=a/ --dst-prefix=b/ --unified=3 --diff-algorithm=myers HEAD
"""
"""The patch from the prepared state to what is there now."""

SNAPSHOT = f"""
work=$(mktemp -d -p /var/tmp) && trap 'rm -rf "$work"' EXIT
{_ENTER}
tar -cf "$work/tar" . 2>/dev/null || {{ chmod -R u+rwX . ; tar -cf "$work/tar" . ; }} && cat "$work/tar"
"""
"""The repository as an archive, whole or not at all."""

RESTORE = f"""
{_ENTER}
{{ find . -mindepth 1 -delete 2>/dev/null || {{ chmod -R u+rwX . ; find . -mindepth 1 -delete; }}; }} \
  && head -c "$1" | tar -xpf - --no-same-owner
"""
"""Replace all in the repository by the archive of $1 bytes on standard input."""
