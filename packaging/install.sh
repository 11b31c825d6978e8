#!/bin/sh
# Installs rbee for one person, without root, from the unpacked archive that this file lies in. Where it is installed
# already it is upgraded: what runs is not disturbed, and the old version stays if the new one fails its self-test.
set -eu

programs='rbee-keeper rbee-hive queen-rbee llm-worker-rbee'
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
      case $2 in /*) ;; *) usage_error "$1 is \"$2\"; expected an absolute path." ;; esac
      if test "$1" = --to; then to=${2%/}; else bin=${2%/}; fi
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

here=$(cd "$(dirname "$(readlink -f "$0")")" && pwd)
has_manager() { test "$service" = yes && systemctl --user show-environment >/dev/null 2>&1; }
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

# What of the archive is linked, and where to.
links() {
  for program in $programs; do printf '%s %s\n' "$program" "$bin/$program"; done
  for program in $programs; do
    printf '%s %s\n' "share/man/man1/$program.1" "$data/man/man1/$program.1"
  done
  for file in share/bash-completion/completions/rbee-keeper \
    share/zsh/site-functions/_rbee-keeper share/fish/vendor_completions.d/rbee-keeper.fish; do
    printf '%s %s\n' "$file" "$data/${file#share/}"
  done
}

if test "$uninstall" = yes; then
  test -x "$to/rbee-keeper" || fail "There is no rbee in $to."
  for unit in rbee-hive queen-rbee; do
    if has_manager && test -e "$units/$unit.service"; then
      systemctl --user disable --now --quiet "$unit" || true
    fi
    rm -f "$units/$unit.service"
  done
  "$to/rbee-keeper" daemon stop --quiet || fail "The hive does not stop. Stop it, then run this again."
  links | while read -r _ path; do
    if is_ours "$path"; then rm -f "$path"; fi
  done
  rm -rf "$to"
  if has_manager; then systemctl --user daemon-reload; fi
  say "rbee is removed. Keys and settings stay in ~/.rbee, models in ~/.cache/huggingface: remove them by hand if you like."
  exit 0
fi

test -d "$here/lib/keeper" || fail "This is no unpacked archive: in a checkout run deno task bundle, then dist/rbee-*/install.sh."
test "$here" != "$to" || fail "This is the installed rbee itself. Run install.sh of the archive that you want to install."

links | while read -r _ path; do check_link "$path"; done

new=$to.new
old=$to.old
# A run that was cut short between the two renames left the old one aside.
if test -d "$old" && ! test -e "$to"; then mv "$old" "$to"; fi
rm -rf "$new" "$old"
mkdir -p "$(dirname "$to")"
cp -R "$here" "$new"

say "Testing rbee $("$new/rbee-hive" --version) ..."
if ! "$new/lib/self-test"; then
  rm -rf "$new"
  fail "The new version does not work on this machine; nothing was changed."
fi

before=
managed=no
if test -x "$to/rbee-keeper"; then before=$(hive_pid); fi
if has_manager && systemctl --user is-active --quiet rbee-hive; then managed=yes; fi

swap_in() {
  if test -d "$to"; then mv "$to" "$old"; fi
  mv "$1" "$to"
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

swap_in "$new"
if ! restart; then
  say "The new version does not start; going back to the old one."
  mv "$to" "$new"
  mv "$old" "$to"
  rm -rf "$new"
  restart || true
  fail "The new version was not installed; the old one is in place."
fi
rm -rf "$old"
# What she has in hand is finished before she makes way.
if has_manager; then systemctl --user try-restart queen-rbee || say "The queen does not start: systemctl --user status queen-rbee"; fi
links | while read -r file path; do
  mkdir -p "$(dirname "$path")"
  ln -sfn "$to/$file" "$path"
done

if has_manager; then
  mkdir -p "$units"
  for unit in rbee-hive queen-rbee; do
    sed "s#%h/.local/bin#$bin#" "$to/share/systemd/user/$unit.service" >"$units/$unit.service"
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
