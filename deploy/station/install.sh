#!/bin/sh
# Installs or upgrades streamclust on a Debian-like station without internet, from the archive of build-wheelhouse.sh. Run it as root.
set -eu
umask 022

usage() {
    cat <<'EOF'
usage: install.sh [options]

  --python PROGRAM   interpreter (default: python3.11, or as the archive was made for)
  --prefix DIR       where the program goes (default: /opt/streamclust); each version has a directory of its own there
  --start            enable and start the daemon also at the first installation
  --root DIR         put everything below DIR, make no user and start nothing: to see what it would do

It keeps /etc/streamclust/config.yaml as it is. A daemon that runs is restarted only when its settings are right for the
new version. Back to an older version: install.sh of its archive again.
EOF
}

fail() {
    echo "install.sh: $*" >&2
    exit 1
}

python='' prefix=/opt/streamclust start=no root=''
while [ $# -gt 0 ]; do
    case $1 in
        -h | --help) usage; exit 0 ;;
        --start) start=yes; shift ;;
        --python | --prefix | --root)
            [ $# -ge 2 ] || { usage >&2; exit 2; }
            case $1 in
                --python) python=$2 ;;
                --prefix) prefix=$2 ;;
                --root) root=${2%/} ;;
            esac
            shift 2 ;;
        *) usage >&2; exit 2 ;;
    esac
done

here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
[ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "must be run as root (or with --root DIR)"
for part in VERSION PYTHON EXTRAS SHA256SUMS wheels systemd; do
    [ -e "$here/$part" ] || fail "$here/$part is missing; this is no archive of build-wheelhouse.sh"
done
(cd "$here" && sha256sum --check --quiet --strict SHA256SUMS) || fail "the archive is damaged; copy it again"
version=$(cat "$here/VERSION")
wanted=$(cat "$here/PYTHON")
extras=$(cat "$here/EXTRAS")

python=${python:-python$wanted}
command -v "$python" > /dev/null || fail "$python is not installed: apt-get install $python $python-venv"
found=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
[ "$found" = "$wanted" ] || fail "the archive is for Python $wanted, $python is $found; build-wheelhouse.sh --python $found makes another one"
"$python" -c 'import ensurepip, venv' 2> /dev/null || fail "$python cannot make environments: apt-get install $python-venv"

# Each archive has an environment of its own, which is not touched once it is complete: the daemon may be running from it.
build=$version-$(sha256sum "$here/SHA256SUMS" | cut -c1-12)
target=$root$prefix/$build
if [ ! -e "$target/.complete" ]; then
    mkdir -p "$root$prefix"
    rm -rf "$target"
    "$python" -m venv "$target"
    "$target/bin/python" -m pip install --quiet --disable-pip-version-check --no-index --find-links "$here/wheels" \
        "streamclust${extras:+[$extras]}==$version" || fail "the installation failed; nothing was changed"
    : > "$target/.complete"
fi

if [ -z "$root" ]; then
    mkdir -p /usr/lib/sysusers.d
    install -m 0644 "$here/systemd/streamclust.sysusers" /usr/lib/sysusers.d/streamclust.conf
    systemd-sysusers /usr/lib/sysusers.d/streamclust.conf
fi
units=$root/etc/systemd/system
mkdir -p "$units" "$root/etc/streamclust" "$root/usr/local/bin" "$root/usr/share/doc/streamclust"
for unit in "$here"/systemd/*.service "$here"/systemd/*.timer "$here"/systemd/*.slice; do
    install -m 0644 "$unit" "$units/"
done
install -m 0644 "$here/systemd/train-by-timer.conf" "$here/config.reference.yaml" "$root/usr/share/doc/streamclust/"
config=$root/etc/streamclust/config.yaml
first=no
if [ ! -e "$config" ]; then
    first=yes
    install -m 0644 "$here/systemd/config.yaml" "$config"
fi
if [ ! -e "$root/etc/streamclust/environment" ]; then
    (umask 077 && echo '# STREAMCLUST_KAFKA__SECURITY__PASSWORD=...' > "$root/etc/streamclust/environment")
fi

program=$target/bin/streamclust
"$program" config check -c "$config" || fail "$config is wrong for $version; correct it and run this again. Nothing was switched."
previous=$(readlink "$root$prefix/current" || true)
ln -sfn "$build" "$root$prefix/current.new"
mv -T "$root$prefix/current.new" "$root$prefix/current"
ln -sfn "$prefix/current/bin/streamclust" "$root/usr/local/bin/streamclust"
# Of older ones the last is kept, for a way back without the archive.
for old in "$root$prefix"/*/.complete; do
    old=$(dirname "$old")
    case $(basename "$old") in
        current | "$build" | "$previous") ;;
        *) rm -rf "$old" ;;
    esac
done
echo "streamclust $version is in $target"
[ -z "$root" ] || exit 0

systemctl daemon-reload
if [ "$first" = no ] && systemctl --quiet is-active streamclust; then
    systemctl restart streamclust
elif [ "$start" = yes ]; then
    systemctl enable --now streamclust
else
    cat <<EOF
next:
  editor /etc/streamclust/config.yaml      all settings: /usr/share/doc/streamclust/config.reference.yaml
  streamclust doctor -c /etc/streamclust/config.yaml
  systemctl enable --now streamclust
  systemctl status streamclust; journalctl -u streamclust -f
EOF
fi
