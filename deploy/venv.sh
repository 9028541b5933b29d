# Sourced by deploy/demo and deploy/test: a Python, system packages, a virtual environment made once per pyproject.toml and
# constraints.txt.
# Expects `root`, the checkout. Makes no more of the machine than it says.

if [[ -t 1 && -z ${NO_COLOR:-} ]]; then bold=$'\e[1m' red=$'\e[31m' plain=$'\e[0m'; else bold='' red='' plain=''; fi

say() { printf '%s== %s%s\n' "$bold" "$*" "$plain"; }

die() {
    printf '%serror: %s%s\n' "$red" "$*" "$plain" >&2
    exit 4
}

# The first Python >= 3.11; $PYTHON comes before all others.
find_python() {
    local candidate
    for candidate in ${PYTHON:-} python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            # Asked for its own path: a version manager's shim may answer differently in another folder.
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
    die "Python 3.11 or newer is needed: apt-get install python3, or name one with PYTHON=/path/to/python3"
}

# Installs packages (root only) without leaving a service running or set to start.
apt_install() (
    policy=/usr/sbin/policy-rc.d
    if [[ ! -e $policy ]]; then
        trap 'rm -f "$policy"' EXIT
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends "$@" >/dev/null || exit 1
    for package in postgresql redis-server mariadb-server; do
        if [[ " $* " == *" $package "* && -d /run/systemd/system ]]; then
            systemctl --quiet disable "${package/mariadb-server/mariadb}" || true
        fi
    done
)

# need_packages PACKAGE...: installs them as root; fails for others, and says nothing, as the caller knows what follows.
need_packages() {
    [[ $EUID -eq 0 ]] && command -v apt-get >/dev/null || return 1
    say "installing $*"
    apt_install "$@"
}

# Debian keeps a part of the venv module in a package: prints its name where it is missing.
missing_venv_package() {
    "$1" -c 'import ensurepip, venv' 2>/dev/null || "$1" -c 'import sys; print("python%d.%d-venv" % sys.version_info[:2])'
}

# missing_mysql_packages PYTHON: what mysqlclient, which has no wheel for Linux, lacks to be built; a package a line.
missing_mysql_packages() {
    local name found=
    command -v gcc >/dev/null || printf '%s\n' gcc libc6-dev
    command -v pkg-config >/dev/null || printf '%s\n' pkg-config
    for name in mysqlclient mariadb libmariadb; do
        if pkg-config --exists "$name" 2>/dev/null; then found=1; fi
    done
    [[ -n $found ]] || printf '%s\n' libmariadb-dev
    "$1" - <<'PYTHON'
import os, sys, sysconfig
if not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")):
    print("python%d.%d-dev" % sys.version_info[:2])
PYTHON
}

# stamp_of PYTHON FOLDER PIP-ARGUMENT...: the same as long as Python, both files and the arguments are. Without constraints among
# the arguments also for no longer than a day, as the newest versions are wanted.
stamp_of() {
    {
        "$1" -VV
        printf '%s\n' "$@"
        [[ " $* " == *' -c '* ]] || date +%F
        cat "$root/pyproject.toml" "$root/constraints.txt"
    } | sha256sum
}

# make_venv PYTHON FOLDER PIP-ARGUMENT...: re-used as long as its stamp is the same.
make_venv() {
    local python=$1 folder=$2 package stamp
    stamp=$(stamp_of "$@")
    shift 2
    if [[ -x $folder/bin/python && $(cat "$folder/.stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
    package=$(missing_venv_package "$python")
    if [[ -n $package ]]; then
        need_packages "$package" || die "$python cannot make environments: run  sudo apt-get install -y $package"
    fi
    say "making ${folder#"$root"/} (again only when the requirements change)"
    rm -rf "$folder"
    "$python" -m venv "$folder" || die "$python -m venv failed"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    "$folder/bin/python" -m pip install -q --upgrade 'pip>=25.1' || die "pip cannot reach its package index"
    (cd "$root" && "$folder/bin/python" -m pip install -q "$@") || die "pip cannot install $*"
    # Written last: an interrupted installation is made anew.
    printf '%s\n' "$stamp" >"$folder/.stamp"
}

# make_plugins PYTHON FOLDER PIP-ARGUMENT...: a folder of packages without their dependencies, re-used as long as its stamp is the
# same.
make_plugins() {
    local python=$1 folder=$2 stamp
    stamp=$(stamp_of "$@")
    shift 2
    if [[ $(cat "$folder/.stamp" 2>/dev/null) == "$stamp" ]]; then return; fi
    say "making ${folder#"$root"/} (again only when the requirements change)"
    rm -rf "$folder"
    export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
    (cd "$root" && "$python" -m pip install -q --no-deps --target "$folder" "$@") || die "pip cannot install $*"
    printf '%s\n' "$stamp" >"$folder/.stamp"
}
