#!/usr/bin/env bash
# Lianzhen: the one entry for people and CI. `./do help` lists the verbs.
set -euo pipefail
cd "$(dirname "$0")"
trap 'echo; exit 130' INT  # apt ends what it is doing first

runtime_packages=(python3-venv mosquitto fonts-wqy-microhei fonts-hanazono)
demo_packages=(dcmtk poppler-utils zbar-tools cups cups-client cups-ipp-utils dbus-daemon)
test_packages=("${demo_packages[@]}" orthanc postgresql-15 strace faketime openssl iproute2 util-linux chromium libatomic1 libnss3-tools)
bench_packages=(nats-server orthanc-dicomweb stunnel4 gcc libc6-dev)

usage() {
  cat <<'TEXT'
./do demo        start a hub and an edge on this machine
./do test        lint, then every test; with arguments only what they name (./do test tests/unit -k foo)
./do lint        ruff, mypy, import-linter, TypeScript
./do web         build the styles and islands of the consoles (the other verbs do it too)
./do bench NAME  one benchmark of tests/bench; its last line is JSON
./do soak        the long tests of tests/soak; with a path only those (docs/faults.md)
./do clean       remove the environment, caches and build outputs
./do help        this text
Each verb first installs what it needs, and is quick when nothing is missing.
TEXT
}

die() { printf 'do: %s\n' "$*" >&2; exit 1; }

# --- steps: each runs quietly and shows that it lives ---

# quietly WHAT COMMAND... : on failure the output stays in $log.
quietly() {
  local what=$1 begin=$SECONDS dots rc=0; shift
  log=$(mktemp -t lianzhen-do.XXXXXX) || die "no temporary file can be written; is the disk full?"
  printf '%s ' "$what"
  # The ticker is in the background, so that Ctrl-C reaches the command itself.
  while sleep 1 >/dev/null 2>&1 && kill -0 $$; do printf .; done 2>/dev/null 9<&- & dots=$!
  "$@" >"$log" 2>&1 </dev/null 9<&- || rc=$?
  { kill "$dots" && wait "$dots"; } 2>/dev/null || :
  if [ $rc = 0 ]; then printf ' %d s\n' $((SECONDS - begin)); rm -f "$log"; else printf ' failed\n'; fi
  return $rc
}

# step WHAT COMMAND... : set-up; a failure that has a plain reason is told in one sentence.
step() {
  quietly "$@" && return
  if grep -qE 'No space left|enough free space|Disk quota exceeded' "$log" || disk_full; then
    die "the disk is full; make room and run the same command again."
  elif grep -qE 'Temporary failure (resolving|in name)|Could not resolve|Name or service not known|Network is unreachable|No route to host|NewConnectionError|Connection (refused|timed out)|(Read|Connect)Timeout' "$log"; then
    die "there is no network; connect this machine to the internet and run the same command again."
  fi
  tail -n 15 "$log" >&2
  die "$1 failed; the whole output is in $log."
}

disk_full() { df --output=avail . "${TMPDIR:-/tmp}" /var 2>/dev/null | awk 'NR > 1 && $1 < 1024 { found = 1 } END { exit !found }'; }

# --- Debian packages ---

# Runs as root, in a shell of its own. Servers that come with the packages are neither started nor enabled.
install_packages() {
  set -eu
  export DEBIAN_FRONTEND=noninteractive
  policy=/usr/sbin/policy-rc.d cluster=/etc/postgresql-common/createcluster.d/lianzhen.conf
  ours=() servers=()
  for package in mosquitto nats-server orthanc stunnel4 postgresql-common cups-daemon rabbitmq-server; do
    server=${package%-common} server=${server%-daemon}
    [ "$(dpkg-query -Wf '${db:Status-Status}' $package 2>/dev/null)" = installed ] || servers+=("$server")
  done
  trap tidy EXIT
  if [ ! -e "$policy" ] || grep -q Lianzhen "$policy"; then
    ours+=("$policy")
    # It says no only while this shell lives, in case that nobody is left to remove it.
    printf '#!/bin/sh\n# Lianzhen: no server starts while packages are installed\nkill -0 %s 2>/dev/null && exit 101\nexit 0\n' $$ >"$policy"
    chmod 755 "$policy"
  fi
  if [[ $* == *postgresql* ]]; then
    ours+=("$cluster")
    mkdir -p "${cluster%/*}"
    echo 'create_main_cluster = false' >"$cluster"
  fi
  apt-get update -q || :  # a stale or foreign source is no reason to stop here
  apt-get install -qy --no-install-recommends -o DPkg::Lock::Timeout=300 "$@"
}

tidy() {
  for server in "${servers[@]}"; do
    # What starts a server when it is asked for (cups.path, cups.socket) goes before the server.
    for unit in "$server.path" "$server.socket" "$server.service"; do
      [ -e "/lib/systemd/system/$unit" ] || continue
      [ ! -d /run/systemd/system ] || systemctl stop "$unit" || :
      DPKG_MAINTSCRIPT_PACKAGE="$server" deb-systemd-helper disable "$unit" || :
    done
    [ -e "/etc/init.d/$server" ] || continue
    service "$server" stop || :
    update-rc.d "$server" disable || :
  done
  rm -f "${ours[@]}"
}

debian() {
  local name installed sudo=() missing=()
  installed=" $(dpkg-query -Wf '${Package}:${db:Status-Status} ' "$@" 2>/dev/null || :)"
  for name in "$@"; do [[ $installed == *" $name:installed "* ]] || missing+=("$name"); done
  [ ${#missing[@]} -gt 0 ] || return 0
  if [ "$(id -u)" != 0 ]; then
    local by_hand="as root run: apt-get install ${missing[*]}"
    command -v sudo >/dev/null || die "Debian packages are missing and there is no sudo; $by_hand"
    sudo -n true 2>/dev/null || { [ -t 0 ] && sudo -v; } || die "Debian packages are missing and sudo was refused; $by_hand"
    sudo=(sudo)
  fi
  step "Debian packages (${missing[*]})" "${sudo[@]}" \
    bash -c "$(declare -f install_packages tidy); install_packages \"\$@\"" -- "${missing[@]}"
}

# --- the virtual environment ---

# Where the environment is and what it was made from: it survives neither a move nor a new Python.
place() { printf '%s %s\n' "$PWD" "$(readlink -f .venv/bin/python)"; }
fresh() { [ "$(cat ".venv/$1" 2>/dev/null)" = "$2" ]; }

make_venv() { python3 -m venv --clear .venv && .venv/bin/python -m pip install 'pip>=25.1'; }  # Debian's pip knows no --group

# python_packages STAMP PIP_ARGUMENTS...
python_packages() {
  local stamp=$1 want; shift
  fresh place "$(place)" || { step "Python environment" make_venv; place >.venv/place; }
  want=$({ place; cat pyproject.toml; } | sha256sum)
  fresh "$stamp" "$want" && return
  step "Python packages ($stamp)" .venv/bin/python -m pip install "$@"
  printf '%s\n' "$want" >".venv/$stamp"
}

# web : the consoles' styles and islands, with Node out of the environment.
web_hash() { { printf '%s\n' "$PWD"; cat -- "$@"; } | sha256sum; }
build_web() {
  local static=runtime/lianzhen_runtime/web/static modules=web/node_modules inputs locked want
  [ -e web/package.json ] || return 0
  mapfile -t inputs < <(find web/src web/*.json web/*.js web/.npmrc -type f | LC_ALL=C sort)
  locked=$(web_hash web/package-lock.json) want=$(web_hash "${inputs[@]}")
  [ "$(cat $modules/.stamp 2>/dev/null)" = "$locked" ] && [ "$(cat $static/.stamp 2>/dev/null)" = "$want" ] && return
  python_packages web --group web
  if [ "$(cat $modules/.stamp 2>/dev/null)" != "$locked" ]; then
    step "Node packages" npm ci --prefix web --no-progress
    printf '%s\n' "$locked" >$modules/.stamp
  fi
  step "Styles and islands" npm run build --prefix web
  printf '%s\n' "$want" >$static/.stamp
}

python_is_new() {
  local version
  command -v python3 >/dev/null || return 0  # then Debian's comes with python3-venv
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])') || die "python3 does not run on this machine."
  [[ $version =~ ^3\.([0-9]+)$ && ${BASH_REMATCH[1]} -ge 11 ]] || die "Python 3.11 or newer is needed, and python3 is $version here."
}

# setup runtime|dev DEBIAN_PACKAGE... : one at a time in a checkout.
setup() {
  local group=$1; shift
  [ -x .venv/bin/python ] || python_is_new
  [ -x "$(command -v dpkg-query)" ] || die "this is not Debian; ./do is made for Debian 12."
  exec 9<"$PWD/do"
  flock -n 9 || { echo "Another ./do is installing; waiting for it."; flock 9; }
  debian "$@"
  export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_RETRIES=1
  python_packages runtime --editable '.[edge,hub]'
  [ "$group" = runtime ] || python_packages "$group" --group "$group"
  export PATH="$PWD/.venv/bin:$PATH:/usr/sbin:/sbin"  # Debian keeps brokers and ip from a plain user's PATH
  build_web
  exec 9<&-
}

# --- verbs ---

check() { quietly "$@" || { cat "$log" >&2; rm -f "$log"; die "$1 failed."; }; }

lint() {
  check "ruff check" ruff check
  check "ruff format" ruff format --check
  check "mypy" mypy
  check "import-linter" lint-imports
  check "TypeScript" npm run check --prefix web
}

bench() {
  local name=${1:-} program names=(); [ $# -eq 0 ] || shift
  for program in tests/bench/[!_]*.py; do [ ! -e "$program" ] || names+=("$(basename "$program" .py)"); done
  [[ -n $name && " ${names[*]} " == *" $name "* ]] || die "bench needs one of these names: ${names[*]:-(there is none yet)}."
  setup dev "${runtime_packages[@]}" "${test_packages[@]}" "${bench_packages[@]}"
  exec python "tests/bench/$name.py" "$@"
}

clean() {
  rm -rf web/node_modules runtime/lianzhen_runtime/web/static out
  rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
  find . -path ./.git -prune -o -type d \( -name __pycache__ -o -name '*.egg-info' \) -prune -exec rm -rf {} +
}

verb=${1:-help}; [ $# -eq 0 ] || shift
case $verb in
  demo) setup runtime "${runtime_packages[@]}" "${demo_packages[@]}"; exec python deploy/demo.py "$@" ;;
  test)
    setup dev "${runtime_packages[@]}" "${test_packages[@]}"
    # Most tests wait for programs: three at a time keep two cores busy.
    [ $# -gt 0 ] || { lint; set -- --numprocesses 3 --dist loadfile; }
    exec python -m pytest "$@" ;;
  lint) setup dev python3-venv; lint ;;
  web) setup runtime python3-venv ;;
  bench) bench "$@" ;;
  soak) setup dev "${runtime_packages[@]}" "${test_packages[@]}" rabbitmq-server orthanc orthanc-dicomweb
    [[ " $*" == *" tests/soak/"* ]] || set -- tests/soak "$@"
    exec python -m pytest "$@" ;;
  clean) clean ;;
  help) usage ;;
  *) die "there is no verb '$verb'; ./do help lists them." ;;
esac
