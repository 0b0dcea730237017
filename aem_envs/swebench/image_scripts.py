"""What is done inside an image to prepare it, as text for `bash -c`, run as root without network."""

_BEGIN = r"""
set -euo pipefail
umask 022
[ -d /testbed ] || { echo "the image has no /testbed" >&2; exit 1; }
command -v git >/dev/null || { echo "the image has no git" >&2; exit 1; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export HOME=$work GIT_CONFIG_NOSYSTEM=1 GIT_CONFIG_GLOBAL=$work/.gitconfig GIT_TERMINAL_PROMPT=0 LC_ALL=C
export GIT_AUTHOR_NAME=aem GIT_AUTHOR_EMAIL=aem@localhost GIT_AUTHOR_DATE='2000-01-01T00:00:00Z'
export GIT_COMMITTER_NAME=aem GIT_COMMITTER_EMAIL=aem@localhost GIT_COMMITTER_DATE='2000-01-01T00:00:00Z'
printf '[safe]\n\tdirectory = *\n[core]\n\tfsmonitor = false\n' >"$GIT_CONFIG_GLOBAL"
cd /testbed
# Tracked files count even where .gitignore names them.
: >"$work/tracked"
if [ -e .git ]; then
  git ls-files -z >"$work/all"
  while IFS= read -r -d '' path; do
    if [ -e "$path" ] || [ -L "$path" ]; then printf '%s\0' "$path"; fi
  done <"$work/all" >"$work/tracked"
fi
# The history of a repository within this one may hold a fix as well; its files count as files.
find . -mindepth 2 -name .git -prune -exec rm -rf {} +
"""

_STATE = r"""
private=/opt/aem/git
rm -rf $private
mkdir -p /opt/aem
git init -q --bare --template= $private
mkdir $private/info
# Files count as they lie there, byte for byte, whatever .gitattributes says.
printf '* !text !eol !crlf !filter !ident !working-tree-encoding !diff !merge !conflict-marker-size\n' \
  >$private/info/attributes
printf '__pycache__/\n*.py[cod]\n.pytest_cache/\n.hypothesis/\n' >$private/info/exclude
g() { GIT_DIR=$private GIT_WORK_TREE=/testbed GIT_INDEX_FILE=$work/index git "$@"; }
g symbolic-ref HEAD refs/heads/main
for setting in autocrlf=false protectNTFS=false protectHFS=false fileMode=true symlinks=true; do
  g config "core.${setting%=*}" "${setting#*=}"
done
g config gc.auto 0
[ ! -s "$work/tracked" ] || GIT_LITERAL_PATHSPECS=1 g add -f --pathspec-from-file="$work/tracked" --pathspec-file-nul
g add -A .
state=$(g commit-tree -m 'The repository as the task gives it' "$(g write-tree)")
g update-ref --no-deref refs/heads/main "$state"
g repack -adq
rm -rf $private/logs
"""

_REPLACE = r"""
rm -rf .git
cp -r $private .git
cp "$work/index" .git/index
git config core.bare false
: >.git/info/exclude
commit=$state
"""

_KEEP = r"""
[ -d .git ] || { echo "the folder is no git repository" >&2; exit 1; }
[ "$(git rev-list --all --count)" = 1 ] || { echo "the folder has a history: make it one commit" >&2; exit 1; }
commit=$(git rev-parse HEAD)
"""

_END = r"""
# An image changes inodes and times of change: without this, the first `git status` would read every file.
git config core.trustctime false
git config core.checkStat minimal
echo "$commit" >/opt/aem/commit
chown -R 0:0 $private /opt/aem/commit
chmod -R a+rX,go-w $private /opt/aem/commit
grep -q '^[^:]*:[^:]*:1000:' /etc/passwd || echo 'agent:x:1000:1000::/home/agent:/bin/bash' >>/etc/passwd
grep -q '^[^:]*:[^:]*:1000:' /etc/group || echo 'agent:x:1000:' >>/etc/group
mkdir -p /home/agent
chown 1000:1000 /home/agent
owner=${owner:-1000:1000}
chown -R -h "$owner" /testbed
# Root looks at the agent's repository, too.
printf '[safe]\n\tdirectory = *\n' >>/etc/gitconfig
command -v python >/dev/null || { python3=$(command -v python3) && ln -s "$python3" /usr/local/bin/python; } || true
echo "label aem.commit $commit"
echo "label aem.user $owner"
"""

SQUASH = _BEGIN + _STATE + _REPLACE + _END
"""Make /testbed a repository of one commit with a fixed date, and keep root's copy of its state in /opt/aem/git.

No history, remotes, tags, reflogs, hooks or submodules stay. Ignored files stay as they are, files that are neither
tracked nor ignored become part of the commit. /testbed and a home folder become the user `agent`'s (uid 1000); after
`owner=0:0` the repository is root's, and so are commands.
"""

KEEP = _BEGIN + _STATE + _KEEP + _END
"""The same for a repository that is one commit already: it stays that commit."""

TOOLS = "true"
"""Nothing: folders that were copied in are root's already."""
