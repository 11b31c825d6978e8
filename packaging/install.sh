#!/bin/sh
# Installs rbee for one person, without root, from the unpacked archive that this file lies in. Where it is installed
# already it is upgraded: what runs is not disturbed, and the old version stays if the new one fails its self-test.
#
# Only what this script put there is ever removed: an installation has a list of its files, .rbee-installation. A folder
# that is neither empty nor an installation is refused. Killed at any moment, the old version or the new one is in place.
set -eu

programs='rbee-keeper rbee-hive queen-rbee llm-worker-rbee'
home=${HOME:?is not set}
data=${XDG_DATA_HOME:-$HOME/.local/share}
units=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
to=$data/rbee
bin=$HOME/.local/bin
service=yes
uninstall=no
quiet=no

usage() {
  cat <<TEXT
Usage: ./install.sh [options]

  --to DIR       Where rbee lies afterwards. Default: $to
  --bin DIR      Where the programs are linked. Default: $bin
  --no-service   Do not let the user's systemd run the hive
  --quiet        Say nothing but errors
  --uninstall    Remove the programs; models and ~/.rbee stay
TEXT
}
say() { test "$quiet" = yes || printf '%s\n' "$*" >&2; }
fail() {
  printf 'Error: %s\n' "$*" >&2
  exit 1
}
usage_error() {
  printf 'Error: %s\n\n' "$*" >&2
  usage >&2
  exit 2
}

while test $# -gt 0; do
  case $1 in
    --to | --bin)
      test $# -gt 1 || usage_error "$1 needs a folder."
      case $2 in
        *[[:cntrl:]]*) usage_error "$1 has a control character in it." ;;
        /*) ;;
        *) usage_error "$1 is \"$2\"; expected an absolute path." ;;
      esac
      case $2/ in */./* | */../*) usage_error "$1 is \"$2\"; expected a path without . and .. in it." ;; esac
      folder=$2
      while test "$folder" != "${folder%/}"; do folder=${folder%/}; done
      if test "$1" = --to; then to=$folder; else bin=$folder; fi
      shift
      ;;
    --no-service) service=no ;;
    --quiet) quiet=yes ;;
    --uninstall) uninstall=yes ;;
    --help | -h)
      usage
      exit 0
      ;;
    *) usage_error "There is no option $1." ;;
  esac
  shift
done

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd -P)
name=${to##*/}
parent=${to%/*}
marker=.rbee-installation
header="# Put here by the install.sh of rbee, with all that is listed below, as $to"
stage=
lock=

# The files below a folder, one a line. $2 comes before each.
list_files() {
  for each in "$1"/* "$1"/.[!.]* "$1"/..?*; do
    if test -d "$each" && ! test -L "$each"; then
      list_files "$each" "$2${each##*/}/"
    elif test -e "$each" || test -L "$each"; then
      printf '%s\n' "$2${each##*/}"
    fi
  done
}
# Whether a folder has nothing but the names that follow.
has_only() {
  folder=$1
  shift
  for each in "$folder"/* "$folder"/.[!.]* "$folder"/..?*; do
    test -e "$each" || test -L "$each" || continue
    for known in "$@"; do test "${each##*/}" != "$known" || continue 2; done
    return 1
  done
}
# A folder that this script made, for this place.
is_listed() {
  test -f "$1/$marker" && ! test -L "$1/$marker" && IFS= read -r first <"$1/$marker" && test "$first" = "$header"
}
# An installation of a version that wrote no list, or a moved one: all of an archive, and nothing else.
is_unlisted() {
  for file in rbee-keeper rbee-hive install.sh lib/keeper/main.js; do
    test -f "$1/$file" && ! test -L "$1/$file" || return 1
  done
  case $(cat "$1/rbee-keeper") in *'of the archive that this file lies in'*) ;; *) return 1 ;; esac
  # shellcheck disable=SC2086
  has_only "$1" $programs LICENSE THIRD_PARTY_NOTICES install.sh lib share "$marker" &&
    has_only "$1/lib" deno deno.json exchange.js hive keeper models queen self-test worker "$marker" &&
    has_only "$1/share" bash-completion fish man systemd zsh
}
is_rbee() { ! test -L "$1" && test -d "$1" && { is_listed "$1" || is_unlisted "$1"; }; }
# Writes the list. It lies aside until it is whole.
write_list() {
  { printf '%s\n' "$header" && list_files "$1" ''; } >"$2"
  mv "$2" "$1/$marker"
}
# Removes what is listed. The folder stays, with its list, if anything else is in it.
remove_listed() {
  while IFS= read -r file; do
    case $file in '#'* | ../* | */../* | install.sh | "$marker") ;; *) rm -f "$1/$file" ;; esac
  done <"$1/$marker"
  rm -f "$1/install.sh"
  test "$(list_files "$1" '')" = "$marker" || return 1
  rm -rf "$1"
}

# What a path is once its links are followed; it need not be there.
physical() {
  if test -d "$1"; then
    (cd "$1" && pwd -P)
  else
    above=$(physical "$(dirname "$1")") && printf '%s/%s\n' "${above%/}" "${1##*/}"
  fi
}
# Whether $1 is $2 or within it.
is_within() { case $(physical "$1")/ in "$(physical "$2")"/*) return 0 ;; *) return 1 ;; esac }
# Fails unless rbee may have this folder.
check_target() {
  test -n "$name" || fail "rbee can't take the place of /."
  for used in "$home" "$bin" "$data" "$units" "${RBEE_HOME:-$home/.rbee}"; do
    case $used in /*) ;; *) fail "\"$used\" is not an absolute path: check HOME, XDG_DATA_HOME, XDG_CONFIG_HOME and RBEE_HOME." ;; esac
    if is_within "$used" "$to"; then fail "rbee can't take the place of $to: $used is there. Choose another folder with --to."; fi
  done
  for program in $programs; do
    if is_within "$to" "$bin/$program"; then fail "$bin/$program is where a program is linked. Choose another folder with --to."; fi
  done
  if is_within "$to" "$here"; then fail "$to is within the archive. Choose another folder with --to."; fi
  if test -L "$to"; then fail "$to is a link. Name the folder that it leads to with --to."; fi
  test -e "$to" || return 0
  test -d "$to" || fail "$to is not a folder. Choose another one with --to."
  content=$(ls -A "$to") || fail "$to can't be read. Choose another folder with --to."
  if test -n "$content" && ! is_rbee "$to"; then
    fail "$to has files in it that are not rbee's; nothing was changed. Choose an empty folder with --to."
  fi
}

has_manager() { test "$service" = yes && systemctl --user show-environment >/dev/null 2>&1; }
# A unit of ours: what somebody wrote in its place is left alone.
is_our_unit() {
  ! test -e "$1" && ! test -L "$1" && return 0
  test -f "$1" && ! test -L "$1" && IFS= read -r first <"$1" || return 1
  case $first in '# The hive of one person, as a service'* | '# The queen of one person, as a service'*) ;; *) return 1 ;; esac
}
# Of the hive that answers, or nothing.
hive_pid() {
  "$to/rbee-keeper" daemon status --json 2>/dev/null | tr -d ' \n' | sed -n 's/.*"running":true,"pid":\([0-9]*\).*/\1/p'
}

# A link of ours: what somebody else put there is left alone.
is_ours() { case $(readlink "$1" 2>/dev/null) in "$to"/*) return 0 ;; *) return 1 ;; esac }
check_link() {
  if test -e "$1" || test -L "$1"; then
    is_ours "$1" || fail "$1 is there and does not belong to rbee. Move it away, or use --bin."
  fi
}

tab=$(printf '\t')
# What of the archive is linked, and where to.
links() {
  for program in $programs; do printf '%s\t%s\n' "$program" "$bin/$program"; done
  for program in $programs; do
    printf '%s\t%s\n' "share/man/man1/$program.1" "$data/man/man1/$program.1"
  done
  for file in share/bash-completion/completions/rbee-keeper \
    share/zsh/site-functions/_rbee-keeper share/fish/vendor_completions.d/rbee-keeper.fish; do
    printf '%s\t%s\n' "$file" "$data/${file#share/}"
  done
}

# One installer at a time. The lock names the process; a link is made in one step, or not at all.
take_lock() {
  lock=
  path=$parent/.$name.rbee-lock
  while ! { ! test -d "$path" && ln -sn "$$" "$path" 2>/dev/null; }; do
    test -L "$path" || fail "$parent can't be written to; nothing was changed."
    holder=$(readlink "$path") || continue
    case $holder in '' | *[!0-9]*) fail "$path is there and does not belong to rbee. Move it away." ;; esac
    if kill -0 "$holder" 2>/dev/null; then
      fail "Another installer (process $holder) is at work on $to. Wait for it; if there is none, remove $path."
    fi
    rm -f "$path"
  done
  lock=$path
}
# The folder in which a run prepares and puts aside, beside the target: everything is moved within one file system.
open_stage() {
  stage=$(mktemp -d "$parent/.rbee-install.XXXXXX") || fail "$parent can't be written to; nothing was changed."
  printf '%s\n' "$header" >"$stage/for"
}
# What somebody added to an installation, or put into an empty folder meanwhile, is kept.
close_stage() {
  rm -rf "$1/copy"
  for part in "$1/new" "$1/old"; do
    test -e "$part" || continue
    if is_listed "$part"; then remove_listed "$part" || true; fi
    if test -n "$(list_files "$part" '')"; then
      kept=$(mktemp -d "$to.kept.XXXXXX")
      rm -f "$part/$marker"
      mv "$part" "$kept"
      say "There were files in $to that are not rbee's. They are in $kept now."
    fi
  done
  rm -rf "$1"
}
# Of runs that were killed: this one holds the lock, so none of them is at work.
close_old_stages() {
  for each in "$parent"/.rbee-install.??????; do
    test -f "$each/for" && ! test -L "$each" && IFS= read -r first <"$each/for" && test "$first" = "$header" || continue
    if ! test -e "$to" && is_rbee "$each/old"; then mv "$each/old" "$to"; fi
    left=$each
    close_stage "$left"
  done
  # Earlier versions put the old one there.
  if ! test -e "$to" && is_rbee "$to.old"; then mv "$to.old" "$to"; fi
}
leave() {
  status=$?
  trap '' HUP INT TERM
  set +e
  if test -n "$stage"; then
    if ! test -e "$to" && test -d "$stage/old"; then mv "$stage/old" "$to"; fi
    close_stage "$stage"
  fi
  if test -n "$lock"; then rm -f "$lock"; fi
  exit "$status"
}
trap leave EXIT
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM

if test "$uninstall" = yes; then
  test -n "$name" && is_rbee "$to" || fail "$to does not hold rbee, or holds other files as well; nothing was changed."
  take_lock
  is_listed "$to" || write_list "$to" "$to/lib/$marker"
  for unit in rbee-hive queen-rbee; do
    path=$units/$unit.service
    test -e "$path" && is_our_unit "$path" || continue
    if has_manager; then systemctl --user disable --now --quiet "$unit" || true; fi
    rm -f "$path"
  done
  if test -x "$to/rbee-keeper" && test -e "$to/lib/keeper/main.js"; then
    "$to/rbee-keeper" daemon stop --quiet || fail "The hive does not stop. Stop it, then run this again."
  fi
  links | while IFS=$tab read -r _ path; do
    if is_ours "$path"; then rm -f "$path"; fi
  done
  if ! remove_listed "$to"; then
    rm -f "$to/$marker"
    say "Files in $to that are not rbee's stay there."
  fi
  if has_manager; then systemctl --user daemon-reload; fi
  say "rbee is removed. Keys and settings stay in ~/.rbee, models in ~/.cache/huggingface: remove them by hand if you like."
  exit 0
fi

test -d "$here/lib/keeper" || fail "This is no unpacked archive: in a checkout run deno task bundle, then dist/rbee-*/install.sh."
test "$here" != "$(physical "$to")" || fail "This is the installed rbee itself. Run install.sh of the archive that you want to install."
check_target
links | while IFS=$tab read -r _ path; do check_link "$path"; done

mkdir -p "${parent:-/}"
take_lock
close_old_stages
check_target
open_stage
cp -R "$here" "$stage/copy"
rm -f "$stage/copy/$marker"
write_list "$stage/copy" "$stage/list"
mv "$stage/copy" "$stage/new"

say "Testing rbee $("$stage/new/rbee-hive" --version) ..."
if ! "$stage/new/lib/self-test"; then
  fail "The new version does not work on this machine; nothing was changed."
fi

before=
managed=no
if test -x "$to/rbee-keeper"; then before=$(hive_pid); fi
if has_manager && systemctl --user is-active --quiet rbee-hive; then managed=yes; fi

# Two folders take each other's place in one step. Where the file system can't do that there is a moment between two.
exchange() {
  runtime=$stage/new/lib
  test -x "$runtime/deno" || runtime=$to/lib
  "$runtime/deno" run -q --no-prompt --no-config --no-lock --allow-ffi "$runtime/exchange.js" "$1" "$2" 2>/dev/null
}
swap_in() {
  if ! test -e "$to"; then
    mv "$stage/new" "$to"
  elif exchange "$stage/new" "$to"; then
    mv "$stage/new" "$stage/old"
  else
    mv "$to" "$stage/old"
    mv "$stage/new" "$to"
  fi
}
swap_back() {
  exchange "$stage/old" "$to" && return
  mv "$to" "$stage/new"
  mv "$stage/old" "$to"
}
# Workers go on; the hive that runs afterwards is the installed one, if one ran.
restart() {
  test -n "$before" || return 0
  if test "$managed" = yes; then
    systemctl --user reload-or-restart rbee-hive || return 1
    # The old one makes way, and the manager starts another in its place.
    tries=60
    while now=$(hive_pid); test -z "$now" || test "$now" = "$before"; do
      tries=$((tries - 1))
      test "$tries" -gt 0 || return 1
      sleep 1
    done
  else
    "$to/rbee-keeper" daemon restart --quiet || return 1
  fi
}

# What is in place is an installation, or an empty folder. Of one without a list all is known to be rbee's.
if ! is_listed "$to" && is_unlisted "$to"; then write_list "$to" "$stage/list"; fi
swap_in
if ! restart; then
  say "The new version does not start; going back to the old one."
  swap_back
  restart || true
  fail "The new version was not installed; the old one is in place."
fi
# What she has in hand is finished before she makes way.
if has_manager; then systemctl --user try-restart queen-rbee || say "The queen does not start: systemctl --user status queen-rbee"; fi
links | while IFS=$tab read -r file path; do
  mkdir -p "$(dirname "$path")"
  ln -sfn "$to/$file" "$path"
done

if has_manager; then
  mkdir -p "$units"
  for unit in rbee-hive queen-rbee; do
    path=$units/$unit.service
    if is_our_unit "$path"; then
      escaped=$(printf '%s\n' "$bin" | sed 's/[#&\\]/\\&/g')
      sed "s#%h/.local/bin#$escaped#" "$to/share/systemd/user/$unit.service" >"$path"
    else
      say "$path is not rbee's: it stays as it is."
    fi
  done
  systemctl --user daemon-reload
  if test -z "$before"; then
    if systemctl --user enable --now --quiet rbee-hive; then
      say "The hive runs as a service of yours. For it to run while you are logged out: loginctl enable-linger"
    else
      say "The hive's service did not start: systemctl --user status rbee-hive"
    fi
  fi
fi

say "rbee is installed in $to."
case :$PATH: in
  *:"$bin":*) ;;
  *) say "$bin is not in your PATH: add it, for example with  export PATH=\"$bin:\$PATH\"" ;;
esac
say "Try: rbee-keeper infer --prompt \"write a short story\""
